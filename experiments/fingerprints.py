"""The fingerprint of an experiment: does a record still belong to the code that is here?

It covers a part's settings and the files that the part declares:

    "seglib/models/unet.py"                               a file
    "seglib/data/render/*.py"                             a pattern
    "data/streets"                                        a folder
    "seglib/losses.py:CrossEntropyLoss class_weights"     only these definitions of a file

Of Python counts what it does: comments, docstrings and layout do not. Declare what a *correct*
change may give other results (data, renderer, augmentation, loss, network, the experiment's own
functions); leave out what is either right or wrong and has tests for that (metrics, reading of
files, checkpoints). Versions of packages are recorded and do not count.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def fingerprint(code: Sequence[str], settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits for the declared code and the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for entry in code:
        pattern, _, names = entry.partition(":")
        for path in _files(pattern):
            digest.update(f"\0{path.relative_to(ROOT).as_posix()}\0".encode())
            digest.update(_content(path, names.split()))
    return digest.hexdigest()[:16]


def _files(pattern: str) -> list[Path]:
    folder = ROOT / pattern
    found = folder.rglob("*") if folder.is_dir() else ROOT.glob(pattern)
    files = sorted(path for path in found if path.is_file() and not path.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"an experiment declares {pattern}, but there is no such file")
    return files


def _content(path: Path, names: list[str]) -> bytes:
    content = path.read_bytes()
    if path.suffix in (".png", ".jpg"):
        return content
    if path.suffix != ".py":
        return content.replace(b"\r\n", b"\n")
    body = ast.parse(content).body
    missing = set(names) - {name for node in body for name in _defines(node)}
    if missing:
        raise ValueError(f"{path} defines no {', '.join(sorted(missing))}; mend the declared code")
    chosen = [node for node in body if not names or set(names) & set(_defines(node))]
    return json.dumps(_meaning(chosen)).encode()


def _defines(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _meaning(node: Any) -> Any:
    """A syntax tree as nested lists, without docstrings and empty fields: `ast.dump` differs
    between versions of Python, this does not."""
    if isinstance(node, list):
        return [_meaning(item) for item in node if not _is_docstring(item)]
    if isinstance(node, ast.AST):
        fields = [(k, v) for k, v in ast.iter_fields(node) if v is not None and v != []]
        return [type(node).__name__, *([k, _meaning(v)] for k, v in fields)]
    return repr(node)


def _is_docstring(node: Any) -> bool:
    return (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str))

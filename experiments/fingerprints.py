"""The fingerprint of an experiment: does a record still belong to the code that is here?

It covers a part's settings and what the part declares:

    "UNet DoubleConv class_weights"     definitions by name, wherever they stand
    "arms.train"                        one of several of that name: by its module
    "seglib/data/render/*.py"           all definitions of these files
    "data/streets"                      the contents of a folder

A definition counts by what it does: comments, docstrings, annotations, layout and its place do not.
Declare what a *correct* change may give other results (data, renderer, augmentation, loss, network,
the experiment's own functions); leave out what is either right or wrong and has tests for that
(metrics, reading of files, checkpoints). Versions of packages are recorded and do not count.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def fingerprint(code: Sequence[str], settings: Mapping[str, Any], script: str = "") -> str:
    """16 hexadecimal digits for the declared code and the settings.

    A name is looked for in the experiment `script` first (the stem of its file), then everywhere.
    """
    found: set[str] = set()
    for entry in code:
        if "/" in entry:
            found.update(_contents(entry))
        else:
            found.update(_definition(name, script) for name in entry.split())
    content = json.dumps([settings, sorted(found)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _contents(pattern: str) -> Iterator[str]:
    """Of Python files their definitions, of others the digest with the name inside the folder."""
    folder = ROOT / pattern
    paths = folder.rglob("*") if folder.is_dir() else ROOT.glob(pattern)
    files = sorted(path for path in paths if path.is_file() and not path.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"an experiment declares {pattern}, but there is no such file")
    for path in files:
        if path.suffix == ".py":
            yield from (meaning for _, meaning in _definitions(path))
            continue
        content = path.read_bytes()
        if path.suffix not in (".png", ".jpg", ".pt"):
            content = content.replace(b"\r\n", b"\n")  # as git on Windows writes text
        name = path.relative_to(folder).as_posix() if folder.is_dir() else path.name
        yield f"{name} {hashlib.sha256(content).hexdigest()}"


def _definition(name: str, script: str) -> str:
    """What the definition `name` does; ValueError unless there is exactly one."""
    module, _, own = name.rpartition(".")
    places = _index().get(own, {})
    if module or script in places:
        places = {stem: found for stem, found in places.items() if stem == (module or script)}
    if len(places) != 1:
        raise ValueError(
            f"{len(places)} modules define {name} ({', '.join(places)}); an experiment declares "
            "it: fix the declared code, or name the module, as in arms.train"
        )
    return next(iter(places.values()))


@cache
def _index() -> dict[str, dict[str, str]]:
    """Name -> module -> what it does, of all definitions that experiments may declare."""
    found: dict[str, dict[str, str]] = {}
    scripts = (*(ROOT / "experiments").glob("*.py"), *(ROOT / "data").glob("*.py"))
    for path in (*(ROOT / "seglib").rglob("*.py"), *scripts):
        if not {"exercises", "render"} & set(path.relative_to(ROOT).parts):
            for name, meaning in _definitions(path):
                found.setdefault(name, {})[path.stem] = meaning
    return found


@cache
def _definitions(path: Path) -> list[tuple[str, str]]:
    """The names that a file defines at its top level, with what they do."""
    found = []
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        else:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        found += [(name, json.dumps(_meaning(node))) for name in names]
    return found


def _meaning(node: Any) -> Any:
    """A syntax tree as nested lists, without docstrings, annotations and empty fields.

    (`ast.dump` differs between versions of Python.)
    """
    if isinstance(node, list):
        return [_meaning(item) for item in node if not _is_docstring(item)]
    if isinstance(node, ast.AST):
        fields = [(k, v) for k, v in ast.iter_fields(node) if v is not None and v != []]
        kept = [(k, v) for k, v in fields if k not in ("annotation", "returns")]
        return [type(node).__name__, *([k, _meaning(v)] for k, v in kept)]
    return repr(node)


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )

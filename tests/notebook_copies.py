"""Copies of a lesson, filled in as a reader would and run in a kernel of their own.

One copy is enough for a wrong and a right answer, since the cells behind an exercise cannot tell
that the wrong one was there: `ex.NAME.use` hands on the solution, and `mentions` shows that they
read nothing else that the reader has bound. Copies take as long as everything else together, so
`make test` runs those of lessons that have changed since `make test-everywhere` last ran them in
every world: VERIFIED holds a digest of each.
"""

import ast
import copy
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import commands
import kernel_env
import nbformat
from notebook_rules import IGNORED, ExerciseCell, Page, exercise_cells, tags, texts, walk

# Other versions of the packages may warn, and print other text: then only errors count
LOCKED = os.environ.get("SEGLIB_VERSIONS", "locked") == "locked"
VERIFIED = Path(__file__).resolve().parent / "verified_copies.json"


def digest(notebook: Path) -> str:
    """What a copy is made from: the code of a lesson, its exercises and their wrong answers."""
    number, root = notebook.name[:2], commands.ROOT
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    said = [(c.source, tags(c), [] if IGNORED in tags(c) else texts(c)) for c in code]
    found = hashlib.sha256(json.dumps(said).encode())
    judges = sorted((root / "seglib" / "exercises").glob(f"*{number}.py"))
    for path in (*judges, *(root / "tests" / "exercises").glob(f"wrong{number}.py")):
        found.update(path.name.encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return found.hexdigest()[:16]


def verified() -> dict[str, str]:
    """Lesson -> its digest when its copies last passed in every world."""
    return dict(json.loads(VERIFIED.read_text(encoding="utf-8"))) if VERIFIED.exists() else {}


def changed(notebooks: list[Path]) -> list[str]:
    """The numbers of the lessons whose copies are to be run again."""
    before = verified()
    return [path.name[:2] for path in notebooks if before.get(path.name[:2]) != digest(path)]


def filled(page: Page, *attempts: Mapping[str, str]) -> Any:
    """The notebook with answers (exercise -> source) for its placeholders, outputs empty.

    After several attempts the cell is there several times over, as if it had been run again.
    """
    notebook = copy.deepcopy(page.notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for asked in exercise_cells(page):
        cell = notebook.cells[asked.place]
        rest = cell.source[len(asked.placeholder) :].rstrip("; \n")
        tried = [f"{answers[asked.name].rstrip()}\n\n{rest}" for answers in attempts]
        cell.source = "\n\n".join(tried)
    return notebook


def run(notebook: Any, kept_as: Path, **environ: str) -> list[str]:
    """Run every cell, whatever the others do; return errors and warnings, cell by cell."""
    world = dict(os.environ)
    kernel_env.apply(world, threads=1)
    client = commands.client(notebook, allow_errors=True)
    try:
        client.execute(env={**world, **environ})
    finally:
        nbformat.write(notebook, kept_as)
    return [
        f"{where} {text}"
        for where, cell, _ in Page(kept_as, notebook).code
        for kind, text in texts(cell)
        if kind == "error" or (kind == "stderr" and LOCKED)
    ]


def verdicts(page: Page, ran: Any) -> dict[str, list[str]]:
    """What the checks said: exercise -> the lines with a verdict (or all that was printed)."""
    found = {}
    for asked in exercise_cells(page):
        lines = "".join(t for kind, t in texts(ran.cells[asked.place]) if kind == "stdout")
        said = re.findall(r"^(?:correct|not yet|not attempted yet)\b.*$", lines, re.M)
        found[asked.name] = said or [f"no verdict: {lines}"]
    return found


def differences(page: Page, ran: Any) -> list[str]:
    """Where the text of cells that are compared is not the stored one."""
    return [
        f"{where} stored {texts(stored)}, found {texts(ran.cells[i])}"
        for where, stored, i in page.code
        if IGNORED not in tags(stored) and texts(stored) != texts(ran.cells[i])
    ]


def mentions(page: Page) -> list[str]:
    """Cells behind an exercise that use a name as the reader bound it there, without `use`."""
    found = []
    for asked in exercise_cells(page):
        for where, cell, i in page.code:
            names = [node for node in walk(cell) if isinstance(node, ast.Name)]
            bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}  # by the cell
            read = {node.id for node in names} - bound
            if i > asked.place:
                loose = sorted(read & loose_names(asked))
                found += [f"{where} reads {name} of {asked.name}" for name in loose]
    return found


def loose_names(asked: ExerciseCell) -> set[str]:
    """The names in the argument of check that no `use` binds afterwards."""
    names = {node.id for node in ast.walk(ast.parse(asked.answer)) if isinstance(node, ast.Name)}
    lines = map(ast.unparse, ast.parse(asked.cell.source).body)
    used = [re.findall(r"\w+", line.partition(" = ")[0]) for line in lines if ".use(" in line]
    return names - {name for names in used for name in names}

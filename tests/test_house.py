"""The house: imports run one way, and it stays small enough to be read."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# A part of seglib imports from what stands above it, and nothing of those in its own line.
ORDER = ["seglib util", "data transforms losses metrics models plotting", "engine"]
ORDER += ["training inference", "panoptic", "course", "exercises", "cli", "__main__"]
FLOOR = {part: n for n, parts in enumerate(ORDER) for part in parts.split()}


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(path): path for path in sorted((ROOT / "seglib").rglob("*.py"))}


def part_of(module):
    """The package or file in seglib/ that a module belongs to."""
    return (*module.split("."), "seglib")[1]


def statements(tree, everywhere):
    """The imports of a file; those in functions, or for the type checker only, if `everywhere`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif everywhere:
            yield from statements(node, True)
        elif not isinstance(node, ast.FunctionDef) and "TYPE_CHECKING" not in ast.dump(node):
            yield from statements(node, False)


def imports(module, everywhere):
    """The modules of seglib that a module imports. (`from package import module` names both.)"""
    found = set()
    for node in statements(ast.parse(FILES[module].read_text(encoding="utf-8")), everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{module}: write imports in full"
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(FILES)
            found |= inside or {str(node.module)}
    return {name for name in found if name.split(".")[0] == "seglib"}


def test_no_module_imports_itself_in_a_circle():
    graph = {module: imports(module, everywhere=False) for module in FILES}
    assert set().union(*graph.values()) <= set(FILES) and len(graph["seglib.training"]) > 9
    graphlib.TopologicalSorter(graph).prepare()  # (CycleError names the circle)


@pytest.mark.parametrize("part", FLOOR)
def test_imports_run_one_way(part):
    """Those in functions as well."""
    modules = [module for module in FILES if part_of(module) == part]
    assert modules and {part_of(module) for module in FILES} == set(FLOOR)
    for module in modules:
        for other in imports(module, everywhere=True):
            upwards = FLOOR[part_of(other)] < FLOOR[part] or part_of(other) == part
            assert upwards, f"{module} imports {other}"


@pytest.mark.parametrize("words", [["-c", "import seglib"], ["-m", "seglib", "--help"]], ids=str)
def test_what_is_heavy_is_imported_where_it_is_used(words):
    said = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, cwd=ROOT
    )
    loaded = {line.rpartition("|")[2].strip() for line in said.stderr.splitlines()}
    assert said.returncode == 0 and "seglib" in loaded
    assert not loaded & {"torch", "torchvision", "albumentations", "cv2", "numpy", "matplotlib"}


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def reading_path():
    """The files that CONTRIBUTING.md names for an evening."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text.split("<!-- reading path: begin -->")[1].split("<!-- reading path: end -->")[0]
    return [ROOT / name for name in re.findall(r"`([^`]+\.py)`", text)]


def core():
    apart = "seglib.exercises", "seglib.course", "seglib.data.render."
    return [path for module, path in FILES.items() if not f"{module}.".startswith(apart)]


def course():
    """What lessons call instead of showing it."""
    return [path for path in FILES.values() if path.parent.name == "course"]


def exercises():
    """All that lessons 1 to 6 and what they share are made of."""
    files = [path for path in FILES.values() if path.parent.name == "exercises"]
    return [path for path in files if (re.sub(r"\D", "", path.stem) or "0") <= "06"]


def all_tests():
    return (ROOT / "tests").rglob("*.py")


def first_page():
    return [ROOT / "README.md"]


LIMITS = {
    reading_path: 2500,
    core: 11_150,
    course: 2_280,
    exercises: 4000,
    all_tests: 19_320,
    first_page: 130,
}


@pytest.mark.parametrize("files", LIMITS, ids=lambda files: files.__name__)
def test_the_house_is_small(files):
    found = sum(map(lines, files()))
    assert 0 < found <= LIMITS[files], f"{found} lines, at most {LIMITS[files]}"


def test_a_file_is_as_long_as_its_subject():
    longer = {"training.py": 330}  # the loop, in one sitting
    long = {str(p): n for p in core() if (n := lines(p)) > longer.get(p.name, 300)}
    assert not long


PLACES = "", "benchmarks", "data", "data/weights", "notebooks", "results", "seglib", "seglib/models"
PAGES = [page for folder in PLACES for page in sorted((ROOT / folder).glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_links_to_what_exists(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        if "://" not in link:
            target = page.parent / name if name else page
            assert target.exists(), link
            titles = re.findall(r"^#+ (.+)", target.read_text("utf-8"), re.M) if anchor else []
            found = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
            assert not anchor or anchor in found, link


def test_every_test_file_has_a_name_of_its_own():
    """pytest imports them by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)

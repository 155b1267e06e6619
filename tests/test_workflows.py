"""The workflows for GitHub Actions, as far as that goes without GitHub; actionlint finds more."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import bootstrap

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RUNNERS = {"ubuntu-latest", "ubuntu-24.04-arm", "macos-latest", "windows-latest"}
WORDS = """
test avx2 everywhere name on permissions jobs contents push pull_request schedule cron
workflow_dispatch strategy matrix include fail-fast runs-on timeout-minutes env steps uses with run
os python python-version versions
PYTHONUTF8 SEGLIB_TORCH SEGLIB_VERSIONS ATEN_CPU_CAPABILITY ONEDNN_MAX_CPU_ISA
"""


class Loader(yaml.SafeLoader):
    """Reads YAML as GitHub does: `on` is a word, no key appears twice; here, all are known."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key appears twice: {keys}"
        assert set(keys) <= set(WORDS.split()), f"no such key: {set(keys) - set(WORDS.split())}"
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if first not in "oO"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def rows(job):
    """What `matrix` is in each run of the job. (A row of `include` is a run of its own here.)"""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    more = matrix.pop("include", [])
    values = itertools.product(*matrix.values()) if matrix or not more else []
    return [dict(zip(matrix, row, strict=True)) for row in values] + more


def filled(text, row):
    """The text with the row's values in place of `${{ matrix.NAME }}`."""
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: str(row[found[1]]), text)


LOADED = {path.stem: yaml.load(path.read_text(encoding="utf-8"), Loader) for path in WORKFLOWS}
RUNS = [
    pytest.param(job, row, id=f"{workflow}-{name}-{'-'.join(row.values())}")
    for workflow, content in LOADED.items()
    for name, job in content["jobs"].items()
    for row in rows(job)
]


@pytest.mark.parametrize(("job", "row"), RUNS)
def test_a_job_is_one_that_github_and_bootstrap_accept(job, row):
    assert isinstance(job["timeout-minutes"], int)
    assert filled(job["runs-on"], row) in RUNNERS
    assert filled(job["env"].get("SEGLIB_VERSIONS", "locked"), row) in bootstrap.VERSIONS
    outside = json.dumps({key: value for key, value in job.items() if key != "strategy"})
    for expression in re.findall(r"\$\{\{(.*?)\}\}", outside):
        # (jobs.<id>.env and runs-on know few contexts; `runner` is not among them)
        names = re.findall(r"\b(\w+)\.(\w+)", re.sub(r"'[^']*'", "", expression))
        assert set(names) <= {("matrix", key) for key in row}, expression
    checkout, python, *steps = job["steps"]
    assert [checkout["uses"], python["uses"]] == ["actions/checkout@v4", "actions/setup-python@v5"]
    version = python["with"]["python-version"]
    version = row["python"] if version == "${{ matrix.python }}" else version
    assert isinstance(version, str) and re.fullmatch(r"3\.1[1-9]", version)  # "3.10" is no 3.1
    setup, command = (step["run"].removeprefix("python bootstrap.py ").split() for step in steps)
    assert setup[0] == "setup" and set(setup + command) <= set(bootstrap.EXTRAS)
    assert setup[1:] == command[:1], "what is set up is not what runs"


def test_what_the_workflows_run():
    test, weekly = LOADED.values()
    assert {"push", "pull_request", "workflow_dispatch"} <= set(test["on"])
    assert {"schedule", "workflow_dispatch"} <= set(weekly["on"])
    assert test["permissions"] == weekly["permissions"] == {"contents": "read"}
    systems = [row["os"] for row in rows(test["jobs"]["test"])]
    assert set(systems) == RUNNERS and len(systems) == 7
    older = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert older.items() <= test["jobs"]["avx2"]["env"].items()
    assert {row["versions"] for row in rows(weekly["jobs"]["versions"])} == {"oldest", "newest"}
    everywhere = weekly["jobs"]["everywhere"]
    assert everywhere["steps"][-1]["run"] == "python bootstrap.py test-everywhere"


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not on PATH")
def test_actionlint_finds_nothing():
    command = ["actionlint", "-no-color", *map(str, WORKFLOWS)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")

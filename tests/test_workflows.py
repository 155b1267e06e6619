"""The workflows for GitHub Actions, checked as far as that is possible without GitHub.

actionlint finds more. It runs too where it is on PATH; it is not among the extra `test`, since its
Python package downloads the program while it is being built.
"""

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
name on permissions jobs contents push pull_request schedule cron workflow_dispatch
strategy matrix include fail-fast runs-on timeout-minutes env steps uses with run
os python python-version versions
PYTHONUTF8 SEGLIB_TORCH SEGLIB_VERSIONS ATEN_CPU_CAPABILITY ONEDNN_MAX_CPU_ISA
"""


class Loader(yaml.SafeLoader):
    """Reads YAML as GitHub does: `on` is a word, and no key appears twice."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise ValueError(f"a key appears twice: {', '.join(keys)}")
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if first not in "oO"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def rows(job):
    """What `matrix` is in each run of the job. (A row of `include` is a run of its own here.)"""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    more = matrix.pop("include", [])
    product = [
        dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())
    ]
    return (product if matrix or not more else []) + more


def fill(text, row):
    """The text with the row's values in place of `${{ matrix.NAME }}`."""
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: str(row.get(found[1])), text)


def keys(value):
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from keys(part)


def faults(text):
    """What GitHub or bootstrap.py would reject, one sentence each."""
    try:
        workflow = yaml.load(text, Loader)
    except (ValueError, yaml.YAMLError) as error:
        yield str(error)
        return
    unknown = {*keys(workflow)} - {*WORDS.split(), *workflow["jobs"]}
    yield from (f"nobody knows the key {key}" for key in unknown)
    if workflow.get("permissions") != {"contents": "read"}:
        yield "permissions: more than reading"
    for job in workflow["jobs"].values():
        yield from job_faults(job)


def job_faults(job):
    if not isinstance(job.get("timeout-minutes"), int):
        yield "no timeout-minutes"
    outside = json.dumps({key: value for key, value in job.items() if key != "strategy"})
    for expression in re.findall(r"\$\{\{(.*?)\}\}", outside):
        for context, key in re.findall(r"\b(\w+)\.(\w+)", re.sub(r"'[^']*'", "", expression)):
            # (jobs.<id>.env and runs-on know few contexts; `runner` is not among them)
            if context != "matrix" or any(key not in row for row in rows(job)):
                yield f"there is no {context}.{key} here"
    for row in rows(job):
        if fill(job["runs-on"], row) not in RUNNERS:
            yield f"no such runner: {fill(job['runs-on'], row)}"
        versions = fill(job.get("env", {}).get("SEGLIB_VERSIONS", "locked"), row)
        if versions not in bootstrap.VERSIONS:
            yield f"no such versions: {versions}"
        yield from step_faults(job["steps"], row)


def step_faults(steps, row):
    done, extras = [], set()
    for step in steps:
        action, version = step.get("uses"), step.get("with", {}).get("python-version", "3.12")
        version = row.get("python") if version == "${{ matrix.python }}" else version
        if not isinstance(version, str) or not re.fullmatch(r"3\.1[1-9]", version):
            yield f"not a Python that the course runs on, in quotes: {version}"
        if action:
            done.append(action.split("@")[0])
            if not re.fullmatch(r"actions/[a-z-]+@v\d+", action):
                yield f"not pinned to a major version: {action}"
        if "run" not in step:
            continue
        if done != ["actions/checkout", "actions/setup-python"]:
            yield "a command needs the checkout and a Python before it"
        program, script, *words = step["run"].split()
        if [program, script] != ["python", "bootstrap.py"]:
            yield f"not a command of bootstrap.py: {step['run']}"
        if not set(words) <= set(bootstrap.EXTRAS):
            yield f"bootstrap.py does not know this: {step['run']}"
            continue
        wanted = {extra for word in words for extra in bootstrap.EXTRAS[word]}
        if words[0] != "setup" and not wanted <= extras:
            yield f"set up before: {step['run']}"
        extras |= wanted
    if not extras:
        yield "a job that runs nothing"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows(path):
    assert list(faults(path.read_text(encoding="utf-8"))) == []


def test_what_the_workflows_run():
    test, weekly = (yaml.load(path.read_text(encoding="utf-8"), Loader) for path in WORKFLOWS)
    assert {"push", "pull_request", "workflow_dispatch"} <= set(test["on"])
    assert {"schedule", "workflow_dispatch"} <= set(weekly["on"])
    systems = [row["os"] for row in rows(test["jobs"]["test"])]
    assert set(systems) == RUNNERS and len(systems) == 7
    older = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert older.items() <= test["jobs"]["avx2"]["env"].items()
    versions = {row["versions"] for row in rows(weekly["jobs"]["versions"])}
    assert versions == {"oldest", "newest"}
    everywhere = weekly["jobs"]["everywhere"]
    assert everywhere["steps"][-1]["run"] == "python bootstrap.py test-everywhere"
    assert everywhere["timeout-minutes"] == 120


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("startsWith(matrix.os, 'ubuntu')", "runner.os == 'Linux'", "there is no runner.os here"),
        ("${{ matrix.python }}", "${{ matrix.pyhton }}", "there is no matrix.pyhton here"),
        ("[ubuntu-latest,", "[ubuntu-newest,", "no such runner: ubuntu-newest"),
        ('["3.11", "3.13"]', "[3.11, 3.13]", "not a Python that the course runs on, in quotes: 3"),
        ("    timeout-minutes: 60\n", "", "no timeout-minutes"),
        ("timeout-minutes", "timeout-minute", "nobody knows the key timeout-minute"),
        ("checkout@v4", "checkout@main", "not pinned to a major version: actions/checkout@main"),
        ("      - uses: actions/checkout@v4\n", "", "a command needs the checkout and a Python"),
        ("bootstrap.py test\n", "bootstrap.py tests\n", "bootstrap.py does not know this"),
        ("setup test\n", "setup lab\n", "set up before: python bootstrap.py test"),
        ("SEGLIB_TORCH", "SEGLIB_TROCH", "nobody knows the key SEGLIB_TROCH"),
        ("contents: read", "contents: write", "permissions: more than reading"),
        ("workflow_dispatch", "workflow_despatch", "the key workflow_despatch"),
        ("  pull_request:\n", "  push:\n", "a key appears twice: push, push"),
    ],
)
def test_a_fault_in_a_workflow_is_found(right, wrong, fault):
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert right in text
    assert any(fault in found for found in faults(text.replace(right, wrong)))


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not on PATH")
def test_actionlint_finds_nothing():
    command = ["actionlint", "-no-color", *map(str, WORKFLOWS)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")

"""The workflows for GitHub Actions, checked as far as that is possible without GitHub.

actionlint finds more. It runs too where it is on PATH; it is not among the extra `test`, since its
Python package downloads the program while it is being built.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import bootstrap

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

KEYS = {
    "workflow": {"name", "on", "permissions", "jobs"},
    "job": {"name", "strategy", "runs-on", "timeout-minutes", "env", "steps"},
    "strategy": {"fail-fast", "matrix"},
    "step": {"name", "uses", "with", "run", "env"},
}
EVENTS = {"push", "pull_request", "schedule", "workflow_dispatch"}
RUNNERS = {"ubuntu-latest", "ubuntu-24.04-arm", "macos-latest", "windows-latest"}
VARIABLES = {
    "PYTHONUTF8",
    "SEGLIB_TORCH",
    "SEGLIB_VERSIONS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
}


class Loader(yaml.SafeLoader):
    """Reads YAML as GitHub does: `on` is a word, and no key appears twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise ValueError(f"a key appears twice: {', '.join(keys)}")
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if first not in "oO"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def rows(job: dict[str, Any]) -> list[dict[str, Any]]:
    """What `matrix` is in each run of the job. (A row of `include` is a run of its own here.)"""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    found = list(matrix.pop("include", []))
    product: list[dict[str, Any]] = [{}] if matrix or not found else []
    for key, values in matrix.items():
        product = [{**row, key: value} for row in product for value in values]
    return product + found


def fill(text: str, row: dict[str, Any]) -> str:
    """The text with the row's values in place of `${{ matrix.NAME }}`."""
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: str(row.get(found[1])), text)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def faults(text: str) -> list[str]:
    """What GitHub or bootstrap.py would reject, one sentence each."""
    try:
        workflow = yaml.load(text, Loader)
    except (ValueError, yaml.YAMLError) as error:
        return [str(error)]
    found = unknown("workflow", workflow)
    found += [f"no such event: {event}" for event in set(workflow["on"]) - EVENTS]
    if workflow.get("permissions") != {"contents": "read"}:
        found.append("permissions: more than reading")
    for name, job in workflow["jobs"].items():
        found += [f"{name}: {fault}" for fault in job_faults(job)]
    return found


def unknown(what: str, found: dict[str, Any]) -> list[str]:
    return [f"a {what} has no {key}" for key in set(found) - KEYS[what]]


def job_faults(job: dict[str, Any]) -> Iterator[str]:
    yield from unknown("job", job) + unknown("strategy", job.get("strategy", {}))
    if not isinstance(job.get("timeout-minutes"), int):
        yield "no timeout-minutes"
    for variable in set(job.get("env", {})) - VARIABLES:
        yield f"nothing reads {variable}"
    for text in texts({key: value for key, value in job.items() if key != "strategy"}):
        for expression in re.findall(r"\$\{\{(.*?)\}\}", text):
            bare = re.sub(r"'[^']*'", "", expression)
            for context, key in re.findall(r"\b(\w+)\.(\w+)", bare):
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


def step_faults(steps: list[dict[str, Any]], row: dict[str, Any]) -> Iterator[str]:
    done, extras = [], set()
    for step in steps:
        yield from unknown("step", step)
        if ("uses" in step) == ("run" in step):
            yield "a step has either `uses` or `run`"
        if "uses" in step:
            if not re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]):
                yield f"not pinned to a major version: {step['uses']}"
            done.append(step["uses"].split("@")[0])
        version = step.get("with", {}).get("python-version")
        if version is not None:
            version = row.get("python") if version == "${{ matrix.python }}" else version
            if not isinstance(version, str) or not re.fullmatch(r"3\.1[1-9]", version):
                yield f"not a Python that the course runs on, in quotes: {version}"
        if "run" not in step:
            continue
        if done != ["actions/checkout", "actions/setup-python"]:
            yield "a command needs the checkout and a Python before it"
        program, script, *words = step["run"].split()
        if [program, script] != ["python", "bootstrap.py"]:
            yield f"not a command of bootstrap.py: {step['run']}"
        named = words[1:] if words[0] == "setup" and words[1:] else words
        if not set(words) <= set(bootstrap.EXTRAS):
            yield f"bootstrap.py does not know this: {step['run']}"
            continue
        wanted = {extra for word in named for extra in bootstrap.EXTRAS[word]}
        if words[0] != "setup" and not wanted <= extras:
            yield f"set up before: {step['run']}"
        extras |= wanted
    if not extras:
        yield "a job that runs nothing"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_what_the_workflows_run() -> None:
    test, weekly = (yaml.load(path.read_text(encoding="utf-8"), Loader) for path in WORKFLOWS)
    assert {"push", "pull_request", "workflow_dispatch"} <= set(test["on"])
    assert {"schedule", "workflow_dispatch"} <= set(weekly["on"])
    systems = [row["os"] for row in rows(test["jobs"]["test"])]
    assert set(systems) == RUNNERS and len(systems) == 7
    environment = test["jobs"]["avx2"]["env"]
    assert environment["ATEN_CPU_CAPABILITY"] == "avx2"
    assert environment["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    versions = {row["versions"] for row in rows(weekly["jobs"]["versions"])}
    assert versions == {"oldest", "newest"}
    last = weekly["jobs"]["everywhere"]["steps"][-1]
    assert last["run"] == "python bootstrap.py test-everywhere"
    assert weekly["jobs"]["everywhere"]["timeout-minutes"] == 120


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("startsWith(matrix.os, 'ubuntu')", "runner.os == 'Linux'", "there is no runner.os here"),
        ("${{ matrix.python }}", "${{ matrix.pyhton }}", "there is no matrix.pyhton here"),
        ("[ubuntu-latest,", "[ubuntu-newest,", "no such runner: ubuntu-newest"),
        (
            '["3.11", "3.13"]',
            "[3.11, 3.13]",
            "not a Python that the course runs on, in quotes: 3.11",
        ),
        ("    timeout-minutes: 60\n", "", "no timeout-minutes"),
        ("timeout-minutes", "timeout-minute", "a job has no timeout-minute"),
        ("checkout@v4", "checkout@main", "not pinned to a major version: actions/checkout@main"),
        ("      - uses: actions/checkout@v4\n", "", "a command needs the checkout and a Python"),
        ("bootstrap.py test\n", "bootstrap.py tests\n", "bootstrap.py does not know this"),
        ("setup test\n", "setup lab\n", "set up before: python bootstrap.py test"),
        ("SEGLIB_TORCH", "SEGLIB_TROCH", "nothing reads SEGLIB_TROCH"),
        ("contents: read", "contents: write", "permissions: more than reading"),
        ("workflow_dispatch", "workflow_despatch", "no such event: workflow_despatch"),
        ("  pull_request:\n", "  push:\n", "a key appears twice: push, push"),
    ],
)
def test_a_fault_in_a_workflow_is_found(right: str, wrong: str, fault: str) -> None:
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert right in text
    assert any(fault in found for found in faults(text.replace(right, wrong)))


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not on PATH")
def test_actionlint_finds_nothing() -> None:
    said = subprocess.run(
        ["actionlint", "-no-color", *map(str, WORKFLOWS)], cwd=ROOT, capture_output=True, text=True
    )
    assert (said.returncode, said.stdout) == (0, "")

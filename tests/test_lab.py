"""JupyterLab really starts, opens the first lesson, and ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import commands
import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_first_lesson_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "NOTEBOOKS", tmp_path)
    for name in ("00_welcome.ipynb", "02_unet.ipynb", "01_start_mine.ipynb"):
        (tmp_path / name).touch()
    assert "--LabApp.default_url=/lab/tree/notebooks/00_welcome.ipynb" in commands.lab_command([])
    (tmp_path / "01_start.ipynb").touch()
    command = commands.lab_command(["--no-browser", "--port", "0"])
    assert "--LabApp.default_url=/lab/tree/notebooks/01_start.ipynb" in command
    assert command[-3:] == ["--no-browser", "--port", "0"]


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_is_allowed(monkeypatch: pytest.MonkeyPatch, user: int, allowed: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    assert ("--allow-root" in commands.lab_command([])) == allowed


def fetch(url: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.url, answer.read()


def status(base: str, deadline: float) -> dict[str, Any]:
    """The server's answer to /api/status, once there is one."""
    while True:
        try:
            return json.loads(fetch(f"{base}/api/status?token=secret")[1])
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows ends a program without telling its children")
def test_lab_starts_at_the_first_lesson_and_ends(tmp_path: Path) -> None:
    pytest.importorskip("jupyterlab")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # the command as bootstrap.py gives it, without its set-up: this environment is the one
    command = [sys.executable, "tests/commands.py", "lab", "--no-browser", "--ip=127.0.0.1",
               f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=secret"]
    log = tmp_path / "log"
    world = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    with open(log, "w") as handle:
        process = subprocess.Popen(command, cwd=ROOT, env=world, stdout=handle, stderr=handle)
    base = f"http://127.0.0.1:{port}"
    try:
        try:
            assert "started" in status(base, time.monotonic() + 60)
        except OSError:
            pytest.fail(f"JupyterLab did not answer:\n{log.read_text()[-2000:]}")
        first = max(path.name for path in commands.lessons([]) if path.name < "02")
        url, _ = fetch(f"{base}/?token=secret")
        assert url.split("?")[0] == f"{base}/lab/tree/notebooks/{first}"
        _, notebook = fetch(f"{base}/api/contents/notebooks/{first}?token=secret")
        assert json.loads(notebook)["type"] == "notebook"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetch(f"{base}/api/contents/")             # nobody comes in without the token
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    with pytest.raises(urllib.error.URLError):
        fetch(f"{base}/api/status?token=secret")       # the server has gone with its starter

"""JupyterLab really starts, opens the reader's welcome page, and ends when it is told to."""

from __future__ import annotations

import json
import os
import re
import shutil
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


def test_the_welcome_page_is_the_default() -> None:
    command = commands.lab_command(["--no-browser", "--port", "0"])
    assert "--LabApp.default_url=/lab/tree/workbook/00_welcome.ipynb" in command
    assert "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in command
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


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of one page that has its own workbook/: the real one is the reader's."""
    root = tmp_path / "course"
    for name in (
        "bootstrap.py",
        "tests/commands.py",
        "tests/kernel_env.py",
        "tests/workbook.py",
        "notebooks/00_welcome.ipynb",
        "notebooks/pictures/01.png",
        "data/README.md",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return root


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows ends a program without telling its children")
def test_lab_starts_at_the_welcome_page_and_ends(course: Path, tmp_path: Path) -> None:
    pytest.importorskip("jupyterlab")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # the command as bootstrap.py gives it, without its set-up: this environment is the one
    command = [
        sys.executable,
        "tests/commands.py",
        "lab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=secret",
    ]
    log = tmp_path / "log"
    world = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    with open(log, "w") as handle:
        process = subprocess.Popen(command, cwd=course, env=world, stdout=handle, stderr=handle)
    base = f"http://127.0.0.1:{port}"
    try:
        try:
            assert "started" in status(base, time.monotonic() + 60)
        except OSError:
            pytest.fail(f"JupyterLab did not answer:\n{log.read_text()[-2000:]}")
        url, page = fetch(f"{base}/?token=secret")
        assert url.split("?")[0] == f"{base}/lab/tree/workbook/00_welcome.ipynb"
        for name in ("workbook/00_welcome.ipynb", "workbook/pictures/01.png", "data/README.md"):
            assert json.loads(fetch(f"{base}/api/contents/{name}?token=secret")[1])["size"] > 0
        no_news(base, page.decode())
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetch(f"{base}/api/contents/")  # nobody comes in without the token
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    with pytest.raises(urllib.error.URLError):
        fetch(f"{base}/api/status?token=secret")  # the server has gone with its starter


def no_news(base: str, page: str) -> None:
    """JupyterLab asks nothing ("Would you like to get notified …?") and fetches nothing."""
    # the question comes up when the setting fetchNews is "none", whatever the server's news_url
    plugin = "@jupyterlab/apputils-extension:notification"
    settings = json.loads(fetch(f"{base}/lab/api/settings/{plugin}?token=secret")[1])
    assert settings["schema"]["properties"]["fetchNews"]["default"] == "false"
    assert settings["schema"]["properties"]["checkForUpdates"]["default"] is False
    config = re.search(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert config is not None
    assert json.loads(config[1])["news"] == {"disabled": True}

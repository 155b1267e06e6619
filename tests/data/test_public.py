"""CamVid and Ultrasound: splits, groups, labels, and what is said where they are missing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglib.data import CamVid, Ultrasound, class_statistics
from seglib.data import sets as public
from seglib.data.palettes import STREET_CLASSES, STREET_PALETTE, ULTRASOUND_CLASSES
from seglib.data.sources import SOURCES


@pytest.mark.parametrize("kind", [CamVid, Ultrasound])
def test_unknown_split(kind: type[CamVid] | type[Ultrasound], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no split 'validation'.*\(known: train, val, te"):
        kind("validation", root=tmp_path)


def test_absent_data_names_places_and_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGLIB_DATA", str(tmp_path / "named"))
    places = [tmp_path / "named", tmp_path / "cache"]
    monkeypatch.setattr("seglib.util.paths.data_roots", lambda root=None: places)
    with pytest.raises(FileNotFoundError) as caught:
        CamVid("train")
    for place in places:
        assert f"{place / 'camvid'}: no such folder" in str(caught.value)
    for remedy in ("python -m seglib download camvid", "root=", "SEGLIB_DATA", "CC BY-NC 4.0"):
        assert remedy in str(caught.value)
    assert CamVid.find() is None


def test_incomplete_data_names_what_is_missing(tmp_path: Path) -> None:
    for part, number in SOURCES["camvid"].parts.items():
        folder = tmp_path / "camvid" / part
        folder.mkdir(parents=True)
        for i in range(number - (part == "trainannot")):
            (folder / f"{i:05}.png").touch()
    with pytest.raises(FileNotFoundError, match=r"camvid: trainannot/ has 366 of 367 files\n"):
        CamVid("test", root=tmp_path)
    (tmp_path / "camvid" / "trainannot" / "other.png").touch()
    assert CamVid.find(tmp_path) == CamVid.find(tmp_path / "camvid") == tmp_path / "camvid"
    with pytest.raises(FileNotFoundError, match=r"same names, but 2 are in one only, such as 0036"):
        CamVid("train", root=tmp_path)


def test_download_is_asked_for_only_when_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, root: Path) -> Path:
        asked.append((name, root))
        return tmp_path / "fetched"

    monkeypatch.setattr(public, "fetch", fetch)
    with pytest.raises(FileNotFoundError):
        Ultrasound("test", root=tmp_path)
    assert asked == []
    assert Ultrasound("test", root=tmp_path, download=True).root == tmp_path / "fetched"
    assert asked == [("ultrasound", tmp_path)]


def test_licences() -> None:
    assert CamVid.licence == "CC BY-NC 4.0" and "Brostow" in CamVid.attribution
    assert Ultrasound.licence == "CC BY 4.0" and "tmkand" in Ultrasound.attribution


@pytest.mark.data
def test_camvid_splits(datasets: Path) -> None:
    split = {name: CamVid(name, root=datasets) for name in CamVid.splits}
    sizes = {name: len(dataset) for name, dataset in split.items()}
    assert sizes == {"train": 367, "val": 101, "test": 233, "dev": 101, "fit": 266}
    drives = {name: set(dataset.groups) for name, dataset in split.items()}
    assert drives["dev"] == {"0006R0"}
    assert drives["fit"] == {"0001TP", "0016E5"}
    assert drives["train"] == drives["dev"] | drives["fit"]
    assert (drives["val"], drives["test"]) == ({"0016E5"}, {"0001TP", "Seq05VD"})
    assert split["test"].groups.count("Seq05VD") == 171
    assert set(split["dev"].files) | set(split["fit"].files) == set(split["train"].files)
    assert not set(split["dev"].files) & set(split["fit"].files)
    for dataset in split.values():
        assert all(image.name == mask.name for image, mask in dataset.files)
        assert dataset.classes == STREET_CLASSES
        np.testing.assert_array_equal(dataset.palette, STREET_PALETTE)


@pytest.mark.data
def test_camvid_sample(datasets: Path) -> None:
    dataset = CamVid("test", root=datasets)
    image, mask = dataset[0]
    assert image.shape == (360, 480, 3) and mask.shape == (360, 480)
    in_file = np.asarray(Image.open(dataset.files[0][1]))
    assert (in_file == 11).any()
    np.testing.assert_array_equal(mask == 255, in_file == 11)
    np.testing.assert_array_equal(mask[mask != 255], in_file[in_file != 11])


@pytest.mark.data
def test_camvid_shares_are_the_published_ones(datasets: Path) -> None:
    counts = [class_statistics(CamVid(name, root=datasets)) for name in ("train", "val", "test")]
    void = sum(count.void for count in counts)
    pixels = np.array([*sum(count.pixels for count in counts), void])
    assert pixels.sum() == 701 * 360 * 480
    published = [15.8, 24.1, 1.0, 29.3, 6.7, 11.2, 1.1, 1.4, 4.6, 0.6, 0.5, 3.6]
    np.testing.assert_allclose(100 * pixels / pixels.sum(), published, atol=0.15)
    train = dict(zip(STREET_CLASSES, counts[0].images / 367, strict=True))
    assert (round(train["Fence"], 2), round(train["Bicyclist"], 2)) == (0.47, 0.55)
    frequency = counts[0].pixels / counts[0].image_pixels
    weight = dict(zip(STREET_CLASSES, np.median(frequency) / frequency, strict=True))
    assert (round(weight["Fence"], 2), round(weight["Bicyclist"], 1)) == (1.98, 8.8)


@pytest.mark.data
def test_ultrasound_splits_share_no_frame(datasets: Path) -> None:
    split = {name: Ultrasound(name, root=datasets) for name in Ultrasound.splits}
    sizes = {name: len(dataset) for name, dataset in split.items()}
    assert sizes == {"train": 163, "val": 32, "test": 40, "trainval": 204}
    frames = {name: set(dataset.groups) for name, dataset in split.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not frames[one] & frames[other]
    names = {name: {i.stem for i, _ in dataset.files} for name, dataset in split.items()}
    assert names["train"] | names["val"] < names["trainval"]
    left_out = {"0002", "0011", "0034", "0035", "0054", "0079", "0081", "0091", "0112"}
    assert names["trainval"] - names["train"] - names["val"] == left_out
    copied = [group for group in split["test"].groups if group in frames["trainval"]]
    assert len(copied) == 8  # as published, the test split leaks
    assert split["val"].classes == ULTRASOUND_CLASSES


@pytest.mark.data
def test_copies_look_alike(datasets: Path) -> None:
    by_name = {
        image.stem: image
        for split in ("trainval", "test")
        for image, _ in Ultrasound(split, root=datasets).files
    }

    def small(stem: str) -> np.ndarray:
        picture = Image.open(by_name[stem]).convert("L").resize((48, 48), Image.Resampling.BOX)
        values = np.asarray(picture, dtype=float)
        return (values - values.mean()) / values.std()

    def likeness(one: str, other: str) -> float:
        return float((small(one) * small(other)).mean())

    exact = [f"{a:04} {b:04}".split() for a, b, *more in public._COPIES if not more]
    assert np.median([likeness(a, b) for a, b in exact]) > 0.85
    names = sorted(by_name)[160:200]  # neighbours by number, none of them copies
    assert np.median([likeness(a, b) for a, b in pairwise(names)]) < 0.5


@pytest.mark.data
def test_ultrasound_shares_are_the_published_ones(datasets: Path) -> None:
    statistics = class_statistics(Ultrasound("trainval", root=datasets))
    np.testing.assert_allclose(100 * statistics.share, [92.7, 3.2, 4.1], atol=0.05)
    assert statistics.void == 0
    assert statistics.total_images - statistics.images[2] == 21  # without a vessel

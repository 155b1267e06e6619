"""The sets with a name: splits, groups, labels, and what is said where they are missing."""

from itertools import combinations

import cv2
import numpy as np
import pytest
from PIL import Image

from seglib.cli.main import main
from seglib.data import DATASETS, CamVid, Scans, Streets, Ultrasound, class_statistics
from seglib.data import sets as module
from seglib.data.colours import STREET_CLASSES, STREET_PALETTE, ULTRASOUND_CLASSES
from seglib.data.sources import CAMVID

SIZES = {
    Streets: {"train": 240, "val": 60, "test": 60},
    Scans: {"train": 160, "val": 40, "test": 40},
    CamVid: {"train": 367, "val": 101, "test": 233, "dev": 101, "fit": 266},
    Ultrasound: {"train": 163, "val": 32, "test": 40, "trainval": 204},
}


@pytest.mark.parametrize("kind, most", [(Streets, 8e6), (Scans, 3.5e6)])
def test_embedded_splits(kind, most):
    files = (path for path in kind("train").root.rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in files) <= most
    split = {name: kind(name) for name in kind.splits}
    assert {name: len(dataset) for name, dataset in split.items()} == SIZES[kind]
    for one, other in combinations(split.values(), 2):
        assert not set(one.seeds) & set(other.seeds) and not set(one.groups) & set(other.groups)
    for name, dataset in split.items():
        assert dataset.seeds == tuple(kind.SEEDS[name])
        assert [int(image.stem) for image, _ in dataset.files] == list(dataset.seeds)
        assert len(set(dataset.groups)) == len(dataset)
        statistics = class_statistics(dataset, progress=False)
        assert statistics.absent == () and statistics.images.min() >= 5


@pytest.mark.parametrize("kind", [Streets, Scans])
@pytest.mark.parametrize("split, index", [("train", 0), ("train", 77), ("val", 3), ("test", -1)])
def test_pairs_are_those_of_their_seeds(kind, split, index):
    dataset = kind(split)
    image, mask, _ = kind.render(dataset.seeds[index])
    stored_image, stored_mask = dataset[index]
    np.testing.assert_array_equal(mask, stored_mask)
    # photos may round differently elsewhere, and JPEG loses a little
    assert np.abs(image.astype(int) - stored_image).mean() < 3
    # a viewer shows a colour of its own for each class
    with Image.open(dataset.files[index][1]) as picture:
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    both, labels = np.column_stack([mask.ravel(), seen]), np.unique(mask)
    assert len(labels) == len(np.unique(seen, axis=0)) == len(np.unique(both, axis=0))


def test_scans_as_the_datasheet_describes_them():
    for split in Scans.splits:
        dataset = Scans(split)
        masks = np.stack([dataset.read_mask(i) for i in range(len(dataset))])
        shares = (masks == 1).mean(axis=(1, 2))
        there = shares > 0
        assert shares[there].min() >= 0.01 and shares[there].max() <= 0.04
        assert 0.75 <= there.mean() <= 0.85
        assert dataset.spacing.shape == (len(dataset), 2) and dataset.spacing.dtype == np.float64
        fields = np.unique(dataset.spacing * 128, axis=0)
        assert set(fields[:, 0]) <= {30, 35, 40, 45, 50, 55, 60} and set(fields[:, 1]) == {38, 50}
        # up to three vessels have a radius of 1.4 to 3.8 mm, whatever the machine's setting
        areas = (masks == 2).sum(axis=(1, 2)) * dataset.spacing.prod(axis=1)
        assert np.pi * 1.4**2 * 0.8 < areas[areas > 0].min()
        assert areas.max() < 1.2 * 3 * np.pi * 3.8**2


@pytest.mark.parametrize("name", ["streets", "scans"])
def test_the_command_line_knows_them(name, tmp_path, capsys):
    assert list(DATASETS) == ["streets", "scans", "camvid", "ultrasound"]
    assert main(["download", name]) == 0
    said = capsys.readouterr().out
    assert f"{name} comes with the course: it is complete in {DATASETS[name].find()}" in said
    assert main(["check", "--data", name, "--split", "val"]) == 0
    assert "images checked: no problems" in capsys.readouterr().out
    assert main(["download", name, "--root", str(tmp_path)]) == 1
    assert f"run `python data/render.py {name}`" in capsys.readouterr().err


@pytest.mark.parametrize("kind", DATASETS.values())
def test_what_is_not_there_is_told(kind, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no split 'tset'; did you mean 'test'\? \(known: train"):
        kind("tset")
    places = [tmp_path / "named", tmp_path / "cache"]
    monkeypatch.setattr("seglib.util.paths.data_roots", lambda root=None: places)
    with pytest.raises(FileNotFoundError) as caught:
        kind("train")
    assert kind.find() is None
    message = str(caught.value)
    for place in places:
        assert f"{place / kind.name}: no such folder" in message
    for part in (f"{kind.title} is complete in none", kind.remedy(), "root=", "SEGLIB_DATA"):
        assert part in message
    assert "run `python data/render.py streets`" in Streets.remedy()
    assert CamVid.remedy() == "run `python -m seglib download camvid` (187 MB, CC BY-NC 4.0)"
    assert "Brostow" in CamVid.attribution and "tmkand" in Ultrasound.attribution


def test_incomplete_data_are_told_and_only_what_is_published_is_fetched(tmp_path, monkeypatch):
    for part, number in CAMVID.parts.items():
        folder = tmp_path / "camvid" / part
        folder.mkdir(parents=True)
        for i in range(number - (part == "trainannot")):
            (folder / f"{i:05}.png").touch()
    with pytest.raises(FileNotFoundError, match=r"camvid: trainannot/ has 366 of 367 files\n"):
        CamVid("test", root=tmp_path)
    (tmp_path / "camvid" / "trainannot" / "other.png").touch()
    assert CamVid.find(tmp_path) == CamVid.find(tmp_path / "camvid") == tmp_path / "camvid"
    with pytest.raises(ValueError, match=r"00366.png is without a mask .* download it again"):
        CamVid("train", root=tmp_path)
    # only when it is wanted
    asked, fetched = [], tmp_path / "fetched"
    for part in ("test/images", "test/masks"):
        (fetched / part).mkdir(parents=True)
        Image.new("L", (2, 2)).save(fetched / part / "1.png")
    monkeypatch.setattr(module, "fetch", lambda *words: asked.append(words) or fetched)
    for kind, download in ((Ultrasound, False), (Streets, True)):
        with pytest.raises(FileNotFoundError):
            kind("test", root=tmp_path, download=download)
    assert asked == []
    assert Ultrasound("test", root=tmp_path, download=True).root == fetched
    assert asked == [("ultrasound", tmp_path)]


@pytest.mark.data
def test_camvid_splits_and_shares(datasets):
    split = {name: CamVid(name, root=datasets) for name in CamVid.splits}
    assert {name: len(dataset) for name, dataset in split.items()} == SIZES[CamVid]
    drives = {name: set(dataset.groups) for name, dataset in split.items()}
    assert drives["dev"] == {"0006R0"}
    assert drives["fit"] == {"0001TP", "0016E5"}
    assert drives["train"] == drives["dev"] | drives["fit"]
    assert (drives["val"], drives["test"]) == ({"0016E5"}, {"0001TP", "Seq05VD"})
    assert split["test"].groups.count("Seq05VD") == 171
    assert set(split["dev"].files) | set(split["fit"].files) == set(split["train"].files)
    for dataset in split.values():
        assert all(image.name == mask.name for image, mask in dataset.files)
        assert dataset.classes == STREET_CLASSES
        np.testing.assert_array_equal(dataset.palette, STREET_PALETTE)
    image, mask = split["test"][0]
    assert image.shape == (360, 480, 3) and mask.shape == (360, 480)
    in_file = np.asarray(Image.open(split["test"].files[0][1]))
    assert (in_file == 11).any()
    np.testing.assert_array_equal(mask, np.where(in_file == 11, 255, in_file))

    # the shares are the published ones
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
def test_ultrasound_splits(datasets):
    split = {name: Ultrasound(name, root=datasets) for name in Ultrasound.splits}
    assert {name: len(dataset) for name, dataset in split.items()} == SIZES[Ultrasound]
    frames = {name: set(dataset.groups) for name, dataset in split.items()}
    for one, other in combinations(("train", "val", "test"), 2):
        assert not frames[one] & frames[other]
    names = {name: {i.stem for i, _ in dataset.files} for name, dataset in split.items()}
    left_out = {"0002", "0011", "0034", "0035", "0054", "0079", "0081", "0091", "0112"}
    assert names["trainval"] - left_out == names["train"] | names["val"]
    copied = [group for group in split["test"].groups if group in frames["trainval"]]
    assert len(copied) == 8  # as published, the test split leaks
    assert split["val"].classes == ULTRASOUND_CLASSES
    statistics = class_statistics(split["trainval"])
    np.testing.assert_allclose(100 * statistics.share, [92.7, 3.2, 4.1], atol=0.05)
    assert statistics.void == 0
    assert statistics.total_images - statistics.images[2] == 21  # without a vessel


def fine_structure(dataset):
    """The spectrum of each picture, cropped to its content, 128×128, high-passed, of norm 1."""
    spectra = []
    for path, _ in dataset.files:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        rows, columns = np.flatnonzero(grey.max(1) > 40), np.flatnonzero(grey.max(0) > 40)
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        small = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32)
        small -= cv2.GaussianBlur(small, (0, 0), 4)
        spectra.append(np.fft.rfft2(small / np.linalg.norm(small)))
    return spectra


@pytest.mark.data
@pytest.mark.slow
def test_ultrasound_splits_of_ours_share_no_picture_and_the_published_ones_do(datasets):
    """Measured from the pictures instead of read from our list of copies."""

    def likeness(these, those):
        """The largest correlation over all shifts, for every pair."""
        pairs = [[a * b.conj() for b in spectra[those]] for a in spectra[these]]
        return np.array([[np.fft.irfft2(p, s=(128, 128)).max() for p in row] for row in pairs])

    spectra = {s: fine_structure(Ultrasound(s, root=datasets)) for s in Ultrasound.splits}
    for a, b in combinations(("train", "val", "test"), 2):
        assert likeness(a, b).max() < 0.45, (a, b)
    # the same measure does see copies: between the published splits there are some
    assert (likeness("test", "trainval").max(axis=1) > 0.8).sum() >= 6

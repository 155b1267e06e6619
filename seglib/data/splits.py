"""One split of a layout that was recognised, as a data set takes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seglib.data.layouts import read_layout
from seglib.data.pairing import some


def read_split(
    root: str | Path, split: str, classes: Sequence[str], layout: str, options: dict[str, Any]
) -> tuple[dict[str, Any], list[str], str]:
    """What a data set of one split is made of: its options, its problems, and what was recognised.

    Of `options` val_share and group are `read_layout`'s, incomplete is the class's.
    """
    own = {name: options.pop(name, None) for name in ("val_share", "group", "incomplete")}
    found = read_layout(root, layout, own["val_share"], own["group"])
    files, problems = found.split(split)
    if problems and not own["incomplete"]:
        raise ValueError(f"found in {root}: {some(problems)}; {found.sentence}")
    label_map = options.pop("label_map", None)
    options["label_map"] = found.label_map(classes) if label_map is None else label_map
    groups = [found.groups[image] for image, _ in files]
    return {**options, "files": files, "groups": groups}, problems, found.sentence

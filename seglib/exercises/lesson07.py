"""The exercises of lesson 7: attention and its cost, SegFormer's labels, matching, PQ."""

# mypy: allow-untyped-defs

import math
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seglib.exercises import kit
from seglib.exercises.kit import NotYet, show

LESSON = kit.Lesson(
    "07",
    outcomes=(
        "compute attention by hand, and implement it",
        "predict the memory that attention needs from image size, stride and reduction",
        "use a SegFormer, and turn its small logits into labels",
        "explain how queries with masks replace a class for each pixel, and match them to the "
        "truth",
        "compute panoptic quality, and say what instance labels add",
    ),
)
summary = LESSON.summary

# ---------------------------------------------------------------- attention


def attention(query, key, value):
    """For each query the mean of the values, weighted by how well their keys match."""
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (..., n, m)
    weights = scores.softmax(-1)  # each row sums to 1
    return weights @ value  # (..., n, c)


def _drawn(seed: int, shape: tuple[int, ...], sizes: str, dtype: str, scale: float = 1) -> Any:
    """Query, key and value; `sizes` are n, m, d and c, each of them another number."""
    n, m, d, c = map(int, sizes.split())
    generator, numbers = torch.Generator().manual_seed(seed), getattr(torch, dtype)
    parts = [(n, d), (m, d), (m, c)]
    query, key, value = (
        torch.randn(*shape, *part, generator=generator, dtype=numbers) for part in parts
    )
    return scale * query, key, value


ATTENDED = (
    _drawn(1, (), "4 5 3 2", "float32"),
    _drawn(2, (2,), "3 6 4 5", "float64"),
    _drawn(3, (2, 3), "5 4 8 6", "float32"),
    _drawn(4, (), "3 7 9 4", "float32", scale=100),  # exp of the largest score overflows
)
_TURN = "swap the last two dimensions of key, with key.transpose(-2, -1)"
_ATTENTION_CLUES = {  # of errors
    "t() expects a tensor with <= 2": f".t() takes two dimensions at most: {_TURN}",
    "Dimension out of range": "count the dimensions from the end, as in transpose(-2, -1)",
    "no ellipsis was given": "write ... in einsum for the dimensions before the last two",
    "x.T": f"do you use .T? It reverses all dimensions: {_TURN}",
    "must match the size": f"do you use .T? It reverses all dimensions: {_TURN}",
    "mat1 and mat2 shapes": f"a matrix product needs (n, d) times (d, m): {_TURN}",
    "must be a matrix": "mm takes two dimensions only; @ takes any number",
    "must be a 3D tensor": "bmm takes three dimensions only; @ takes any number",
    "can't be converted": "stay with PyTorch's functions, such as .softmax(-1)",
}


def attended_given(query: Tensor, key: Tensor, value: Tensor) -> str:
    shapes = ", ".join(str(tuple(part.shape)) for part in (query, key, value))
    large = " and large scores" * bool(query.abs().max() > 50)
    return f"query, key, value of shapes {shapes} in {str(query.dtype)[6:]}{large}"


def _attended(answer: Any, given: str, query: Tensor, key: Tensor, value: Tensor) -> Any:
    """(output, the largest error that rounding explains)."""
    found = kit.call(answer, query, key, value, given=given, clues=_ATTENTION_CLUES)
    if not isinstance(found, Tensor):
        raise NotYet(f"on {given}, found {show(found)}, expected a tensor")
    if found.dtype != query.dtype:
        raise NotYet(f"on {given}, found {found.dtype}, expected the input's {query.dtype}")
    return found.detach(), _rounding(query, key, value)


def _rounding(query: Tensor, key: Tensor, value: Tensor) -> float:
    """A bound on the difference of two ways to compute attention.

    A dot product of d terms is off by at most (d + 2) eps Σ|q||k|, scaling included. An error δ of
    all scores changes a weight by a factor of exp(±2δ); exp, sum and mean add (2m + 4) eps. The
    weights sum to 1. Machine eps is twice the rounding error, so two results are covered.
    """
    d, m, eps = query.shape[-1], key.shape[-2], torch.finfo(query.dtype).eps
    size = float((query.abs() @ key.abs().transpose(-2, -1)).max()) / d**0.5
    return eps * (2 * (d + 2) * size + 2 * m + 4) * float(value.abs().max())


def _close(found: Any, right: Any) -> bool:
    (output, _), (expected, tolerance) = found, right
    if output.shape != expected.shape:
        return False
    return bool(torch.allclose(output, expected, rtol=0, atol=tolerance, equal_nan=True))


def _shown_output(found: Any) -> str:
    first = ", ".join(f"{value:.3f}" for value in found[0].flatten()[:2].tolist())
    return f"a tensor {tuple(found[0].shape)} that begins {first}"


_SCORES, _ROOT, _WEIGHTS = "key.transpose(-2, -1)", "query.shape[-1] ** 0.5", "scores.softmax(-1)"
_MEAN = "weights @ value"
_ONE_SIZE = "that divides by the root of the number of {}; d is the length of a query"
_FIRST = "softmax runs over the first dimension; the keys are the last one of the scores"
_QUERIES = "softmax runs over the queries; for each query, the weights of the keys must sum to 1"
_NO_SOFTMAX = "without softmax the scores are not weights: they do not sum to 1"
_ATTENTION_MISTAKES = kit.edits(
    attention,
    ("the scale is missing: divide the scores by √d", f" / {_ROOT}", ""),
    ("that divides by d; divide by its square root", _ROOT, "query.shape[-1]"),
    ("that multiplies by √d; divide by it", f"/ {_ROOT}", f"* {_ROOT}"),
    ("that multiplies by d; divide by its square root", f"/ {_ROOT}", "* query.shape[-1]"),
    (_ONE_SIZE.format("keys"), _ROOT, "key.shape[-2] ** 0.5"),
    (_ONE_SIZE.format("queries"), _ROOT, "query.shape[-2] ** 0.5"),
    ("c is the length of a value; d is that of a query", _ROOT, "value.shape[-1] ** 0.5"),
    ("a square root is the power 1/2, not 2", _ROOT, "query.shape[-1] ** 2"),
    (
        "the scale comes too late: divide the scores, not the weights",
        f" / {_ROOT}",
        "",
        _WEIGHTS,
        f"{_WEIGHTS} / {_ROOT}",
    ),
    (_QUERIES, "softmax(-1)", "softmax(-2)"),
    (_FIRST, "softmax(-1)", "softmax(0)"),
    (
        "dimension 1 holds the keys only where there is no batch: use softmax(-1)",
        "softmax(-1)",
        "softmax(1)",
    ),
    (
        "softmax runs over queries and keys together; each query has its own",
        _WEIGHTS,
        "scores.flatten(-2).softmax(-1).reshape(scores.shape)",
    ),
    (f"{_NO_SOFTMAX}, and may be negative", _WEIGHTS, "scores"),
    (f"{_NO_SOFTMAX}, and the scale is missing as well", _WEIGHTS, "scores", f" / {_ROOT}", ""),
    (
        "sigmoid weights each key independently; softmax lets them compete",
        "softmax(-1)",
        "sigmoid()",
    ),
    ("log_softmax returns logarithms; the weights are its exp", "softmax(-1)", "log_softmax(-1)"),
    (
        "the scores are divided by their sum; softmax takes their exp first",
        _WEIGHTS,
        "scores / scores.sum(-1, keepdim=True)",
    ),
    ("exp is taken, but the weights do not sum to 1", _WEIGHTS, "scores.exp()"),
    (
        "exp of a large score overflows: use softmax, which subtracts the largest one first",
        _WEIGHTS,
        "scores.exp() / scores.exp().sum(-1, keepdim=True)",
    ),
    (
        "each query takes the value of its best key only; softmax mixes them",
        _WEIGHTS,
        "(scores == scores.amax(-1, keepdim=True)).to(value)",
    ),
    (
        "all values have the same weight, whatever the query is",
        _WEIGHTS,
        "0 * scores + 1 / m",
        "scores =",
        "m = key.shape[-2]; scores =",
    ),
    ("the scores compare keys with keys", "query @", "key @"),
    ("these are the weights; multiply them by value", _MEAN, "weights"),
    ("that is a weighted mean of the keys, not of the values", _MEAN, "weights @ key"),
)

attention = LESSON.ask(  # type: ignore[assignment]
    ("attention", "Attention", "implement", 0),
    kit.function(
        ATTENDED,
        attention,
        _ATTENTION_MISTAKES,
        attended_given,
        "right with 2, 3 and 4 dimensions, in float32 and float64, and with large scores",
        run=_attended,
        agree=_close,
        shown=_shown_output,
        otherwise="are the scores of shape (..., n, m), and does each row of weights sum to 1?",
    ),
    attention,
    "Three steps: scores of each query with each key, softmax over the keys, mean of the values.",
    "query @ key.transpose(-2, -1) holds all dot products: one row per query, one column per key.",
    "Divide by the root of query.shape[-1], take .softmax(-1), and multiply by value with @.",
)

# ---------------------------------------------------------------- the memory of the weights

MEBIBYTES = {"512×512": 1024, "512×512, reduction 8": 16, "1024×1024, reduction 8": 256}
_SMALL, _REDUCED, _LARGE = MEBIBYTES
_SIDE = "8 times smaller in height and in width: 64 times fewer keys"
_READINGS: kit.Readings = {
    _SMALL: [
        (1, "that is in GiB; give MiB, 1024 times as many"),
        (2**30, "that is in bytes; a MiB has 2^20"),
        (2**28, "that is how many weights there are; each has 4 bytes, and a MiB has 2^20"),
        (256, "that is how many million weights there are; each has 4 bytes"),
        (512, "that is half precision; a float32 has 4 bytes"),
        (2048, "that is double precision; a float32 has 4 bytes"),
        (8192, "that is in Mibit; a byte has 8 bits"),
        (2**18, "that treats each pixel as a query. The map has 128×128 places"),
        (64, "that is a map of an eighth of the size; the first stage has a quarter"),
        (1 / 16, "that is one query's weights; each of the 16,384 places is a query"),
    ],
    _REDUCED: [
        (128, f"that divides by 8. The keys' map is {_SIDE}"),
        (1024, "that is without the reduction"),
        (1 / 4, "you reduce the queries as well; only keys and values are reduced"),
        (2, "that divides by 8 three times; the keys' map has two sides"),
        (4, "that is how many million weights there are; each has 4 bytes"),
        (8, "that is half precision; a float32 has 4 bytes"),
        (4096, "that treats each pixel as a query. The map has 128×128 places"),
        (256, "that is the number of keys, 16·16; each of 16,384 queries has a weight for each"),
        (1 / 64, "that is in GiB; give MiB"),
    ],
    _LARGE: [
        (16, "the image has four times as many pixels now"),
        (32, "that doubles. Twice the side means 4 times the queries and 4 times the keys"),
        (64, "that is 4 times as much. There are 4 times the queries and 4 times the keys"),
        (128, "that is 8 times as much. There are 4 times the queries and 4 times the keys"),
        (2048, f"that divides by 8. The keys' map is {_SIDE}"),
        (16384, "that is without the reduction"),
        (4, "you reduce the queries as well; only keys and values are reduced"),
        (1024, "that is 64 times as much. There are 4 times the queries and 4 times the keys"),
        (1 / 4, "that is in GiB; give MiB"),
    ],
}


def _times(factor: float) -> dict[str, float]:
    return {key: factor * value for key, value in MEBIBYTES.items()}


memory = LESSON.ask(
    ("memory", "The memory of the weights", "predict", 1),
    kit.numbers(
        MEBIBYTES,
        _READINGS,
        "reduction 8 saves a factor of 64; twice the side costs a factor of 16",
        what=lambda key: f"the weights of {key}",
        low=0,
        distance=lambda found, value: abs(found - value) / value,
        tolerance=0.05,
        otherwise="multiply queries, keys and 4 bytes, and divide by 2^20",
        wholes=[
            (_times(1 / 4), "you count the weights, in millions; each has 4 bytes"),
            (_times(1 / 2), "you count 2 bytes for a number, as in half precision; it has 4"),
            (_times(2), "you count 8 bytes for a number, or scores and weights; count 4 once"),
            (_times(8), "you count bits; a byte has 8"),
            (_times(256), "you treat each pixel as a query and forget the stride of 4"),
            (_times(1 / 1024), "you give GiB; a GiB has 1024 MiB"),
            (_times(2**20), "you give bytes; a MiB has 2^20"),
        ],
    ),
    dict(MEBIBYTES),
    "How many places does the map have? Without reduction each is a query and a key.",
    "There is a weight for each query and each key: 128·128 queries times 128·128 keys, 4 bytes.",
    "Reduction 8 leaves 16·16 keys. Twice the side gives 4 times the queries and 4 times the keys.",
    variable="guess",
)

# ---------------------------------------------------------------- labels from smaller logits


def labels(logits, size):
    """Labels (N, H, W) from smaller logits (N, C, h, w)."""
    logits = F.interpolate(logits, size, mode="bilinear")  # (N, C, H, W)
    return logits.argmax(1)


def _logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


ENLARGED = (
    (_logits(2, 1, 3, 5, 7), (20, 28)),
    (_logits(3, 2, 4, 6, 5), (23, 18)),  # no multiples of the map's sides
)


def _labelled(answer: Any, given: str, logits: Tensor, size: tuple[int, int]) -> Any:
    clues = {
        "Input and output": "size is (H, W); interpolate takes (N, C, h, w), four dimensions",
        "not implemented for 'Long'": "bilinear needs floating-point numbers, such as the logits",
    }
    found = kit.call(answer, logits, size, given=given, clues=clues)
    if not isinstance(found, Tensor):
        raise NotYet(f"on {given}, found {show(found)}, expected a tensor of labels")
    return found.detach()


def _shown_labels(found: Tensor) -> str:
    shape, values = f"shape {tuple(found.shape)}", found.double()
    if found.ndim != 3 or not torch.equal(values, values.round()):
        return f"a tensor of {shape} in {str(found.dtype)[6:]}"
    counts = [(f"class {label}", int((found == label).sum())) for label in range(4)]
    return f"{shape} with " + ", ".join(f"{n} pixels of {name}" for name, n in counts if n)


def _other_labels(found: Tensor, right: Tensor) -> str:
    if found.shape != right.shape:
        return "first enlarge all C maps of logits to size, then take the argmax over classes"
    return f"{int((found != right).sum())} of {right.numel()} pixels differ"


def _integers(answer: Any) -> str:
    for logits, size in ENLARGED:
        if (found := answer(logits.clone(), size)).is_floating_point():
            raise NotYet(f"the labels are right, but their dtype is {found.dtype}; use integers")
    return "the logits are enlarged, then compared: smooth borders, whatever the size"


_BLOCKS = "the labels come in blocks, as nearest copies them. Enlarge the logits, bilinearly"
_BETWEEN = (
    "a mean of labels is not a label: between classes 0 and 2 lies class 1. Take the argmax last"
)
_RESIZE, _AREA = 'F.interpolate(logits, size, mode="bilinear")', 'mode="bilinear"'
_EARLY = "logits.argmax(1, keepdim=True).float()"
_LABEL_MISTAKES = kit.edits(
    labels,
    (_BLOCKS, _AREA, 'mode="nearest"'),
    (f"{_BLOCKS}, not by nearest-exact", _AREA, 'mode="nearest-exact"'),
    (_BETWEEN, "interpolate(logits", f"interpolate({_EARLY}", "logits.argmax(1)", "logits[:, 0]"),
    (
        f"{_BETWEEN}; .long() rounds down",
        "interpolate(logits",
        f"interpolate({_EARLY}",
        "logits.argmax(1)",
        "logits[:, 0].long()",
    ),
    (
        f"{_BETWEEN}; rounding does not help",
        "interpolate(logits",
        f"interpolate({_EARLY}",
        "logits.argmax(1)",
        "logits[:, 0].round().long()",
    ),
    (
        "align_corners=True stretches the map: it puts the corners' centres onto each other",
        _AREA,
        f"{_AREA}, align_corners=True",
    ),
    (
        "you enlarge probabilities. That is a fair choice, but SegFormer's code enlarges logits",
        "interpolate(logits",
        "interpolate(logits.softmax(1)",
    ),
    (
        "you enlarge sigmoids; enlarge the logits",
        "interpolate(logits",
        "interpolate(logits.sigmoid()",
    ),
    ("bicubic overshoots next to borders; SegFormer's code is bilinear", "bilinear", "bicubic"),
    ("argmin takes the least likely class", "argmax", "argmin"),
    (
        "that compares the images of the batch: the classes are dimension 1",
        "argmax(1)",
        "argmax(0)",
    ),
    ("that compares rows: the classes are dimension 1", "argmax(1)", "argmax(2)"),
    ("that compares columns: the classes are dimension 1", "argmax(1)", "argmax(-1)"),
    (
        "height and width are swapped: size is (H, W) already",
        "(logits, size,",
        "(logits, size[::-1],",
    ),
    ("these are the enlarged logits; take the argmax over the classes", ".argmax(1)", ""),
    ("these labels still have the size of the logits", _RESIZE, "logits"),
    (
        "the size is 4 times that of the map, whatever size says",
        "(logits, size,",
        "(logits, scale_factor=4,",
    ),
    ("that is the largest logit, not its class", "argmax(1)", "amax(1)"),
    ("keepdim leaves a dimension of classes; drop it", "argmax(1)", "argmax(1, keepdim=True)"),
)

labels = LESSON.ask(  # type: ignore[assignment]
    ("labels", "Labels at the image's size", "debug", 2),
    kit.function(
        ENLARGED,
        labels,
        _LABEL_MISTAKES,
        lambda logits, size: f"logits {tuple(logits.shape)} and size {size}",
        _integers,
        run=_labelled,
        agree=lambda found, right: found.shape == right.shape and bool((found == right).all()),
        shown=_shown_labels,
        otherwise=_other_labels,
    ),
    labels,
    "The mean of two labels means nothing; the mean of two logits does. Which step comes first?",
    "Enlarge the logits with F.interpolate(…, size, mode=…), then take the argmax.",
    'mode="bilinear" without align_corners, on all classes; argmax(1) at the end.',
)

# ---------------------------------------------------------------- matching by hand

COSTS = ((0.3, 0.7, 0.4), (0.5, 0.6, 0.9), (0.2, 0.1, 0.8))  # queries 1 to 3; car, road, sky
MASKS = ("car", "road", "sky")
MATCHED = {"car": 2, "road": 3, "sky": 1, "total cost": 1.0}


def _matching(car: int, road: int, sky: int, total: float) -> dict[str, float]:
    return dict(zip(MATCHED, (car, road, sky, total), strict=True))


match = LESSON.ask(
    ("match", "Three queries, three masks", "predict", 3),
    kit.numbers(
        MATCHED,
        {
            "car": [
                (1, "then the sky cannot have query 1, and its other costs are 0.9 and 0.8"),
                (3, "query 3 is the cheapest for the car, but the road saves more with it"),
            ],
            "road": [
                (1, "0.7 is the highest cost of the road: which query does the sky get then?"),
                (2, "query 2 costs the road 0.6; another query costs 0.1"),
            ],
            "sky": [
                (2, "0.9 is the highest cost of all: try the sky with query 1"),
                (3, "0.8: the sky has a query that costs half as much"),
            ],
            "total cost": [
                (1 / 3, "that is the mean of the three costs; give their sum"),
                (0.5, "that is the largest of the three costs; give their sum"),
                (0.7, "0.2 + 0.1 + 0.4 uses query 3 twice"),
                (0.8, "0.3 + 0.1 + 0.4 uses query 1 twice"),
            ],
        },
        "car and road both prefer query 3; the total decides which of them gets it",
        what=lambda key: key if key == "total cost" else f"the query for the {key}",
        low=0,
        high=9,
        tolerance=0.005,
        otherwise="there are six ways to give three queries to three masks; add up each",
        wholes=[
            (
                _matching(1, 3, 2, 1.3),
                "you took the smallest cost that was left each time; the last one is then 0.9",
            ),
            (
                _matching(3, 3, 1, 0.7),
                "each mask has its cheapest query, but query 3 is used twice",
            ),
            (
                _matching(3, 2, 1, 1.2),
                "you went from mask to mask: the car took query 3, which the road needs more",
            ),
            (
                _matching(1, 2, 3, 1.7),
                "you went from query to query: only the sky was left for query 3",
            ),
            (_matching(2, 1, 3, 2.0), "that is the largest total; costs should be small"),
            (
                _matching(3, 1, 2, 1.0),
                "you numbered the masks for each query; type the query for each mask",
            ),
            (_matching(1, 2, 0, 1.0), "you count queries from 0; the table counts from 1"),
        ],
    ),
    dict(MATCHED),
    "Both the car and the road are cheapest with query 3. Only one of them can have it.",
    "There are six assignments, such as car 1, road 2, sky 3 with 0.3 + 0.6 + 0.8. Add up all.",
    "The cheapest entry of all belongs to the best assignment. Who gets queries 1 and 2?",
    variable="matched",
)

# ---------------------------------------------------------------- panoptic quality


def panoptic_quality(iou):
    """PQ of one class from the IoU of predicted (rows) and true segments (columns)."""
    match = iou > 0.5
    tp = match.sum()
    fp, fn = iou.shape[0] - tp, iou.shape[1] - tp
    total = tp + fp / 2 + fn / 2
    return iou[match].sum() / total if total else float("nan")


def _overlaps(*rows: tuple[float, ...]) -> Any:
    return np.array(rows, dtype=np.float64)


_HALVES = (0.0, 0.9, 0.0), (0.5, 0.0, 0.0), (0.4, 0.05, 0.0), (0.0, 0.0, 0.7), (0.0, 0.0, 0.0)
OVERLAPS = (
    _overlaps((0.8, 0.0, 0.0), (0.0, 0.6, 0.3)),
    _overlaps(*_HALVES),
    _overlaps((0.2, 0.1), (0.0, 0.3), (0.0, 0.0)),
    _overlaps((1.0,)),
    *(np.zeros(shape) for shape in ((0, 3), (2, 0), (0, 0))),
)


def overlaps_given(iou: Any) -> str:
    if 0 in iou.shape:
        return f"an array of shape {iou.shape}"
    return f"iou = {iou.tolist()}"


def _one_number(answer: Any, given: str) -> float:
    """PQ as a float; a list or an array of a single number will do, and NaN."""
    while isinstance(answer, list | tuple) and len(answer) == 1:
        answer = answer[0]
    with suppress(Exception):
        answer = answer.item()
    with suppress(Exception):
        if math.isnan(answer):
            return math.nan
    return kit.number(answer, f"PQ ({given})")


_PQ_CLUES = {
    "division by zero": "without any segment there is nothing to divide by: return NaN",
    "zero-size array": "P or T may be 0, and an empty array has no largest value",
    "empty sequence": "P or T may be 0, and an empty array has no largest value",
    "iterable argument is empty": "P or T may be 0, and an empty array has no largest value",
    "index 0 is out of bounds": "P or T may be 0: iou.shape tells both, iou[0] needs a row",
    "truth value": "compare entry by entry: iou > 0.5 is an array of True and False",
}
_SUM, _MATCH, _TOTAL = "iou[match].sum()", "iou > 0.5", "tp + fp / 2 + fn / 2"
_NAN = ' if total else float("nan")'
_LEFT = "fp, fn = iou.shape[0] - tp, iou.shape[1] - tp"
_ALONE = "fp, fn = (~(iou > 0).any(1)).sum(), (~(iou > 0).any(0)).sum()"
_EVERY = "every overlap counts as a match; a match needs an IoU above 0.5"
_SEGMENTATION = "that is SQ, the mean IoU of the matches. It ignores FP and FN"
_NOTHING = "without any segment there is nothing to score: PQ is NaN, not {}"
_BEST = "each true segment's best overlap counts, even if it is below 0.5"
_NO_MATCH = _NAN, " if total else 0.0", " if total else (0.0 if sum(iou.shape) else float('nan'))"
_PQ_MISTAKES = kit.edits(
    panoptic_quality,
    ("an IoU of exactly 0.5 is no match: it must be above", _MATCH, "iou >= 0.5"),
    (_EVERY, _MATCH, "iou > 0"),
    (_EVERY, _MATCH, "iou > 0", _LEFT, _ALONE),
    ("FP and FN count in full; PQ counts half of each", _TOTAL, "tp + fp + fn"),
    *((_SEGMENTATION, _TOTAL, "tp", _NAN, end) for end in _NO_MATCH),
    ("that is RQ, the F1 of the matches; PQ sums their IoU", _SUM, "tp"),
    (_BEST, _SUM, "iou.max(0, initial=0).sum()"),
    (
        "each predicted segment's best overlap counts, even if it is below 0.5",
        _SUM,
        "iou.max(1, initial=0).sum()",
    ),
    (_NOTHING.format("0"), _NAN, " if total else 0.0"),
    (_NOTHING.format("1"), _NAN, " if total else 1.0"),
    ("false positives do not count in it", _TOTAL, "tp + fn / 2"),
    ("false negatives do not count in it", _TOTAL, "tp + fp / 2"),
    ("that divides by the true segments only; FP count, too", _TOTAL, "tp + fn"),
    ("that divides by the predicted segments only; FN count, too", _TOTAL, "tp + fp"),
    (
        "that divides by P + T, which counts each match twice: divide by half of it",
        _TOTAL,
        "2 * tp + fp + fn",
    ),
    ("that doubles FP and FN; PQ halves them", _TOTAL, "tp + 2 * fp + 2 * fn"),
    (
        "FP and FN are counted as pairs below the threshold; count segments without a match",
        _LEFT,
        "fp = fn = (~match).sum()",
    ),
    ("FP and FN also include segments that overlap a little but match nothing", _LEFT, _ALONE),
    ("that is in percent; PQ lies between 0 and 1", _SUM, f"100 * {_SUM}"),
)

pq = LESSON.ask(
    ("pq", "Panoptic quality", "implement", 4),
    kit.function(
        [(iou,) for iou in OVERLAPS],
        panoptic_quality,
        _PQ_MISTAKES,
        overlaps_given,
        "right for exact halves, for no match, and without any segment",
        read=_one_number,
        run=lambda answer, given, iou: kit.call(answer, iou, given=given, clues=_PQ_CLUES),
        otherwise="print TP, FP and FN: TP + FP is the number of rows, TP + FN that of columns",
    ),
    panoptic_quality,
    "match = iou > 0.5 marks the matches; no segment can have two of them.",
    "TP is the number of matches. P − TP predictions are false, T − TP true segments are missed.",
    'iou[match].sum() / (TP + FP/2 + FN/2); return float("nan") where the divisor is 0.',
)

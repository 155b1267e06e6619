"""Wrong answers to the exercises of lesson 7, beside those that their judges' tables imply."""

from answers import code

PRELUDE = """
import math
import numpy as np
import torch
import torch.nn.functional as F
from seglib.exercises import lesson07 as ex
"""


def _attention(scores, *more, end="scores.softmax(-1) @ value"):
    head = "def attention(query, key, value):"
    return code(head, "d = query.shape[-1]", f"scores = {scores}", *more, f"return {end}")


_PRODUCT = "query @ key.transpose(-2, -1) / math.sqrt(d)"


def _labels(*body):
    return code("def labels(logits, size):", *body)


_SMALL = "small = logits.argmax(1)[:, None]"
_LARGE = "large = F.interpolate(logits, size, mode='bilinear')"


def _pq(*body, end="iou[iou > 0.5].sum() / total if total else math.nan"):
    head = "def panoptic_quality(iou):"
    return code(head, "total = sum(iou.shape) / 2", *body, f"return {end}")


_MATCH = "m = iou > 0.5"

WRONG = {
    "attention": {
        "the scale is missing: divide the scores by √d": _attention("query @ key.mT"),
        "that divides by d; divide by its square root": _attention("query @ key.mT / d"),
        "that multiplies by √d": _attention("query @ key.mT * d ** 0.5"),
        "the root of the number of keys": _attention("query @ key.mT / key.size(-2) ** 0.5"),
        "softmax runs over the queries": _attention(_PRODUCT, end="scores.softmax(-2) @ value"),
        "softmax runs over the first dimension": _attention(
            _PRODUCT, end="F.softmax(scores, 0) @ value"
        ),
        "use softmax(-1)": _attention(_PRODUCT, end="F.softmax(scores, 1) @ value"),
        "without softmax the scores are not weights": _attention(_PRODUCT, end="scores @ value"),
        "sigmoid weights each key independently": _attention(
            _PRODUCT, end="torch.sigmoid(scores) @ value"
        ),
        "exp of a large score overflows": _attention(
            _PRODUCT, "w = scores.exp()", end="(w / w.sum(-1, keepdim=True)) @ value"
        ),
        "these are the weights": _attention(_PRODUCT, end="scores.softmax(-1)"),
        "the scores compare keys with keys": _attention("key @ key.mT / d ** 0.5"),
        "do you use .T? It reverses all dimensions": _attention("query @ key.T / d ** 0.5"),
        ".t() takes two dimensions at most": _attention("query @ key.t() / d ** 0.5"),
        "count the dimensions from the end": _attention("query @ key.transpose(1, 2) / d ** 0.5"),
        "write ... in einsum": _attention("torch.einsum('nd,md->nm', query, key) / d ** 0.5"),
        "a matrix product needs (n, d) times (d, m)": _attention("query @ key / d ** 0.5"),
        "mm takes two dimensions only": _attention("torch.mm(query, key.mT) / d ** 0.5"),
        "bmm takes three dimensions only": _attention("torch.bmm(query, key.mT) / d ** 0.5"),
        "expected the input's torch.float64": _attention(
            "query.float() @ key.float().mT / d ** 0.5", end="scores.softmax(-1) @ value.float()"
        ),
        "expected a tensor": _attention(_PRODUCT, end="(scores.softmax(-1) @ value).numpy()"),
        "each row of weights sum to 1?": _attention("query @ key.mT / d ** 0.4"),
        "is the `return` missing": _attention(_PRODUCT, end="None"),
    },
    "memory": {
        "The keys' map is 8 times smaller in height": "guess = {**ex.MEBIBYTES, "
        "'512×512, reduction 8': 128, '1024×1024, reduction 8': 2048}",
        "that doubles. Twice the side": "guess = {**ex.MEBIBYTES, '1024×1024, reduction 8': 32}",
        "that is 4 times as much": "guess = {**ex.MEBIBYTES, '1024×1024, reduction 8': 64}",
        "you count bits": "guess = {k: 8 * v for k, v in ex.MEBIBYTES.items()}",
        "as in half precision; it has 4": "guess = {k: v / 2 for k, v in ex.MEBIBYTES.items()}",
        "forget the stride of 4": "guess = {k: 256 * v for k, v in ex.MEBIBYTES.items()}",
        "you count the weights, in millions": "guess = {k: v / 4 for k, v in ex.MEBIBYTES.items()}",
        "each has 4 bytes, and a MiB has": "guess = {**ex.MEBIBYTES, '512×512': 2 ** 28}",
        "multiply queries, keys and 4 bytes": "guess = {**ex.MEBIBYTES, '512×512': 700}",
        "expected a number from 0": "guess = {**ex.MEBIBYTES, '512×512': -1024}",
    },
    "labels": {
        "the labels come in blocks": _labels(
            _SMALL, "return F.interpolate(small.float(), size, mode='nearest')[:, 0].long()"
        ),
        "a mean of labels is not a label": _labels(
            _SMALL, "return F.interpolate(small.float(), size, mode='bilinear')[:, 0]"
        ),
        "long() rounds down": _labels(
            _SMALL, "return F.interpolate(small.float(), size, mode='bilinear')[:, 0].long()"
        ),
        "align_corners=True stretches": _labels(
            "return F.interpolate(logits, size, mode='bilinear', align_corners=True).argmax(1)"
        ),
        "you enlarge probabilities": _labels(
            "logits = logits.softmax(1)", _LARGE, "return large.argmax(1)"
        ),
        "that compares the images of the batch": _labels(_LARGE, "return large.argmax(0)"),
        "that compares columns": _labels(_LARGE, "return large.argmax(dim=3)"),
        "height and width are swapped": _labels(
            _LARGE.replace("size", "(size[1], size[0])"), "return large.argmax(1)"
        ),
        "these are the enlarged logits": _labels(_LARGE, "return large"),
        "still have the size of the logits": _labels("return logits.argmax(1)"),
        "the size is 4 times that of the map": _labels(
            "large = F.interpolate(logits, scale_factor=4, mode='bilinear')",
            "return large.argmax(1)",
        ),
        "pixels differ": _labels(_LARGE, "return large.argmax(1) * 2"),
        "first enlarge all C maps": _labels(_LARGE, "return large.argmax(1)[:, 1:]"),
        "dtype is torch.float32; use integers": _labels(_LARGE, "return large.argmax(1).float()"),
        "four dimensions": _labels(
            "small = logits.argmax(1).float()",
            "return F.interpolate(small, size, mode='bilinear').long()",
        ),
        "bilinear needs floating-point": _labels(
            _SMALL, "return F.interpolate(small, size, mode='bilinear')[:, 0]"
        ),
        "expected a tensor of labels": _labels(_LARGE, "return large.argmax(1).tolist()"),
    },
    "match": {
        "you took the smallest cost that was left": "matched = "
        "{'car': 1, 'road': 3, 'sky': 2, 'total cost': 1.3}",
        "query 3 is used twice": "matched = {'car': 3, 'road': 3, 'sky': 1, 'total cost': 0.7}",
        "you went from mask to mask": "matched = "
        "{'car': 3, 'road': 2, 'sky': 1, 'total cost': 1.2}",
        "you went from query to query": "matched = "
        "{'car': 1, 'road': 2, 'sky': 3, 'total cost': 1.7}",
        "you numbered the masks for each query": "matched = "
        "{'car': 3, 'road': 1, 'sky': 2, 'total cost': 1.0}",
        "that is the largest total": "matched = {'car': 2, 'road': 1, 'sky': 3, 'total cost': 2}",
        "you count queries from 0": "matched = {'car': 1, 'road': 2, 'sky': 0, 'total cost': 1}",
        "the mean of the three": "matched = {**ex.MATCHED, 'total cost': 0.33}",
        "there are six ways": "matched = {**ex.MATCHED, 'total cost': 1.1}",
        "expected a number for the query": "matched = {**ex.MATCHED, 'car': 'query 2'}",
    },
    "pq": {
        "exactly 0.5 is no match": _pq(end="iou[iou >= 0.5].sum() / total if total else math.nan"),
        "every overlap counts": _pq(end="iou.sum() / total if total else math.nan"),
        "FP and FN count in full": _pq(
            _MATCH, "t = sum(iou.shape) - m.sum()", end="iou[m].sum() / t if t else math.nan"
        ),
        "that is SQ": _pq(_MATCH, end="iou[m].mean() if m.any() else math.nan"),
        "that is RQ": _pq(_MATCH, end="m.sum() / total if total else math.nan"),
        "each true segment's best overlap": _pq(
            end="sum(max(c, default=0) for c in iou.T) / total if total else math.nan"
        ),
        "PQ is NaN, not 0": _pq(end="iou[iou > 0.5].sum() / max(total, 1)"),
        "divides by the true segments only": _pq(
            end="iou[iou > 0.5].sum() / iou.shape[1] if iou.shape[1] else math.nan"
        ),
        "nothing to divide by": _pq(end="float(iou[iou > 0.5].sum()) / total"),
        "an empty array has no largest value": _pq(
            end="iou.max(0)[iou.max(0) > 0.5].sum() / total"
        ),
        "expected a number for PQ": _pq(end="iou.max(initial=0, axis=0)"),
        "compare entry by entry": _pq(end="sum(row for row in iou if row > 0.5) / total"),
        "print TP, FP and FN": _pq(end="0.9 * iou[iou > 0.5].sum() / total if total else math.nan"),
    },
}

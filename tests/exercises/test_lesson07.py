"""Lesson 7: what the judges stand on, and right answers of other kinds."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from answers import accepted
from scipy.optimize import linear_sum_assignment

from seglib.exercises import lesson07 as ex
from seglib.models.segformer import HEADS, Attention, MixTransformer


def attention_by_loops(query, key, value):
    """In float64, query by query."""
    out = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=torch.float64)
    for place in itertools.product(*map(range, query.shape[:-1])):
        keys, values = key[place[:-1]].tolist(), value[place[:-1]].tolist()
        q = query[place].tolist()
        scores = [math.fsum(a * b for a, b in zip(q, k, strict=True)) / len(q) ** 0.5 for k in keys]
        weights = [math.exp(score - max(scores)) for score in scores]
        for c in range(value.shape[-1]):
            pairs = zip(weights, values, strict=True)
            out[(*place, c)] = math.fsum(w * v[c] for w, v in pairs) / math.fsum(weights)
    return out


@pytest.mark.parametrize("case", ex.ATTENDED, ids=lambda case: f"{case[0].ndim} dimensions")
def test_attention_and_its_tolerance(case):
    found, tolerance = ex._attended(ex.attention.answer, "", *case)
    exact = attention_by_loops(*case)
    assert found.shape == exact.shape and (found - exact).abs().max() <= tolerance
    assert tolerance <= (1e-2 if case[0].abs().max() > 50 else 1e-4)  # mistakes: 1e-3 and more
    (n, d), (m, c) = case[0].shape[-2:], case[2].shape[-2:]
    assert len({n, m, d, c}) == 4 and exact.abs().max() > 0.3


def test_the_last_scores_overflow_and_the_others_do_not():
    for number, (query, key, _) in enumerate(ex.ATTENDED):
        scores = query @ key.mT / query.shape[-1] ** 0.5
        assert scores.exp().isinf().any() == (number == 3)


def by_einsum(query, key, value):
    scores = torch.einsum("...nd,...md->...nm", query / query.shape[-1] ** 0.5, key)
    exp = (scores - scores.amax(-1, keepdim=True)).exp()
    return torch.einsum("...nm,...mc->...nc", exp, value) / exp.sum(-1, keepdim=True)


def in_float64(query, key, value):
    return attention_by_loops(query, key, value).to(query.dtype)


def in_place(query, key, value):
    query /= math.sqrt(query.shape[-1])
    return torch.softmax((key @ query.mT).mT, dim=-1).matmul(value)


@pytest.mark.parametrize(
    "answer", [F.scaled_dot_product_attention, by_einsum, in_float64, in_place]
)
def test_other_ways_to_attend(answer):
    accepted(ex.attention, answer)


def test_the_memory_of_the_weights_in_the_library():
    """Of the first block: counted where nothing is computed."""
    found = {}
    with torch.device("meta"):
        backbone = MixTransformer("b0")
        reduced, whole = backbone.stages[0][0].attention, Attention(32, HEADS[0], 1)
        for side, attention in ((512, whole), (512, reduced), (1024, reduced)):
            x = backbone.embeddings[0](torch.empty(1, 3, side, side))
            query, key, _ = attention.queries_keys_values(x)
            name = f"{side}×{side}" + ", reduction 8" * (attention is reduced)
            found[name] = (query @ key.mT).nbytes / 2**20
    assert found == ex.memory.judge.right


def test_megabytes_are_near_enough():
    accepted(ex.memory, {key: value * 2**20 / 1e6 for key, value in ex.MEBIBYTES.items()})


def labels_by_loops(logits, size):
    """Labels, and by how much the largest logit exceeds the second."""
    sides = []
    for small, large in zip(logits.shape[2:], size, strict=True):
        matrix = np.zeros((large, small))
        for i in range(large):
            x = min(max((i + 0.5) * small / large - 0.5, 0), small - 1)
            low = min(int(x), small - 2)
            matrix[i, low], matrix[i, low + 1] = low + 1 - x, x - low
        sides.append(matrix)
    enlarged = np.einsum("Hh,Ww,nchw->ncHW", *sides, logits.double().numpy())
    ranks = np.sort(enlarged, axis=1)
    return enlarged.argmax(1), (ranks[:, -1] - ranks[:, -2]).min()


@pytest.mark.parametrize("logits, size", ex.ENLARGED)
def test_the_labels_and_that_rounding_changes_none(logits, size):
    expected, margin = labels_by_loops(logits, size)
    assert np.array_equal(ex.labels.answer(logits, size).numpy(), expected)
    assert margin > 1e-4  # logits up to 12: float32 sums of four are off by 6e-6 at most


def by_log_softmax(logits, size):
    return F.interpolate(logits.log_softmax(1), size, mode="bilinear").max(1).indices


def in_double(logits, size):
    large = F.interpolate(logits.double(), tuple(size), mode="bilinear", align_corners=False)
    return large.topk(1, dim=1).indices.squeeze(1).int()


def antialiased(logits, size):  # no matter where it enlarges
    return F.interpolate(logits, size, mode="bilinear", antialias=True).softmax(1).argmax(1)


@pytest.mark.parametrize("answer", [by_log_softmax, in_double, antialiased])
def test_other_ways_to_enlarge(answer):
    accepted(ex.labels, answer)


def test_the_matching_is_the_only_best_and_each_wrong_one_is_what_its_hint_says():
    costs, (names, total) = np.array(ex.COSTS), (ex.MASKS, "total cost")
    sums = {
        queries: round(sum(costs[q, mask] for mask, q in enumerate(queries)), 6)
        for queries in itertools.permutations(range(3))
    }
    assert len(set(sums.values())) == 6
    rows, columns = linear_sum_assignment(costs)
    best = {names[mask]: query + 1 for query, mask in zip(rows, columns, strict=True)}
    assert {**best, total: round(costs[rows, columns].sum(), 6)} == ex.MATCHED
    assert min(sums.values()) == ex.MATCHED[total]

    def taken(pairs):
        """Each pair in turn whose query and mask are both free."""
        found = {}
        for query, mask in pairs:
            if mask not in found and query not in found.values():
                found[mask] = query
        return tuple(found[mask] for mask in range(3))

    cells = list(itertools.product(range(3), repeat=2))
    greedy, by_query, by_mask = (
        taken(sorted(cells, key=key))
        for key in (
            lambda cell: costs[cell],
            lambda cell: (cell[0], costs[cell]),
            lambda cell: (cell[1], costs[cell]),
        )
    )
    own = tuple(costs.argmin(0))
    expected = [greedy, own, by_mask, by_query, max(sums, key=sums.get)]
    assert len({*expected, tuple(columns), tuple(ex.MATCHED[name] - 1 for name in names)}) == 7
    for queries, (whole, _) in zip(expected, ex.match.judge.wholes, strict=False):
        assert tuple(whole[name] - 1 for name in names) == queries
        assert whole[total] == round(sum(costs[q, mask] for mask, q in enumerate(queries)), 6)
    swapped, from_zero = (whole for whole, _ in ex.match.judge.wholes[5:])
    assert tuple(swapped[name] - 1 for name in names) == tuple(columns)
    assert {name: from_zero[name] + 1 for name in names} == best


def pq_by_brute_force(iou):
    """Every set of pairs of which no two share a segment; the one with most matches."""
    predicted, true = map(len, (iou, iou.T))
    pairs = [(p, t) for p in range(predicted) for t in range(true) if iou[p, t] > 0.5]
    for size in range(len(pairs), -1, -1):
        for chosen in itertools.combinations(pairs, size):
            if all(len(set(side)) == size for side in zip(*chosen, strict=True)):
                wrong, missed = predicted - size, true - size
                if size + wrong + missed == 0:
                    return [math.nan]
                return [math.fsum(iou[pair] for pair in chosen) / (size + (wrong + missed) / 2)]
    raise AssertionError


def pq_as_sq_times_rq(iou):
    match = torch.tensor(iou > 0.5)
    if not sum(iou.shape):
        return torch.tensor(math.nan)
    sq = torch.tensor(iou)[match].mean() if match.any() else torch.tensor(0.0)
    return sq * 2 * match.sum() / sum(iou.shape)


def pq_as_array(iou):
    with np.errstate(invalid="ignore"):
        return np.divide([np.where(iou > 0.5, iou, 0).sum()], sum(iou.shape) / 2)


@pytest.mark.parametrize("answer", [pq_by_brute_force, pq_as_sq_times_rq, pq_as_array])
def test_other_ways_to_compute_pq(answer):
    accepted(ex.pq, answer)


def test_the_overlaps_are_possible():
    """Segments do not overlap each other, so the IoUs of one with all others sum to 1 at most."""
    for iou in ex.OVERLAPS:
        assert (iou.sum(0) <= 1).all() and (iou.sum(1) <= 1).all()
    values = [ex.pq.answer(iou) for iou in ex.OVERLAPS]
    assert values == pytest.approx([0.56, 0.4, 0, 1, 0, 0, math.nan], nan_ok=True)

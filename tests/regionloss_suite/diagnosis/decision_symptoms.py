"""How the decisions of a loss deviate, in words: which predictors it made responsible, and which it ignored.

If an adapter returns no indicators, they are inferred from its gradient: a predictor with a class and a box gradient
is responsible for a truth, and one without an objectness gradient is ignored.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

import numpy as np

from regionloss import Result
from regionloss.terms import T_O, no_object_term
from regionloss_spec.batch import Array
from regionloss_spec.clause import BLOCKS, STATES, View
from regionloss_suite.oracle.channels import BLOCK_CHANNELS
from regionloss_suite.oracle.comparison import Comparison, expected_indicators

#: How close a MaxIOU must be to the threshold to count as equal to it.
_EQUAL = 1e-6


def assignment_symptoms(comparison: Comparison) -> set[str]:
    """Symptoms of truths that are assigned differently than expected."""
    expected, got = expected_indicators(comparison.case, comparison.result)[0], comparison.answer.responsible
    if got is None:
        return _predictor_symptoms(comparison) if departs(comparison) else set()
    if comparison.difference(View("indicator")) is None or sorted(got) == sorted(expected):
        return set()
    if comparison.answer.gradient is not None and not departs(comparison):
        return {"told only"}
    return _truth_symptoms(comparison.result, expected, got)


def indicator_symptoms(comparison: Comparison) -> set[str]:
    """How the predictors that another loss ignored differ from the expected ones, given the same assignment."""
    expected, got = expected_indicators(comparison.case, comparison.result)[1], comparison.answer.ignored
    if got is None:
        return _ignored_symptoms(comparison.result, _inferred(comparison)[1]) if departs(comparison) else set()
    if comparison.difference(View("indicator")) is None or sorted(got) == sorted(expected):
        return set()
    if comparison.answer.gradient is not None and not departs(comparison):
        return {"told only"}
    ignored = np.zeros_like(comparison.result.decisions.ignored)
    for place in got:
        ignored[place] = True
    return _ignored_symptoms(comparison.result, ignored)


def departs(comparison: Comparison) -> bool:
    """Whether there is a gradient of the right shape that deviates anywhere."""
    gradient = comparison.answer.gradient
    if gradient is None or np.shape(gradient) != comparison.result.gradient.shape:
        return False
    return comparison.difference(View("gradient", BLOCKS, STATES)) is not None


def gradients(comparison: Comparison) -> tuple[Array, Array, Array]:
    """The returned gradient, the expected one, and where they differ, each `[N, A, 5+C, H, W]`."""
    shape = comparison.result.t.shape
    stated = comparison.case.expected.gradient
    expected = np.asarray(comparison.result.gradient if stated is None else stated, dtype=np.float64).reshape(shape)
    got = np.asarray(comparison.answer.gradient, dtype=np.float64).reshape(shape)
    with np.errstate(invalid="ignore"):
        return got, expected, ~(np.abs(got - expected) <= comparison.gradient_bound.reshape(shape))


def _truth_symptoms(result: Result, expected: Iterable[tuple[int, ...]], got: Iterable[tuple[int, ...]]) -> set[str]:
    """The symptoms of each truth whose predictors are not the expected ones."""
    wanted, given = _by_truth(expected), _by_truth(got)
    taken = {place for places in wanted.values() for place in places}
    payers = Counter(place for places in given.values() for place in places)
    read = {(match.image, match.truth) for match in result.decisions.matches}
    symptoms = set()
    for truth in {*wanted, *given}:
        before, after = wanted.get(truth, set()), given.get(truth, set())
        if before == after:
            continue
        if truth not in read:
            symptoms.add("unread truth")
        elif not before:
            shared = [place for place in after if place in taken]
            several = any(payers[place] > 1 for place in shared)
            symptoms.add("every truth pays" if several else "another truth" if shared else "own predictor")
        elif not after:
            symptoms.add("another truth" if any(place in payers for place in before) else "no predictor")
        elif before < after:
            symptoms.add("several predictors")
        else:
            symptoms.add("another anchor" if _cells(before) & _cells(after) else "another cell")
    return symptoms


def _by_truth(places: Iterable[tuple[int, ...]]) -> dict[tuple[int, int], set[tuple[int, ...]]]:
    predictors: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    for image, truth, *predictor in places:
        predictors.setdefault((image, truth), set()).add((image, *predictor))
    return predictors


def _cells(predictors: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
    return {(image, row, column) for image, _, row, column in predictors}


def _predictor_symptoms(comparison: Comparison) -> set[str]:
    """The same as `_truth_symptoms`, as far as a gradient shows it."""
    before, after = comparison.result.decisions.responsible, _inferred(comparison)[0]
    lost, won = before & ~after, after & ~before
    symptoms = set()
    for image, _, row, column in np.argwhere(lost):
        here, anywhere = won[image, :, row, column].any(), won[image].any()
        symptoms.add("another anchor" if here else "another cell" if anywhere else "no predictor")
    if any(not lost[image].any() for image, *_ in np.argwhere(won)):
        symptoms.add("several predictors")
    return symptoms


def _inferred(comparison: Comparison) -> tuple[Array, Array]:
    """The responsible and the ignored predictors according to the returned gradient, bool `[N, A, H, W]` each."""
    got, _, wrong = gradients(comparison)
    decisions = comparison.result.decisions
    apart = {name: wrong[:, :, block].any(axis=2) for name, block in BLOCK_CHANNELS.items()}
    moved = apart["c"] & (apart["xy"] | apart["wh"])
    won = moved & ~decisions.responsible
    for image, rows in enumerate(comparison.result.truths):
        won[image] &= won[image].sum() <= len(rows)  # there cannot be more such predictors than truths
    without_class = (got[:, :, BLOCK_CHANNELS["c"]] == 0).all(axis=2)
    responsible = (decisions.responsible & ~(moved & without_class)) | won
    silent = got[:, :, 4] == 0
    pays = apart["o"] & np.isclose(got[:, :, 4], _background(comparison.result), rtol=1e-4, atol=0)
    return responsible, (decisions.ignored & ~pays) | (~responsible & apart["o"] & silent)


def _background(result: Result) -> Array:
    """The objectness gradient of the no-object term if it were paid, `[N, A, H, W]`."""
    everyone = dataclasses.replace(result.decisions, no_object=np.ones_like(result.decisions.no_object))
    return result.scale * no_object_term(result.t, everyone, result.profile).gradient[:, :, T_O]


def _ignored_symptoms(result: Result, ignored: Array) -> set[str]:
    """How a set of ignored predictors, bool `[N, A, H, W]`, differs from the expected one; at most one symptom."""
    decisions = result.decisions
    free = ~decisions.responsible & ~decisions.class_only[:, None, None, None]
    wrong = free & (ignored != decisions.ignored)
    if (ignored & decisions.responsible).any() and not wrong.any():
        return {"ignored though responsible"}
    if not wrong.any():
        return set()
    beside = free & decisions.responsible.any(axis=1, keepdims=True)
    empty = np.array([not len(rows) for rows in result.truths], dtype=bool)[:, None, None, None]
    fewer, more = (wrong & ~ignored).any(), (wrong & ignored).any()
    if (np.abs(decisions.max_iou[wrong] - result.profile.thresh) <= _EQUAL).all():
        return {"at the threshold"}
    if not fewer and (wrong <= beside).all() and (beside <= ignored).all():
        return {"ignored beside a match"}
    if (wrong <= empty).all():
        return {"ignored in empty images"}
    silent, paying = decisions.max_iou[free & ignored], decisions.max_iou[free & ~ignored]
    if not len(silent):
        return {"nobody ignored"}
    if not len(paying):
        return {"everybody ignored"}
    if paying.max() < silent.min():
        return {"another threshold"}
    return {"ignored too many" if not fewer else "ignored too few" if not more else "ignored differently"}

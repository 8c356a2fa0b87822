"""Decisions that another loss took: which predictors it made responsible, and which it ignored, in words.

Where an adapter tells no indicators, they are read off its gradient: a predictor that learns a class and a box answers
for a truth, and one without any gradient of its objectness is ignored.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss import Result
from regionloss.terms import T_O, no_object_term
from regionloss_adapters.numpy_reference import indicators
from regionloss_spec.clause import View
from regionloss_suite.compare import Comparison

Array = NDArray[Any]

#: The channels of a predictor that a block of the gradient means.
BLOCKS = {"xy": slice(0, 2), "wh": slice(2, 4), "o": slice(4, 5), "c": slice(5, None)}

#: How close a MaxIOU is to the threshold to be called equal to it.
_EQUAL = 1e-6


def assignment_signs(asked: Comparison) -> set[str]:
    """What happened to truths that are answered for otherwise than expected."""
    expected, told = _expected_indicators(asked)[0], asked.answer.responsible
    if told is None:
        return _predictor_signs(asked) if departs(asked) else set()
    if asked.difference(View("indicator")) is None or sorted(told) == sorted(expected):
        return set()
    if asked.answer.gradient is not None and not departs(asked):
        return {"told only"}
    return _truth_signs(asked.result, expected, told)


def indicator_signs(asked: Comparison) -> set[str]:
    """How the predictors that another loss ignored differ from the expected ones, given the same assignment."""
    expected, told = _expected_indicators(asked)[1], asked.answer.ignored
    if told is None:
        return _ignored_signs(asked.result, _read_off(asked)[1]) if departs(asked) else set()
    if asked.difference(View("indicator")) is None or sorted(told) == sorted(expected):
        return set()
    if asked.answer.gradient is not None and not departs(asked):
        return {"told only"}
    ignored = np.zeros_like(asked.result.decisions.ignored)
    for place in told:
        ignored[place] = True
    return _ignored_signs(asked.result, ignored)


def departs(asked: Comparison) -> bool:
    """Whether there is a gradient, of the right shape, that departs anywhere."""
    gradient = asked.answer.gradient
    if gradient is None or np.shape(gradient) != asked.result.gradient.shape:
        return False
    return asked.difference(View("gradient", tuple(BLOCKS), ("responsible", "ignored", "no-object"))) is not None


def gradients(asked: Comparison) -> tuple[Array, Array, Array]:
    """The answered gradient, the expected one, and where they are apart, each `[N, A, 5+C, H, W]`."""
    shape = asked.result.t.shape
    said = asked.case.expected.gradient
    expected = np.asarray(asked.result.gradient if said is None else said, dtype=np.float64).reshape(shape)
    got = np.asarray(asked.answer.gradient, dtype=np.float64).reshape(shape)
    with np.errstate(invalid="ignore"):
        return got, expected, ~(np.abs(got - expected) <= asked.gradient_bound.reshape(shape))


def _expected_indicators(asked: Comparison) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    responsible, ignored = indicators(asked.result.decisions)
    said = asked.case.expected
    return said.responsible if said.responsible is not None else responsible, (
        said.ignored if said.ignored is not None else ignored
    )


def _truth_signs(result: Result, expected: Iterable[tuple[int, ...]], told: Iterable[tuple[int, ...]]) -> set[str]:
    """What became of each truth whose predictors are not the expected ones."""
    wanted, got = _by_truth(expected), _by_truth(told)
    taken = {place for places in wanted.values() for place in places}
    payers = Counter(place for places in got.values() for place in places)
    read = {(match.image, match.truth) for match in result.decisions.matches}
    signs = set()
    for truth in {*wanted, *got}:
        before, after = wanted.get(truth, set()), got.get(truth, set())
        if before == after:
            continue
        if truth not in read:
            signs.add("unread truth")
        elif not before:
            shared = [place for place in after if place in taken]
            several = any(payers[place] > 1 for place in shared)
            signs.add("every truth pays" if several else "another truth" if shared else "own predictor")
        elif not after:
            signs.add("another truth" if any(place in payers for place in before) else "no predictor")
        elif before < after:
            signs.add("several predictors")
        else:
            signs.add("another anchor" if _cells(before) & _cells(after) else "another cell")
    return signs


def _by_truth(places: Iterable[tuple[int, ...]]) -> dict[tuple[int, int], set[tuple[int, ...]]]:
    found: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    for image, truth, *predictor in places:
        found.setdefault((image, truth), set()).add((image, *predictor))
    return found


def _cells(predictors: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
    return {(image, row, column) for image, _, row, column in predictors}


def _predictor_signs(asked: Comparison) -> set[str]:
    """The same as `_truth_signs`, as far as a gradient tells it."""
    before, after = asked.result.decisions.responsible, _read_off(asked)[0]
    lost, won = before & ~after, after & ~before
    signs = set()
    for image, _, row, column in np.argwhere(lost):
        here, anywhere = won[image, :, row, column].any(), won[image].any()
        signs.add("another anchor" if here else "another cell" if anywhere else "no predictor")
    if any(not lost[image].any() for image, *_ in np.argwhere(won)):
        signs.add("several predictors")
    return signs


def _read_off(asked: Comparison) -> tuple[Array, Array]:
    """The responsible and the ignored predictors by the gradient that was answered, bool `[N, A, H, W]` each."""
    got, _, wrong = gradients(asked)
    decisions = asked.result.decisions
    apart = {name: wrong[:, :, block].any(axis=2) for name, block in BLOCKS.items()}
    moved = apart["c"] & (apart["xy"] | apart["wh"])
    won = moved & ~decisions.responsible
    for image, rows in enumerate(asked.result.truths):
        won[image] &= won[image].sum() <= len(rows)  # truths cannot have moved to more predictors than there are truths
    without_class = (got[:, :, BLOCKS["c"]] == 0).all(axis=2)
    responsible = (decisions.responsible & ~(moved & without_class)) | won
    silent = got[:, :, 4] == 0
    pays = apart["o"] & np.isclose(got[:, :, 4], _background(asked.result), rtol=1e-4, atol=0)
    return responsible, (decisions.ignored & ~pays) | (~responsible & apart["o"] & silent)


def _background(result: Result) -> Array:
    """The gradient of the objectness that the no-object term has where it is paid, `[N, A, H, W]`."""
    everyone = dataclasses.replace(result.decisions, no_object=np.ones_like(result.decisions.no_object))
    return result.scale * no_object_term(result.t, everyone, result.profile).gradient[:, :, T_O]


def _ignored_signs(result: Result, ignored: Array) -> set[str]:
    """How a set of ignored predictors, bool `[N, A, H, W]`, differs from the expected one; at most one sign."""
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
    return {"ignored too many" if not fewer else "ignored too few" if not more else "ignored otherwise"}

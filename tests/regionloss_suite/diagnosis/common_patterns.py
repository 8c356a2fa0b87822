"""What all departing answers have in common: few digits, numbers in other places, or the gradient of another loss."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from regionloss import evaluate
from regionloss_spec.batch import Array
from regionloss_spec.clause import TERMS, View
from regionloss_suite.diagnosis.term_symptoms import term_deviations
from regionloss_suite.judging.judge import Observation

#: The share of the largest element by which a number may be off, and the share of the cases in which it has to be so.
_COARSE, _MOST = 1e-2, 0.9
#: The payers of a usual answer, how many of them have to be off, and in which share of the cases.
_USUAL, _SPREAD, _OFTEN = ("centre", "size", "objectness", "class", "background"), 4, 0.25
#: Fewer cases than this are no evidence that it is everywhere.
_FEW = 5
#: The clause of the gradient of each payer.
_GRADIENTS = {
    "centre": "coord.centre-gradient",
    "size": "coord.size-gradient",
    "objectness": "object.gradient",
    "class": "class.gradient",
    "background": "noobj.gradient",
    "prior centre": "prior.gradient",
    "prior size": "prior.gradient",
}


@dataclass(frozen=True)
class Blame:
    """A clause that is blamed for what no known cause explains.

    Attributes:
        clause: its id.
        words: what shows it.
        evidence: the isolating question, with the answer.
    """

    clause: str
    words: str
    evidence: str


def common_pattern(rest: list[Observation]) -> Blame | None:
    """The clause that explains what all departing answers have in common, if they have something in common."""
    if _few(rest):
        return None
    return few_digits(rest) or _misplaced(rest) or _gradient_alone(rest)


def _few(rest: list[Observation]) -> bool:
    return len({one.case.id for one in rest}) < _FEW


def _gradients(observation: Observation) -> tuple[Array, Array] | None:
    """The gradient of an answer and the expected one; `None` without a finite gradient of that shape."""
    comparison = observation.exchange.comparison
    if comparison is None or comparison.answer.gradient is None:
        return None
    expected = observation.exchange.adjust(comparison.result).gradient
    got = np.asarray(comparison.answer.gradient, dtype=np.float64)
    if got.shape != expected.shape or not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return None
    return got, expected


def _payers(observation: Observation) -> set[str]:
    comparison = observation.exchange.comparison
    return set() if comparison is None else set(term_deviations(comparison).gradients)


def few_digits(rest: list[Observation]) -> Blame | None:
    """The clause of the format, if everything that departs is off by little, whatever pays it."""
    if _few(rest):
        return None
    shares, where_none = [], 0
    for observation in rest:
        pair, scale = _gradients(observation), 0.0
        if pair is not None:
            scale = float(np.abs(pair[1]).max(initial=0.0))
            where_none += bool((pair[0][pair[1] == 0] != 0).any())
        shares.append(np.inf if pair is None or not scale else np.abs(pair[0] - pair[1]).max() / scale)
    little = [share for share in shares if share <= _COARSE]
    counts = Counter(payer for observation in rest for payer in _payers(observation))
    spread = sum(counts[payer] >= _OFTEN * len(rest) for payer in _USUAL)
    if len(little) < _MOST * len(rest) or spread < _SPREAD:
        return None
    if where_none >= 0.5 * len(rest):
        evidence = (
            f"in {where_none} of {len(rest)} departing answers outputs that nothing is paid for have small gradients"
        )
        return Blame("table.structural-zeros", "a little everywhere, also where nothing is paid", evidence)
    evidence = (
        f"in {len(little)} of {len(rest)} departing answers every gradient is off by at most {max(little):.2g} of the "
        "largest element, whichever term pays it"
    )
    return Blame(f"numerics.{rest[0].exchange.dtype}", "off a little everywhere", evidence)


def _misplaced(rest: list[Observation]) -> Blame | None:
    """The clause of the layout, if every gradient has the right numbers in other places."""
    pairs = [pair for observation in rest if (pair := _gradients(observation)) is not None]
    if len(pairs) < _MOST * len(rest):
        return None
    within_channels = True
    if sum(not _alike(*pair, relative=1e-2) for pair in pairs) < _MOST * len(pairs):
        return None  # the numbers are off by little
    pairs = [pair for pair in pairs if _alike(_by_image(pair[0]), _by_image(pair[1]))]
    if len(pairs) < _MOST * len(rest):
        return None
    for got, expected in pairs:
        channels = [np.sort(one.reshape(*got.shape[:2], -1)) for one in (got, expected)]
        within_channels &= _alike(channels[0], channels[1])
    clause = "notation.grid-axes" if within_channels else "notation.channel-order"
    where = "cells" if within_channels else "channels"
    evidence = (
        f"in {len(pairs)} of {len(rest)} departing answers the gradient has the expected numbers in other {where}"
    )
    return Blame(clause, "the right numbers in other places", evidence)


def _by_image(gradient: Array) -> Array:
    return np.sort(gradient.reshape(len(gradient), -1))


def _alike(one: Array, other: Array, relative: float = 1e-4) -> bool:
    slack = relative * float(np.abs(other).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=relative, atol=slack))


def _gradient_alone(rest: list[Observation]) -> Blame | None:
    """The clause of a derivative, if the scalar is right in every answer and the gradient in none."""
    counts: Counter[str] = Counter()
    payers: set[str] = set()
    flowing = answered = 0
    for observation in rest:
        comparison = observation.exchange.comparison
        if comparison is None or comparison.answer.potential is None or comparison.answer.gradient is None:
            return None
        numbers = [View("potential"), View("indicator"), *(View("term", term=name) for name in TERMS)]
        if any(comparison.difference(view) is not None for view in numbers):
            return None
        if _gradients(observation) is None:  # what overflows says nothing about a derivative
            continue
        own = _payers(observation)
        payers |= own
        counts.update({_GRADIENTS.get(payer, "") for payer in own})
        flowing += _flows(observation)
        answered += 1
    number = f"in all {len(rest)} departing answers the scalar is right"
    if flowing >= max(_MOST * answered, 1):
        evidence = (
            f"{number}, and in {flowing} the gradient is the expected one or that of an IoU that is not held constant"
        )
        return Blame("object.target-constant", "the target of objectness has a gradient", evidence)
    coords = {"coord.centre-gradient", "coord.size-gradient"}
    main = {clause for clause, count in counts.items() if count > _OFTEN * len(rest)}
    if not main or "" in main or (1 < len(main) < 4 and not main <= coords):
        return None
    clause = "scale.potential" if len(main) >= 4 else min(main)
    evidence = f"{number}, and the gradient of {', '.join(sorted(payers))} is not its derivative"
    return Blame(clause, "the gradient is not that of the scalar", evidence)


def _flows(observation: Observation) -> bool:
    """Whether each element is the expected one, or that of a target of objectness that is not held constant."""
    pair, comparison = _gradients(observation), observation.exchange.comparison
    assert pair is not None
    assert comparison is not None
    case = observation.case
    if case.profile.object_target_gradient == "flows" or case.profile.object_target == "one":
        return False
    other = evaluate(case.batch, case.profile.replace(object_target_gradient="flows"))
    flowing = observation.exchange.adjust(other).gradient
    slack = comparison.gradient_bound + 1e-6 * float(np.abs(flowing).max(initial=0.0))
    return bool((~comparison.wrong.reshape(flowing.shape) | (np.abs(pair[0] - flowing) <= slack)).all())

"""What predictors paid otherwise than they should, in words: who, and how.

A sign is a payer and what became of its payment, such as `objectness factor` (the gradient of the objectness of the
responsible predictors is the expected one times a number) or `size slope alone` (a derivative too many or too few,
while the value of the term is right).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss.boxes import sigmoid_grad
from regionloss_spec.clause import TERMS, View
from regionloss_suite.compare import Comparison
from regionloss_suite.shifts import BLOCKS, departs, gradients

Array = NDArray[Any]

#: Each payer: the state of its predictors, the block of the gradient, and the term that it pays. `free` is who answers
#: for no truth; what such a predictor pays for a box is the prior, and is another's payment where no prior is due.
PAYERS = {
    "centre": ("responsible", "xy", "coord"),
    "size": ("responsible", "wh", "coord"),
    "objectness": ("responsible", "o", "object"),
    "class": ("responsible", "c", "class"),
    "background": ("no-object", "o", "no_object"),
    "prior centre": ("no-object", "xy", "prior"),
    "prior size": ("no-object", "wh", "prior"),
    "prior centre of ignored": ("ignored", "xy", "prior"),
    "prior size of ignored": ("ignored", "wh", "prior"),
    "ignored objectness": ("ignored", "o", "no_object"),
    "ignored class": ("ignored", "c", "class"),
    "free class": ("no-object", "c", "class"),
    "boxless class": ("boxless", "c", "class"),
    "silent centre": ("boxless", "xy", ""),
    "silent size": ("boxless", "wh", ""),
    "silent objectness": ("boxless", "o", "no_object"),
}

_SQUARES = frozenset(TERMS) - {"class"}
#: Ratios closer than this are the same; differences below `_ROUNDING` come from a coarser number format.
_SAME, _ROUNDING = 1e-5, 2e-3


@dataclass(frozen=True)
class Payment:
    """What became of one payer's gradient in one case.

    Attributes:
        term: the term that departs with it.
        how: `appears`, `vanishes`, `nan`, `rounds`, `factor`, `slope` or `other`.
        alone: whether the value of the term is right nevertheless.
        ratio: answered by expected, for a factor.
        sure: whether it is known to be a factor, and does not only look like one for want of elements.
    """

    term: str
    how: str
    alone: bool = False
    ratio: float = 1.0
    sure: bool = True


@dataclass(frozen=True, eq=False)
class Payments:
    """What became of all payments of a case.

    Attributes:
        asked: the answer.
        gradients: by payer, of those whose gradient departs.
        values: by term, answered by expected, of those whose value departs and whose gradient does not.
    """

    asked: Comparison
    gradients: Mapping[str, Payment] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.gradients or self.values)


def payments(asked: Comparison) -> Payments:
    """What became of the payments of one case whose decisions are as expected."""
    values = _Values.of(asked)
    found: dict[str, Payment] = {}
    if departs(asked):
        with np.errstate(all="ignore"):
            wrong = gradients(asked)[2]
            for name, region in _regions(asked).items():
                if (wrong & region).any():
                    payer, term = _payer(name, asked, values)
                    found[payer] = _payment(term, asked, values, region)
    paid = {payment.term for payment in found.values()}
    return Payments(asked, found, {term: ratio for term, ratio in values.ratios.items() if term not in paid})


@dataclass(frozen=True)
class _Values:
    """What is known of the values of the terms of a case.

    Attributes:
        ratios: answered by expected, of the terms that are known to depart.
        right: the terms that are known to be right.
    """

    ratios: Mapping[str, float]
    right: frozenset[str]

    @classmethod
    def of(cls, asked: Comparison) -> _Values:
        if asked.answer.terms is None:
            sums_up = asked.answer.potential is not None and asked.difference(View("potential")) is None
            return cls({}, frozenset(TERMS) if sums_up else frozenset())
        ratios = {}
        for term in TERMS:
            difference = asked.difference(View("term", term=term))
            if difference is not None:
                expected = float(difference.expected)
                ratios[term] = float(difference.got) / expected if expected else float("inf")
        return cls(ratios, frozenset(TERMS) - set(ratios))


def signs_of(paid: Iterable[Payments]) -> list[frozenset[str]]:
    """The signs of each case; of a factor, what it depends on shows only in all of them together."""
    known = [*paid]
    ratios = {payer: Counter[float]() for payer in PAYERS}
    for one in known:
        for payer, payment in one.gradients.items():
            if payment.how == "factor":
                ratios.setdefault(payer, Counter())[round(payment.ratio, 6)] += 1
    weights = {payer: _weight(known, payer) for payer in ("centre", "size")}
    return [_signs(one, ratios, weights) for one in known]


def _regions(asked: Comparison) -> dict[str, Array]:
    """The elements of the gradient that each payer has, bool `[N, A, 5+C, H, W]`."""
    decisions, shape = asked.result.decisions, asked.result.t.shape
    states = {
        "responsible": decisions.responsible,
        "ignored": decisions.ignored,
        "no-object": ~decisions.responsible & decisions.no_object,
        "boxless": np.broadcast_to(decisions.class_only[:, None, None, None], decisions.responsible.shape),
    }
    regions = {}
    for name, (state, block, _) in PAYERS.items():
        region = np.zeros(shape, dtype=bool)
        region[:, :, BLOCKS[block]] = states[state][:, :, None]
        regions[name] = region
    return regions


def _payer(name: str, asked: Comparison, values: _Values) -> tuple[str, str]:
    """Whose payment it is, and of which term: what a free predictor pays may be another term's than it should."""
    term = PAYERS[name][2]
    if name.startswith("prior"):
        due = asked.case.batch.images_seen < asked.result.profile.prior_until
        box = "coord" in values.ratios and "prior" in values.right
        if box or not (due or values.ratios or values.right):
            return name.replace("prior", "free"), "coord"
    if name == "ignored objectness" and "object" in values.ratios and "no_object" in values.right:
        return "ignored object", "object"
    return name, term


def _payment(term: str, asked: Comparison, values: _Values, region: Array) -> Payment:
    """What became of the elements of a region, bool `[N, A, 5+C, H, W]`, some of which are wrong."""
    got, expected, wrong = gradients(asked)
    alone = term in values.right or (not term and bool(values.right))
    g, e = got[wrong & region], expected[wrong & region]
    if not np.isfinite(g).all():
        return Payment(term, "nan", alone)
    if not expected[region].any():
        return Payment(term, "appears", alone)
    if not g.any():
        return Payment(term, "vanishes", alone)
    if np.allclose(g, e, rtol=_ROUNDING, atol=0):
        return Payment(term, "rounds", alone)
    value = values.ratios.get(term)
    ratio, elements = _ratio(asked, region)
    if ratio is not None and (value is None or _close(value, ratio) or term in ("coord", "prior")):
        return Payment(term, "factor", alone, ratio, sure=elements > 1 or (value is not None and _close(value, ratio)))
    slope = sigmoid_grad(asked.result.t[wrong & region])
    slipped = np.allclose(g * slope, e, rtol=1e-4, atol=0) or np.allclose(g, e * slope, rtol=1e-4, atol=0)
    if slipped and (alone or term != "class"):  # a logistic class with a slope and another value pays a square
        return Payment(term, "slope", alone)
    return Payment(term, "other", alone)


def _ratio(asked: Comparison, region: Array) -> tuple[float | None, int]:
    """The one number that the expected elements of a region are multiplied by, if any, and how many tell it."""
    got, expected = (array[region] for array in gradients(asked)[:2])
    there = expected != 0
    if got[~there].any() or not there.any():
        return None, 0
    largest = np.argmax(np.abs(expected))
    ratio = float(got[largest] / expected[largest])
    slack = asked.gradient_bound.reshape(region.shape)[region] * max(1.0, abs(ratio))
    if not np.isfinite(ratio) or not ratio or not (np.abs(got - ratio * expected) <= 2 * slack).all():
        return None, 0
    return ratio, len(np.unique(np.round(expected[there], 12)))


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-4 * abs(other)


def _weight(known: list[Payments], payer: str) -> str:
    """What the factors of responsible predictors depend on, over all cases: `size`, `predictor`, or nothing."""
    ratios, weights, others = [], [], 0
    for one in known:
        if payer not in one.gradients:
            continue
        result, expected = one.asked.result, gradients(one.asked)[1]
        for match in (match for match in result.decisions.matches if match.pays_box):
            image, anchor, row, column = match.predictor
            region = np.zeros(result.t.shape, dtype=bool)
            region[image, anchor, BLOCKS[PAYERS[payer][1]], row, column] = True
            if not expected[region].any():
                continue
            with np.errstate(all="ignore"):
                ratio, _ = _ratio(one.asked, region)
            if ratio is None or ratio < 0:
                others += 1
                continue
            w, h = result.truths[image][match.truth, 2:4]
            ratios.append(ratio)
            weights.append(2 - w * h)
    if len(ratios) < 2 or others > len(ratios) / 10 or np.allclose(ratios, ratios[0], rtol=1e-4):
        return ""
    telling = np.abs(np.log(weights)) > 1e-3
    powers = np.log(ratios)[telling] / np.log(weights)[telling]
    by_size = len(powers) and np.isclose(powers, np.median(powers), atol=1e-3).mean() > 0.9
    return "by its size" if by_size else "by predictor"


def _signs(paid: Payments, ratios: Mapping[str, Counter[float]], weights: Mapping[str, str]) -> frozenset[str]:
    together = _together(paid)
    if together:
        return frozenset([together])
    signs = set()
    for payer, payment in paid.gradients.items():
        how = payment.how
        if how == "factor" and not payment.sure:
            told = ratios[payer]
            usual = told[round(payment.ratio, 6)]
            how = "factor" if usual > 1 and usual >= 0.3 * told.total() else "other"
        if how in ("factor", "other"):
            how = weights.get(payer) or how
        signs.add(f"{payer} {how}{' alone' * payment.alone}")
    for term, ratio in paid.values.items():
        signs.add(f"{term} value {'rounds' if abs(ratio - 1) < _ROUNDING else 'alone'}")
    return frozenset(signs)


def _together(paid: Payments) -> str:
    """The sign of a case in which several terms are multiplied by one number and by nothing else."""
    present = {name for name, term in paid.asked.result.terms.items() if term.value.any()}
    factors = [payment for payment in paid.gradients.values() if payment.how == "factor"]
    if paid.gradients and len(factors) == len(paid.gradients):
        numbers, terms = [payment.ratio for payment in factors], {payment.term for payment in factors}
        alone = all(payment.alone for payment in factors)
    elif not paid.gradients:
        numbers, terms, alone = [*paid.values.values()], {*paid.values}, False
    else:
        return ""
    if len(terms) < 2 or not np.allclose(numbers, numbers[0], rtol=_SAME, atol=0) or abs(numbers[0] - 1) < _ROUNDING:
        return ""
    who = "all" if terms >= present else "squares" if terms == present & _SQUARES else ""
    what = "" if paid.gradients else " values"
    return f"{who}{what} by one factor{' alone' * alone}" if who else ""

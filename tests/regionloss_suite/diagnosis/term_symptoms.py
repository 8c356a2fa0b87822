"""How the terms of a loss deviate, in words: which gradient or value, and how.

A symptom is a payer and how its gradient deviates, such as `objectness factor` (the objectness gradient of the
responsible predictors is the expected one times a number) or `size slope alone` (a derivative is missing or doubled,
while the value of the term is right). For a loss that returns only its sum, the symptom is the set of terms that,
multiplied by one number, would explain the sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from regionloss.boxes import sigmoid_grad
from regionloss_spec.batch import Array
from regionloss_spec.clause import TERMS, View
from regionloss_suite.diagnosis.decision_symptoms import departs, gradients
from regionloss_suite.oracle.channels import BLOCK_CHANNELS
from regionloss_suite.oracle.comparison import Comparison

#: Each payer: the state of its predictors, the block of the gradient, and the term that it pays. `free` predictors are
#: responsible for no truth; a box gradient of theirs is the prior, and belongs to another term if no prior is due.
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
#: Ratios closer than this are equal; differences below `_ROUNDING` come from a coarser number format.
_SAME, _ROUNDING = 1e-5, 2e-3


#: The sets of terms that may share a factor, and the symptom of each.
_TERM_GROUPS = {
    TERMS: frozenset({"all by one factor"}),
    tuple(term for term in TERMS if term != "class"): frozenset({"squares by one factor"}),
    ("no_object",): frozenset({"background factor"}),
    ("prior",): frozenset({"prior size factor", "prior size of ignored factor"}),
    ("coord",): frozenset({"centre factor", "size factor"}),
    ("object",): frozenset({"objectness factor"}),
    ("class",): frozenset({"class factor"}),
}
_UNKNOWN_SUM = frozenset({"another potential"})


@dataclass(frozen=True)
class TermDeviation:
    """How the gradient of one payer deviates in one case.

    Attributes:
        term: the term that deviates with it.
        how: `appears`, `vanishes`, `nan`, `rounds`, `factor`, `slope` or `other`.
        alone: whether the value of the term is nevertheless right.
        ratio: returned by expected, for a factor.
        sure: whether enough elements show that it is a factor.
    """

    term: str
    how: str
    alone: bool = False
    ratio: float = 1.0
    sure: bool = True


@dataclass(frozen=True, eq=False)
class TermDeviations:
    """How all terms of a case deviate.

    Attributes:
        comparison: the answer.
        gradients: by payer, those whose gradient deviates.
        values: by term, returned by expected, of those whose value deviates and whose gradient does not.
    """

    comparison: Comparison
    gradients: Mapping[str, TermDeviation] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.gradients or self.values)


def term_deviations(comparison: Comparison) -> TermDeviations:
    """How the terms of one case deviate, given the expected decisions."""
    values = _Values.of(comparison)
    by_payer: dict[str, TermDeviation] = {}
    if departs(comparison):
        with np.errstate(all="ignore"):
            wrong = gradients(comparison)[2]
            for name, region in _regions(comparison).items():
                if (wrong & region).any():
                    payer, term = _payer(name, comparison, values)
                    by_payer[payer] = _deviation(term, comparison, values, region)
    in_gradient = {deviation.term for deviation in by_payer.values()}
    by_value = {term: ratio for term, ratio in values.ratios.items() if term not in in_gradient}
    return TermDeviations(comparison, by_payer, by_value)


@dataclass(frozen=True)
class _Values:
    """The known values of the terms of a case.

    Attributes:
        ratios: returned by expected, of the terms that are known to deviate.
        right: the terms that are known to be right.
    """

    ratios: Mapping[str, float]
    right: frozenset[str]

    @classmethod
    def of(cls, comparison: Comparison) -> _Values:
        if comparison.answer.terms is None:
            sums_up = comparison.answer.potential is not None and comparison.difference(View("potential")) is None
            return cls({}, frozenset(TERMS) if sums_up else frozenset())
        ratios = {}
        for term in TERMS:
            difference = comparison.difference(View("term", term=term))
            if difference is not None:
                expected = float(difference.expected)
                ratios[term] = float(difference.got) / expected if expected else float("inf")
        return cls(ratios, frozenset(TERMS) - set(ratios))


def symptoms_of_terms(deviations: Iterable[TermDeviations]) -> list[frozenset[str]]:
    """The symptoms of each case; only all cases together show what a factor depends on."""
    known = [*deviations]
    ratios = {payer: Counter[float]() for payer in PAYERS}
    for one in known:
        for payer, deviation in one.gradients.items():
            if deviation.how == "factor":
                ratios.setdefault(payer, Counter())[round(deviation.ratio, 6)] += 1
    weights = {payer: _weight(known, payer) for payer in ("centre", "size")}
    return [_symptoms(one, ratios, weights) for one in known]


def _regions(comparison: Comparison) -> dict[str, Array]:
    """The gradient elements of each payer, bool `[N, A, 5+C, H, W]`."""
    decisions, shape = comparison.result.decisions, comparison.result.t.shape
    states = {
        "responsible": decisions.responsible,
        "ignored": decisions.ignored,
        "no-object": ~decisions.responsible & decisions.no_object,
        "boxless": np.broadcast_to(decisions.class_only[:, None, None, None], decisions.responsible.shape),
    }
    regions = {}
    for name, (state, block, _) in PAYERS.items():
        region = np.zeros(shape, dtype=bool)
        region[:, :, BLOCK_CHANNELS[block]] = states[state][:, :, None]
        regions[name] = region
    return regions


def _payer(name: str, comparison: Comparison, values: _Values) -> tuple[str, str]:
    """The payer and the term of a deviation: a free predictor may pay a term that is not its own."""
    term = PAYERS[name][2]
    if name.startswith("prior"):
        due = comparison.case.batch.images_seen < comparison.result.profile.prior_until
        box = "coord" in values.ratios and "prior" in values.right
        if box or not (due or values.ratios or values.right):
            return name.replace("prior", "free"), "coord"
    if name == "ignored objectness" and "object" in values.ratios and "no_object" in values.right:
        return "ignored object", "object"
    return name, term


def _deviation(term: str, comparison: Comparison, values: _Values, region: Array) -> TermDeviation:
    """How the elements of a region deviate, bool `[N, A, 5+C, H, W]`; some of them are wrong."""
    got, expected, wrong = gradients(comparison)
    alone = term in values.right or (not term and bool(values.right))
    g, e = got[wrong & region], expected[wrong & region]
    if not np.isfinite(g).all():
        return TermDeviation(term, "nan", alone)
    if not expected[region].any():
        return TermDeviation(term, "appears", alone)
    if not g.any():
        return TermDeviation(term, "vanishes", alone)
    if np.allclose(g, e, rtol=_ROUNDING, atol=0):
        return TermDeviation(term, "rounds", alone)
    value = values.ratios.get(term)
    ratio, elements = _ratio(comparison, region)
    if ratio is not None and (value is None or _close(value, ratio) or term in ("coord", "prior")):
        return TermDeviation(
            term, "factor", alone, ratio, sure=elements > 1 or (value is not None and _close(value, ratio))
        )
    slope = sigmoid_grad(comparison.result.t[wrong & region])
    slipped = np.allclose(g * slope, e, rtol=1e-4, atol=0) or np.allclose(g, e * slope, rtol=1e-4, atol=0)
    if slipped and (alone or term != "class"):  # a logistic class with a slope and another value is a squared error
        return TermDeviation(term, "slope", alone)
    return TermDeviation(term, "other", alone)


def _ratio(comparison: Comparison, region: Array) -> tuple[float | None, int]:
    """The single factor on the expected elements of a region, if any, and how many elements show it."""
    got, expected = (array[region] for array in gradients(comparison)[:2])
    there = expected != 0
    if got[~there].any() or not there.any():
        return None, 0
    largest = np.argmax(np.abs(expected))
    ratio = float(got[largest] / expected[largest])
    slack = comparison.gradient_bound.reshape(region.shape)[region] * max(1.0, abs(ratio))
    if not np.isfinite(ratio) or not ratio or not (np.abs(got - ratio * expected) <= 2 * slack).all():
        return None, 0
    return ratio, len(np.unique(np.round(expected[there], 12)))


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-4 * abs(other)


def _weight(known: list[TermDeviations], payer: str) -> str:
    """What the factors of responsible predictors depend on, over all cases: `size`, `predictor`, or nothing."""
    ratios, weights, others = [], [], 0
    for one in known:
        if payer not in one.gradients:
            continue
        result, expected = one.comparison.result, gradients(one.comparison)[1]
        for match in (match for match in result.decisions.matches if match.pays_box):
            image, anchor, row, column = match.predictor
            region = np.zeros(result.t.shape, dtype=bool)
            region[image, anchor, BLOCK_CHANNELS[PAYERS[payer][1]], row, column] = True
            if not expected[region].any():
                continue
            with np.errstate(all="ignore"):
                ratio, _ = _ratio(one.comparison, region)
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


def _symptoms(
    deviations: TermDeviations, ratios: Mapping[str, Counter[float]], weights: Mapping[str, str]
) -> frozenset[str]:
    together = _together(deviations)
    if together:
        return frozenset([together])
    symptoms = set()
    for payer, deviation in deviations.gradients.items():
        how = deviation.how
        if how == "factor" and not deviation.sure:
            counts = ratios[payer]
            usual = counts[round(deviation.ratio, 6)]
            how = "factor" if usual > 1 and usual >= 0.3 * counts.total() else "other"
        if how in ("factor", "other"):
            how = weights.get(payer) or how
        symptoms.add(f"{payer} {how}{' alone' * deviation.alone}")
    for term, ratio in deviations.values.items():
        symptoms.add(f"{term} value {'rounds' if abs(ratio - 1) < _ROUNDING else 'alone'}")
    return frozenset(symptoms)


def _together(deviations: TermDeviations) -> str:
    """The symptom of a case whose only deviation is one factor on several terms."""
    present = {name for name, term in deviations.comparison.result.terms.items() if term.value.any()}
    factors = [deviation for deviation in deviations.gradients.values() if deviation.how == "factor"]
    if deviations.gradients and len(factors) == len(deviations.gradients):
        numbers, terms = [deviation.ratio for deviation in factors], {deviation.term for deviation in factors}
        alone = all(deviation.alone for deviation in factors)
    elif not deviations.gradients:
        numbers, terms, alone = [*deviations.values.values()], {*deviations.values}, False
    else:
        return ""
    if len(terms) < 2 or not np.allclose(numbers, numbers[0], rtol=_SAME, atol=0) or abs(numbers[0] - 1) < _ROUNDING:
        return ""
    who = "all" if terms >= present else "squares" if terms == present & _SQUARES else ""
    what = "" if deviations.gradients else " values"
    return f"{who}{what} by one factor{' alone' * alone}" if who else ""


def sum_symptoms(sums: list[Comparison]) -> list[frozenset[str]]:
    """The symptoms of each case whose potential deviates: the terms that explain most of these cases, if any do."""
    best: dict[int, float] = {}
    symptom = _UNKNOWN_SUM
    for terms, known in _TERM_GROUPS.items():
        numbers = {
            at: number for at, comparison in enumerate(sums) if (number := _factor(comparison, terms)) is not None
        }
        usual, count = Counter(numbers.values()).most_common(1)[0] if numbers else (0.0, 0)
        if count > max(1, len(best), len(sums) // 2):
            best, symptom = {at: number for at, number in numbers.items() if number == usual}, known
    return [symptom if at in best else _UNKNOWN_SUM for at in range(len(sums))]


def _factor(comparison: Comparison, terms: tuple[str, ...]) -> float | None:
    """The factor on some terms that would give the returned potential, to four digits."""
    total = sum(comparison.result.term_values[term] for term in terms)
    assert comparison.answer.potential is not None
    apart = comparison.answer.potential - comparison.result.potential
    return float(f"{1 + apart / total:.4g}") if total else None

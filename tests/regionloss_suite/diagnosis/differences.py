"""The differences between a loss as it was measured and its profile, each with its proof in the departing cases."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from regionloss_adapters import Description
from regionloss_spec import AXES, Profile, ProfileError, load_clauses, load_profile, profile_names
from regionloss_spec.clause import View
from regionloss_spec.profile import axis_values
from regionloss_suite.diagnosis.measured_judge import Explained, MeasuredLoss, changed_parts
from regionloss_suite.judging.differences import MeasuredDifference
from regionloss_suite.judging.judge import Observation
from regionloss_suite.measure.experiments import Identified
from regionloss_suite.measure.measured import Factors, beside
from regionloss_suite.measure.profile import canonical, squared_weights
from regionloss_suite.measure.reduction import SYMBOLS
from regionloss_suite.oracle.comparison import Difference

#: The clause of a factor on the gradient or value of a term.
_OF_GRADIENT = {
    "no_object": "noobj.gradient",
    "prior": "prior.gradient",
    "coord": "coord.value",
    "object": "object.gradient",
    "class": "class.gradient",
}
_OF_VALUE = {
    "no_object": "noobj.value",
    "prior": "prior.value",
    "coord": "coord.value",
    "object": "object.value",
    "class": "class.cross-entropy",
}


@dataclass(frozen=True)
class Choice:
    """One choice in which the measured loss differs, and what puts it back.

    Attributes:
        name: the axis or factor.
        measured, expected: both values.
        clause: of the expected value.
        evidence: what the isolating question showed.
        without: the measured loss with this choice put back, or `None` if no loss has the rest alone.
        only: the profile's loss with this choice alone, or `None` likewise.
    """

    name: str
    measured: Any
    expected: Any
    clause: str
    evidence: str
    without: MeasuredLoss | None
    only: MeasuredLoss | None


def measured_loss(identified: Identified, description: Description, refuted: Collection[str] = ()) -> MeasuredLoss:
    """The measured loss, written as close to its profile as its answers allow.

    Args:
        identified: what the measuring questions say.
        description: of the adapter, whose declared factor is no difference.
        refuted: axes to leave as they are asked, because a departing case refutes what was measured.
    """
    asked = identified.asked
    changes: dict[str, Any] = {}
    remembers = any(finding.axis == "hidden state" for finding in identified.odd)
    hidden = {*AXES} if remembers else {*refuted}
    for axis in AXES:  # what was not measured, or behind something that no profile expresses, is not a difference
        finding = identified.findings.get(axis)
        if finding is None or finding.confidence != "measured" or axis in hidden:
            changes[axis] = getattr(asked, axis)
    measured = _replaced(identified.profile, _unmeasured(identified, changes))
    if description.factor != 1.0:
        axes = (*squared_weights(measured), "class_weight")
        measured = measured.replace(**{axis: getattr(measured, axis) / description.factor for axis in axes})
    measured = beside(measured, asked)
    plain = {axis: getattr(asked, axis) for axis in _without_effect(measured, asked)}
    return MeasuredLoss(asked, _replaced(measured, plain), identified.factors, description.factor)


def _unmeasured(identified: Identified, changes: dict[str, Any]) -> dict[str, Any]:
    """The axes to leave as they are asked; a weight that was not measured is that of the asked profile."""
    asked, profile = identified.asked, identified.profile
    weights = {axis for axis in changes if axis.endswith("_weight")}
    ratio = asked.squared_factor / profile.squared_factor if profile.squared_factor else 1.0
    scaled = {axis: getattr(asked, axis) * (1.0 if axis == "class_weight" else ratio) for axis in weights}
    rest = {axis: value for axis, value in changes.items() if axis not in weights and axis != "squared_factor"}
    return rest | scaled


def _without_effect(one: Profile, other: Profile) -> list[str]:
    """The axes on which two profiles differ although it shows nowhere."""
    shown = canonical(one).differences(canonical(other))
    weights = ("squared_factor", *(axis for axis in AXES if axis.endswith("_weight")))
    return [axis for axis in one.differences(other) if axis not in shown and axis not in weights]


def _replaced(profile: Profile, options: dict[str, Any]) -> Profile:
    """A profile with some axes replaced, leaving out those that no clause defines together."""
    try:
        return profile.replace(**options)
    except ProfileError:
        for axis, value in options.items():
            try:
                profile = profile.replace(**{axis: value})
            except ProfileError:
                continue
        return profile


def clause_of(axis: str, profile: Profile) -> str:
    """The clause that states the profile's value of an axis."""
    value = getattr(profile, axis)
    bound = [clause for clause in load_clauses().values() if clause.axis == axis]
    if profile.class_term == "tree":  # the chapter on the tree is more specific than the general one
        bound.sort(key=lambda clause: not clause.id.startswith("tree."))
    return next((clause.id for clause in bound if value in clause.values or not clause.values), "")


def choices(loss: MeasuredLoss, identified: Identified, declared: str) -> Iterator[Choice]:
    """Every choice in which a measured loss differs from the profile of its questions."""
    asked, measured, factors = loss.asked, loss.profile, loss.factors
    for axis, (value, expected) in measured.differences(asked).items():
        if axis == "reduction" and value == declared != "sum":
            continue
        if _rounded(value, expected):
            continue
        clause = clause_of(axis, asked)
        if axis == "ignore" and "none" in (value, expected):
            clause = "noobj.threshold" if value == "none" else "noobj.no-ignore"
        finding = identified.findings.get(axis)
        evidence = "" if finding is None else finding.evidence
        if axis == "squared_factor":
            evidence = "the weights of all squared terms are measured times this number"
        yield Choice(
            axis, value, expected, clause, evidence,
            _loss(asked, measured, {axis: expected}, factors),
            _loss(asked, asked, {axis: value}, Factors()),
        )  # fmt: skip
    yield from _factors(loss, identified)


def _rounded(value: Any, expected: Any) -> bool:
    """Whether a measured number is the expected one up to the noise of the answers: nobody chooses 0.99994."""
    if not isinstance(value, float) or not math.isclose(value, float(expected), rel_tol=1e-2):
        return False
    return float(f"{value:.4g}") != value


def _factors(loss: MeasuredLoss, identified: Identified) -> Iterator[Choice]:
    asked, measured, factors = loss.asked, loss.profile, loss.factors
    if factors.divisor:
        evidence = identified.findings["reduction"].evidence
        symbol = SYMBOLS[factors.divisor]
        yield Choice(
            f"loss times {symbol}", factors.divisor, asked.reduction, clause_of("reduction", asked), evidence,
            MeasuredLoss(asked, measured, Factors(factors.gradient, factors.value)),
            MeasuredLoss(asked, asked, Factors(divisor=factors.divisor)),
        )  # fmt: skip
    paid = [term for term in _OF_GRADIENT if term != "prior" or measured.prior_until]
    if len(paid) == len([term for term in paid if factors.gradient.get(term) == -1.0]):
        yield Choice(
            "the whole gradient", -1.0, 1.0, "scale.potential",
            "every term has the opposite sign: this is darknet's δ, which is minus the gradient",
            MeasuredLoss(asked, measured, Factors({}, factors.value, factors.divisor)),
            MeasuredLoss(asked, asked, Factors(dict(factors.gradient))),
        )  # fmt: skip
    else:
        for term, factor in factors.gradient.items():
            rest = {name: number for name, number in factors.gradient.items() if name != term}
            axis = f"{term}_weight"
            evidence = identified.findings[axis].evidence if axis in identified.findings else ""
            yield Choice(
                f"gradient of {term}", factor, 1.0, _OF_GRADIENT[term], evidence,
                MeasuredLoss(asked, measured, Factors(rest, factors.value, factors.divisor)),
                MeasuredLoss(asked, asked, Factors({term: factor})),
            )  # fmt: skip
    evidence = identified.findings["values"].evidence if "values" in identified.findings else ""
    if not identified.scalar_only and len(factors.value) == len(paid) and len(set(factors.value.values())) == 1:
        yield Choice(
            "the scalar beside the gradient", next(iter(factors.value.values())), 1.0, "scale.potential", evidence,
            MeasuredLoss(asked, measured, Factors(factors.gradient, {}, factors.divisor)),
            MeasuredLoss(asked, asked, Factors({}, dict(factors.value))),
        )  # fmt: skip
        return
    squares = {factors.value.get(term, 1.0) for term in paid if term != "class"}
    if not identified.scalar_only and len(squares) == 1 and squares != {1.0} and "class" not in factors.value:
        yield Choice(
            "value of the squared terms", squares.pop(), 1.0, "scale.squared-factor", evidence,
            MeasuredLoss(asked, measured, Factors(factors.gradient, {}, factors.divisor)),
            MeasuredLoss(asked, asked, Factors({}, dict(factors.value))),
        )  # fmt: skip
        return
    for term, factor in factors.value.items():
        if identified.scalar_only:
            continue
        rest = {name: number for name, number in factors.value.items() if name != term}
        yield Choice(
            f"value of {term}", factor, 1.0, _OF_VALUE[term], evidence,
            MeasuredLoss(asked, measured, Factors(factors.gradient, rest, factors.divisor)),
            MeasuredLoss(asked, asked, Factors({}, {term: factor})),
        )  # fmt: skip


def _loss(asked: Profile, base: Profile, options: dict[str, Any], factors: Factors) -> MeasuredLoss | None:
    try:
        return MeasuredLoss(asked, base.replace(**options), factors)
    except ProfileError:
        return None


def proven(
    choice: Choice, loss: MeasuredLoss, explained: list[Explained], drawn: Collection[str] = ()
) -> MeasuredDifference:
    """A choice with its proof by leaving it out.

    Args:
        choice: what differs.
        loss: the measured loss.
        explained: the departing observations of which the measured loss explains all or some.
        drawn: the names of random batches; a golden case is preferred, because everybody has it.
    """
    changes = [one for one in explained if _changes(choice, loss, one)]
    changes.sort(key=lambda one: (one.before.case.id in drawn, np.size(one.before.case.batch.predictions)))
    shown = next((one for one in changes if _alone(choice, loss, one)), None)
    best = shown or next((one for one in changes if one.parts is None), None) or (changes[0] if changes else None)
    return MeasuredDifference(
        choice=choice.name,
        measured=choice.measured,
        expected=choice.expected,
        clause=choice.clause,
        known=_known(choice, loss.asked),
        evidence=choice.evidence,
        changes=len({one.before.case.id for one in changes}),
        departing=0,
        case="" if best is None else best.before.case.id,
        alone=shown is not None,
        first=None if best is None else first_of(best.before, choice.clause),
    )


def _known(choice: Choice, asked: Profile) -> str:
    """The shipped profiles with the measured value of a discrete axis, unless darknet is one of them."""
    if choice.name not in AXES or not axis_values(choice.name):
        return ""
    having = [name for name in profile_names() if getattr(load_profile(name), choice.name) == choice.measured]
    if not having or "darknet" in having:
        return ""
    return f"profile{'s' * (len(having) > 1)} {', '.join(having[:3])}"


def _changes(choice: Choice, loss: MeasuredLoss, one: Explained) -> bool:
    """Whether the measured loss would not have explained a case, or some of its parts, without a choice."""
    if choice.without is None or one.after.case is one.before.case:  # refused, by the measured loss too
        return one.parts is None
    options = {axis: value for axis, (value, _) in choice.without.profile.differences(loss.profile).items()}
    try:
        profile = one.after.case.profile.replace(**options)
    except ProfileError:
        return one.parts is None
    factors = loss.factors, choice.without.factors
    changed = changed_parts(one.before.case, one.after.case.profile, profile, factors)
    if changed is None:
        return one.parts is None
    return bool(changed.any() if one.parts is None else (changed & one.parts).any())


def _alone(choice: Choice, loss: MeasuredLoss, one: Explained) -> bool:
    """Whether the profile with this choice alone gives the answer of the loss."""
    if choice.only is None or one.parts is not None or one.after.case is one.before.case:
        return False
    factors = loss.factors, choice.only.factors
    for profile in choice.only.profiles(one.before.case):
        changed = changed_parts(one.before.case, one.after.case.profile, profile, factors)
        if changed is not None and not changed.any():
            return True
    return False


def first_of(observation: Observation, clause: str) -> Difference | None:
    """The first deviation of an observation, in the views of a clause if it shows there."""
    comparison = observation.exchange.comparison
    if comparison is None:
        return None
    known = load_clauses().get(clause)
    views = [*(known.seen if known is not None else ()), View("everything")]
    differences = (comparison.difference(view) for view in views)
    return next((difference for difference in differences if difference is not None), None)

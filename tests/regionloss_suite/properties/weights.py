"""The weights: the loss is linear in each of them, and each term stands alone (spec chapter 10).

It needs profiles with other weights; an adapter whose loss has fixed weights cannot answer that.
"""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from regionloss_spec.clause import TERMS
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.property import Function
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import Response

#: The weight of each term, and the clauses that define the term alone.
_TERMS = {
    "no_object": (
        "no_object_weight",
        ("scale.no-object-weight", "noobj.value", "noobj.gradient", "noobj.target-zero", "noobj.target-max-iou",
         "noobj.not-responsible", "noobj.every-predictor", "decode.objectness"),
    ),
    "prior": (
        "prior_weight",
        ("prior.weight", "prior.value", "prior.gradient", "prior.coordinates-only", "prior.not-responsible",
         "prior.every-predictor", "prior.ignored-too"),
    ),
    "coord": (
        "coord_weight",
        ("scale.coord-weight", "coord.value", "coord.only-responsible", "coord.centre-target", "coord.centre-gradient",
         "coord.size-target", "coord.size-gradient", "coord.decoded-size", "coord.square-root-size",
         "coord.size-target-unclamped", "coord.size-target-floor", "coord.small-box-weight", "coord.constant-weight",
         "coord.squared-small-box-weight"),
    ),
    "object": (
        "object_weight",
        ("scale.object-weight", "object.value", "object.only-responsible", "object.gradient", "object.overrides-ignore",
         "object.iou-target", "object.one-target", "object.max-iou-target", "object.target-constant",
         "object.target-flows", "object.background"),
    ),
    "class": (
        "class_weight",
        ("scale.class-weight", "class.only-responsible", "class.ignored-none", "class.ignored-full",
         "class.ignored-by-objectness", "class.cross-entropy", "class.gradient", "class.squared-error",
         "class.squared-linear", "class.logistic", "class.focal", "tree.path", "tree.off-path"),
    ),
}  # fmt: skip
_WEIGHTS = tuple(weight for weight, _ in _TERMS.values())


def _alone(weight: str) -> Function:
    def property_of_one_term(harness: PropertyHarness, data: st.DataObject) -> None:
        """All weights but one are 0, and that one may have another value than usual."""
        options = {other: 0.0 for other in _WEIGHTS if other != weight}
        value = (getattr(harness.profile, weight) or 1.0) * data.draw(st.sampled_from((1.0, 0.5, 3.0)))
        profile = harness.profile.replace(**options, **{weight: value})
        harness.ask(harness.draw(data), profile).conforms()

    return property_of_one_term


def _linear(axis: str) -> Function:
    def property_of_one_weight(harness: PropertyHarness, data: st.DataObject) -> None:
        """The answer at k times the weight lies on the line through those at 0 and at 1 times."""
        batch = harness.draw(data)
        weight = getattr(harness.profile, axis) or 1.0
        factor = data.draw(st.sampled_from((2.0, 0.5, 3.0)))
        at = {k: harness.ask(batch, harness.profile.replace(**{axis: k * weight})) for k in (0.0, 1.0, factor)}
        assume(not any(response.edges for response in at.values()))
        _hold_on_a_line(harness, at[0.0], at[1.0], at[factor], factor)

    return property_of_one_weight


def _hold_on_a_line(harness: PropertyHarness, none: Response, once: Response, more: Response, factor: float) -> None:
    """Raise `DeviationError` unless more = none + factor·(once - none)."""

    def line(zero: Any, one: Any) -> Any:
        return zero + factor * (one - zero)

    def slack(zero: Any, one: Any, there: Any) -> Any:
        return abs(1 - factor) * zero + factor * one + there

    if more.answer.gradient is not None:
        bound = slack(none.gradient_bound, once.gradient_bound, more.gradient_bound)
        rounding = harness.rounding(more.gradient, *(2 * factor * response.gradient for response in (none, once)))
        more.hold("gradient", more.gradient, line(none.gradient, once.gradient), bound + rounding)
    numbers = zip(*(_numbers(response) for response in (none, once, more)), strict=True)
    for (name, zero, low), (_, one, middle), (_, got, high) in numbers:
        limit = slack(low, middle, high) + harness.rounding_of_sum(more, got, 2 * factor * zero, 2 * factor * one)
        more.hold_number(name, got, line(zero, one), limit)


def _numbers(response: Response) -> list[tuple[str, float, float]]:
    """Name, value and bound of the potential and of each term, as far as they are returned."""
    answer, bounds = response.answer, response.bounds
    numbers = [] if answer.potential is None else [("potential", answer.potential, bounds.potential)]
    if answer.terms is not None:
        numbers += [(f"term {name}", answer.terms.get(name, float("nan")), bounds.terms[name]) for name in TERMS]
    return numbers


for _term, (_weight, _clauses) in _TERMS.items():
    pins(*_clauses, name=f"the {_term.replace('_', '-')} term alone is what the reference answers", by_feature=True)(
        _alone(_weight)
    )
    pins(_clauses[0], name=f"the loss is linear in the {_weight.replace('_', '-')}")(_linear(_weight))
pins("scale.squared-factor", name="the loss is linear in the factor of the squares")(_linear("squared_factor"))

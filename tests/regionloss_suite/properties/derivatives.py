"""How a loss is differentiated: with an upstream gradient, again, and twice (spec chapter 10)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss import Result
from regionloss.bounds import PRECISIONS
from regionloss.loss import pay_terms
from regionloss_spec import Profile
from regionloss_spec.batch import Array
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import NotAnswerableError, Response

#: Step of the gradient differences: their error is its square, plus the rounding of the gradient divided by it.
_STEP = 2.0**-14


def _hold_multiple(one: Response, other: Response, factor: float) -> None:
    """Raise `DeviationError` unless one gradient is `factor`, a power of two, times another, except for underflow."""
    if one.returned.gradient is None or other.returned.gradient is None:
        return
    precision = PRECISIONS[one.dtype]
    shape = one.gradient.shape  # also checks the shape
    once, more = (np.asarray(response.returned.gradient, dtype=np.float64).reshape(shape) for response in (one, other))
    # Subnormal values and intermediates are rounded to a multiple of the smallest number.
    small = np.minimum(np.abs(once), np.abs(more)) <= 2.0**12 * precision.tiny
    smallest = precision.tiny * 2 * max(precision.output, precision.unit)
    other.hold("gradient", more, factor * once, np.where(small, 256 * max(1.0, abs(factor)) * smallest, 0.0))


@pins("scale.potential", needs=("gradient",), every_format=True)
def the_gradient_from_above_multiplies_the_gradient(harness: PropertyHarness, data: st.DataObject) -> None:
    """By powers of two, so exact; only numbers too small for the format may lose bits."""
    batch = harness.draw(data)
    factor = data.draw(st.sampled_from((2.0, 0.5, 16.0, -4.0, 0.0078125)))
    _hold_multiple(harness.ask(batch), harness.ask(batch, upstream=factor), factor)


@pins("numerics.repeatability", needs=("gradient",), every_format=True, share=0.5)
def a_call_adds_nothing_to_the_gradient_of_the_call_before(harness: PropertyHarness, data: st.DataObject) -> None:
    """Two batches of one shape, one right after the other, then the first again."""
    batch = harness.draw(data)
    t = batch.predictions[:, :, ::-1, ::-1]
    one = harness.ask(batch)
    harness.ask(replace(batch, predictions=np.ascontiguousarray(t)))
    again = harness.ask(batch)
    again.hold("gradient", again.gradient, one.gradient, np.zeros(1))


@pins("scale.potential", needs=("gradient", "repeated gradient"), every_format=True, share=0.5)
def a_gradient_taken_again_from_one_evaluation_adds_up(harness: PropertyHarness, data: st.DataObject) -> None:
    """Two backward passes give exactly twice the gradient: the upstream gradient does not change the evaluation."""
    batch = harness.draw(data)
    _hold_multiple(harness.ask(batch), harness.ask(batch, upstream=2.0, times=2), 4.0)


def _has_a_potential(profile: Profile) -> bool:
    """Whether the gradient is that of one function with constants, none of which is itself an output."""
    return (
        profile.object_target_gradient == "constant"
        and profile.objectness == "logistic"
        and profile.ignored_class != "by-objectness"
    )


@pins("scale.potential", needs=("second derivative",), when=_has_a_potential, every_format=True)
def the_gradient_changes_as_that_of_the_reference_does(harness: PropertyHarness, data: st.DataObject) -> None:
    """Along a direction, with every decision and target held constant, compared with central differences.

    The error of the differences is below the difference between two step sizes plus the rounding of the gradients.
    """
    if harness.dtype != "float64":
        raise NotAnswerableError("a second derivative can be measured in float64 only")
    batch = harness.draw(data)
    direction = np.random.default_rng(data.draw(st.integers(0, 2**16))).choice(
        (-1.0, 0.0, 1.0), batch.predictions.shape
    )
    response = harness.ask(batch, direction=direction)
    assume(not response.edges)
    narrow, wide = (_change(response.result, direction, step) for step in (_STEP, 2 * _STEP))
    bound = np.abs(narrow - wide) + response.gradient_bound / _STEP + harness.rounding(response.curvature, narrow)
    response.hold("curvature", response.curvature, narrow, bound, np.isfinite(narrow) & np.isfinite(bound))


def _change(result: Result, direction: Array, step: float) -> Array:
    """The derivative of the reference's gradient along a direction, by differences, `[N, A, 5+C, H, W]`."""
    moved = step * direction.reshape(result.t.shape)
    both = []
    with np.errstate(over="ignore", invalid="ignore"):
        for t in (result.t + moved, result.t - moved):
            terms = pay_terms(t, result.truths, result.anchors, result.decisions, result.profile, result.tree)
            both.append(sum(term.gradient for term in terms.values()))
        return np.asarray(result.scale * (both[0] - both[1]) / (2 * step))

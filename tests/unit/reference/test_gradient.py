"""The analytic gradient of the reference, proved by differences of its own potential with the decisions frozen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionloss import Result, evaluate
from regionloss.loss import pay_terms
from regionloss_spec import Profile, load_case
from regionloss_spec.case import CASES
from regionloss_suite.oracle.strategies import batches
from unit.torch.profiles import DARKNET, variants

pytestmark = pytest.mark.slow  # together they take more than twenty seconds

EVERY = [pytest.param(profile, id=name) for name, profile in variants().items()]


def differences(result: Result, batch_profile: Profile) -> NDArray[np.float64]:
    """Central differences of each term through the channels it owns, `[N, A, 5+C, H, W]`."""
    step = 1e-6

    def paid(t: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        terms = pay_terms(t, result.truths, result.anchors, result.decisions, batch_profile, result.tree)
        return {name: term.value for name, term in terms.items()}

    owned = {
        "no_object": range(4, 5),
        "prior": range(4),
        "coord": range(4),
        "object": range(5),
        "class": range(5, result.t.shape[2]),
    }
    slopes = np.zeros(result.t.shape)
    for channel in range(result.t.shape[2]):
        # A term at a predictor depends on that predictor's own outputs alone, so all are moved at once.
        up, down = result.t.copy(), result.t.copy()
        up[:, :, channel] += step
        down[:, :, channel] -= step
        above, below = paid(up), paid(down)
        for name, channels in owned.items():
            if channel in channels:
                slopes[:, :, channel] += (above[name] - below[name]) / (2 * step)
    return result.scale * slopes


@pytest.mark.parametrize("profile", EVERY)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_gradient_is_the_derivative_of_the_potential(profile: Profile, data: st.DataObject) -> None:
    batch = data.draw(batches(profile))
    # Sizes of e^100 leave nothing of a difference of 1e-6, and an edge on an edge has no derivative.
    moved = np.clip(batch.predictions, -4, 4) + 0.01234567 * (profile.object_target_gradient == "flows")
    result = evaluate(dataclasses.replace(batch, predictions=moved), profile)
    if profile.ignored_class == "by-objectness":  # its weight is held constant: compare the class channels alone
        wanted = differences(result, profile)[:, :, 5:], result.gradient.reshape(result.t.shape)[:, :, 5:]
    else:
        wanted = differences(result, profile), result.gradient.reshape(result.t.shape)
    # The rounding of a value of the order of the squared gradient, over the step.
    scale = 1 + float(np.abs(wanted[1]).max(initial=0))
    assert np.abs(wanted[0] - wanted[1]).max(initial=0) <= 2e-8 * scale**2


def test_a_wrong_gradient_is_noticed() -> None:
    result = evaluate(load_case(CASES / "pj-one-object-early.json").batch, DARKNET)
    slopes = differences(result, DARKNET)
    right = result.gradient.reshape(result.t.shape)
    assert np.abs(slopes - right).max() < 1e-8
    assert np.abs(slopes - 1.001 * right).max() > 1e-4

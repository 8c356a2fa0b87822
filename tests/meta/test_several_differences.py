"""Losses that differ in two to six choices: every difference that shows is blamed, and nothing that is met."""

from __future__ import annotations

import numpy as np
import pytest

from meta.several import RETURNS, clauses_of, diagnosed, draw, shown_axes

#: Seeds of the losses that `make test` and the sweep take; `make confusion` takes 300.
QUICK, SWEEP = 3, 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=() if seed < QUICK else pytest.mark.sweep) for seed in range(SWEEP)]
)
@pytest.mark.parametrize("returns", ["everything", "gradient and potential"])
def test_every_difference_that_shows_is_blamed_and_nothing_that_is_met(seed: int, returns: str) -> None:
    random = np.random.default_rng(seed)
    loss = draw(random, int(random.choice([2, 3, 6])), returns)
    diagnosis = diagnosed(loss)
    by_axis = clauses_of(loss.options)
    deviating = {verdict.clause for verdict in diagnosis.verdicts if verdict.verdict == "deviating"}
    assert deviating <= set().union(*by_axis.values()), (loss, [one.words for one in diagnosis.differences])
    for axis in shown_axes(loss):
        assert by_axis[axis] & deviating, (axis, loss, [one.words for one in diagnosis.differences])
    assert diagnosis.unexplained is None


def test_what_a_loss_returns_is_one_of_four() -> None:
    assert set(RETURNS) == {"everything", "gradient", "gradient and potential", "scalar"}

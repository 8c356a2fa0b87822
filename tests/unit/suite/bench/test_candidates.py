"""The steps of an adapter, apart from what converts a batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from regionloss import evaluate
from regionloss_adapters import (
    CannotAnswerError,
    Question,
    from_torch,
    layouts,
    load_adapter,
)
from regionloss_adapters.torch.fast import TorchAnalyticAdapter
from regionloss_spec import load_profile
from unit.suite.bench.made_up import DARKNET, SMALL


def half_mean(outputs: torch.Tensor, boxes: Any, question: Question) -> torch.Tensor:
    """A wrong loss, but one whose gradient is known: half of the outputs, squared, for each image."""
    del boxes, question
    return (outputs**2).sum(dim=(1, 2, 3)).mean()[None] / 4


def test_a_wrapped_loss_is_timed_in_its_own_layout() -> None:
    adapter = from_torch(half_mean, name="mine", layout=layouts.NHWC, answers=("gradient", "potential"))
    batch = SMALL.draw()
    question = Question(batch=batch, profile=DARKNET, upstream=3.0)
    timed = adapter.prepare(question)  # type: ignore[attr-defined]
    timed_answer, answer = timed.answer(), adapter.answer(question)
    assert timed_answer.gradient is not None
    assert answer.gradient is not None
    assert np.array_equal(timed_answer.gradient, answer.gradient)
    assert timed_answer.gradient == pytest.approx(3.0 * batch.predictions / 6, rel=1e-6)
    assert timed_answer.potential == answer.potential
    scalar = timed.forward()
    assert scalar.shape == (1,)
    assert timed.backward(scalar).shape == (3, 4, 3, 45)
    assert not timed.no_grad().requires_grad
    with pytest.raises(CannotAnswerError, match="it has its own layout, n h w"):
        adapter.prepare(question, channels_last=True)  # type: ignore[attr-defined]


def test_the_paths_are_given_their_truths_padded_and_their_predictions_as_they_lie() -> None:
    question = Question(batch=SMALL.draw(), profile=DARKNET)
    for name in ("torch", "torch-analytic", "torch-eager"):
        timed = load_adapter(name).prepare(question, slots=7, channels_last=True)  # type: ignore[attr-defined]
        if name != "torch-eager":  # whose gradient lies as autograd leaves it
            gradient = timed.both()
            assert gradient.is_contiguous(memory_format=torch.channels_last)
            assert not gradient.is_contiguous()
        assert timed.answer().gradient == pytest.approx(evaluate(SMALL.draw(), DARKNET).gradient, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["torch", "torch-eager"])
def test_lists_that_no_zero_ends_are_told_by_their_counts(name: str) -> None:
    profile = load_profile("formula")
    batch = SMALL.draw()
    batch = dataclasses.replace(batch, truths=(np.array([[0.0, 0.5, 0.3, 0.3, 1.0], [0.5, 0.5, 0.3, 0.3, 2.0]]),) * 3)
    timed = load_adapter(name).prepare(Question(batch=batch, profile=profile), slots=6)  # type: ignore[attr-defined]
    assert timed.answer().gradient == pytest.approx(evaluate(batch, profile).gradient, rel=1e-4, abs=1e-6)


def test_a_path_that_does_not_express_a_profile_is_not_timed_under_it() -> None:
    question = Question(batch=SMALL.draw(), profile=load_profile("yolo9000"))
    with pytest.raises(CannotAnswerError, match="path='eager' does"):
        TorchAnalyticAdapter().prepare(question)

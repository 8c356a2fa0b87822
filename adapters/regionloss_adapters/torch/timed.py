"""The steps of a PyTorch loss for a benchmark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from regionloss.torch import pad_truths
from regionloss_adapters.protocol import Answer, Question
from regionloss_adapters.timed import Timed
from regionloss_spec.batch import Array


def leaf(values: Array, question: Question, *, channels_last: bool = False) -> Tensor:
    """Predictions as from a network: in the given format and on the given device, with a gradient."""
    tensor = torch.tensor(np.asarray(values), dtype=getattr(torch, question.dtype), device=question.device)
    if channels_last:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.requires_grad_()


def rows_of(question: Question, slots: int | None) -> Tensor:
    """The truths as from a data loader: `[N, T, 5]`, float32 if that is exact, zeros after the last.

    `slots` is T; by default as many as the fullest image needs.
    """
    rows = pad_truths(question.batch.truths, length=slots).rows
    single = rows.float()
    return (single if torch.equal(single.double(), rows.double()) else rows).to(question.device)


def steps(
    loss: Callable[[Tensor], Tensor],
    predictions: Tensor,
    question: Question,
    say: Callable[[Array, float], Answer] | None = None,
) -> Timed:
    """The steps of a differentiable loss.

    Args:
        loss: returns a tensor of one element.
        predictions: the leaf to differentiate with respect to.
        question: its upstream gradient is moved to the device once, so that no step creates one.
        say: converts the gradient, float64 in the shape of the predictions, and the scalar to an answer; by default
            they are returned as they are.
    """
    upstream = torch.full_like(loss(predictions), question.upstream, requires_grad=False)

    def backward(scalar: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(scalar, predictions, upstream)
        return gradient

    def no_grad() -> Tensor:
        with torch.no_grad():
            return loss(predictions)

    def answer() -> Answer:
        scalar = loss(predictions)
        gradient = np.asarray(backward(scalar).to("cpu", torch.float64).numpy())
        return Answer(gradient=gradient, potential=scalar.item()) if say is None else say(gradient, scalar.item())

    return Timed(forward=lambda: loss(predictions), backward=backward, no_grad=no_grad, answer=answer)

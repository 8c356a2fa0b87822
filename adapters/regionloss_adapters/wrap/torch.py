"""Put a question to a loss in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from regionloss_adapters.layouts import NCHW
from regionloss_adapters.protocol import Answer, CannotAnswerError, Question
from regionloss_adapters.timed import Timed
from regionloss_adapters.torch.derivatives import derivatives, on_device
from regionloss_adapters.torch.timed import leaf as as_leaf
from regionloss_adapters.torch.timed import steps
from regionloss_adapters.wrap.loss_call import Loss, Outcome, check_unchanged, for_each_array, scalar_and_terms
from regionloss_adapters.wrap.wrapped import Wrapped
from regionloss_spec.batch import Array


class WrappedTorch(Wrapped):
    """A loss in PyTorch as an adapter, which can be timed without the conversion of its inputs."""

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        """The loss with a batch in its own layout and format, which determines the padding of the truths.

        Raises:
            CannotAnswerError: the loss does not support the profile, or `channels_last` because it has its own layout.
        """
        self.check_asked(question)
        if channels_last and self.layout != NCHW:
            raise CannotAnswerError(f"it has its own layout, {self.layout.axes}")
        given = self.layout.forward(question.batch, question.dtype)
        truths = for_each_array(lambda array: torch.tensor(array, device=question.device), self.truths(question))

        def loss(predictions: Tensor) -> Tensor:
            scalar: Tensor = scalar_and_terms(self.loss(predictions, truths, question))[0]
            return scalar

        def say(gradient: Array, scalar: float) -> Answer:
            return Answer(
                gradient=self.gradient(gradient, given.shape, question),
                potential=self.potential(scalar),
            )

        return steps(loss, as_leaf(given, question, channels_last=channels_last), question, say)


def ask(loss: Loss, given: Array, truths: Any, question: Question) -> Outcome:
    """Let autograd differentiate the scalar that a loss returns for tensors on the question's device."""
    with on_device(question.device) as device:
        return _ask(loss, given, truths, question, device)


def _ask(loss: Loss, given: Array, truths: Any, question: Question, device: torch.device) -> Outcome:
    leaf = torch.tensor(given, dtype=getattr(torch, question.dtype), device=device, requires_grad=True)
    tensors = for_each_array(lambda array: torch.tensor(array, device=device), truths)
    with torch.enable_grad():
        # Not a leaf, as from a network, so that activating in place is detected instead of raising an error.
        predictions = leaf.clone()
        scalar, terms = scalar_and_terms(loss(predictions, tensors, question))
    check_unchanged("predictions", _array(leaf), _array(predictions))
    check_unchanged("truths", truths, _arrays(tensors))
    if not isinstance(scalar, Tensor):
        raise TypeError(f"the loss returned {type(scalar).__name__}, expected a scalar tensor, or terms by name")
    if scalar.numel() != 1:
        raise TypeError(f"the loss returned a tensor of shape {list(scalar.shape)}, expected a scalar")
    gradient, curvature = derivatives(scalar, leaf, question)
    return Outcome(
        gradient=_array(gradient),
        curvature=None if curvature is None else _array(curvature),
        scalar=scalar.item(),
        terms={name: float(term.detach()) if isinstance(term, Tensor) else float(term) for name, term in terms.items()},
    )


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy())


def _arrays(tensors: Any) -> Any:
    """Lists, tuples and dicts of tensors, with arrays in their place."""
    if isinstance(tensors, dict):
        return {name: _arrays(value) for name, value in tensors.items()}
    if isinstance(tensors, (list, tuple)):
        return type(tensors)(map(_arrays, tensors))
    return _array(tensors) if isinstance(tensors, Tensor) else tensors

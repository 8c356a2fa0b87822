"""The eager loss of this project, wrapped in every order, and what is no loss in PyTorch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from regionloss_adapters import Question, from_torch, layouts
from regionloss_adapters.layouts import NCHW, Layout
from unit.adapters.wrap.losses import ALL, ask, check


def of_canonical(layout: Layout) -> Any:
    """A torch loss that takes predictions in some order of axes, through indices of its own."""

    def loss(predictions: Any, rows: Any, question: Question) -> Any:
        import torch

        from regionloss.torch.eager import region_loss as torch_loss

        batch = question.batch
        numbers = np.arange(float(batch.predictions.size)).reshape(batch.predictions.shape)
        where = layout.forward(dataclasses.replace(batch, predictions=numbers))
        place = torch.as_tensor(np.argsort(where.ravel()).reshape(numbers.shape))
        result = torch_loss(
            predictions.flatten()[place], rows, batch.anchors, batch.classes, images_seen=batch.images_seen
        )
        return result.potential, result.terms

    return loss


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name, value in vars(layouts).items() if isinstance(value, Layout)])
@pytest.mark.parametrize("channels", ["xywhoc", "cohwyx"])
def test_the_torch_loss_of_this_project_is_within_bounds_in_every_order(name: str, channels: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layout = getattr(layouts, name).replace(channels=channels)
    adapter = from_torch(of_canonical(layout), name="eager", layout=layout, answers=ALL, dtypes=(dtype,))
    question = ask(dtype, upstream=0.5)
    rounded = torch.tensor(question.batch.predictions).to(getattr(torch, dtype)).double().numpy()
    question = dataclasses.replace(question, batch=dataclasses.replace(question.batch, predictions=rounded))
    check(adapter.answer(question), question)


def test_a_torch_loss_may_return_terms_alone_or_the_scalar_alone() -> None:
    pytest.importorskip("torch")
    pair = of_canonical(NCHW)
    for loss in (lambda *given: pair(*given)[0], lambda *given: pair(*given)[1]):
        adapter = from_torch(loss, name="eager", answers=("gradient", "potential"))
        check(adapter.answer(ask()), ask())


def test_a_loss_that_forgets_its_predictions_is_told_so() -> None:
    torch = pytest.importorskip("torch")
    constant = from_torch(lambda outputs, rows, question: torch.zeros(()), name="constant")
    with pytest.raises(ValueError, match="it did not depend on the predictions, and backward"):
        constant.answer(ask())


def test_a_torch_loss_without_a_way_to_the_predictions_has_a_zero_gradient() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(1, requires_grad=True)
    answer = from_torch(lambda *_: weight.sum(), name="deaf").answer(ask())
    assert answer.gradient is not None
    assert not answer.gradient.any()
    assert weight.grad is None


def test_what_is_no_scalar_tensor_is_an_error() -> None:
    pytest.importorskip("torch")
    for loss, message in (
        (lambda predictions, *_: predictions.sum(dim=(1, 2, 3)), r"tensor of shape \[2\]"),
        (lambda predictions, *_: predictions.sum().item(), "returned float"),
    ):
        with pytest.raises(TypeError, match=message):
            from_torch(loss, name="wrong").answer(ask())

"""How the suite differentiates a scalar with PyTorch, and whether TF32 is allowed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from regionloss_adapters.protocol import Question

#: Suffix of a device name that allows TensorFloat-32 for float32 matrix products, as in `cuda tf32`.
TF32 = " tf32"


@contextmanager
def on_device(name: str) -> Iterator[torch.device]:
    """The device of a question, with TF32 on if its name ends with `tf32` and off if not, whatever the caller set."""
    wanted = name.endswith(TF32)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    torch.backends.cudnn.allow_tf32 = wanted
    try:
        yield torch.device(name.removesuffix(TF32))
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def derivatives(scalar: Tensor, leaf: Tensor, question: Question) -> tuple[Tensor, Tensor | None]:
    """The gradient of a scalar for a question, and its derivative along the question's direction.

    Args:
        scalar: the loss, one number.
        leaf: the tensor to differentiate with respect to.
        question: with the upstream gradient, the number of backward passes to add up, and the direction, which
            has the shape of the leaf.

    Returns:
        Both in the shape of the leaf; the second is `None` without a direction.

    Raises:
        ValueError: the scalar does not depend on the leaf.
    """
    if not scalar.requires_grad:
        raise ValueError(
            "the loss has no graph: it did not depend on the predictions, and backward() would fail as well"
        )
    upstream = torch.full_like(scalar, question.upstream)
    second = question.direction is not None
    total = torch.zeros_like(leaf)
    for left in reversed(range(question.times)):
        (gradient,) = torch.autograd.grad(
            scalar, leaf, upstream, retain_graph=left > 0 or second, create_graph=second, materialize_grads=True
        )
        total = total + gradient
    if question.direction is None:
        return total, None
    if not total.requires_grad:  # a constant gradient has no graph
        return total, torch.zeros_like(leaf)
    direction = torch.as_tensor(question.direction, dtype=leaf.dtype, device=leaf.device)
    (curvature,) = torch.autograd.grad(total, leaf, direction, materialize_grads=True)
    return total.detach(), curvature

"""How PyTorch differentiates a scalar for the suite, and with which precision it may multiply meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from regionloss_adapters.protocol import Question

#: What a device is called where float32 matrices may be multiplied in TensorFloat-32 on it, as in `cuda tf32`.
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
    """The gradient of a scalar as the question wants it, and its derivative along the direction of the question.

    Args:
        scalar: the loss, one number.
        leaf: what it is differentiated with respect to.
        question: says what arrives from above, how often the gradient is taken and added up, and the direction, which
            has the shape of the leaf.

    Returns:
        Both in the shape of the leaf; no second one without a direction.

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
    if not total.requires_grad:  # a gradient that does not change has no graph
        return total, torch.zeros_like(leaf)
    direction = torch.as_tensor(question.direction, dtype=leaf.dtype, device=leaf.device)
    (curvature,) = torch.autograd.grad(total, leaf, direction, materialize_grads=True)
    return total.detach(), curvature

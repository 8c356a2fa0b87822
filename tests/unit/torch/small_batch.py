"""A batch small enough to read, for the tests of the PyTorch loss."""

from __future__ import annotations

import os
import shutil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regionloss.torch import RegionLoss
from regionloss_spec import Batch

ANCHORS = [[1.0, 2.0], [2.0, 1.0]]
CLASSES = 3
CHANNELS = 2 * (5 + CLASSES)
#: An image with two truths that choose the same predictor and a third in another cell, one with one truth, one without.
LISTS: list[list[list[float]]] = [
    [[0.4, 0.4, 0.2, 0.6, 1], [0.45, 0.4, 0.2, 0.5, 2], [0.9, 0.1, 0.5, 0.2, 0]],
    [[0.1, 0.8, 0.6, 0.3, 2]],
    [],
]
#: The paths that run on the host, `compiled` where there is a C++ compiler.
HOST_PATHS = ["eager", "analytic", *(["compiled"] if shutil.which(os.environ.get("CXX") or "c++") else [])]


def network(dtype: torch.dtype = torch.float32) -> Tensor:
    """Predictions of three images, always the same; exact in bfloat16, so that each type is given the same numbers."""
    values = torch.randn(3, CHANNELS, 3, 4, generator=torch.Generator().manual_seed(5))
    return values.bfloat16().to(dtype).requires_grad_()


def batch(t: Tensor, seen: int, tree: tuple[int, ...] | None = None) -> Batch:
    """The predictions and truths as the reference takes them."""
    rows = tuple(np.array(image).reshape(-1, 5) for image in LISTS)
    return Batch(t.detach().double().numpy(), rows, np.array(ANCHORS), CLASSES, seen, tree)


def gradient_of(loss: RegionLoss, t: Tensor, truths: Any = LISTS, images_seen: Any = 0) -> Tensor:
    """The gradient of a loss with respect to its predictions."""
    t = t.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(t, truths, images_seen=images_seen), t)
    return gradient

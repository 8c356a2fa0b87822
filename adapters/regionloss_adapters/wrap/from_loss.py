"""Adapters for the usual port, in a few lines.

Each helper takes a loss `loss(predictions, truths, question)`. Predictions and truths come in the port's own layout and
format, as arrays of its framework; everything else is in the question: `question.batch` has anchors (cells,
`[A, 2]`), classes and images_seen, `question.profile` the weights and thresholds.
"""

from __future__ import annotations

from typing import Unpack

from regionloss_adapters.protocol import DERIVATIVES, Adapter
from regionloss_adapters.wrap import jax, keras, numpy
from regionloss_adapters.wrap.loss_call import Loss, MutatedInputError
from regionloss_adapters.wrap.wrapped import Options, Wrapped

__all__ = ["MutatedInputError", "Options", "from_jax", "from_keras", "from_numpy", "from_torch"]


def from_torch(loss: Loss, *, name: str, **declared: Unpack[Options]) -> Adapter:
    """An adapter for a differentiable loss in PyTorch.

    Args:
        loss: returns a scalar tensor, a dict of terms that add up to it, or a pair of both. Predictions are not a leaf
            and require a gradient. If it changes them or the truths in place, `answer` raises `MutatedInputError`.
        name: its name in reports.
        declared: see `Options`; devices are those of torch, such as `cpu` and `cuda`, and `cuda tf32` for
            TensorFloat-32, which is off on the others. A `repeated gradient` is the sum of several backward passes
            of one evaluation, a `second derivative` the change of the gradient along a direction; both are tried only
            if `answers` declares them.

    Raises:
        ModuleNotFoundError: PyTorch is not installed.
        ValueError: an unknown option, or a format that the layout does not support.

    Example:
        The no-object term alone, of a loss that accepts predictions as `[N, H, W, A*(5+C)]` and is a mean over images.

        >>> import torch
        >>> from regionloss_adapters import layouts
        >>> def no_object(predictions, truths, question):
        ...     n, h, w, _ = predictions.shape
        ...     objectness = predictions.reshape(n, h, w, len(question.batch.anchors), -1)[..., 4]
        ...     return 0.5 * torch.sigmoid(objectness).square().sum() / n
        >>> adapter = from_torch(no_object, name="mine", layout=layouts.NHWC, reduction="per-image")
        >>> adapter.describe().answers
        ('gradient',)
    """
    from regionloss_adapters.wrap import torch

    return torch.WrappedTorch(loss, torch.ask, name, promises=DERIVATIVES, **declared)


def from_numpy(loss: Loss, *, name: str, **declared: Unpack[Options]) -> Adapter:
    """An adapter for a loss that accepts NumPy arrays and returns its gradient, or only its value.

    Args:
        loss: returns (scalar, gradient), (scalar, gradient, terms), the gradient alone, or a scalar alone, which
            requires `answers=("potential",)`. The gradient has the shape of the predictions and is that of the
            scalar itself; the adapter multiplies it by `question.upstream`. If it changes predictions or
            truths in place, `answer` raises `MutatedInputError`.
        name: its name in reports.
        declared: see `Options`.

    Raises:
        ValueError: an unknown option, or a format that NumPy lacks or the layout does not support.
    """
    if "bfloat16" in declared.get("dtypes", ()):
        raise ValueError("NumPy has no bfloat16")
    return Wrapped(loss, numpy.ask, name, **declared)


def from_jax(loss: Loss, *, name: str, **declared: Unpack[Options]) -> Adapter:
    """An adapter for a differentiable loss in JAX.

    Args:
        loss: returns a scalar array, a dict of terms that add up to it, or a pair of both. It is differentiated with
            `jax.vjp` and not compiled unless it compiles itself. With float64 predictions or truths, it runs with
            `jax.enable_x64`.
        name: its name in reports.
        declared: see `Options`; devices are backends of JAX, such as `cpu` and `gpu`.

    Raises:
        ValueError: an unknown option, or a format that the layout does not support.
    """
    return Wrapped(loss, jax.ask, name, **declared)


def from_keras(loss: Loss, *, name: str, **declared: Unpack[Options]) -> Adapter:
    """An adapter for a differentiable loss in TensorFlow, with or without Keras.

    Args:
        loss: returns a scalar tensor, a dict of terms that add up to it, or a pair of both; differentiated with a
            `GradientTape`. Predictions are the first argument, unlike in Keras's own losses.
        name: its name in reports.
        declared: see `Options`; devices are those of TensorFlow, such as `cpu` and `gpu`.

    Raises:
        ValueError: an unknown option, or a format that the layout does not support.
    """
    return Wrapped(loss, keras.ask, name, **declared)

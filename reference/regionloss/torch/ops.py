"""The fast paths as operators of PyTorch, so that `torch.compile`, CUDA graphs and `opcheck` know what they are.

Each path has two operators, `regionloss::<path>` and `regionloss::<path>_backward`; both take the same arguments:

- predictions: `[N, A*(5+C), H, W]`, of any strides;
- rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`; counts: rows of each image, int64 `[N]`, or none;
- images_seen: t as a 0-d tensor, or none, and then `seen` is t. A tensor is read on its device, so that a captured
  graph switches at the limit of the prior;
- anchors: widths and heights in turn, cells; settings: a `Settings`, as a list.

Forward answers `Forward` as a tuple, of which the loss alone is differentiable; backward the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regionloss.torch import analytic
from regionloss.torch.settings import Settings

_LIBRARY = torch.library.Library("regionloss", "DEF")

_INPUTS = "Tensor predictions, Tensor rows, Tensor? counts, Tensor? images_seen, SymInt seen"
_CHOICES = "float[] anchors, float[] settings"
_SAVED = "Tensor predictions, Tensor rows, Tensor state, Tensor owner, Tensor overlap"


def define(path: str, forward: Callable[..., analytic.Forward], backward: Callable[..., Tensor]) -> None:
    """Register the two operators of a path, with what they answer to fake tensors and how they are differentiated."""
    _LIBRARY.define(f"{path}({_INPUTS}, {_CHOICES}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
    _LIBRARY.define(f"{path}_backward(Tensor upstream, {_SAVED}, {_CHOICES}) -> Tensor")
    _LIBRARY.impl(path, forward, "CompositeExplicitAutograd")
    _LIBRARY.impl(f"{path}_backward", backward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"regionloss::{path}", _fake_forward)
    torch.library.register_fake(f"regionloss::{path}_backward", _fake_backward)
    operator = getattr(torch.ops.regionloss, f"{path}_backward").default

    def differentiate(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        gradient = None if upstream is None else operator(upstream, *ctx.saved_tensors, ctx.anchors, ctx.settings)
        return gradient, None, None, None, None, None, None

    torch.library.register_autograd(f"regionloss::{path}", differentiate, setup_context=_save)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    predictions, rows, *_, anchors, settings = inputs
    _, terms, state, owner, overlap = output
    ctx.save_for_backward(predictions, rows, state, owner, overlap)
    ctx.mark_non_differentiable(terms, state, owner, overlap)
    ctx.set_materialize_grads(False)
    ctx.anchors, ctx.settings = anchors, settings


def _fake_forward(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    seen: int,
    anchors: list[float],
    settings: list[float],
) -> tuple[Tensor, ...]:
    images, _, height, width = predictions.shape
    numbers = torch.promote_types(predictions.dtype, torch.float32)
    slots = rows.shape[:2]
    return (
        predictions.new_empty((), dtype=numbers),
        predictions.new_empty((5,), dtype=numbers),
        predictions.new_empty((images, len(anchors) // 2, height, width), dtype=torch.uint8),
        predictions.new_empty(slots, dtype=torch.int32),
        predictions.new_empty(slots, dtype=numbers),
    )


def _fake_backward(upstream: Tensor, predictions: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(predictions)


def _analytic(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    seen: int,
    anchors: list[float],
    settings: list[float],
) -> analytic.Forward:
    chosen = Settings(*settings)
    early: bool | Tensor = seen < chosen.prior_until
    if images_seen is not None:
        early = images_seen < chosen.prior_until
        early = bool(early) if early.device.type == "cpu" else early
    return analytic.forward(predictions, rows, counts, early, anchors, chosen)


def _analytic_backward(
    upstream: Tensor,
    predictions: Tensor,
    rows: Tensor,
    state: Tensor,
    owner: Tensor,
    overlap: Tensor,
    anchors: list[float],
    settings: list[float],
) -> Tensor:
    return analytic.backward(upstream, predictions, rows, state, owner, overlap, anchors, Settings(*settings))


define("analytic", _analytic, _analytic_backward)

"""The analytic path compiled: one pass over the predictions instead of one for each operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from regionloss.torch import analytic
from regionloss.torch.ops import define, is_early
from regionloss.torch.settings import Settings
from regionloss.torch.slots import Grid


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=False, fullgraph=True)


def _pay(t: Tensor, rows: Tensor, read: Tensor, early: Tensor | bool, grid: Grid, settings: Settings) -> analytic.Paid:
    missing = _up_to_a_power_of_two(rows.shape[1])
    rows, read = pad(rows, (0, 0, 0, missing)), pad(read, (0, missing))
    found: analytic.Paid = _compiled(analytic.pay)(t, rows, read, early, grid, settings)
    return found


def _write(
    g: Tensor,
    t: Tensor,
    rows: Tensor,
    state: Tensor,
    owner: Tensor,
    overlap: Tensor,
    factor: Tensor,
    grid: Grid,
    settings: Settings,
) -> None:
    missing = _up_to_a_power_of_two(rows.shape[1])
    rows, owner, overlap = pad(rows, (0, 0, 0, missing)), pad(owner, (0, missing), value=-1), pad(overlap, (0, missing))
    _compiled(analytic.write_gradient)(g, t, rows, state, owner, overlap, factor, grid, settings)


def _up_to_a_power_of_two(length: int) -> int:
    """How many slots are added, so that few shapes are ever compiled."""
    return (1 << max(length - 1, 0).bit_length()) - length


def _forward(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    seen: int,
    anchors: Sequence[float],
    settings: Settings,
) -> analytic.Forward:
    early = is_early(images_seen, seen, settings)
    return analytic.forward(predictions, rows, counts, early, anchors, settings, paid=_pay)


def _backward(
    upstream: Tensor,
    predictions: Tensor,
    rows: Tensor,
    state: Tensor,
    owner: Tensor,
    overlap: Tensor,
    anchors: Sequence[float],
    settings: Settings,
) -> Tensor:
    return analytic.backward(upstream, predictions, rows, state, owner, overlap, anchors, settings, write=_write)


define("compiled", _forward, _backward)

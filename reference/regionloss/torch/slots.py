"""Which predictor answers for which truth of a padded batch, without a loop and without a host synchronisation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.settings import Settings


class Slots(NamedTuple):
    """The truths of a batch in the slots of a padded tensor. What depends on truths alone is taken in float64.

    Attributes:
        read: whether a slot holds a truth that the loss reads, bool `[N, T]` (`truths.terminator`).
        bad: whether such a truth is outside the domain, bool `[N, T]`.
        owner: index of the predictor in `[A*H*W]` that answers for the truth, int64 `[N, T]`; -1 where a rival took
            it (`assign.last-truth-wins`), and where the slot is not read or bad.
    """

    read: Tensor
    bad: Tensor
    owner: Tensor


def read_slots(rows: Tensor, counts: Tensor | None, settings: Settings) -> Tensor:
    """Whether each slot of `[N, T, 5]` holds a truth that is read, bool `[N, T]`."""
    place = torch.arange(rows.shape[1], device=rows.device)
    read = torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device)
    if settings.terminated:
        read = (rows[:, :, 0] != 0).cummin(dim=1).values if rows.shape[1] else read
    if counts is not None:
        read = read & (place < counts[:, None])
    if settings.max_truths:
        read = read & (place < settings.max_truths)
    return read


def fill_slots(
    rows: Tensor, counts: Tensor | None, anchors: Tensor, classes: int, grid: tuple[int, int], settings: Settings
) -> Slots:
    """Assign every truth that is read (`assign.cell`, `assign.anchor-shape`, `assign.anchor-tie`).

    Args:
        rows: x, y, w, h and class, float64 `[N, T, 5]`.
        counts: rows that each image has, `[N]`, or `None` where only the rows themselves say so.
        anchors: float64 `[A, 2]`, cells.
        classes: C.
        grid: H and W.
        settings: the choices of the profile.
    """
    height, width = grid
    read = read_slots(rows, counts, settings)
    x, y, w, h, label = rows.unbind(dim=-1)
    sound = (x >= 0) & (x < 1) & (y >= 0) & (y < 1) & (w > 0) & (w <= 1) & (h > 0) & (h <= 1)
    sound &= (label >= 0) & (label < classes) & (label == label.floor())  # false where one is not a number
    column, row = cells(rows, grid)
    a_w, a_h = anchors[:, 0] / width, anchors[:, 1] / height
    shared = torch.minimum(w[..., None], a_w) * torch.minimum(h[..., None], a_h)  # [N, T, A]
    anchor = (shared / ((w * h)[..., None] + a_w * a_h - shared)).argmax(dim=-1)  # the first on a tie
    index = (anchor * height + row) * width + column
    index = torch.where(read & sound, index, 0)
    return Slots(read, read & ~sound, _settle(index, read & sound, len(anchors) * height * width, settings))


def cells(rows: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Column and row of the cell that holds each centre, int64 `[N, T]` each, never outside the grid."""
    height, width = grid
    column = (rows[..., 0] * width).floor().nan_to_num().clamp(0, width - 1)
    row = (rows[..., 1] * height).floor().nan_to_num().clamp(0, height - 1)
    return column.long(), row.long()


def _settle(index: Tensor, takes_part: Tensor, predictors: int, settings: Settings) -> Tensor:
    """The index where the truth of a slot is the last, or the first, to choose it, else -1."""
    images, length = index.shape
    rank = torch.arange(1, length + 1, device=index.device)
    if settings.first_wins:
        rank = rank.flip(0)
    rank = torch.where(takes_part, rank, 0)
    # A maximum, unlike a write, does not depend on the order in which equal indices are met.
    highest = rank.new_zeros(images, predictors).scatter_reduce_(1, index, rank, "amax")
    return torch.where(takes_part & (highest.gather(1, index) == rank), index, -1)

"""Which predictor answers for which truth of a padded batch, without a loop and without waiting for a device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.settings import Settings

#: The smallest positive number of a type.
_LEAST = {torch.float32: 2.0**-149, torch.float64: 2.0**-1074}


class Grid(NamedTuple):
    """Numbers that only depend on the anchors and the grid, on the device of a batch; float64 if not said otherwise.

    Attributes:
        shape: A, H and W.
        size: W and H, `[2]`.
        anchors: cells, `[A, 2]`.
        widths, heights, areas: of the anchors, in fractions of the image, `[A, 1, 1]` each.
        least, most: the limits of x, y, w, h and class inside the domain, both inside, `[5, 1, 1]`.
        no_box: what stands for the box of a slot that holds no truth, see `Slots.boxes`, `[5, 1, 1]`.
        half_anchors: half the `anchors` in the type of the arithmetic, `[2, 1, A, 1, 1]`.
        corners: column and row of every cell in the type of the arithmetic, `[2, 1, 1, H, W]`.
    """

    shape: tuple[int, int, int]
    size: Tensor
    anchors: Tensor
    widths: Tensor
    heights: Tensor
    areas: Tensor
    least: Tensor
    most: Tensor
    no_box: Tensor
    half_anchors: Tensor
    corners: Tensor


@lru_cache(maxsize=64)  # on a device, each of these tensors would be a copy from the host
def grid_of(
    anchors: tuple[float, ...], classes: int, height: int, width: int, device: torch.device, numbers: torch.dtype
) -> Grid:
    """The numbers of a grid of `height` × `width` cells; `anchors` are widths and heights in turn, cells.

    `numbers` is the type of the arithmetic.
    """

    def exactly(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)

    size = exactly([width, height])
    cells = exactly(anchors).view(-1, 2)
    widths, heights = (cells / size).T[..., None, None]
    column = torch.arange(width, device=device, dtype=numbers).expand(height, width)
    row = torch.arange(height, device=device, dtype=numbers)[:, None].expand(height, width)
    return Grid(
        shape=(len(cells), height, width),
        size=size,
        anchors=cells,
        widths=widths,
        heights=heights,
        areas=widths * heights,
        least=exactly([0, 0, 2.0**-1074, 2.0**-1074, 0]).view(5, 1, 1),
        most=exactly([1 - 2.0**-53, 1 - 2.0**-53, 1, 1, classes - 1]).view(5, 1, 1),
        no_box=exactly([0, 0, 0, 0, 1]).view(5, 1, 1),
        half_anchors=(cells / 2).T.to(numbers)[:, None, :, None, None],
        corners=torch.stack([column, row])[:, None, None],
    )


class Slots(NamedTuple):
    """The truths of a batch in the slots of a padded tensor. What depends on truths alone is taken in float64.

    Attributes:
        boxes: left, top, right, bottom and area in cells, in the type of the arithmetic, `[5, N, T]`; of a slot that
            does not count, a box that overlaps nothing.
        bad: whether a slot holds a truth that is read and outside the domain, bool `[N, T]`.
        owner: index in `[A*H*W]` of the predictor that answers for the truth, int32 `[N, T]`; -1 where a rival took it
            (`assign.last-truth-wins`) and where the slot holds no truth that is read and inside the domain.
        owned: whether a predictor answers for a truth, bool `[N, A, H, W]`.
    """

    boxes: Tensor
    bad: Tensor
    owner: Tensor
    owned: Tensor


def read_slots(rows: Tensor, counts: Tensor | None, settings: Settings) -> Tensor:
    """Whether each slot of `[N, T, 5]` holds a truth that is read, bool, on the host cut behind the last that may."""
    return is_read(rows[:, : longest(rows, settings)], counts, settings)


def longest(rows: Tensor, settings: Settings) -> int:
    """How many slots of an image may be read: all that are not empty in every image, where the host can look."""
    capacity = int(settings.max_truths) or rows.shape[1]
    if not settings.terminated or rows.device.type != "cpu":
        return min(capacity, rows.shape[1])
    return int(rows[:, :capacity, 0].any(dim=0).sum())


def is_read(rows: Tensor, counts: Tensor | None, settings: Settings) -> Tensor:
    """Whether each slot of `[N, T, 5]` holds a truth that is read, bool."""
    x = rows[:, :, 0]
    read = (x != 0).cumprod(dim=1).bool() if settings.terminated else torch.ones_like(x, dtype=torch.bool)
    if counts is not None:
        read &= torch.arange(x.shape[1], device=rows.device) < counts[:, None]
    if 0 < settings.max_truths < x.shape[1]:
        read[:, int(settings.max_truths) :] = False
    return read


def fill_slots(rows: Tensor, read: Tensor, grid: Grid, settings: Settings) -> Slots:
    """Assign every truth that is read.

    Args:
        rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`.
        read: whether a slot holds a truth that is read, bool `[N, T]`.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    boxes, counts, index = choose(rows, read, grid)
    owner, owned = _settle(index, counts, grid, settings)
    return Slots(boxes, read ^ counts, owner, owned)


def choose(rows: Tensor, read: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """The predictor that each truth chooses (`assign.cell`, `assign.anchor-shape`, `assign.anchor-tie`).

    Returns:
        `boxes` of `Slots`; whether a slot holds a truth that is read and inside the domain, bool `[N, T]`; and the
        index of the predictor in `[A*H*W]`, int64 `[N, T]`, of any predictor for a slot that does not.
    """
    given = rows.permute(2, 0, 1).double()  # [5, N, T]
    nearest = given.clamp(grid.least, grid.most)
    nearest[4].floor_()
    counts = read & (nearest == given).all(dim=0)  # false where one is not a number
    exact = torch.where(counts, given, grid.most)  # an ordinary truth, where there is none that counts
    x_y, w_h = exact[:2], exact[2:4]
    w, h = w_h.unbind()
    area = w * h
    shared = torch.minimum(w, grid.widths) * torch.minimum(h, grid.heights)
    anchor = (shared / (area + grid.areas - shared)).argmax(dim=0)  # of [A, N, T], the first on a tie
    size = grid.size[:, None, None]
    place, half = x_y * size, w_h * (size / 2)
    column, row = place.long().unbind()
    _, height, width = grid.shape
    # An area that rounds to 0 would make an IoU 0/0, where that of a prediction underflows too (`iou.zero-area`).
    area = (area * (height * width)).clamp_(min=_LEAST[grid.corners.dtype])
    boxes = torch.where(counts, torch.cat([place - half, place + half, area[None]]), grid.no_box)
    index = torch.add(column, torch.add(row, anchor, alpha=height), alpha=width)
    return boxes.to(grid.corners.dtype), counts, index


def _settle(index: Tensor, counts: Tensor, grid: Grid, settings: Settings) -> tuple[Tensor, Tensor]:
    """`owner` and `owned` of `Slots`, of the predictors that the truths choose, `[N, T]`."""
    images, length = index.shape
    anchors, height, width = grid.shape
    rank = torch.where(counts, _ranks(length, bool(settings.first_wins), index.device), -1)
    # A maximum, unlike a write, does not depend on the order in which equal indices are met.
    highest = rank.new_zeros(images, anchors * height * width).scatter_reduce_(1, index, rank, "amax")
    owned = (highest > 0).view(images, anchors, height, width)
    return torch.where(highest.gather(1, index) == rank, index, -1).int(), owned


@lru_cache(maxsize=64)
def _ranks(length: int, first_wins: bool, device: torch.device) -> Tensor:
    """Of several truths, that with the highest rank wins: int32 `[T]`, from 1."""
    rank = torch.arange(1, length + 1, dtype=torch.int32, device=device)
    return rank.flip(0) if first_wins else rank

"""Which predictor answers for which truth of a padded batch, without a loop and without waiting for a device.

Truths are worked on as a list of M. On the host these are the ones that are read; elsewhere to ask how many that are
would be to wait for the device, so every slot of the padded tensor is in the list, and `counts` says which are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.settings import Settings


class Grid(NamedTuple):
    """Numbers that only depend on the anchors and the grid, on the device of a batch; float64 if not said otherwise.

    Attributes:
        shape: A, H and W.
        size: W and H, `[2, 1]`.
        anchors: widths and heights, cells, `[2, A]`.
        fractions: likewise, of the image, `[2, A, 1]`.
        areas: of the anchors, in fractions of the image, `[A, 1]`.
        half_anchors: half the `anchors` in the type of the arithmetic, `[2, A]`.
        corners: column and row of every cell in the type of the arithmetic, `[2, H*W]`.
        least, most: the limits of x, y, w, h and class inside the domain, both inside, `[5, 1]`.
    """

    shape: tuple[int, int, int]
    size: Tensor
    anchors: Tensor
    fractions: Tensor
    areas: Tensor
    half_anchors: Tensor
    corners: Tensor
    least: Tensor
    most: Tensor


@lru_cache(maxsize=64)  # on a device, each of these tensors would be a copy from the host
def grid_of(
    anchors: tuple[float, ...], classes: int, height: int, width: int, device: torch.device, numbers: torch.dtype
) -> Grid:
    """The numbers of a grid of `height` × `width` cells; `anchors` are widths and heights in turn, cells.

    `numbers` is the type of the arithmetic.
    """

    def exactly(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)[:, None]

    size = exactly([width, height])
    cells = exactly(anchors).view(-1, 2).T.contiguous()
    fractions = (cells / size)[:, :, None]
    column = torch.arange(width, device=device, dtype=numbers).expand(height, width)
    row = torch.arange(height, device=device, dtype=numbers)[:, None].expand(height, width)
    return Grid(
        shape=(cells.shape[1], height, width),
        size=size,
        anchors=cells,
        fractions=fractions,
        areas=fractions.prod(dim=0),
        half_anchors=(cells / 2).to(numbers),
        corners=torch.stack([column, row]).flatten(1),
        least=exactly([0, 0, 2.0**-1074, 2.0**-1074, 0]),
        most=exactly([1 - 2.0**-53, 1 - 2.0**-53, 1, 1, classes - 1]),
    )


class Truths(NamedTuple):
    """M truths. What depends on them alone is taken in float64.

    Attributes:
        slot: index in `[N*T]`, int64 `[M]`.
        counts: whether it is read and inside the domain, bool `[M]`; `None` if all are.
        place, size: of centre and box in cells, `[2, M]` each.
        area: in fractions of the image, `[M]`.
        label: class, int64 `[M]`.
        image, anchor: n and k of the predictor that it chooses, int64 `[M]` each.
        cell: its column and row, int64 `[2, M]`.
        predictor: its index in `[N*A*H*W]`, int64 `[M]`.
    """

    slot: Tensor
    counts: Tensor | None
    place: Tensor
    size: Tensor
    area: Tensor
    label: Tensor
    image: Tensor
    anchor: Tensor
    cell: Tensor
    predictor: Tensor


def is_read(rows: Tensor, counts: Tensor | None, settings: Settings) -> Tensor:
    """Whether each slot of `[N, T, 5]` holds a truth that is read, bool."""
    x = rows[:, :, 0]
    read = (x != 0).cumprod(dim=1).bool() if settings.terminated else torch.ones_like(x, dtype=torch.bool)
    if counts is not None:
        read &= torch.arange(x.shape[1], device=rows.device) < counts[:, None]
    if 0 < settings.max_truths < x.shape[1]:
        read[:, int(settings.max_truths) :] = False
    return read


def is_inside(exact: Tensor, grid: Grid) -> Tensor:
    """Whether x, y, w, h and class of truths, float64 `[5, M]`, are inside the domain, bool `[M]`."""
    nearest = exact.clamp(grid.least, grid.most)
    nearest[4].floor_()
    return (nearest == exact).all(dim=0)  # false where one is not a number


def choose(rows: Tensor, read: Tensor, grid: Grid, *, on_host: bool) -> tuple[Truths, Tensor]:
    """The predictor that each truth chooses (`assign.cell`, `assign.anchor-shape`, `assign.anchor-tie`).

    Args:
        rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`.
        read: whether a slot holds a truth that is read, bool `[N, T]`.
        grid: of `grid_of`.
        on_host: whether it costs nothing to look at a number.

    Returns:
        The truths, and which of them are read and outside the domain, bool `[M]`; they choose any predictor.
    """
    capacity = rows.shape[1]
    flat = read.reshape(-1)
    slot = flat.nonzero().squeeze(1) if on_host else torch.arange(len(flat), device=rows.device)
    given = rows.reshape(-1, 5)
    exact = (given.index_select(0, slot) if on_host else given).double().T.contiguous()
    inside = is_inside(exact, grid)
    counts, bad = (None, ~inside) if on_host else (flat & inside, flat & ~inside)
    if counts is not None:
        exact = torch.where(counts, exact, grid.most)  # an ordinary truth, where there is none that counts
    w_h = exact[2:4]
    area = w_h.prod(dim=0)
    shared = torch.minimum(w_h[:, None], grid.fractions).prod(dim=0)
    anchor = (shared / (area + grid.areas - shared)).argmax(dim=0)  # of [A, M], the first on a tie
    place = exact[:2] * grid.size
    cell = place.long()
    image = torch.floor_divide(slot, max(capacity, 1))
    count, height, width = grid.shape
    line = torch.add(cell[1], torch.add(anchor, image, alpha=count), alpha=height)
    predictor = torch.add(cell[0], line, alpha=width)
    label = exact[4].long()
    return Truths(slot, counts, place, w_h * grid.size, area, label, image, anchor, cell, predictor), bad


def settle(truths: Truths, predictors: int, settings: Settings) -> tuple[Tensor, Tensor]:
    """Which truths keep the predictor that they chose (`assign.last-truth-wins`).

    Returns:
        Whether each truth does, bool `[M]`, and of each predictor more than 0 if a truth chose it, int32
        `[predictors]`.
    """
    rank = torch.arange(1, len(truths.slot) + 1, dtype=torch.int32, device=truths.slot.device)
    if settings.first_wins:
        rank = rank.flip(0)
    if truths.counts is not None:
        rank = torch.where(truths.counts, rank, -1)
    # A maximum, unlike a write, does not depend on the order in which equal indices are met.
    highest = rank.new_zeros(predictors).scatter_reduce_(0, truths.predictor, rank, "amax")
    return highest.index_select(0, truths.predictor) == rank, highest

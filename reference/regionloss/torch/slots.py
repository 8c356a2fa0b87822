"""Which predictor answers for which truth of a padded batch, without a loop and without waiting for a device."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.settings import Settings


class Grid(NamedTuple):
    """Numbers that only depend on the anchors and the grid, on the device of a batch; float64 if not said otherwise.

    Attributes:
        shape: A, H and W.
        size: W and H, `[2]`.
        anchors: cells, `[A, 2]`.
        fractions: the anchors in fractions of the image, `[A, 2]`.
        least, most: the limits of x, y, w, h and class inside the domain, both inside, `[5]`.
        size_like: `size` in the type of the arithmetic.
        half_anchors: half the `fractions` in the type of the arithmetic, `[A, 2]`.
        corners: column and row of every cell in the type of the arithmetic, `[2, H, W]`.
    """

    shape: tuple[int, int, int]
    size: Tensor
    anchors: Tensor
    fractions: Tensor
    least: Tensor
    most: Tensor
    size_like: Tensor
    half_anchors: Tensor
    corners: Tensor


@lru_cache(maxsize=64)  # on a device, each of these tensors would be a copy from the host
def grid_of(
    anchors: tuple[float, ...], classes: int, height: int, width: int, device: torch.device, numbers: torch.dtype
) -> Grid:
    """The numbers of a grid of `height` × `width` cells; `anchors` are widths and heights in turn, cells.

    `numbers` is the type of the arithmetic.
    """
    size = torch.tensor([width, height], dtype=torch.float64, device=device)
    cells = torch.tensor(anchors, dtype=torch.float64, device=device).view(-1, 2)
    below_one, above_zero = 1 - 2.0**-53, 2.0**-1074
    least = torch.tensor([0, 0, above_zero, above_zero, 0], dtype=torch.float64, device=device)
    most = torch.tensor([below_one, below_one, 1, 1, classes - 1], dtype=torch.float64, device=device)
    fractions = cells / size
    column = torch.arange(width, device=device, dtype=numbers).expand(height, width)
    row = torch.arange(height, device=device, dtype=numbers)[:, None].expand(height, width)
    return Grid(
        shape=(len(cells), height, width),
        size=size,
        anchors=cells,
        fractions=fractions,
        least=least,
        most=most,
        size_like=size.to(numbers),
        half_anchors=(fractions / 2).to(numbers),
        corners=torch.stack([column, row]),
    )


class Slots(NamedTuple):
    """The truths of a batch in the slots of a padded tensor. What depends on truths alone is taken in float64.

    Attributes:
        exact: x, y, w, h and class, float64 `[N, T, 5]`; an ordinary truth where the slot holds none that counts.
        counts: whether a slot holds a truth that is read and inside the domain, bool `[N, T]`.
        bad: whether it holds one that is read and outside the domain, bool `[N, T]`.
        place: centre in cells, float64 `[N, T, 2]`.
        cell: column and row, int64 `[N, T, 2]`.
        anchor: int64 `[N, T]`.
        owner: index in `[A*H*W]` of the predictor that answers for the truth, int64 `[N, T]`; -1 where a rival took it
            (`assign.last-truth-wins`) and where the slot does not count.
    """

    exact: Tensor
    counts: Tensor
    bad: Tensor
    place: Tensor
    cell: Tensor
    anchor: Tensor
    owner: Tensor


def read_slots(rows: Tensor, counts: Tensor | None, settings: Settings) -> Tensor:
    """Whether each slot of `[N, T, 5]` holds a truth that is read, bool, cut behind the last that may be."""
    capacity = int(settings.max_truths) or rows.shape[1]
    x = rows[:, :capacity, 0]
    read = (x != 0).cumprod(dim=1).bool() if settings.terminated else torch.ones_like(x, dtype=torch.bool)
    if counts is not None:
        read &= torch.arange(x.shape[1], device=rows.device) < counts[:, None]
    if rows.device.type == "cpu":  # elsewhere to ask how many there are would be to wait for the device
        read = read[:, : int(read.any(dim=0).sum())]
    return read


def fill_slots(rows: Tensor, read: Tensor, grid: Grid, settings: Settings) -> Slots:
    """Assign every truth that is read (`assign.cell`, `assign.anchor-shape`, `assign.anchor-tie`).

    Args:
        rows: x, y, w, h and class, `[N, T, 5]`.
        read: whether a slot holds a truth that is read, bool `[N, T]`.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    given = rows.double()
    sound = ((given >= grid.least) & (given <= grid.most)).all(dim=-1)  # false where one is not a number
    sound &= given[..., 4] == given[..., 4].floor()
    counted = read & sound
    exact = torch.where(counted[..., None], given, grid.most)
    place = exact[..., :2] * grid.size
    cell = place.long()
    sizes = exact[..., None, 2:4]  # [N, T, 1, 2]
    shared = torch.minimum(sizes, grid.fractions).prod(dim=-1)
    fit = shared / (sizes.prod(dim=-1) + grid.fractions.prod(dim=-1) - shared)  # [N, T, A]
    anchor = fit.argmax(dim=-1)  # the first on a tie
    anchors, height, width = grid.shape
    index = (anchor * height + cell[..., 1]) * width + cell[..., 0]
    owner = _settle(index, counted, anchors * height * width, settings)
    return Slots(exact, counted, read & ~sound, place, cell, anchor, owner)


def _settle(index: Tensor, counted: Tensor, predictors: int, settings: Settings) -> Tensor:
    """The index where the truth of a slot is the last, or the first, to choose it, else -1."""
    images, length = index.shape
    rank = torch.arange(1, length + 1, device=index.device)
    if settings.first_wins:
        rank = rank.flip(0)
    rank = rank * counted
    # A maximum, unlike a write, does not depend on the order in which equal indices are met.
    highest = rank.new_zeros(images, predictors).scatter_reduce_(1, index, rank, "amax")
    return torch.where(counted & (highest.gather(1, index) == rank), index, -1)

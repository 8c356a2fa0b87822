"""Which predictor is responsible for which truth of a padded batch, without a loop and without waiting for a device.

The M truths are worked on as one list. On the host these are the truths that are read. Elsewhere the host does not know
how many these are without waiting for the device, so every row of the padded tensor is in the list, and `valid` masks
those that are read.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regionloss.torch.arrays import Array, array_of, cast, library_of
from regionloss.torch.settings import Settings


class Grid(NamedTuple):
    """Numbers that depend on the anchors and the grid alone, on the device of the batch; float64 unless noted.

    Attributes:
        shape: A, H and W.
        size: W and H, `[2, 1]`.
        anchors: widths and heights, cells, `[2, A]`.
        fractions: the same in fractions of the image, `[2, A, 1]`.
        areas: of the anchors, in fractions of the image, `[A, 1]`.
        half_anchors: half the `anchors`, in the type of the arithmetic, `[2, A]`.
        corners: column and row of every cell, in the type of the arithmetic, `[2, H*W]`.
        least, most: the inclusive limits of x, y, w, h and class in the domain, `[5, 1]`.
    """

    shape: tuple[int, int, int]
    size: Array
    anchors: Array
    fractions: Array
    areas: Array
    half_anchors: Array
    corners: Array
    least: Array
    most: Array


@lru_cache(maxsize=64)  # on a device, each of these tensors would be a copy from the host
def grid_of(
    anchors: tuple[float, ...], classes: int, height: int, width: int, device: torch.device, dtype: torch.dtype
) -> Grid:
    """The numbers of a grid of `height` × `width` cells; `anchors` are widths and heights in turn, cells.

    `dtype` is the type of the arithmetic.
    """
    size = np.array([[width], [height]], np.float64)
    cells = np.array(anchors, np.float64).reshape(-1, 2).T.copy()
    fractions = (cells / size)[:, :, None]
    row, column = np.indices((height, width), np.float64).reshape(2, -1)

    def put(values: Any, kind: torch.dtype = torch.float64) -> Array:
        rounded = np.asarray(values, str(kind).removeprefix("torch."))
        return array_of(torch.tensor(rounded, device=device))

    return Grid(
        shape=(cells.shape[1], height, width),
        size=put(size),
        anchors=put(cells),
        fractions=put(fractions),
        areas=put(fractions.prod(axis=0)),
        half_anchors=put(cells / 2, dtype),
        corners=put(np.stack([column, row]), dtype),
        least=put([[0], [0], [2.0**-1074], [2.0**-1074], [0]]),
        most=put([[1 - 2.0**-53], [1 - 2.0**-53], [1], [1], [classes - 1]]),
    )


class Assignment(NamedTuple):
    """M truths, each with the predictor that it chooses. What depends on the truths alone is float64.

    Attributes:
        index: of each truth in `[N*T]`, int64 `[M]`.
        valid: whether it is read and inside the domain, bool `[M]`; `None` if all are.
        centre, size: of its box in cells, `[2, M]` each.
        area: in fractions of the image, `[M]`.
        label: class, int64 `[M]`.
        image, anchor: n and k of the predictor, int64 `[M]` each.
        cell: column and row of the predictor, int64 `[2, M]`.
        predictor: its index in `[N*A*H*W]`, int64 `[M]`.
    """

    index: Array
    valid: Array | None
    centre: Array
    size: Array
    area: Array
    label: Array
    image: Array
    anchor: Array
    cell: Array
    predictor: Array


def rows_of(rows: Tensor) -> Array:
    """The rows of a batch in float64, `[N, T, 5]`."""
    return array_of(rows.double())


def is_read(rows: Array, counts: Tensor | None, settings: Settings) -> Array:
    """Whether each of `rows`, `[N, T, 5]` of `rows_of`, holds a truth that is read, bool `[N, T]`."""
    x = rows[:, :, 0]
    library = library_of(x)
    read = x != 0
    if settings.terminated:
        read = read.cumprod(1) > 0
    else:
        read = library.ones_like(read)
    if counts is not None:
        ends = array_of(counts)
        read &= library.arange(x.shape[1], device=x.device) < ends[:, None]
    if 0 < settings.max_truths < x.shape[1]:
        read[:, int(settings.max_truths) :] = False
    return read


def is_inside(exact: Array, grid: Grid) -> Array:
    """Whether x, y, w, h and class of truths, float64 `[5, M]`, are inside the domain, bool `[M]`."""
    library = library_of(exact)
    clipped = library.minimum(library.maximum(exact, grid.least), grid.most)
    clipped[4] = library.floor(clipped[4])
    return (clipped == exact).all(0)  # false where one is NaN


def assign(rows: Array, read: Array, grid: Grid) -> tuple[Assignment, Array]:
    """The predictor that each truth chooses (`assign.cell`, `assign.anchor-shape`, `assign.anchor-tie`).

    Args:
        rows: of `rows_of`, `[N, T, 5]`.
        read: of `is_read`, bool `[N, T]`.
        grid: of `grid_of`.

    Returns:
        The assignment, and which of its truths are read and outside the domain, bool `[M]`; these choose an arbitrary
        predictor.
    """
    library = library_of(rows)
    length = rows.shape[1]
    flat_read, flat_rows = read.reshape(-1), rows.reshape(-1, 5)
    if library is np:
        index = flat_read.nonzero()[0]
        exact = flat_rows[index].T.copy()
        inside = is_inside(exact, grid)
        valid, bad = None, ~inside
        if bad.any():
            exact = np.where(inside, exact, grid.most)
    else:
        index = torch.arange(len(flat_read), device=rows.device)
        exact = flat_rows.T.contiguous()
        inside = is_inside(exact, grid)
        valid, bad = flat_read & inside, flat_read & ~inside
        exact = torch.where(valid, exact, grid.most)  # a truth inside the domain in place of each that is not valid
    w_h = exact[2:4]
    area = w_h[0] * w_h[1]
    shared_w, shared_h = library.minimum(w_h[:, None], grid.fractions)
    shared = shared_w * shared_h  # [A, M]
    anchor = (shared / (area + grid.areas - shared)).argmax(0)  # the first on a tie
    centre = exact[:2] * grid.size
    cell = cast(centre, library.int64)
    image = index // max(length, 1)
    count, height, width = grid.shape
    predictor = ((image * count + anchor) * height + cell[1]) * width + cell[0]
    label = cast(exact[4], library.int64)
    return Assignment(index, valid, centre, w_h * grid.size, area, label, image, anchor, cell, predictor), bad


def resolve_collisions(assignment: Assignment, predictors: int, settings: Settings) -> tuple[Array, Array]:
    """Which truths keep the predictor that they chose (`assign.last-truth-wins`).

    Returns:
        Whether each truth does, bool `[M]`, and the responsible predictors: on the host indices in `[N*A*H*W]`, which
        may repeat, on a device a mask of that length.
    """
    predictor, valid = assignment.predictor, assignment.valid
    library = library_of(predictor)
    rank: Array = library.arange(1, len(predictor) + 1, dtype=library.int32, device=predictor.device)
    if settings.first_wins:
        rank = len(predictor) + 1 - rank
    # A maximum, unlike a write, does not depend on the order in which equal indices are visited.
    if valid is None:
        highest = np.zeros(predictors, np.int32)
        np.maximum.at(highest, predictor, rank)
        return highest[predictor] == rank, predictor
    rank = torch.where(valid, rank, -1)
    highest = rank.new_zeros(predictors).scatter_reduce_(0, predictor, rank, "amax")
    return highest.index_select(0, predictor) == rank, highest > 0

"""The part of the loss that every predictor has: the no-object and prior terms, and who is silent.

It looks at the five box and objectness channels alone, which are worked on as `[5, N, A, H, W]`: channels come first
and predictors lie side by side, for an inner axis of a few is no vector.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from regionloss.torch.analytic.boxes import half_sizes, iou
from regionloss.torch.arrays import Array, array_of, cast, library_of, put
from regionloss.torch.assignment import Grid, Truths
from regionloss.torch.ops import NO_OBJECT, PRIOR, RESPONSIBLE
from regionloss.torch.settings import Settings

#: Predictors and truths that are held against each other at a time: few enough to stay in a core's cache, and memory is
#: bounded.
PAIRS = 1 << 16

T_O = 4

#: Cells by which rounding may move a box, and far more than that.
SLACK = 1e-3


def activate(active: Tensor, t: Tensor) -> None:
    """Write σ(tx), σ(ty), tw, th and σ(to) of predictions `t` `[N, A, 5+C, H, W]` into `active` `[5, N, A, H, W]`."""
    active.copy_(t[:, :, :5].movedim(2, 0))
    active[:2].sigmoid_()
    active[T_O].sigmoid_()


def silence(active: Array, truths: Truths, boxes: Array, grid: Grid, settings: Settings) -> Array:
    """Which predictors overlap a truth beyond the threshold (`noobj.every-truth`), bool `[N, A, H, W]`.

    Args:
        active: of `activate`.
        truths: of `choose`.
        boxes: of `boxes_of`.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    library = library_of(active)
    quiet = library.zeros(active.shape[1:], dtype=library.bool, device=active.device)
    if not settings.ignores:
        return quiet
    if settings.thresh < 0 or (settings.thresh == 0 and settings.ignores == 2):
        return ~quiet  # MaxIOU is 0 where no truth is overlapped, and where there is none
    if library is np:
        _silence_near(quiet.reshape(-1), active.reshape(5, -1), boxes, truths, grid, settings)
    else:
        _silence_all(quiet, active, boxes, truths, grid, settings)
    return quiet


def _silence_near(quiet: Array, active: Array, boxes: Array, truths: Truths, grid: Grid, settings: Settings) -> None:
    """Of each truth look at the predictors alone whose boxes may overlap it enough.

    The IoU of two boxes is not above that of their sides along either axis. Sides whose middles are d sizes of the
    truth apart have one of at most 1/(1 + 2d), as has the side that ends where the truth does on the far side; so cells
    far off are left out. And it is at most the shorter side by the longer one; so boxes of another width are.
    """
    anchors, height, width = grid.shape
    reach = truths.size * ((1 / settings.thresh - 1) / 2 if settings.thresh else np.inf) + SLACK
    first = np.ceil(np.maximum(truths.place - reach - 1, 0))  # a centre lies up to one behind its cell's corner
    last = np.floor(np.minimum(truths.place + reach, grid.size - 1))
    across, down = np.maximum(last - first + 1, 0).astype(np.int64)
    column, row = first.astype(np.int64)
    like = np.log(truths.size[0] / grid.anchors[0][:, None]).astype(active.dtype)  # tw of a truth's width, [A, M]
    unlike = SLACK - np.log(settings.thresh)
    for part in _parts((across * down).cumsum(), PAIRS // anchors):
        line_of, line = _counted(down[part])  # every line of cells of every truth
        line_of += part.start
        line = (row[line_of] + line) * width + column[line_of]
        of, cell = _counted(across[line_of])  # every pair of a truth and a cell
        cell += line[of]
        who = line_of[of]
        index = (truths.image[who] * (anchors * height * width) + cell) + np.arange(anchors)[:, None] * (height * width)
        other = active[2].take(index)  # [A, P]
        other -= like.take(who, axis=1)
        near = np.abs(other, out=other) <= unlike
        k = np.arange(anchors).repeat(np.count_nonzero(near, axis=1))
        near = near.reshape(-1).nonzero()[0]
        pair = near - k * len(who)
        index, who = index.reshape(-1)[near], who[pair]
        found = active[:T_O].take(index, axis=1)
        centre = found[:2] + grid.corners.take(cell[pair], axis=1)
        half = half_sizes(found[2:], grid.half_anchors.take(k, axis=1))
        overlap = iou(centre, half, boxes.take(who, axis=1))
        quiet[index[_exceeds(overlap, settings)]] = True


def _counted(many: Array) -> tuple[Array, Array]:
    """For each thing its index, as often as it counts, and 0, 1, 2 and so on beside it."""
    of = np.arange(len(many)).repeat(many)
    return of, np.arange(len(of)) - (many.cumsum() - many).repeat(many)


def _parts(ends: Array, room: int) -> Iterator[slice]:
    """Things in turn, as many as there is room for, and at least one; `ends` is how much all up to one of them take."""
    start, taken = 0, 0
    while start < len(ends):
        behind = max(int(np.searchsorted(ends, taken + room, side="right")), start + 1)
        yield slice(start, behind)
        start, taken = behind, int(ends[behind - 1])


def _silence_all(quiet: Tensor, active: Tensor, boxes: Array, truths: Truths, grid: Grid, settings: Settings) -> None:
    """Look at every predictor of its image, truth by truth: to ask which are near would be to wait for the device."""
    images, _, height, width = quiet.shape
    counts: Tensor = truths.counts  # type: ignore[assignment]  # a list that is not of the read alone has them
    centre = active[:2] + grid.corners.view(2, 1, 1, height, width)
    half = half_sizes(active[2:4], grid.half_anchors[:, None, :, None, None])
    slots = len(counts) // max(images, 1)
    boxes, counts = boxes.view(5, images, slots, 1, 1, 1), counts.view(images, slots, 1, 1, 1)
    for box, counted in zip(boxes.unbind(2), counts.unbind(1), strict=True):
        quiet |= _exceeds(iou(centre, half, box), settings) & counted


def _exceeds(overlap: Array, settings: Settings) -> Array:
    """Whether IoUs are beyond the threshold."""
    return overlap >= settings.thresh if settings.ignores == 2 else overlap > settings.thresh


def pay_dense(
    active: Array, quiet: Array, owned: Array, early: Tensor | bool, settings: Settings
) -> tuple[Array, Array, Array]:
    """Add up what every predictor pays.

    Args:
        active: of `activate`; who does not pay a term gets the numbers for which it has no slope, see `slopes_kept`.
        quiet: of `silence`, bool `[N, A, H, W]`, which is changed.
        owned: the predictors that answer for a truth, as such a mask or by their indices in `[N*A*H*W]`.
        early: 1{t < 12800}, a bool or 0-d.
        settings: the choices of the profile.

    Returns:
        The bits of every predictor but `BAD`, uint8 `[N, A, H, W]`, and Σ of the squares of the no-object term and of
        the prior, 0-d each.
    """
    library = library_of(active)
    if not settings.every_no_object:
        put(quiet, owned, True)  # the responsible are silent, whatever they overlap
    put(active[T_O], quiet, 0)
    no_object = _sum_of_squares(active[T_O])
    state = cast(~quiet, library.uint8)
    if early is not False:
        state += PRIOR
    keep = (NO_OBJECT if settings.every_no_object else 0) | (PRIOR if settings.every_prior else 0)
    if library is np:
        bits = state.reshape(-1)
        bits[owned] = bits[owned] & keep | RESPONSIBLE
    else:
        state = torch.where(owned, state & keep | RESPONSIBLE, state)
    if isinstance(early, Tensor):
        state &= early * PRIOR | ~PRIOR
    centre, size = active[:2], active[2:T_O]
    if early is False:
        centre[...] = 0.5
        size[...] = 0
        return state, no_object, 0 * no_object
    if not settings.every_prior:
        put(centre, owned, 0.5)
        put(size, owned, 0)
    if isinstance(early, Tensor):
        put(centre, ~early, 0.5)
        put(size, ~early, 0)
    return state, no_object, _sum_of_squares(centre - 0.5) + _sum_of_squares(size)


def _sum_of_squares(values: Array) -> Array:
    """Σv², 0-d."""
    return (values * values).sum()


def take_owned(active: Tensor, owned: Array, predictor: Array, settings: Settings) -> Array:
    """Take the responsible predictors out of `active`, where a profile has them pay the dense terms too.

    What they have of all terms is then written at once, for a half type would round each by itself.

    Args:
        active: as `pay_dense` left it, which is changed.
        owned: as `pay_dense` takes it.
        predictor: indices in `[N*A*H*W]` of M predictors.
        settings: the choices of the profile.

    Returns:
        The slopes of the dense terms of the M predictors with respect to tx, ty, tw, th and to, `[5, M]`.
    """
    mine = active.flatten(1).index_select(1, torch.as_tensor(predictor))
    slopes = torch.empty_like(mine)
    write_dense(slopes, mine, 1.0, settings)
    values = array_of(active)
    put(values[:2], owned, 0.5)
    put(values[2:], owned, 0)
    return array_of(slopes)


def write_dense(g: Tensor, active: Tensor, factor: Tensor | float, settings: Settings) -> None:
    """Write the gradients of the no-object and prior terms, times `factor`.

    Args:
        g: of the first five channels, `[5, ...]`.
        active: as `pay_dense` left it, likewise.
        factor: a number, or 0-d in the type of the arithmetic.
        settings: the choices of the profile.
    """
    b = active[T_O]
    _through_sigmoid(b * (2 * settings.no_object * factor), b, g[T_O])
    pull = 2 * settings.prior * factor
    b = active[:2]
    _through_sigmoid((b - 0.5).mul_(pull), b, g[:2])
    torch.mul(active[2:T_O], pull, out=g[2:T_O])


def _through_sigmoid(moves: Tensor, b: Tensor, out: Tensor) -> None:
    """Write `moves`·b·(1 - b)."""
    if out.dtype == moves.dtype:
        torch.ops.aten.sigmoid_backward.grad_input(moves, b, grad_input=out)
    else:
        out.copy_(torch.ops.aten.sigmoid_backward(moves, b))

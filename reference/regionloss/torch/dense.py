"""The part of the loss that every predictor has: the no-object and prior terms, and who is silent.

It looks at the five box and objectness channels alone, which are worked on as `[5, N, A, H, W]`: channels come first
and predictors lie side by side, for an inner axis of a few is no vector.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from regionloss.torch.boxes import half_sizes, iou
from regionloss.torch.settings import Settings
from regionloss.torch.slots import Grid, Truths

#: Bits of the state of a predictor.
NO_OBJECT, PRIOR, RESPONSIBLE, BAD = 1, 2, 4, 8

#: Numbers that are added up at a time, before the sums are.
SUMMED = 1 << 16

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


def silence(active: Tensor, truths: Truths, boxes: Tensor, grid: Grid, settings: Settings, *, on_host: bool) -> Tensor:
    """Which predictors overlap a truth beyond the threshold (`noobj.any-truth`), bool `[N, A, H, W]`.

    Args:
        active: of `activate`.
        truths: of `choose`.
        boxes: of `boxes_of`.
        grid: of `grid_of`.
        settings: the choices of the profile.
        on_host: whether it costs nothing to look at a number.
    """
    quiet = torch.zeros(active.shape[1:], dtype=torch.bool, device=active.device)
    if not settings.ignores:
        return quiet
    if settings.thresh < 0 or (settings.thresh == 0 and settings.ignores == 2):
        return quiet.fill_(True)  # MaxIOU is 0 where no truth is overlapped, and where there is none
    if on_host:
        _silence_near(quiet.view(-1), active, boxes, truths, grid, settings)
    else:
        _silence_all(quiet, active, boxes, truths, grid, settings)
    return quiet


def _silence_near(quiet: Tensor, active: Tensor, boxes: Tensor, truths: Truths, grid: Grid, settings: Settings) -> None:
    """Of each truth look at the predictors of those cells alone whose boxes may overlap it enough.

    Along one axis two boxes whose centres are d sizes of the truth apart have an IoU of at most 1/(1 + 2d), which the
    box has that ends where the truth does on the far side, and their IoU is not above that of either axis.
    """
    anchors, height, width = grid.shape
    of_anchor = torch.arange(0, anchors * height * width, height * width, device=quiet.device)[:, None]
    reach = truths.size * ((1 / settings.thresh - 1) / 2 if settings.thresh else torch.inf) + SLACK
    first = (truths.place - reach - 1).ceil_().clamp_(min=0)  # a centre lies up to one behind its cell's corner
    last = torch.minimum(truths.place + reach, grid.size - 1).floor_()
    extent = (last - first).add_(1).clamp_(min=0).long()  # cells, [2, M]
    corner = torch.add(first[0], first[1], alpha=width).long()
    image = truths.image * (anchors * height * width)
    count = extent.prod(dim=0)
    for part in _parts(count.cumsum(dim=0), PAIRS // anchors):
        who = torch.repeat_interleave(count[part])  # of each pair of a truth and a cell
        before = count[part].cumsum(dim=0).sub_(count[part])
        place = torch.arange(len(who), device=who.device).sub_(before.index_select(0, who))
        across = extent[0, part].index_select(0, who)
        line = torch.floor_divide(place, across)
        cell = corner[part].index_select(0, who).add_(place).add_(line.mul_(width - across))
        index = torch.add(image[part].index_select(0, who), cell) + of_anchor  # [A, P]
        found = active.flatten(1)[:T_O].index_select(1, index.view(-1)).view(T_O, anchors, -1)
        centre = found[:2].add_(grid.corners.index_select(1, cell)[:, None])
        half = half_sizes(found[2:], grid.half_anchors[..., None])
        overlap = iou(centre, half, boxes[:, part].index_select(1, who)[:, None])
        quiet.index_fill_(0, index.masked_select(_exceeds(overlap, settings)), True)


def _parts(ends: Tensor, room: int) -> Iterator[slice]:
    """Things in turn, as many as there is room for, and at least one; `ends` is how much all up to one of them take."""
    many = len(ends)
    if not many or int(ends[-1]) <= room:
        yield slice(0, many)
        return
    start, taken = 0, 0
    while start < many:
        behind = max(int(torch.searchsorted(ends, taken + room, right=True)), start + 1)
        yield slice(start, behind)
        start, taken = behind, int(ends[behind - 1])


def _silence_all(quiet: Tensor, active: Tensor, boxes: Tensor, truths: Truths, grid: Grid, settings: Settings) -> None:
    """Look at every predictor of its image, truth by truth: to ask which are near would be to wait for the device."""
    images, _, height, width = quiet.shape
    counts = torch.ones_like(truths.slot, dtype=torch.bool) if truths.counts is None else truths.counts
    centre = active[:2] + grid.corners.view(2, 1, 1, height, width)
    half = half_sizes(active[2:4], grid.half_anchors[:, None, :, None, None])
    slots = len(counts) // max(images, 1)
    boxes, counts = boxes.view(5, images, slots, 1, 1, 1), counts.view(images, slots, 1, 1, 1)
    for box, counted in zip(boxes.unbind(2), counts.unbind(1), strict=True):
        quiet |= _exceeds(iou(centre, half, box), settings) & counted


def _exceeds(overlap: Tensor, settings: Settings) -> Tensor:
    """Whether IoUs are beyond the threshold."""
    return overlap >= settings.thresh if settings.ignores == 2 else overlap > settings.thresh


def pay_dense(
    active: Tensor, quiet: Tensor, owned: Tensor, early: Tensor | bool, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
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
    if not settings.every_no_object:
        _put(quiet, owned, True)  # the responsible are silent, whatever they overlap
    no_object = _sum_of_squares(active[T_O].masked_fill_(quiet, 0))
    state = quiet.logical_not().view(torch.uint8)
    state.add_(0 if early is False else PRIOR)
    keep = (NO_OBJECT if settings.every_no_object else 0) | (PRIOR if settings.every_prior else 0)
    if owned.dtype == torch.bool:
        state = torch.where(owned, state & keep | RESPONSIBLE, state)
    else:
        state.view(-1).index_copy_(0, owned, state.view(-1).index_select(0, owned) & keep | RESPONSIBLE)
    if isinstance(early, Tensor):
        state &= early * PRIOR | ~PRIOR
    centre, size = active[:2], active[2:T_O]
    if early is False:
        centre.fill_(0.5)
        size.zero_()
        return state, no_object, torch.zeros_like(no_object)
    if not settings.every_prior:
        _put(centre, owned, 0.5)
        _put(size, owned, 0)
    if isinstance(early, Tensor):
        _put(centre, ~early, 0.5)
        _put(size, ~early, 0)
    return state, no_object, _sum_of_squares(centre - 0.5) + _sum_of_squares(size)


def _put(values: Tensor, where: Tensor, number: float) -> None:
    """Write a number into `[..., N, A, H, W]` where a mask says, or at indices in `[N*A*H*W]`."""
    if where.dtype == torch.bool:
        values.masked_fill_(where, number)
    else:
        values.flatten(-4).index_fill_(-1, where, number)


def _sum_of_squares(values: Tensor) -> Tensor:
    """Σv², 0-d, without room for the squares; in parts, for a long sum is not exact."""
    parts = torch.split(values.view(-1), SUMMED)
    sums = [torch.dot(part, part) for part in parts]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum()


def take_owned(active: Tensor, owned: Tensor, predictor: Tensor, settings: Settings) -> Tensor:
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
    mine = active.flatten(1).index_select(1, predictor)
    slopes = torch.empty_like(mine)
    write_dense(slopes, mine, 1.0, settings)
    _put(active[:2], owned, 0.5)
    _put(active[2:], owned, 0)
    return slopes


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

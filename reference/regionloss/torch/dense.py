"""The part of the loss that every predictor has: the no-object and prior terms, and MaxIOU.

It looks at the five box and objectness channels alone. Predictions come as a view `[N, A, 5, H, W]` of any strides,
and are worked on as `[5, N, A, H, W]`: channels come first and predictors lie side by side, for an inner axis of a few
is no vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.settings import Settings
from regionloss.torch.slots import Grid, Slots

#: Bits of the state of a predictor.
NO_OBJECT, PRIOR, RESPONSIBLE, BAD = 1, 2, 4, 8

#: Predictors that are worked on at a time: few enough to stay in a core's cache, and memory is bounded.
PREDICTORS = 1 << 16

T_O = 4

#: A number of a type whose square is far from its largest.
VAST = {torch.float32: 2.0**60, torch.float64: 2.0**500}


class Dense(NamedTuple):
    """What the dense part answers.

    Attributes:
        state: the bits of every predictor but `BAD`, uint8 `[N, A, H, W]`.
        overlap: IoU of each truth with the predictor that answers for it, `[N, T]`; of any value where none does.
        no_object: Σ of the squares of the no-object term, 0-d.
        prior: Σ of those of the prior, 0-d.
    """

    state: Tensor
    overlap: Tensor
    no_object: Tensor
    prior: Tensor


def pay_dense(t: Tensor, slots: Slots, early: Tensor | bool, grid: Grid, settings: Settings) -> Dense:
    """Decide the state of every predictor, and add up what it pays.

    Args:
        t: predictions, `[N, A, 5+C, H, W]`.
        slots: of `fill_slots`.
        early: 1{t < 12800}, a bool or 0-d.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    boxes, owner, owned = slots.boxes, slots.owner, slots.owned
    found = [
        _pay(t[part, :, :5], boxes[:, part], owner[part], owned[part], early, grid, settings)
        for part in chunks(len(t), owned[:1].numel(), PREDICTORS)
    ]
    if len(found) == 1:
        return found[0]
    states, overlaps, no_object, prior = zip(*found, strict=True)
    return Dense(torch.cat(states), torch.cat(overlaps), torch.stack(no_object).sum(), torch.stack(prior).sum())


def _pay(
    raw: Tensor, boxes: Tensor, owner: Tensor, owned: Tensor, early: Tensor | bool, grid: Grid, settings: Settings
) -> Dense:
    """`pay_dense` of some images."""
    # A copy, since what follows is done in place: a fresh page costs more than the arithmetic on it.
    t = raw.movedim(2, 0).to(boxes.dtype, copy=True, memory_format=torch.contiguous_format)
    offset = t[:2].sigmoid_()
    best, overlap = _meet(offset, t[2:4], boxes, owner, grid)
    if not settings.every_no_object:
        best.masked_fill_(owned, torch.inf)  # the responsible are silent, whatever they overlap
    thresh = settings.thresh if settings.ignores else 2.0  # an IoU is never above 1
    pays = best < thresh if settings.ignores == 2 else best <= thresh
    no_object = _sum_of_squares(t[T_O].sigmoid_().mul_(pays))
    bits = 0 if early is False else PRIOR
    state = pays.view(torch.uint8).add_(bits)
    state.add_(owned.view(torch.uint8), alpha=RESPONSIBLE - (0 if settings.every_prior else bits))
    if isinstance(early, Tensor):
        state &= early * PRIOR | ~PRIOR
    if early is False:
        return Dense(state, overlap, no_object, torch.zeros_like(no_object))
    offset -= 0.5
    away = t[:4] if settings.every_prior else t[:4].masked_fill_(owned, 0)
    return Dense(state, overlap, no_object, early * _sum_of_squares(away))


def _sum_of_squares(values: Tensor) -> Tensor:
    """Σv², 0-d, without room for the squares."""
    values = values.view(-1)
    return torch.dot(values, values)


def _meet(offset: Tensor, t_size: Tensor, boxes: Tensor, owner: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """MaxIOU, `[N, A, H, W]`, and the `overlap` of `Dense`; boxes are in cells (`decode.centre`, `decode.size`).

    Truths come one by one: what is overwritten again and again stays in a core's cache.

    Args:
        offset: bx, by, `[2, N, A, H, W]`.
        t_size: tw, th, likewise.
        boxes: of `Slots`, `[5, N, T]`.
        owner: likewise, `[N, T]`.
        grid: of `grid_of`.
    """
    # A size beyond this overlaps nothing that a threshold could tell, and its area is a number.
    half = torch.exp(t_size).mul_(grid.half_anchors).clamp_(max=VAST[t_size.dtype])
    low = offset + grid.corners
    high = low + half
    low -= half
    across, down = half
    area = (across * down).mul_(4)
    best = torch.zeros_like(area)
    start, end = torch.empty_like(low), half  # which is not needed any more
    shared, union = start
    iou = shared.flatten(1)
    overlaps = [area.new_empty(len(owner), 0)]
    left_top, right_bottom, area_of = torch.split(boxes[..., None, None, None], [2, 2, 1])
    whose = owner.long().clamp_(min=0)
    for truth in range(owner.shape[1]):
        torch.maximum(low, left_top[:, :, truth], out=start)
        torch.minimum(high, right_bottom[:, :, truth], out=end).sub_(start)
        across.clamp_(min=0)  # one of the two is enough to keep the product of apart sides from being positive
        torch.mul(across, down, out=shared)
        shared.div_(torch.add(area, area_of[0, :, truth], out=union).sub_(shared))
        torch.maximum(best, shared, out=best)
        overlaps.append(iou.gather(1, whose[:, truth : truth + 1]))
    return best, torch.cat(overlaps, dim=1).clamp_(min=0)


def write_dense(g: Tensor, t: Tensor, state: Tensor, factor: Tensor, settings: Settings, *, on_host: bool) -> None:
    """Write the gradients of the no-object and prior terms, times the 0-d `factor`.

    Args:
        g: the gradient, `[N, A, 5+C, H, W]`, which is zero.
        t: the predictions, likewise.
        state: of every predictor, `[N, A, H, W]`.
        factor: 0-d, in the type of the arithmetic.
        settings: the choices of the profile.
        on_host: whether it costs nothing to look at a number.
    """
    for part in chunks(len(t), state[:1].numel(), PREDICTORS):
        _write(g[part, :, :5], t[part, :, :5], state[part], factor, settings, on_host)


def _write(g: Tensor, raw: Tensor, state: Tensor, factor: Tensor, settings: Settings, on_host: bool) -> None:
    b = torch.sigmoid(raw[:, :, T_O].to(factor.dtype))
    moves = ((state & NO_OBJECT) * (2 * settings.no_object * factor)).mul_(b)
    if not on_host:
        moves.masked_fill_(state >= BAD, torch.nan)
    _through_sigmoid(moves, b, g[:, :, T_O])
    bit = (state & PRIOR)[:, :, None]
    if on_host and not bit.any():
        return
    # The bit is the 2 of the derivative; on the host the responsible have it too, whose rows are written later.
    pull = (PRIOR if on_host else bit) * (settings.prior * factor)
    b = torch.sigmoid(raw[:, :, :2].to(factor.dtype))
    _through_sigmoid((b - 0.5).mul_(pull), b, g[:, :, :2])
    torch.mul(raw[:, :, 2:4], pull, out=g[:, :, 2:4])


def _through_sigmoid(moves: Tensor, b: Tensor, out: Tensor) -> None:
    """Write `moves`·b·(1 - b)."""
    if out.dtype == moves.dtype:
        torch.ops.aten.sigmoid_backward.grad_input(moves, b, grad_input=out)
    else:
        out.copy_(torch.ops.aten.sigmoid_backward(moves, b))


def chunks(images: int, each: int, room: int) -> Iterator[slice]:
    """Images in turn, as many as there is room for, if each takes a share of it, and at least one."""
    step = max(room // max(each, 1), 1)
    return (slice(start, min(start + step, images)) for start in range(0, max(images, 1), step))

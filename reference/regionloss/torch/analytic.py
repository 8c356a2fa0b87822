"""The fast path of any device: the gradient written down instead of found by autograd.

The dense part looks at the five box and objectness channels of every predictor, the row part at all channels of the
responsible ones; nothing else of the predictions is read. Backward recomputes what it needs from the predictions and
from one byte for each predictor: to store the gradient would cost its memory, and a second backward its correctness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.checks import check_slots
from regionloss.torch.settings import Settings
from regionloss.torch.slots import Grid, Slots, fill_slots, grid_of, read_slots

#: Bits of the state of a predictor.
NO_OBJECT, PRIOR, RESPONSIBLE, BAD = 1, 2, 4, 8

#: Predictors, and IoUs, that are worked on at a time: few enough to stay in a core's cache, and memory is bounded.
PREDICTORS, IOUS = 1 << 16, 1 << 16

T_O = 4


class Forward(NamedTuple):
    """What forward answers, and what backward needs of it.

    Attributes:
        loss: the potential, 0-d; float32, or float64 for float64.
        terms: no_object, prior, coord, object, class, `[5]`, whose sum the loss is.
        state: the bits of every predictor, uint8 `[N, A, H, W]`.
        owner: index in `[A*H*W]` of the predictor that pays for the truth of a slot, int32 `[N, T]`, -1 for none.
        overlap: IoU of that predictor with the truth, `[N, T]`, 0 for none.
    """

    loss: Tensor
    terms: Tensor
    state: Tensor
    owner: Tensor
    overlap: Tensor


def forward(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    early: Tensor | bool,
    anchors: Sequence[float],
    settings: Settings,
    *,
    paid: Callable[..., Paid] | None = None,
) -> Forward:
    """The loss of a batch.

    Args:
        predictions: `[N, A*(5+C), H, W]`, of any strides.
        rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`.
        counts: rows that each image has, `[N]`, or `None`.
        early: 1{t < 12800}, a bool or 0-d.
        anchors: widths and heights in turn, cells, `2*A` numbers.
        settings: the choices of the profile.
        paid: `pay`, or what does the same.

    Raises:
        DomainError: a truth outside the domain, where the truths are on the host; elsewhere it makes the loss and its
            gradient not a number, since to look would be to wait for the device.
    """
    t = by_anchor(predictions, anchors)
    images, _, channels, height, width = t.shape
    numbers = torch.promote_types(t.dtype, torch.float32)
    grid = grid_of(tuple(anchors), channels - 5, height, width, t.device, numbers)
    read = read_slots(rows, counts, settings)
    length = read.shape[1]
    terms, state, owner, overlap, bad = (paid or pay)(t, rows[:, :length], read, early, grid, settings)
    if settings.per_image:
        terms = terms / max(images, 1)
    loss = terms.sum()
    if rows.device.type == "cpu":
        if bad.any():
            check_slots(rows, bad, channels - 5)
    else:
        loss = torch.where(bad.any(), torch.nan, loss)
        state |= (bad.any(dim=1) * BAD).to(torch.uint8)[:, None, None, None]
    whole = torch.full(rows.shape[:2], -1, dtype=torch.int32, device=t.device)
    whole[:, :length] = owner[:, :length]
    overlaps = t.new_zeros(rows.shape[:2], dtype=numbers)
    overlaps[:, :length] = overlap[:, :length]
    return Forward(loss, terms, state, whole, overlaps)


def backward(
    upstream: Tensor,
    predictions: Tensor,
    rows: Tensor,
    state: Tensor,
    owner: Tensor,
    overlap: Tensor,
    anchors: Sequence[float],
    settings: Settings,
    *,
    write: Callable[..., None] | None = None,
) -> Tensor:
    """The gradient with respect to the predictions, in their type and layout, times the 0-d `upstream`.

    `write` is `write_gradient`, or what does the same; the other arguments are those of `forward` and what it answered.
    """
    gradient = torch.zeros_like(predictions)
    t, g = by_anchor(predictions, anchors), by_anchor(gradient, anchors)
    images, _, channels, height, width = t.shape
    grid = grid_of(tuple(anchors), channels - 5, height, width, t.device, overlap.dtype)
    factor = upstream.to(overlap.dtype)
    if settings.per_image:
        factor = factor / max(images, 1)
    if owner.device.type == "cpu":
        length = int((owner >= 0).any(dim=0).nonzero().amax()) + 1 if (owner >= 0).any() else 0
        owner, overlap, rows = owner[:, :length], overlap[:, :length], rows[:, :length]
    (write or write_gradient)(g, t, rows, state, owner, overlap, factor, grid, settings)
    return gradient


class Paid(NamedTuple):
    """What `pay` answers: `terms`, `state`, `owner` and `overlap` of `Forward`, and the `bad` of `Slots`."""

    terms: Tensor
    state: Tensor
    owner: Tensor
    overlap: Tensor
    bad: Tensor


def pay(t: Tensor, rows: Tensor, read: Tensor, early: Tensor | bool, grid: Grid, settings: Settings) -> Paid:
    """The terms of predictions `[N, A, 5+C, H, W]` before any reduction; nothing here depends on a number's value.

    Args:
        t: the predictions.
        rows: x, y, w, h and class, `[N, T, 5]`.
        read: whether a slot holds a truth that is read, bool `[N, T]`.
        early: 1{t < 12800}, a bool or 0-d.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    slots = fill_slots(rows, read, grid, settings)
    boxes = _boxes(slots, grid.size_like.dtype)
    state = _states_of_owners(slots.owner, t, early, settings)
    no_object = prior = torch.zeros((), dtype=boxes.dtype, device=t.device)
    for part in _chunks(len(t), state[:1].numel(), PREDICTORS):
        given = _dense_forward(t[part, :, :5], boxes[:, part], state[part], early, grid, settings)
        no_object, prior = no_object + given[0], prior + given[1]
    overlap, coord, objectness, classes = _pay_rows(t, slots, boxes, grid, settings)
    terms = torch.stack([no_object, prior, coord, objectness, classes])
    return Paid(terms, state, slots.owner, overlap, slots.bad)


def write_gradient(
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
    """Write the gradient, times the 0-d `factor`, into `g` `[N, A, 5+C, H, W]`, which is zero."""
    for part in _chunks(len(t), state[:1].numel(), PREDICTORS):
        _dense_backward(g[part, :, :5], t[part, :, :5], state[part], factor, settings)
    _write_rows(g, t, rows, owner, overlap, factor, grid, settings)


def by_anchor(predictions: Tensor, anchors: Sequence[float]) -> Tensor:
    """A view of `[N, A*(5+C), H, W]` as `[N, A, 5+C, H, W]`, whatever the strides."""
    images, channels, height, width = predictions.shape
    count = len(anchors) // 2
    return predictions.view(images, count, channels // count, height, width)


def _dense_forward(
    raw: Tensor, boxes: Tensor, state: Tensor, early: Tensor | bool, grid: Grid, settings: Settings
) -> tuple[Tensor, Tensor]:
    """The no-object and prior terms of all predictors of some images, 0-d each.

    Args:
        raw: tx, ty, tw, th, to, `[N, A, 5, H, W]`.
        boxes: of `_boxes`, `[5, N, T]`.
        state: of every predictor, `[N, A, H, W]`; receives the bit of the no-object term.
        early: 1{t < 12800}.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    # Channels come first, then truths: predictors lie side by side, and an inner axis of a few is no vector.
    raw = raw.movedim(2, 0).to(boxes.dtype, memory_format=torch.contiguous_format)  # [5, N, A, H, W]
    offset = torch.sigmoid(raw[:2])
    silent = _quiet(offset, raw[2:4], boxes, grid, settings)
    if not settings.every_no_object:
        silent |= state >= RESPONSIBLE
    pays = silent.logical_not_()
    state += pays
    no_object = settings.no_object * _sum_of_squares(torch.sigmoid(raw[T_O]) * pays)
    if early is False:
        return no_object, torch.zeros_like(no_object)
    who = (state & PRIOR).to(boxes.dtype)  # 0 or 2
    away = torch.cat([offset - 0.5, raw[2:4]]) * (who * (0.5 * settings.prior**0.5))
    return no_object, _sum_of_squares(away)


def _sum_of_squares(values: Tensor) -> Tensor:
    """Σv², 0-d; on the host without room for the squares."""
    if torch.compiler.is_compiling() or values.device.type != "cpu":
        return values.square().sum()
    return torch.dot(values.flatten(), values.flatten())


def _dense_backward(g: Tensor, raw: Tensor, state: Tensor, factor: Tensor, settings: Settings) -> None:
    """Write the gradients of the no-object and prior terms into `g` `[N, A, 5, H, W]`, which is zero."""
    pays = (state & NO_OBJECT) * (2 * settings.no_object * factor)
    b = torch.sigmoid(raw[:, :, T_O].to(factor.dtype))
    slope = torch.ops.aten.sigmoid_backward(b, b)  # b·b·(1 - b)
    if state.device.type == "cpu":
        g[:, :, T_O] = slope.mul_(pays)
        if _on_host(state) and not (state & PRIOR).any():
            return
    else:
        g[:, :, T_O] = torch.where(state >= BAD, torch.nan, slope * pays)
    pulled = ((state & PRIOR) * (settings.prior * factor))[:, :, None]  # the bit is the 2 of the derivative
    b = torch.sigmoid(raw[:, :, :2].to(factor.dtype))
    g[:, :, :2] = torch.ops.aten.sigmoid_backward(b - 0.5, b).mul_(pulled)
    g[:, :, 2:4] = raw[:, :, 2:4] * pulled


def _quiet(offset: Tensor, t_size: Tensor, boxes: Tensor, grid: Grid, settings: Settings) -> Tensor:
    """Where MaxIOU silences the no-object term, bool `[N, A, H, W]` (`noobj.threshold`, `noobj.equality`).

    Args:
        offset: bx, by, `[2, N, A, H, W]`.
        t_size: tw, th, likewise.
        boxes: of `_boxes`, `[5, N, T]`.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    at_least = settings.ignores == 2
    if not settings.ignores:
        return torch.zeros_like(offset[0], dtype=torch.bool)
    # A size beyond this overlaps nothing that a threshold could tell, and its area is a number.
    half = (torch.exp(t_size) * grid.half_anchors.T[:, None, :, None, None]).clamp(max=_VAST[t_size.dtype])
    centre = (offset + grid.corners[:, None, None]) / grid.size_like[:, None, None, None, None]
    low, high = (centre - half)[:, None], (centre + half)[:, None]  # [2, 1, N, A, H, W]
    area = half[0] * half[1] * 4
    truths = boxes.transpose(1, 2)[..., None, None, None]  # [5, T, N, 1, 1, 1]
    best = _largest(area, low, high, truths) if boxes.shape[2] else torch.zeros_like(area)
    return best >= settings.thresh if at_least else best > settings.thresh


def _largest(area: Tensor, low: Tensor, high: Tensor, truths: Tensor) -> Tensor:
    """MaxIOU of boxes between `low` and `high` `[2, 1, N, A, H, W]`, of `area` `[N, A, H, W]`, in the shape of that.

    `truths` are those of `_boxes`, `[5, T, N, 1, 1, 1]`.
    """
    if torch.compiler.is_compiling():  # one loop over everything, which holds nothing
        sides = (torch.minimum(high, truths[2:4]) - torch.maximum(low, truths[:2])).clamp(min=0)
        shared = sides[0] * sides[1]
        return (shared / (area + truths[4] - shared)).amax(dim=0)
    best = torch.empty_like(area)
    room: list[Tensor] = []  # used again for every part: a fresh page costs more than the arithmetic on it
    for part in _chunks(len(area), truths.shape[1] * area[:1].numel(), IOUS):
        if not room or room[0].shape[2] != len(area[part]):
            room = [area.new_empty(2, truths.shape[1], *area[part].shape) for _ in range(2)]
        sides, other = room
        torch.minimum(high[:, :, part], truths[2:4, :, part], out=sides)
        sides.sub_(torch.maximum(low[:, :, part], truths[:2, :, part], out=other)).clamp_(min=0)
        shared = torch.mul(sides[0], sides[1], out=other[0])
        union = torch.add(area[part], truths[4, :, part], out=sides[0]).sub_(shared)
        torch.amax(shared.div_(union), dim=0, out=best[part])
    return best


#: The smallest positive number of a type, and one whose square is far from its largest.
_LEAST = {torch.float32: 2.0**-149, torch.float64: 2.0**-1074}
_VAST = {torch.float32: 2.0**60, torch.float64: 2.0**500}


def _boxes(slots: Slots, numbers: torch.dtype) -> Tensor:
    """Left, top, right, bottom and area of the truths, `[5, N, T]`; of a slot that does not count, 0, 0, 0, 0 and 1.

    The least of areas keeps 0/0 out of an IoU, where a prediction underflows as well (`iou.zero-area`).
    """
    centre, size = slots.exact[..., :2], slots.exact[..., 2:4]
    edges = torch.cat([centre - size / 2, centre + size / 2], dim=-1) * slots.counts[..., None]
    area = torch.where(slots.counts, size.prod(dim=-1), 1)
    return torch.cat([edges.movedim(-1, 0), area.clamp_(min=_LEAST[numbers])[None]]).to(numbers)


def _pay_rows(
    t: Tensor, slots: Slots, boxes: Tensor, grid: Grid, settings: Settings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The IoUs of the owners, `[N, T]`, and the coordinate, objectness and class terms, 0-d each."""
    image = torch.arange(len(t), device=t.device)[:, None]
    column, row = slots.cell.unbind(dim=-1)
    outputs = t[image, slots.anchor, :, row, column].to(boxes.dtype)  # [N, T, 5+C]
    pays = (slots.owner >= 0)[..., None]
    active = _activated(outputs)
    iou = _overlap(active, slots, boxes, grid) * pays  # [N, T, 1]
    away = active[..., :4] - _targets(slots.exact, slots.place - slots.cell, slots.anchor, grid, settings).to(active)
    coord = (_coord_weights(slots.exact, settings) * pays).to(away) * away * away
    short = active[..., 4:] - (1 if settings.target_one else iou)
    objectness = (settings.object * pays) * short * short
    log_p = torch.log_softmax(outputs[..., 5:], dim=-1)
    label = slots.exact[..., 4:].long()
    if settings.class_squared:
        classes = log_p.exp().scatter_add_(-1, label, -torch.ones_like(short)).square().sum(dim=-1, keepdim=True)
    else:
        classes = -log_p.gather(-1, label)
    classes = settings.class_weight * torch.where(pays, classes, 0)
    return iou[..., 0], coord.sum(), objectness.sum(), classes.sum()


def _write_rows(
    g: Tensor,
    t: Tensor,
    rows: Tensor,
    owner: Tensor,
    overlap: Tensor,
    factor: Tensor,
    grid: Grid,
    settings: Settings,
) -> None:
    """Add the gradients of the responsible predictors to `g` `[N, A, 5+C, H, W]`."""
    _, height, width = grid.shape
    on_host = _on_host(owner)
    # Elsewhere to count the owners would be to wait for the device; there every slot is written, most of them with 0.
    places = owner >= 0 if on_host else torch.ones_like(owner, dtype=torch.bool)
    n, slot = places.nonzero_static(size=owner.numel()).unbind(1) if not on_host else places.nonzero().unbind(1)
    index = owner[n, slot].long()
    pays, index = (index >= 0)[:, None], index.clamp_(min=0)
    line, i = index // width, index % width
    k, j = line // height, line % height
    exact = torch.where(pays, rows[n, slot].double(), grid.most)
    outputs = t[n, k, :, j, i].to(overlap.dtype)  # [M, 5+C]
    active = _activated(outputs)
    centre = exact[:, :2] * grid.size - torch.stack([i, j], dim=1)
    away = active.clone()
    away[:, :4] -= _targets(exact, centre, k, grid, settings).to(away)
    away[:, :4] *= _coord_weights(exact, settings).to(away)
    away[:, 4] = settings.object * (active[:, 4] - (1 if settings.target_one else overlap[n, slot]))
    moves = torch.ops.aten.sigmoid_backward(away, active)
    moves[:, 2:4] = away[:, 2:4]
    p = torch.softmax(outputs[:, 5:], dim=1)
    classes = p.scatter_add(1, exact[:, 4:].long(), -torch.ones_like(p[:, :1]))
    if settings.class_squared:
        classes = 2 * p * (classes - (p * classes).sum(dim=1, keepdim=True))
    whole = torch.cat([2 * moves, settings.class_weight * classes], dim=1) * factor
    if not on_host:
        whole = torch.where(pays, whole, 0).to(g.dtype)
        g.movedim(2, -1).index_put_((n, k, j, i), whole, accumulate=True)
        return
    if settings.every_no_object or settings.every_prior:
        whole[:, :5] += g[n, k, :5, j, i]
    g[n, k, :, j, i] = whole.to(g.dtype)


def _activated(outputs: Tensor) -> Tensor:
    """bx, by, tw, th, bo `[..., 5]` of raw outputs `[..., 5+C]`: what the residuals are taken of."""
    active = torch.sigmoid(outputs[..., :5])
    active[..., 2:4] = outputs[..., 2:4]
    return active


def _targets(exact: Tensor, centre: Tensor, anchor: Tensor, grid: Grid, settings: Settings) -> Tensor:
    """Targets of bx, by, tw, th in float64, `[..., 4]`: in a lower precision a wide grid would cost digits of them.

    Args:
        exact: the truths, `[..., 5]`.
        centre: their centres within the cell, `[..., 2]`.
        anchor: which answers for them, `[...]`.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    size = exact[..., 2:4] * grid.size
    if settings.size_floor:
        size = size.clamp(min=settings.size_floor)
    return torch.cat([centre, torch.log(size / grid.anchors[anchor])], dim=-1)


def _coord_weights(exact: Tensor, settings: Settings) -> Tensor:
    """Weights of the squared residuals of the coordinates, `[..., 1]` (`coord.small-box-weight`)."""
    small = 2 - exact[..., 2:3] * exact[..., 3:4]
    return settings.coord * small**settings.small_box_exponent


def _overlap(active: Tensor, slots: Slots, boxes: Tensor, grid: Grid) -> Tensor:
    """IoU of the decoded boxes of `active` `[N, T, 5]` with their truths, `[N, T, 1]`."""
    half = active[..., 2:4].exp() * grid.half_anchors[slots.anchor]
    centre = (slots.cell + active[..., :2]) / grid.size_like
    truth = boxes.permute(1, 2, 0)  # [N, T, 5]
    inner, outer = torch.minimum(centre + half, truth[..., 2:4]), torch.maximum(centre - half, truth[..., :2])
    shared = (inner - outer).clamp_(min=0).prod(dim=-1, keepdim=True)
    union = 4 * half.prod(dim=-1, keepdim=True) + truth[..., 4:] - shared
    return (shared / union).nan_to_num_(nan=0)  # where the union is 0, or infinite times 0


def _states_of_owners(owner: Tensor, t: Tensor, early: Tensor | bool, settings: Settings) -> Tensor:
    """The bits of the prior and of responsibility, uint8 `[N, A, H, W]`."""
    images, anchors, _, height, width = t.shape
    prior = early * PRIOR
    owning = RESPONSIBLE + (prior if settings.every_prior else 0)
    shape = (images, anchors * height * width + 1)
    state = torch.empty(shape, dtype=torch.uint8, device=t.device).fill_(prior)
    if isinstance(owning, Tensor):
        state.scatter_(1, owner + 1, owning.to(torch.uint8).expand_as(owner))
    else:
        state.scatter_(1, owner + 1, owning)  # those of nobody land in a place of their own
    # Copied, a byte for each: a compiler that is told of a whole tensor must not be given a piece of another.
    return state[:, 1:].clone(memory_format=torch.contiguous_format).view(images, anchors, height, width)


def _on_host(tensor: Tensor) -> bool:
    """Whether numbers can be looked at without waiting for them, and here are not being compiled for."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _chunks(images: int, each: int, room: int) -> Iterator[slice]:
    """Images in turn, as many as there is room for, if each takes a share of it, and at least one."""
    if torch.compiler.is_compiling():
        return iter([slice(0, images)])  # compiled, it is one loop that holds nothing
    step = max(room // max(each, 1), 1)
    return (slice(start, start + step) for start in range(0, images, step))

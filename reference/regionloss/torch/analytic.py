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

from regionloss.torch.settings import Settings
from regionloss.torch.slots import Slots, cells, fill_slots

#: Bits of the state of a predictor.
NO_OBJECT, PRIOR, RESPONSIBLE, BAD = 1, 2, 4, 8

#: IoUs that are held at a time. They then stay in a core's cache, and memory does not grow with the truths.
CHUNK = 1 << 17

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


Dense = Callable[..., tuple[Tensor, Tensor, Tensor]]
DenseGradient = Callable[..., None]


def forward(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    early: Tensor | bool,
    anchors: Sequence[float],
    settings: Settings,
    *,
    slots: Slots | None = None,
    dense: Dense | None = None,
) -> Forward:
    """The loss of a batch.

    Args:
        predictions: `[N, A*(5+C), H, W]`, of any strides.
        rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`.
        counts: rows that each image has, `[N]`, or `None`.
        early: 1{t < 12800}, a bool or 0-d.
        anchors: widths and heights in turn, cells, `2*A` numbers.
        settings: the choices of the profile.
        slots: the assignment, if it is known.
        dense: what computes the dense part.
    """
    t = predictions.unflatten(1, (len(anchors) // 2, -1))  # [N, A, 5+C, H, W]
    images, _, channels, height, width = t.shape
    sizes = torch.tensor(anchors, dtype=torch.float64, device=t.device).view(-1, 2)
    exact = rows.double()
    if slots is None:
        slots = fill_slots(exact, counts, sizes, channels - 5, (height, width), settings)
    length = _longest(slots.read)
    numbers = torch.promote_types(t.dtype, torch.float32)
    boxes = torch.where(slots.read[..., None], exact[..., :4], -torch.inf)[:, :length].to(numbers)
    responsible = _at_owners(slots.owner, t)
    state = torch.empty(responsible.shape, dtype=torch.uint8, device=t.device)
    no_object, prior = t.new_zeros((), dtype=numbers), t.new_zeros((), dtype=numbers)
    for part in _chunks(images, max(length, 1) * responsible[:1].numel()):
        state[part], paid, pulled = (dense or dense_forward)(
            t[part, :, :5], boxes[part], responsible[part], early, sizes.to(numbers), settings
        )
        no_object, prior = no_object + paid, prior + pulled
    overlap = t.new_zeros(slots.owner.shape, dtype=numbers)
    coord, objectness, classes = _pay_rows(t, exact, slots.owner, overlap, sizes, settings)
    terms = torch.stack([no_object, prior, coord, objectness, classes])
    if settings.per_image:
        terms = terms / max(images, 1)
    bad = slots.bad.any(dim=1)
    state |= (bad * BAD).to(torch.uint8)[:, None, None, None]
    loss = torch.where(bad.any(), torch.nan, terms.sum())
    return Forward(loss, terms, state, slots.owner.int(), overlap)


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
    dense: DenseGradient | None = None,
) -> Tensor:
    """The gradient with respect to the predictions, in their type and layout, times the 0-d `upstream`."""
    gradient = torch.zeros_like(predictions)
    t = predictions.unflatten(1, (len(anchors) // 2, -1))
    g = gradient.unflatten(1, (len(anchors) // 2, -1))
    factor = upstream.to(overlap.dtype) * (1 / max(len(t), 1) if settings.per_image else 1.0)
    for part in _chunks(len(t), 4 * state[:1].numel()):
        (dense or dense_backward)(g[part, :, :5], t[part, :, :5], state[part], factor, settings)
    sizes = torch.tensor(anchors, dtype=torch.float64, device=t.device).view(-1, 2)
    _write_rows(g, t, rows.double(), owner, overlap, factor, sizes, settings)
    return gradient


def dense_forward(
    raw: Tensor, boxes: Tensor, responsible: Tensor, early: Tensor | bool, anchors: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """State, no-object term and prior term of all predictors of some images.

    Args:
        raw: tx, ty, tw, th, to, `[N, A, 5, H, W]`.
        boxes: x, y, w, h of the truths, `[N, T, 4]`; -inf where there is none.
        responsible: `[N, A, H, W]`.
        early: 1{t < 12800}.
        anchors: `[A, 2]`, cells.
        settings: the choices of the profile.
    """
    raw = raw.to(anchors.dtype)
    no_object = ~_quiet(raw, boxes, anchors, settings)
    if not settings.every_no_object:
        no_object &= ~responsible
    prior = early & torch.ones_like(responsible) if settings.every_prior else early & ~responsible
    state = no_object * NO_OBJECT | prior * PRIOR | responsible * RESPONSIBLE
    paid = settings.no_object * torch.where(no_object, torch.sigmoid(raw[:, :, T_O]).square(), 0).sum()
    if early is False:
        return state.to(torch.uint8), paid, torch.zeros_like(paid)
    weight = settings.prior
    pull = (weight * (torch.sigmoid(raw[:, :, :2]) - 0.5).square()).sum(dim=2)
    pull = pull + (weight * raw[:, :, 2:4] * raw[:, :, 2:4]).sum(dim=2)  # the weight first, against overflow
    return state.to(torch.uint8), paid, torch.where(prior, pull, 0).sum()


def dense_backward(g: Tensor, raw: Tensor, state: Tensor, factor: Tensor, settings: Settings) -> None:
    """Write the gradients of the no-object and prior terms into `g` `[N, A, 5, H, W]`, which is zero."""
    raw = raw.to(factor.dtype)
    b = torch.sigmoid(raw[:, :, T_O])
    paid = torch.where(state & NO_OBJECT > 0, 2 * settings.no_object * factor * b * b * (1 - b), 0)
    g[:, :, T_O] = torch.where(state & BAD > 0, torch.nan, paid)
    prior = state & PRIOR > 0
    if prior.device.type == "cpu" and not torch.compiler.is_compiling() and not prior.any():
        return
    weight = 2 * settings.prior * factor
    b = torch.sigmoid(raw[:, :, :2])
    g[:, :, :2] = torch.where(prior[:, :, None], weight * (b - 0.5) * b * (1 - b), 0)
    g[:, :, 2:4] = torch.where(prior[:, :, None], weight * raw[:, :, 2:4], 0)


def _quiet(raw: Tensor, boxes: Tensor, anchors: Tensor, settings: Settings) -> Tensor:
    """Where MaxIOU silences the no-object term, bool `[N, A, H, W]` (`noobj.threshold`, `noobj.equality`)."""
    images, _, _, height, width = raw.shape
    shape = (images, len(anchors), height, width)
    if not settings.ignores:
        return torch.zeros(shape, dtype=torch.bool, device=raw.device)
    at_least = settings.ignores == 2
    quiet = torch.full(shape, at_least and settings.thresh <= 0, device=raw.device)  # MaxIOU is 0 without a truth
    if not boxes.shape[1]:
        return quiet
    column = torch.arange(width, device=raw.device, dtype=raw.dtype)
    row = torch.arange(height, device=raw.device, dtype=raw.dtype)[:, None]
    x, y = (column + torch.sigmoid(raw[:, :, 0])) / width, (row + torch.sigmoid(raw[:, :, 1])) / height
    w = torch.exp(raw[:, :, 2]) * anchors[:, 0, None, None] / width
    h = torch.exp(raw[:, :, 3]) * anchors[:, 1, None, None] / height
    left, right, top, bottom, area = x - w / 2, x + w / 2, y - h / 2, y + h / 2, w * h  # [N, A, H, W]
    step = max(CHUNK // area.numel(), 1) if raw.device.type != "cpu" else boxes.shape[1]
    for start in range(0, boxes.shape[1], step):
        # The truths come first: an innermost axis of a few is no vector.
        t_x, t_y, t_w, t_h = boxes[:, start : start + step].permute(2, 1, 0)[..., None, None, None]  # [T, N, 1, 1, 1]
        absent = t_w < 0
        t_w, t_h = torch.where(absent, 0, t_w), torch.where(absent, 0, t_h)
        across = torch.minimum(right, t_x + t_w / 2).sub_(torch.maximum(left, t_x - t_w / 2)).clamp_(min=0)
        down = torch.minimum(bottom, t_y + t_h / 2).sub_(torch.maximum(top, t_y - t_h / 2)).clamp_(min=0)
        shared = across.mul_(down)
        iou = shared / (area + t_w * t_h).sub_(shared)  # not a number where both are 0, which no comparison passes
        over = (iou >= settings.thresh) if at_least else (iou > settings.thresh)
        quiet |= over.any(dim=0)
    return quiet


class _Rows(NamedTuple):
    """The predictors that pay for a truth: all channels, and the residuals of the first five.

    Attributes:
        where: n, k, j, i of each, `[M]` each.
        pays: whether the slot is paid at all, bool `[M]`; the rest of a row that is not means nothing.
        slot: n and t, `[M]` each.
        outputs: raw outputs, `[M, 5+C]`.
        label: class of the truth, int64 `[M]`.
        residual: of tx, ty, tw, th, to, `[M, 5]`; that of to is b_o alone, its target is added by the caller.
        slope: derivative of the residual, `[M, 5]`.
        weight: of the squared residual, `[M, 5]`.
        truth: x, y, w, h, float64 `[M, 4]`.
    """

    where: tuple[Tensor, Tensor, Tensor, Tensor]
    pays: Tensor
    slot: tuple[Tensor, Tensor]
    outputs: Tensor
    label: Tensor
    residual: Tensor
    slope: Tensor
    weight: Tensor
    truth: Tensor


def _rows(t: Tensor, exact: Tensor, owner: Tensor, anchors: Tensor, settings: Settings) -> _Rows:
    height, width = t.shape[3:]
    if owner.device.type == "cpu":  # elsewhere to count them would wait for the device
        n, slot = (owner >= 0).nonzero(as_tuple=True)
    else:
        n, slot = (place.flatten() for place in torch.meshgrid(*map(_range_of, (owner, owner.mT)), indexing="ij"))
    index = owner[n, slot].long()
    pays, index = index >= 0, index.clamp(min=0)
    k, j, i = index // (height * width), index // width % height, index % width
    truth = exact[n, slot]  # [M, 5]
    outputs = t[n, k, :, j, i].to(torch.promote_types(t.dtype, torch.float32))  # [M, 5+C]
    grid = torch.tensor([width, height], dtype=truth.dtype, device=t.device)
    # The targets are taken in float64: in a lower precision a wide grid would cost digits of them.
    centre = truth[:, :2] * grid - torch.stack([i, j], dim=1)
    size = torch.log((truth[:, 2:4] * grid).clamp(min=settings.size_floor) / anchors[k])
    b = torch.sigmoid(outputs[:, [0, 1, 4]])
    slope = b * (1 - b)
    ones = torch.ones_like(b[:, :2])
    small = (2 - truth[:, 2] * truth[:, 3]) ** settings.small_box_exponent
    weight = torch.stack([settings.coord * small] * 4 + [torch.full_like(small, settings.object)], dim=1)
    return _Rows(
        where=(n, k, j, i),
        pays=pays,
        slot=(n, slot),
        outputs=outputs,
        label=torch.where(pays, truth[:, 4], 0).long(),
        residual=torch.cat([b[:, :2] - centre.to(b), outputs[:, 2:4] - size.to(b), b[:, 2:]], dim=1),
        slope=torch.cat([slope[:, :2], ones, slope[:, 2:]], dim=1),
        weight=weight.to(b),
        truth=truth[:, :4],
    )


def _range_of(table: Tensor) -> Tensor:
    return torch.arange(len(table), device=table.device)


def _pay_rows(
    t: Tensor, exact: Tensor, owner: Tensor, overlap: Tensor, anchors: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """The coordinate, objectness and class terms, 0-d each; writes the IoUs of the owners into `overlap` `[N, T]`."""
    rows = _rows(t, exact, owner, anchors, settings)
    iou = _overlap(rows, anchors, t.shape[3], t.shape[4])
    overlap[rows.slot] = torch.where(rows.pays, iou, 0)
    target = torch.ones_like(iou) if settings.target_one else iou
    residual = torch.cat([rows.residual[:, :4], rows.residual[:, 4:] - target[:, None]], dim=1)
    squared = torch.where(rows.pays[:, None], rows.weight * residual * residual, 0)
    log_p = torch.log_softmax(rows.outputs[:, 5:], dim=1)
    if settings.class_squared:
        true = torch.nn.functional.one_hot(rows.label, log_p.shape[1])
        value = (torch.exp(log_p) - true).square().sum(dim=1)
    else:
        value = -log_p.gather(1, rows.label[:, None])[:, 0]
    value = settings.class_weight * torch.where(rows.pays, value, 0)
    return squared[:, :4].sum(), squared[:, 4].sum(), value.sum()


def _write_rows(
    g: Tensor,
    t: Tensor,
    exact: Tensor,
    owner: Tensor,
    overlap: Tensor,
    factor: Tensor,
    anchors: Tensor,
    settings: Settings,
) -> None:
    """Add the gradients of the responsible predictors to `g` `[N, A, 5+C, H, W]`."""
    rows = _rows(t, exact, owner, anchors, settings)
    iou = overlap[rows.slot]
    target = torch.ones_like(iou) if settings.target_one else iou
    residual = torch.cat([rows.residual[:, :4], rows.residual[:, 4:] - target[:, None]], dim=1)
    first = 2 * factor * rows.weight * residual * rows.slope
    p = torch.softmax(rows.outputs[:, 5:], dim=1)
    away = p - torch.nn.functional.one_hot(rows.label, p.shape[1])
    if settings.class_squared:
        away = 2 * p * (away - (p * away).sum(dim=1, keepdim=True))
    whole = torch.cat([first, factor * settings.class_weight * away], dim=1)
    whole = torch.where(rows.pays[:, None], whole, 0)
    # Added in the precision of the arithmetic, and rounded once; a slot without a payer adds 0 to predictor 0.
    n, k, j, i = rows.where
    if g.dtype == whole.dtype or owner.device.type != "cpu":
        view = g.movedim(2, -1)
        view.index_put_((n, k, j, i), whole.to(g.dtype), accumulate=True)
        return
    g[n, k, :, j, i] = (g[n, k, :, j, i].to(whole.dtype) + whole).to(g.dtype)


def _overlap(rows: _Rows, anchors: Tensor, height: int, width: int) -> Tensor:
    """IoU of the decoded boxes with their truths, `[M]`."""
    _, k, j, i = rows.where
    numbers = rows.outputs.dtype
    grid = torch.tensor([width, height], dtype=numbers, device=k.device)
    truth = rows.truth.to(numbers)
    centre = (torch.stack([i, j], dim=1) + torch.sigmoid(rows.outputs[:, :2])) / grid
    size = torch.exp(rows.outputs[:, 2:4]) * anchors[k].to(numbers) / grid
    inner = torch.minimum(centre + size / 2, truth[:, :2] + truth[:, 2:] / 2)
    outer = torch.maximum(centre - size / 2, truth[:, :2] - truth[:, 2:] / 2)
    shared = (inner - outer).clamp(min=0).prod(dim=1)
    union = size.prod(dim=1) + truth[:, 2:].prod(dim=1) - shared
    return torch.where((union > 0) & (union < torch.inf), shared / union, 0)


def _at_owners(owner: Tensor, t: Tensor) -> Tensor:
    """Whether each predictor answers for a truth, bool `[N, A, H, W]`."""
    images, anchors, _, height, width = t.shape
    marks = torch.zeros(images, anchors * height * width + 1, dtype=torch.bool, device=t.device)
    marks.scatter_(1, owner + 1, True)  # those of nobody land in a place of their own
    return marks[:, 1:].view(images, anchors, height, width)


def _longest(read: Tensor) -> int:
    """How many slots are worth looking at. Only the host can tell without waiting for the device."""
    if read.device.type != "cpu":
        return read.shape[1]
    return int(read.sum(dim=1).max()) if read.numel() else 0


def _chunks(images: int, each: int) -> Iterator[slice]:
    step = max(CHUNK // max(each, 1), 1)
    return (slice(start, start + step) for start in range(0, images, step))

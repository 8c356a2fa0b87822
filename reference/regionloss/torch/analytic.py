"""The fast path of any device: the gradient written down instead of found by autograd.

The dense part looks at the five box and objectness channels of every predictor, the row part at all channels of the
responsible ones; nothing else of the predictions is read. Forward keeps what the slopes of the dense part are made of
and the slopes of the rows, a small part of the gradient; to store all of it would cost its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regionloss.torch.boxes import boxes_of
from regionloss.torch.checks import check_slots
from regionloss.torch.dense import BAD as BAD
from regionloss.torch.dense import NO_OBJECT as NO_OBJECT
from regionloss.torch.dense import PRIOR as PRIOR
from regionloss.torch.dense import RESPONSIBLE as RESPONSIBLE
from regionloss.torch.dense import activate, pay_dense, silence, take_owned, write_dense
from regionloss.torch.ops import Forward, define, is_early, slopes_kept
from regionloss.torch.owners import pay_owners
from regionloss.torch.settings import Settings
from regionloss.torch.slots import choose, grid_of, is_read, settle


def forward(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    early: Tensor | bool,
    anchors: Sequence[float],
    settings: Settings,
) -> Forward:
    """The loss of a batch; it keeps `slopes_kept`.

    Args:
        predictions: `[N, A*(5+C), H, W]`, of any strides.
        rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`.
        counts: rows that each image has, `[N]`, or `None`.
        early: 1{t < 12800}, a bool or 0-d.
        anchors: widths and heights in turn, cells, `2*A` numbers.
        settings: the choices of the profile.

    Raises:
        DomainError: a truth outside the domain, where the truths are on the host; elsewhere it makes the loss and its
            gradient not a number, since to look would be to wait for the device.
    """
    t = by_anchor(predictions, anchors)
    images, count, channels, height, width = t.shape
    active, slopes = slopes_kept(predictions, rows, anchors)
    grid = grid_of(tuple(anchors), channels - 5, height, width, t.device, active.dtype)
    on_host = _on_host(rows)
    read = is_read(rows, counts, settings)
    truths, bad = choose(rows, read, grid, on_host=on_host)
    if on_host and bad.any():
        check_slots(rows, truths.slot[bad], channels - 5)
    wins, chosen = settle(truths, active[0].numel(), settings)
    owned = truths.predictor if on_host else (chosen > 0).view(active.shape[1:])
    activate(active, t)
    boxes = boxes_of(truths, grid)
    found = pay_owners(t, active, truths, boxes, None if on_host and wins.all() else wins, grid, settings)
    quiet = silence(active, truths, boxes, grid, settings, on_host=on_host)
    state, no_object, prior = pay_dense(active, quiet, owned, early, settings)
    if settings.every_no_object or settings.every_prior:
        share = take_owned(active, owned, truths.predictor, settings)
        found.slopes[:, :5] += torch.where(wins, share, 0).T
    owner = torch.full(rows.shape[:2], -1, dtype=torch.int32, device=t.device)
    local = torch.sub(truths.predictor, truths.image, alpha=count * height * width)
    owner.view(-1).index_copy_(0, truths.slot, torch.where(wins, local, -1).int())
    slopes.zero_().flatten(0, 1).index_copy_(0, truths.slot, found.slopes)
    terms = torch.stack(
        [settings.no_object * no_object, settings.prior * prior, found.coord, found.object,
         settings.class_weight * found.classes]
    )  # fmt: skip
    if settings.per_image:
        terms = terms / max(images, 1)
    loss = terms.sum()
    if not on_host:
        spoiled = bad.view(images, -1).any(dim=1) if len(bad) else bad.new_zeros(images)
        loss = torch.where(spoiled.any(), torch.nan, loss)
        state |= (spoiled * BAD).to(torch.uint8)[:, None, None, None]
        active.masked_fill_(spoiled[:, None, None, None], torch.nan)
    return Forward(loss, terms, state, owner, (active, slopes))


def backward(
    upstream: Tensor,
    predictions: Tensor,
    rows: Tensor,
    state: Tensor,
    owner: Tensor,
    kept: Sequence[Tensor],
    anchors: Sequence[float],
    settings: Settings,
) -> Tensor:
    """The gradient with respect to the predictions, in their type and layout, times the 0-d `upstream`.

    The other arguments are those of `forward` and what it answered.
    """
    active, slopes = kept
    on_host = _on_host(owner)
    factor = upstream.item() if on_host else upstream.to(active.dtype)
    if settings.per_image:
        factor = factor / max(len(active[0]), 1)
    gradient = torch.zeros_like(predictions)
    g = by_anchor(gradient, anchors)
    write_dense(g[:, :, :5].movedim(2, 0), active, factor, settings)
    _, _, _, height, width = g.shape
    index, slopes = owner.flatten(), slopes.flatten(0, 1)
    if on_host:
        slot = (index >= 0).nonzero().squeeze(1)
        index, slopes = index.index_select(0, slot), slopes.index_select(0, slot)
    else:  # where to count them would be to wait: those that no predictor answers for add zeros to the first
        slot = torch.arange(len(index), device=index.device)
        index = index.clamp(min=0)
    n, line = torch.floor_divide(slot, max(owner.shape[1], 1)), torch.floor_divide(index, width)
    k = torch.floor_divide(line, height)
    place = n, k.long(), torch.sub(line, k, alpha=height).long(), torch.sub(index, line, alpha=width).long()
    g.movedim(2, -1).index_put_(place, (slopes * factor).to(g.dtype), accumulate=True)
    return gradient


def by_anchor(predictions: Tensor, anchors: Sequence[float]) -> Tensor:
    """A view of `[N, A*(5+C), H, W]` as `[N, A, 5+C, H, W]`, whatever the strides."""
    images, channels, height, width = predictions.shape
    count = len(anchors) // 2
    return predictions.view(images, count, channels // count, height, width)


def _on_host(tensor: Tensor) -> bool:
    """Whether numbers can be looked at without waiting for them."""
    return tensor.device.type == "cpu"


def _forward(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    seen: int,
    anchors: Sequence[float],
    settings: Settings,
) -> Forward:
    return forward(predictions, rows, counts, is_early(images_seen, seen, settings), anchors, settings)


define("analytic", _forward, backward, slopes_kept)

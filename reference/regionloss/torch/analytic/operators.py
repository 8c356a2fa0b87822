"""The fast path of any device: the gradient written down instead of found by autograd.

The dense part looks at the five box and objectness channels of every predictor, the row part at all channels of the
responsible ones; nothing else of the predictions is read. Forward keeps what the slopes of the dense part are made of
and the slopes of the rows, a small part of the gradient; to store all of it would cost its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from regionloss.torch.analytic.boxes import boxes_of
from regionloss.torch.analytic.dense import activate, pay_dense, silence, take_owned, write_dense
from regionloss.torch.analytic.responsible import pay_owners
from regionloss.torch.arrays import Array, array_of, cast, library_of
from regionloss.torch.assignment import Truths, choose, grid_of, is_read, rows_of, settle
from regionloss.torch.checks import check_slots
from regionloss.torch.ops import BAD, Forward, define, is_early, slopes_kept
from regionloss.torch.settings import Settings


@np.errstate(all="ignore")  # what is huge or no number makes a loss that says so, as it does in PyTorch
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
    kept, slopes = slopes_kept(predictions, rows, anchors)
    grid = grid_of(tuple(anchors), channels - 5, height, width, t.device, kept.dtype)
    exact = rows_of(rows)
    truths, bad = choose(exact, is_read(exact, counts, settings), grid)
    here = library_of(exact) is np  # on the host
    if here:
        early = bool(early)
        if bad.any():
            check_slots(rows, truths.slot[bad], channels - 5)
    wins, owned = settle(truths, kept[0].numel(), settings)
    activate(kept, t)
    active = array_of(kept)
    boxes = boxes_of(truths, grid)
    pays = None if here and wins.all() else wins
    found = pay_owners(*_gather(active, t, truths), truths, boxes, pays, grid, settings)
    quiet = silence(active, truths, boxes, grid, settings)
    if not here:
        owned = owned.view(quiet.shape)
    state, no_object, prior = pay_dense(active, quiet, owned, early, settings)
    if settings.every_no_object or settings.every_prior:
        found.slopes[:, :5] += (take_owned(kept, owned, truths.predictor, settings) * wins).T
    owner = torch.full(rows.shape[:2], -1, dtype=torch.int32, device=t.device)
    local = truths.predictor - truths.image * (count * height * width)
    array_of(owner.view(-1))[truths.slot] = cast(library_of(local).where(wins, local, -1), library_of(local).int32)
    array_of(slopes.zero_().flatten(0, 1))[truths.slot] = found.slopes
    paid = (
        settings.no_object * no_object, settings.prior * prior, found.coord, found.object,
        settings.class_weight * found.classes,
    )  # fmt: skip
    terms = torch.tensor([float(term) for term in paid], dtype=kept.dtype) if here else torch.stack(paid)
    if settings.per_image:
        terms = terms / max(images, 1)
    loss = terms.sum()
    if not here:
        spoiled = bad.view(images, -1).any(dim=1) if len(bad) else bad.new_zeros(images)
        loss = torch.where(spoiled.any(), torch.nan, loss)
        state |= (spoiled * BAD).to(torch.uint8)[:, None, None, None]
        kept.masked_fill_(spoiled[:, None, None, None], torch.nan)
    return Forward(loss, terms, torch.as_tensor(state), owner, (kept, slopes))


def _gather(active: Array, t: Tensor, truths: Truths) -> tuple[Array, Array]:
    """What the predictors of truths have: bx, by, tw, th and bo, `[5, M]`, and the class outputs, `[M, C]`."""
    place = truths.image, truths.anchor, slice(5, None), truths.cell[1], truths.cell[0]
    mine = active.reshape(5, -1)[:, truths.predictor]
    if t.dtype in (torch.float32, torch.float64):
        return mine, array_of(t)[place]
    z = t[tuple(axis if isinstance(axis, slice) else torch.as_tensor(axis) for axis in place)]  # NumPy has no bfloat16
    return mine, array_of(z.float())


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
    factor = upstream.item() if library_of(array_of(owner)) is np else upstream.to(active.dtype)
    if settings.per_image:
        factor = factor / max(len(active[0]), 1)
    gradient = torch.zeros_like(predictions)
    g = by_anchor(gradient, anchors)
    write_dense(g[:, :, :5].movedim(2, 0), active, factor, settings)
    _add_rows(g, owner, slopes, factor)
    return gradient


def _add_rows(g: Tensor, owner: Tensor, slopes: Tensor, factor: Tensor | float) -> None:
    """Add the slopes `[N, T, 5+C]`, times `factor`, to the gradient `[N, A, 5+C, H, W]` of who answers for a truth."""
    channels, height, width = g.shape[2:]
    index, found = array_of(owner.view(-1)), array_of(slopes.view(-1, channels))
    if library_of(index) is np:
        slot = (index >= 0).nonzero()[0]
        index, found = index[slot], found[slot]
    else:  # where to count them would be to wait: those that no predictor answers for add zeros to the first
        slot = torch.arange(len(index), device=index.device)
        index = index.clamp(min=0)
    n, line = slot // max(owner.shape[1], 1), index // width
    k = line // height
    place = tuple(torch.as_tensor(axis).long() for axis in (n, k, line - k * height, index - line * width))
    g.movedim(2, -1).index_put_(place, torch.as_tensor(found * factor).to(g.dtype), accumulate=True)


def by_anchor(predictions: Tensor, anchors: Sequence[float]) -> Tensor:
    """A view of `[N, A*(5+C), H, W]` as `[N, A, 5+C, H, W]`, whatever the strides."""
    images, channels, height, width = predictions.shape
    count = len(anchors) // 2
    return predictions.view(images, count, channels // count, height, width)


def _operator(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    seen: int,
    anchors: Sequence[float],
    settings: Settings,
) -> Forward:
    return forward(predictions, rows, counts, is_early(images_seen, seen, settings), anchors, settings)


define("analytic", _operator, backward, slopes_kept)

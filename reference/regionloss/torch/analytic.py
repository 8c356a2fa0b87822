"""The fast path of any device: the gradient written down instead of found by autograd.

The dense part looks at the five box and objectness channels of every predictor, the row part at all channels of the
responsible ones; nothing else of the predictions is read. Backward recomputes what it needs from the predictions and
from one byte for each predictor: to store the gradient would cost its memory, and a second backward its correctness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.checks import check_slots
from regionloss.torch.dense import BAD as BAD
from regionloss.torch.dense import NO_OBJECT as NO_OBJECT
from regionloss.torch.dense import PRIOR as PRIOR
from regionloss.torch.dense import RESPONSIBLE as RESPONSIBLE
from regionloss.torch.dense import pay_dense, write_dense
from regionloss.torch.owners import find_owners, pay_owners, write_owners
from regionloss.torch.settings import Settings
from regionloss.torch.slots import fill_slots, grid_of, read_slots


class Forward(NamedTuple):
    """What forward answers, and what backward needs of it.

    Attributes:
        loss: the potential, 0-d; float32, or float64 for float64.
        terms: no_object, prior, coord, object, class, `[5]`, whose sum the loss is.
        state: the bits of every predictor, uint8 `[N, A, H, W]`.
        owner: index in `[A*H*W]` of the predictor that pays for the truth of a slot, int32 `[N, T]`, -1 for none.
        overlap: IoU of that predictor with the truth, `[N, T]`, of any value for none.
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
) -> Forward:
    """The loss of a batch.

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
    images, _, channels, height, width = t.shape
    numbers = torch.promote_types(t.dtype, torch.float32)
    grid = grid_of(tuple(anchors), channels - 5, height, width, t.device, numbers)
    read = read_slots(rows, counts, settings)
    length = read.shape[1]
    slots = fill_slots(rows[:, :length], read, grid, settings)
    if _on_host(rows) and slots.bad.any():
        check_slots(rows, slots.bad, channels - 5)
    state, found, no_object, prior = pay_dense(t, slots, early, grid, settings)
    owner = torch.full(rows.shape[:2], -1, dtype=torch.int32, device=t.device)
    overlap = found.new_zeros(rows.shape[:2])
    owner[:, :length] = slots.owner
    overlap[:, :length] = found.masked_fill_(slots.owner < 0, 0)
    owners = find_owners(t, rows, owner, grid, settings, on_host=_on_host(rows))
    coord, objectness, classes = pay_owners(owners, overlap, settings)
    terms = torch.stack(
        [settings.no_object * no_object, settings.prior * prior, coord, objectness, settings.class_weight * classes]
    )
    if settings.per_image:
        terms = terms / max(images, 1)
    loss = terms.sum()
    if not _on_host(rows):
        bad = slots.bad
        loss = torch.where(bad.any(), torch.nan, loss)
        state |= (bad.any(dim=1) * BAD).to(torch.uint8)[:, None, None, None]
    return Forward(loss, terms, state, owner, overlap)


def backward(
    upstream: Tensor,
    predictions: Tensor,
    rows: Tensor,
    state: Tensor,
    owner: Tensor,
    overlap: Tensor,
    anchors: Sequence[float],
    settings: Settings,
) -> Tensor:
    """The gradient with respect to the predictions, in their type and layout, times the 0-d `upstream`.

    The other arguments are those of `forward` and what it answered.
    """
    gradient = torch.zeros_like(predictions)
    t, g = by_anchor(predictions, anchors), by_anchor(gradient, anchors)
    images, _, channels, height, width = t.shape
    grid = grid_of(tuple(anchors), channels - 5, height, width, t.device, overlap.dtype)
    factor = upstream.to(overlap.dtype)
    if settings.per_image:
        factor = factor / max(images, 1)
    on_host = _on_host(rows)
    write_dense(g, t, state, factor, settings, on_host=on_host)
    owners = find_owners(t, rows, owner, grid, settings, on_host=on_host)
    write_owners(g, owners, overlap, factor, settings)
    return gradient


def by_anchor(predictions: Tensor, anchors: Sequence[float]) -> Tensor:
    """A view of `[N, A*(5+C), H, W]` as `[N, A, 5+C, H, W]`, whatever the strides."""
    images, channels, height, width = predictions.shape
    count = len(anchors) // 2
    return predictions.view(images, count, channels // count, height, width)


def _on_host(tensor: Tensor) -> bool:
    """Whether numbers can be looked at without waiting for them."""
    return tensor.device.type == "cpu"

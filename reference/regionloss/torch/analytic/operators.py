"""The operators of the fast path for any device, whose gradient is written down instead of derived by autograd.

The dense part reads the five box and objectness channels of every predictor, the other part all channels of the
responsible ones; nothing else of the predictions is read. Forward keeps what the dense gradient is made of and the
gradient of the responsible predictors, a small part of the whole gradient; to keep all of it would cost its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from regionloss.torch.analytic.boxes import boxes_of
from regionloss.torch.analytic.dense import activate, find_silenced, pay_dense, take_responsible, write_dense
from regionloss.torch.analytic.responsible import pay_responsible
from regionloss.torch.arrays import Array, array_of, cast, library_of
from regionloss.torch.assignment import Assignment, assign, grid_of, is_read, resolve_collisions, rows_of
from regionloss.torch.checks import check_rows
from regionloss.torch.ops import BAD, BackwardInputs, Forward, ForwardInputs, define, kept_tensors
from regionloss.torch.settings import Settings


@np.errstate(all="ignore")  # huge numbers and NaN make a loss that shows them, as they do in PyTorch
def forward(inputs: ForwardInputs) -> Forward:
    """The loss of a batch; it keeps `kept_tensors`.

    Raises:
        DomainError: a truth outside the domain, if the truths are on the host. On a device it makes the loss and its
            gradient NaN, since a look at it would wait for the device.
    """
    predictions, rows, counts, images_seen, seen, anchors, settings = inputs
    early = _is_early(images_seen, seen, settings)
    t = by_anchor(predictions, anchors)
    images, count, channels, height, width = t.shape
    activated, truth_grads = kept_tensors(predictions, rows, anchors)
    grid = grid_of(tuple(anchors), channels - 5, height, width, t.device, activated.dtype)
    exact = rows_of(rows)
    truths, bad = assign(exact, is_read(exact, counts, settings), grid)
    on_host = library_of(exact) is np
    if on_host and bad.any():
        check_rows(rows, truths.index[bad], channels - 5)
    wins, responsible = resolve_collisions(truths, activated[0].numel(), settings)
    activate(activated, t)
    active = array_of(activated)
    boxes = boxes_of(truths, grid)
    pays = None if on_host and wins.all() else wins
    terms = pay_responsible(*_gather(active, t, truths), truths, boxes, pays, grid, settings)
    silenced = find_silenced(active, truths, boxes, grid, settings)
    if not on_host:
        responsible = responsible.view(silenced.shape)
    state, no_object, prior = pay_dense(active, silenced, responsible, early, settings)
    if settings.every_no_object or settings.every_prior:
        terms.grads[:, :5] += (take_responsible(activated, responsible, truths.predictor, settings) * wins).T
    predictor_of_truth = torch.full(rows.shape[:2], -1, dtype=torch.int32, device=t.device)
    in_image = truths.predictor - truths.image * (count * height * width)
    library = library_of(in_image)
    array_of(predictor_of_truth.view(-1))[truths.index] = cast(library.where(wins, in_image, -1), library.int32)
    array_of(truth_grads.zero_().flatten(0, 1))[truths.index] = terms.grads
    paid = (
        settings.no_object * no_object,
        settings.prior * prior,
        terms.coord,
        terms.object,
        settings.class_weight * terms.classes,
    )
    values = torch.tensor([float(term) for term in paid], dtype=activated.dtype) if on_host else torch.stack(paid)
    if settings.per_image:
        values = values / max(images, 1)
    loss = values.sum()
    if not on_host:
        bad_images = bad.view(images, -1).any(dim=1) if len(bad) else bad.new_zeros(images)
        loss = torch.where(bad_images.any(), torch.nan, loss)
        state |= (bad_images * BAD).to(torch.uint8)[:, None, None, None]
        activated.masked_fill_(bad_images[:, None, None, None], torch.nan)
    return Forward(loss, values, torch.as_tensor(state), predictor_of_truth, (activated, truth_grads))


def _is_early(images_seen: Tensor | None, seen: int, settings: Settings) -> Tensor | bool:
    """1{t < 12800}: a bool where the host knows t, else 0-d on the device (`prior.limit`)."""
    if images_seen is None:
        return seen < settings.prior_until
    early = images_seen < settings.prior_until
    return bool(early) if library_of(array_of(early)) is np else early


def _gather(active: Array, t: Tensor, truths: Assignment) -> tuple[Array, Array]:
    """The outputs of the predictors of truths: bx, by, tw, th and bo, `[5, M]`, and those of the classes, `[M, C]`."""
    place = truths.image, truths.anchor, slice(5, None), truths.cell[1], truths.cell[0]
    outputs = active.reshape(5, -1)[:, truths.predictor]
    if t.dtype in (torch.float32, torch.float64):
        return outputs, array_of(t)[place]
    z = t[tuple(axis if isinstance(axis, slice) else torch.as_tensor(axis) for axis in place)]  # NumPy has no bfloat16
    return outputs, array_of(z.float())


def backward(inputs: BackwardInputs) -> Tensor:
    """The gradient with respect to the predictions, in their type and layout, times the 0-d `upstream`."""
    upstream, predictions, _, _, predictor_of_truth, kept, anchors, settings = inputs
    active, truth_grads = kept
    on_host = library_of(array_of(predictor_of_truth)) is np
    factor = upstream.item() if on_host else upstream.to(active.dtype)
    if settings.per_image:
        factor = factor / max(len(active[0]), 1)
    gradient = torch.zeros_like(predictions)
    g = by_anchor(gradient, anchors)
    write_dense(g[:, :, :5].movedim(2, 0), active, factor, settings)
    _add_responsible(g, predictor_of_truth, truth_grads, factor)
    return gradient


def _add_responsible(g: Tensor, predictor_of_truth: Tensor, truth_grads: Tensor, factor: Tensor | float) -> None:
    """Add the gradients of responsible predictors `[N, T, 5+C]`, times `factor`, to all of it `[N, A, 5+C, H, W]`."""
    channels, height, width = g.shape[2:]
    predictor, grads = array_of(predictor_of_truth.view(-1)), array_of(truth_grads.view(-1, channels))
    if library_of(predictor) is np:
        truth = (predictor >= 0).nonzero()[0]
        predictor, grads = predictor[truth], grads[truth]
    else:  # to count them would wait for the device: truths without a predictor add zeros to the first predictor
        truth = torch.arange(len(predictor), device=predictor.device)
        predictor = predictor.clamp(min=0)
    n, line = truth // max(predictor_of_truth.shape[1], 1), predictor // width
    k = line // height
    place = tuple(torch.as_tensor(axis).long() for axis in (n, k, line - k * height, predictor - line * width))
    g.movedim(2, -1).index_put_(place, torch.as_tensor(grads * factor).to(g.dtype), accumulate=True)


def by_anchor(predictions: Tensor, anchors: Sequence[float]) -> Tensor:
    """A view of `[N, A*(5+C), H, W]` as `[N, A, 5+C, H, W]`, of any strides."""
    images, channels, height, width = predictions.shape
    count = len(anchors) // 2
    return predictions.view(images, count, channels // count, height, width)


define("analytic", forward, backward, kept_tensors)

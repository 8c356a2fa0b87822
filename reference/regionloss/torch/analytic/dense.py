"""The terms that every predictor may pay, no-object and prior, and the predictors that MaxIOU silences.

Only the five box and objectness channels are read. They are worked on as `[5, N, A, H, W]`: channels first, so that
the inner axis is long enough for vector instructions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from regionloss.torch.analytic.boxes import half_sizes, iou
from regionloss.torch.arrays import Array, array_of, cast, library_of, put
from regionloss.torch.assignment import Assignment, Grid
from regionloss.torch.ops import NO_OBJECT, PRIOR, RESPONSIBLE
from regionloss.torch.settings import Settings

#: Pairs of a predictor and a truth that are compared at a time: they fit into the cache of a core and bound the memory.
PAIRS = 1 << 16

T_O = 4

#: Cells by which rounding may move a box, and far more than that.
SLACK = 1e-3


def activate(active: Tensor, t: Tensor) -> None:
    """Write σ(tx), σ(ty), tw, th and σ(to) of predictions `t` `[N, A, 5+C, H, W]` into `active` `[5, N, A, H, W]`."""
    active.copy_(t[:, :, :5].movedim(2, 0))
    active[:2].sigmoid_()
    active[T_O].sigmoid_()


def find_silenced(active: Array, truths: Assignment, boxes: Array, grid: Grid, settings: Settings) -> Array:
    """Which predictors overlap a truth beyond the threshold (`noobj.threshold`), bool `[N, A, H, W]`.

    Args:
        active: of `activate`.
        truths: of `assign`.
        boxes: of `boxes_of`.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    library = library_of(active)
    silenced = library.zeros(active.shape[1:], dtype=library.bool, device=active.device)
    if not settings.ignores:
        return silenced
    if settings.thresh < 0 or (settings.thresh == 0 and settings.ignores == 2):
        return ~silenced  # MaxIOU is 0 for a predictor that overlaps no truth, and without truths
    if library is np:
        _silence_near(silenced.reshape(-1), active.reshape(5, -1), boxes, truths, grid, settings)
    else:
        _silence_all(silenced, active, boxes, truths, grid, settings)
    return silenced


def _silence_near(
    silenced: Array, active: Array, boxes: Array, truths: Assignment, grid: Grid, settings: Settings
) -> None:
    """Compare each truth with only those predictors whose boxes may overlap it enough.

    The IoU of two boxes is not above that of their sides along either axis. Sides whose middles are d sizes of the
    truth apart have one of at most 1/(1 + 2d), as has the side that ends where the truth does on the far side; so far
    cells are left out. And it is at most the shorter side by the longer one; so boxes of another width are left out.
    """
    anchors, height, width = grid.shape
    reach = truths.size * ((1 / settings.thresh - 1) / 2 if settings.thresh else np.inf) + SLACK
    first = np.ceil(np.maximum(truths.centre - reach - 1, 0))  # a centre is up to one cell after its cell's corner
    last = np.floor(np.minimum(truths.centre + reach, grid.size - 1))
    across, down = np.maximum(last - first + 1, 0).astype(np.int64)
    column, row = first.astype(np.int64)
    same_width = np.log(truths.size[0] / grid.anchors[0][:, None]).astype(active.dtype)  # as tw, [A, M]
    tolerance = SLACK - np.log(settings.thresh)
    for part in _parts((across * down).cumsum(), PAIRS // anchors):
        truth_of_line, line = _repeat(down[part])  # every line of cells of every truth
        truth_of_line += part.start
        line = (row[truth_of_line] + line) * width + column[truth_of_line]
        line_of_pair, cell = _repeat(across[truth_of_line])  # every pair of a truth and a cell
        cell += line[line_of_pair]
        truth = truth_of_line[line_of_pair]
        index = truths.image[truth] * (anchors * height * width) + cell
        index = index + np.arange(anchors)[:, None] * (height * width)
        difference = active[2].take(index)  # of the logarithms of widths, [A, P]
        difference -= same_width.take(truth, axis=1)
        near = np.abs(difference, out=difference) <= tolerance
        k = np.arange(anchors).repeat(np.count_nonzero(near, axis=1))
        near = near.reshape(-1).nonzero()[0]
        pair = near - k * len(truth)
        index, truth = index.reshape(-1)[near], truth[pair]
        outputs = active[:T_O].take(index, axis=1)
        centre = outputs[:2] + grid.corners.take(cell[pair], axis=1)
        half = half_sizes(outputs[2:], grid.half_anchors.take(k, axis=1))
        overlap = iou(centre, half, boxes.take(truth, axis=1))
        silenced[index[_exceeds(overlap, settings)]] = True


def _repeat(counts: Array) -> tuple[Array, Array]:
    """The index of each thing, repeated by its count, and 0, 1, 2 ... within each repetition."""
    index = np.arange(len(counts)).repeat(counts)
    return index, np.arange(len(index)) - (counts.cumsum() - counts).repeat(counts)


def _parts(ends: Array, capacity: int) -> Iterator[slice]:
    """Slices of things that fit into `capacity` together, of one thing at least; `ends` is the running sum of sizes."""
    start, taken = 0, 0
    while start < len(ends):
        end = max(int(np.searchsorted(ends, taken + capacity, side="right")), start + 1)
        yield slice(start, end)
        start, taken = end, int(ends[end - 1])


def _silence_all(
    silenced: Tensor, active: Tensor, boxes: Array, truths: Assignment, grid: Grid, settings: Settings
) -> None:
    """Compare each truth with every predictor of its image: to select the near ones would wait for the device."""
    images, _, height, width = silenced.shape
    valid: Tensor = truths.valid  # type: ignore[assignment]  # never None on a device
    centre = active[:2] + grid.corners.view(2, 1, 1, height, width)
    half = half_sizes(active[2:4], grid.half_anchors[:, None, :, None, None])
    length = len(valid) // max(images, 1)
    boxes, valid = boxes.view(5, images, length, 1, 1, 1), valid.view(images, length, 1, 1, 1)
    for box, is_valid in zip(boxes.unbind(2), valid.unbind(1), strict=True):
        silenced |= _exceeds(iou(centre, half, box), settings) & is_valid


def _exceeds(overlap: Array, settings: Settings) -> Array:
    """Whether IoUs are beyond the threshold."""
    return overlap >= settings.thresh if settings.ignores == 2 else overlap > settings.thresh


def pay_dense(
    active: Array, silenced: Array, responsible: Array, early: Tensor | bool, settings: Settings
) -> tuple[Array, Array, Array]:
    """Sum the no-object and prior terms over all predictors.

    Args:
        active: of `activate`; where a predictor does not pay a term, it is overwritten as `kept_tensors` says.
        silenced: of `find_silenced`, bool `[N, A, H, W]`, which is overwritten.
        responsible: the responsible predictors, as such a mask or by their indices in `[N*A*H*W]`.
        early: 1{t < 12800}, a bool or 0-d.
        settings: the choices of the profile.

    Returns:
        The bits of every predictor but `BAD`, uint8 `[N, A, H, W]`, and Σ of the squares of the no-object term and of
        the prior, 0-d each.
    """
    library = library_of(active)
    if not settings.every_no_object:
        put(silenced, responsible, True)  # whatever they overlap
    put(active[T_O], silenced, 0)
    no_object = _sum_of_squares(active[T_O])
    state = cast(~silenced, library.uint8)
    if early is not False:
        state += PRIOR
    keep = (NO_OBJECT if settings.every_no_object else 0) | (PRIOR if settings.every_prior else 0)
    if library is np:
        bits = state.reshape(-1)
        bits[responsible] = bits[responsible] & keep | RESPONSIBLE
    else:
        state = torch.where(responsible, state & keep | RESPONSIBLE, state)
    if isinstance(early, Tensor):
        state &= early * PRIOR | ~PRIOR
    centre, size = active[:2], active[2:T_O]
    if early is False:
        centre[...] = 0.5
        size[...] = 0
        return state, no_object, 0 * no_object
    if not settings.every_prior:
        put(centre, responsible, 0.5)
        put(size, responsible, 0)
    if isinstance(early, Tensor):
        put(centre, ~early, 0.5)
        put(size, ~early, 0)
    return state, no_object, _sum_of_squares(centre - 0.5) + _sum_of_squares(size)


def _sum_of_squares(values: Array) -> Array:
    """Σv², 0-d."""
    return (values * values).sum()


def take_responsible(active: Tensor, responsible: Array, predictor: Array, settings: Settings) -> Array:
    """Take the responsible predictors out of `active`, for a profile that lets them pay the dense terms too.

    Their gradient is then written with that of their other terms, so that a half type rounds the sum once.

    Args:
        active: as `pay_dense` left it, which is overwritten.
        responsible: as `pay_dense` takes it.
        predictor: indices in `[N*A*H*W]` of M predictors.
        settings: the choices of the profile.

    Returns:
        The gradient of the dense terms with respect to tx, ty, tw, th and to of the M predictors, `[5, M]`.
    """
    outputs = active.flatten(1).index_select(1, torch.as_tensor(predictor))
    grads = torch.empty_like(outputs)
    write_dense(grads, outputs, 1.0, settings)
    values = array_of(active)
    put(values[:2], responsible, 0.5)
    put(values[2:], responsible, 0)
    return array_of(grads)


def write_dense(g: Tensor, active: Tensor, factor: Tensor | float, settings: Settings) -> None:
    """Write the gradients of the no-object and prior terms, times `factor`.

    Args:
        g: those of the first five channels, `[5, ...]`.
        active: as `pay_dense` left it, of the same shape.
        factor: a number, or 0-d in the type of the arithmetic.
        settings: the choices of the profile.
    """
    b = active[T_O]
    _through_sigmoid(b * (2 * settings.no_object * factor), b, g[T_O])
    weight = 2 * settings.prior * factor
    b = active[:2]
    _through_sigmoid((b - 0.5).mul_(weight), b, g[:2])
    torch.mul(active[2:T_O], weight, out=g[2:T_O])


def _through_sigmoid(grad: Tensor, b: Tensor, out: Tensor) -> None:
    """Write `grad`·b·(1 - b)."""
    if out.dtype == grad.dtype:
        torch.ops.aten.sigmoid_backward.grad_input(grad, b, grad_input=out)
    else:
        out.copy_(torch.ops.aten.sigmoid_backward(grad, b))

"""The terms of the responsible predictors: coordinates, objectness and class, in NumPy or PyTorch.

Only the outputs of these predictors are read, gathered into arrays with one column for each truth.
"""

from __future__ import annotations

from typing import NamedTuple

from regionloss.torch.analytic.boxes import half_sizes, iou
from regionloss.torch.arrays import Array, cast, copy, library_of
from regionloss.torch.assignment import Assignment, Grid
from regionloss.torch.settings import Settings


class ResponsibleTerms(NamedTuple):
    """What the predictors of M truths pay.

    Attributes:
        coord, object, classes: the terms, the last before its weight, 0-d each.
        grads: their gradient with respect to the outputs of each predictor, in the type of the arithmetic, `[M, 5+C]`.
    """

    coord: Array
    object: Array
    classes: Array
    grads: Array


def pay_responsible(
    outputs: Array, z: Array, truths: Assignment, boxes: Array, pays: Array | None, grid: Grid, settings: Settings
) -> ResponsibleTerms:
    """The terms of the predictors that truths chose.

    Args:
        outputs: bx, by, tw, th and bo of each predictor, `[5, M]`.
        z: its class outputs, in the type of the arithmetic, `[M, C]`.
        truths: of `assign`.
        boxes: of `boxes_of`.
        pays: which of them pay, bool `[M]`; `None` if all do.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    library = library_of(outputs)
    residual = outputs - _targets(outputs, truths, boxes, grid, settings)
    small = (2 - truths.area) ** settings.small_box_exponent
    weighted = copy(residual)
    weighted[:4] *= cast(small * settings.coord, weighted.dtype)
    weighted[4] *= settings.object
    classes, class_grads = _classify(z, truths.label, settings)
    if pays is not None:
        weighted *= pays
        classes, class_grads = library.where(pays, classes, 0), library.where(pays[:, None], class_grads, 0)
    coord = (weighted[:4] * residual[:4]).sum()
    grads = 2 * weighted  # with respect to `outputs`, and then to what these are the logistic of
    for logistic in (slice(0, 2), slice(4, 5)):
        grads[logistic] *= outputs[logistic] * (1 - outputs[logistic])
    grads = library.concatenate([grads.T, class_grads], 1)
    return ResponsibleTerms(coord, (weighted[4] * residual[4]).sum(), classes.sum(), grads)


def _classify(z: Array, label: Array, settings: Settings) -> tuple[Array, Array]:
    """The class term of each predictor before its weight, `[M]`, and its gradient after it, `[M, C]`."""
    library = library_of(z)
    true = library.arange(len(label), device=label.device), label
    shifted = z - library.amax(z, 1)[:, None]
    p = library.exp(shifted)
    total = p.sum(1)
    p /= total[:, None]
    residual = copy(p)
    residual[true] -= 1
    if settings.class_squared:
        mean = (p * residual).sum(1)[:, None]
        return (residual * residual).sum(1), 2 * settings.class_weight * p * (residual - mean)
    return library.log(total) - shifted[true], settings.class_weight * residual


def _targets(outputs: Array, truths: Assignment, boxes: Array, grid: Grid, settings: Settings) -> Array:
    """The targets of bx, by, tw, th and bo of `outputs`, `[5, M]`."""
    library = library_of(outputs)
    size = truths.size.clip(min=settings.size_floor) if settings.size_floor else truths.size
    # In float64: in a lower precision a wide grid would cost digits of the targets.
    within = truths.centre - truths.cell
    shape = library.log(size / grid.anchors[:, truths.anchor])
    if settings.target_one:
        goal = library.ones_like(outputs[:1])
    else:
        half = half_sizes(outputs[2:4], grid.half_anchors[:, truths.anchor])
        goal = iou(outputs[:2] + cast(truths.cell, outputs.dtype), half, boxes).clip(min=0)[None]
    return library.concatenate([cast(within, outputs.dtype), cast(shape, outputs.dtype), goal])

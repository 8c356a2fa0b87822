"""The part of the loss that the responsible predictors have: the coordinate, objectness and class terms.

It looks at the outputs of these predictors alone, which were gathered, in NumPy or PyTorch.
"""

from __future__ import annotations

from typing import NamedTuple

from regionloss.torch.analytic.boxes import half_sizes, iou
from regionloss.torch.arrays import Array, cast, copy, library_of
from regionloss.torch.assignment import Grid, Truths
from regionloss.torch.settings import Settings


class Owners(NamedTuple):
    """What the predictors of M truths pay.

    Attributes:
        coord, object, classes: the terms, the last before its weight, 0-d each.
        slopes: their gradient with respect to the outputs of each predictor, in the type of the arithmetic, `[M, 5+C]`.
    """

    coord: Array
    object: Array
    classes: Array
    slopes: Array


def pay_owners(
    mine: Array, z: Array, truths: Truths, boxes: Array, pays: Array | None, grid: Grid, settings: Settings
) -> Owners:
    """The terms of the predictors that answer for truths.

    Args:
        mine: bx, by, tw, th and bo of each, `[5, M]`.
        z: its class outputs, in the type of the arithmetic, `[M, C]`.
        truths: of `choose`.
        boxes: of `boxes_of`.
        pays: which of them pay, bool `[M]`; `None` if all do.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    library = library_of(mine)
    away = mine - _targets(mine, truths, boxes, grid, settings)
    small = (2 - truths.area) ** settings.small_box_exponent
    pull = copy(away)  # half the slopes with respect to `mine`
    pull[:4] *= cast(small * settings.coord, pull.dtype)
    pull[4] *= settings.object
    classes, slopes = _classify(z, truths.label, settings)
    if pays is not None:
        pull *= pays
        classes, slopes = library.where(pays, classes, 0), library.where(pays[:, None], slopes, 0)
    coord = (pull[:4] * away[:4]).sum()
    moves = 2 * pull
    for logistic in (slice(0, 2), slice(4, 5)):
        moves[logistic] *= mine[logistic] * (1 - mine[logistic])
    slopes = library.concatenate([moves.T, slopes], 1)
    return Owners(coord, (pull[4] * away[4]).sum(), classes.sum(), slopes)


def _classify(z: Array, label: Array, settings: Settings) -> tuple[Array, Array]:
    """The class term of each predictor before its weight, `[M]`, and the slopes after it, `[M, C]`."""
    library = library_of(z)
    place = library.arange(len(label), device=label.device), label
    shifted = z - library.amax(z, 1)[:, None]
    p = library.exp(shifted)
    total = p.sum(1)
    p /= total[:, None]
    away = copy(p)
    away[place] -= 1
    if settings.class_squared:
        mean = (p * away).sum(1)[:, None]
        return (away * away).sum(1), 2 * settings.class_weight * p * (away - mean)
    return library.log(total) - shifted[place], settings.class_weight * away


def _targets(mine: Array, truths: Truths, boxes: Array, grid: Grid, settings: Settings) -> Array:
    """What bx, by, tw, th and bo of `mine` are drawn to, `[5, M]`."""
    library = library_of(mine)
    size = truths.size.clip(min=settings.size_floor) if settings.size_floor else truths.size
    # In float64: in a lower precision a wide grid would cost digits of the targets.
    within = truths.place - truths.cell
    shape = library.log(size / grid.anchors[:, truths.anchor])
    if settings.target_one:
        goal = library.ones_like(mine[:1])
    else:
        half = half_sizes(mine[2:4], grid.half_anchors[:, truths.anchor])
        goal = iou(mine[:2] + cast(truths.cell, mine.dtype), half, boxes).clip(min=0)[None]
    return library.concatenate([cast(within, mine.dtype), cast(shape, mine.dtype), goal])

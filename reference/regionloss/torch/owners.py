"""The part of the loss that the responsible predictors have: the coordinate, objectness and class terms.

It looks at the rows of these predictors alone, gathered as `[M, 5+C]`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.dense import LEAST, VAST
from regionloss.torch.settings import Settings
from regionloss.torch.slots import Grid, Truths


class Owners(NamedTuple):
    """What the predictors of M truths pay.

    Attributes:
        coord, object, classes: the terms, the last before its weight, 0-d each.
        slopes: their gradient with respect to the outputs of each predictor, in the type of the arithmetic, `[M, 5+C]`.
    """

    coord: Tensor
    object: Tensor
    classes: Tensor
    slopes: Tensor


class _Constants(NamedTuple):
    """Weights of the squared residuals of bx, by, tw, th and bo, `[5]`; the small-box weight multiplies the first."""

    of_box: Tensor
    of_object: Tensor
    logistic: Tensor
    """Whether a residual is taken of σ(t), bool `[5]`."""


@lru_cache(maxsize=64)
def _constants(settings: Settings, device: torch.device) -> _Constants:
    return _Constants(
        torch.tensor([settings.coord] * 4 + [0.0], dtype=torch.float64, device=device),
        torch.tensor([0.0] * 4 + [settings.object], dtype=torch.float64, device=device),
        torch.tensor([True, True, False, False, True], device=device),
    )


def pay_owners(t: Tensor, truths: Truths, pays: Tensor | None, grid: Grid, settings: Settings) -> Owners:
    """The terms of the predictors that answer for truths.

    Args:
        t: predictions, `[N, A, 5+C, H, W]`.
        truths: of `choose`.
        pays: which of them pay, bool `[M]`; `None` if all do.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    i, j = truths.cell.unbind()
    outputs = t[truths.image, truths.anchor, :, j, i].to(grid.corners.dtype)
    raw, z = outputs[:, :5], outputs[:, 5:]
    constants = _constants(settings, t.device)
    active = torch.where(constants.logistic, torch.sigmoid(raw), raw)
    away = active - _targets(active, truths, grid, settings)
    small = 2 - truths.area
    if settings.small_box_exponent != 1:
        small = small**settings.small_box_exponent
    weight = torch.addcmul(constants.of_object, small[:, None], constants.of_box).to(away.dtype)
    label = truths.label[:, None]
    log_p = torch.log_softmax(z, dim=1)
    p = log_p.exp()
    slopes = p.scatter_add(1, label, p.new_full(label.shape, -1))
    if settings.class_squared:
        classes = slopes.square()
        slopes = 2 * p * (slopes - (p * slopes).sum(dim=1, keepdim=True))
    else:
        classes = -log_p.gather(1, label)
    if pays is not None:
        pays = pays[:, None]
        weight, classes, slopes = weight * pays, torch.where(pays, classes, 0), torch.where(pays, slopes, 0)
    pull = weight * away
    paid = (pull * away).sum(dim=0)
    moves = torch.where(constants.logistic, torch.ops.aten.sigmoid_backward(pull, active), pull)
    slopes = torch.cat([2 * moves, settings.class_weight * slopes], dim=1)
    return Owners(paid[:4].sum(), paid[4], classes.sum(), slopes)


def _targets(active: Tensor, truths: Truths, grid: Grid, settings: Settings) -> Tensor:
    """What bx, by, tw, th and bo are drawn to, `[M, 5]`, for these numbers of the predictors, likewise."""
    anchors = grid.anchors.index_select(1, truths.anchor)
    size = truths.size
    if settings.size_floor:
        size = size.clamp(min=settings.size_floor)
    # In float64: in a lower precision a wide grid would cost digits of the targets.
    targets = torch.cat([truths.place.frac(), torch.log(size / anchors)]).to(active.dtype)
    goal = torch.ones_like(targets[:1]) if settings.target_one else _overlap(active, truths, grid)
    return torch.cat([targets, goal]).T


def _overlap(active: Tensor, truths: Truths, grid: Grid) -> Tensor:
    """IoU of each truth with the predictor that answers for it, `[1, M]` (`decode.centre`, `decode.size`)."""
    numbers = active.dtype
    _, height, width = grid.shape
    half_anchors = grid.half_anchors.index_select(1, truths.anchor)
    half = torch.exp(active[:, 2:4].T).mul_(half_anchors).clamp_(max=VAST[numbers])
    centre = active[:, :2].T + truths.cell
    half_truth, place = truths.size / 2, truths.place
    low = torch.maximum(centre - half, (place - half_truth).to(numbers))
    sides = torch.minimum(centre + half, (place + half_truth).to(numbers)).sub_(low).clamp_(min=0)
    shared = sides.prod(dim=0, keepdim=True)
    area = half.prod(dim=0, keepdim=True).mul_(4)
    truth = (truths.area * (height * width)).clamp_(min=LEAST[numbers]).to(numbers)
    return shared / area.add_(truth).sub_(shared)

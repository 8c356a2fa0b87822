"""The part of the loss that the responsible predictors have: the coordinate, objectness and class terms.

It looks at the rows of these predictors alone, gathered as `[M, 5+C]`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.boxes import half_sizes, iou
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


def pay_owners(
    t: Tensor, active: Tensor, truths: Truths, boxes: Tensor, pays: Tensor | None, grid: Grid, settings: Settings
) -> Owners:
    """The terms of the predictors that answer for truths.

    Args:
        t: predictions, `[N, A, 5+C, H, W]`.
        active: of `activate`.
        truths: of `choose`.
        boxes: of `boxes_of`.
        pays: which of them pay, bool `[M]`; `None` if all do.
        grid: of `grid_of`.
        settings: the choices of the profile.
    """
    mine = active.flatten(1).index_select(1, truths.predictor)  # bx, by, tw, th and bo, `[5, M]`
    away = mine - _targets(mine, truths, boxes, grid, settings)
    small = (2 - truths.area) ** settings.small_box_exponent
    pull = away.clone()  # half the slopes with respect to `mine`
    pull[:4].mul_((small * settings.coord).to(pull.dtype))
    pull[4].mul_(settings.object)
    i, j = truths.cell.unbind()
    z = t[truths.image, truths.anchor, 5:, j, i].to(mine.dtype)
    log_p = torch.log_softmax(z, dim=1)
    p, label = log_p.exp(), truths.label[:, None]
    slopes = p.scatter_add(1, label, p.new_full(label.shape, -1))
    if settings.class_squared:
        classes = slopes.square()
        slopes = 2 * p * (slopes - (p * slopes).sum(dim=1, keepdim=True))
    else:
        classes = -log_p.gather(1, label)
    if pays is not None:
        pull.mul_(pays)
        classes, slopes = torch.where(pays[:, None], classes, 0), torch.where(pays[:, None], slopes, 0)
    coord = torch.dot(pull[:4].view(-1), away[:4].view(-1))
    moves = torch.ops.aten.sigmoid_backward(pull, mine)
    moves[2:4] = pull[2:4]
    slopes = torch.cat([2 * moves.T, settings.class_weight * slopes], dim=1)
    return Owners(coord, torch.dot(pull[4], away[4]), classes.sum(), slopes)


def _targets(mine: Tensor, truths: Truths, boxes: Tensor, grid: Grid, settings: Settings) -> Tensor:
    """What bx, by, tw, th and bo of `mine` are drawn to, `[5, M]`."""
    anchors = grid.anchors.index_select(1, truths.anchor)
    size = truths.size
    if settings.size_floor:
        size = size.clamp(min=settings.size_floor)
    # In float64: in a lower precision a wide grid would cost digits of the targets.
    targets = torch.cat([truths.place.frac(), torch.log(size / anchors)]).to(mine.dtype)
    if settings.target_one:
        goal = torch.ones_like(targets[0])
    else:
        half_anchors = grid.half_anchors.index_select(1, truths.anchor)
        goal = iou(mine[:2] + truths.cell, half_sizes(mine[2:4], half_anchors), boxes).clamp_(min=0)
    return torch.cat([targets, goal[None]])

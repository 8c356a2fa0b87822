"""The part of the loss that the responsible predictors have: the coordinate, objectness and class terms.

It looks at the rows of these predictors alone, gathered as `[M, 5+C]`. On the host M is how many there are; elsewhere
to ask for that would be to wait for the device, and every slot of the truths has a row, most of which pay nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from regionloss.torch.settings import Settings
from regionloss.torch.slots import Grid


class Owners(NamedTuple):
    """M predictors, and the truths that they answer for.

    Attributes:
        slot: index of the truth in `[N*T]`, `[M]`.
        pays: whether there is one, bool `[M, 1]`; `None` if for all there is.
        place: index of image, anchor, row and column, `[M]` each.
        outputs: raw, in the type of the arithmetic, `[M, 5+C]`.
        active: bx, by, tw, th, bo, `[M, 5]`: what the residuals are taken of.
        targets: of the first four, `[M, 4]`.
        weight: what the squares of the residuals are weighted with, `[M, 5]`.
        label: class of the truth, int64 `[M, 1]`.
    """

    slot: Tensor
    pays: Tensor | None
    place: tuple[Tensor, Tensor, Tensor, Tensor]
    outputs: Tensor
    active: Tensor
    targets: Tensor
    weight: Tensor
    label: Tensor


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


def find_owners(t: Tensor, rows: Tensor, owner: Tensor, grid: Grid, settings: Settings, *, on_host: bool) -> Owners:
    """Gather the responsible predictors, and what their truths draw them to.

    Args:
        t: predictions, `[N, A, 5+C, H, W]`.
        rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`.
        owner: index in `[A*H*W]` of the predictor that answers for each truth, -1 for none, `[N, T]`.
        grid: of `grid_of`.
        settings: the choices of the profile.
        on_host: whether it costs nothing to look at a number.
    """
    _, height, width = grid.shape
    numbers = grid.corners.dtype
    index = owner.flatten()
    slot = (index >= 0).nonzero().squeeze(1) if on_host else torch.arange(len(index), device=index.device)
    index = index.index_select(0, slot).long()
    exact = rows.reshape(-1, 5).index_select(0, slot).double()
    pays = None
    if not on_host:
        pays = (index >= 0)[:, None]
        index, exact = index.clamp(min=0), torch.where(pays, exact, grid.most[:, 0, 0])
    line = torch.floor_divide(index, width)
    n, k = torch.floor_divide(slot, max(owner.shape[1], 1)), torch.floor_divide(line, height)
    j, i = torch.sub(line, k, alpha=height), torch.sub(index, line, alpha=width)
    outputs = t[n, k, :, j, i].to(numbers)
    raw = outputs[:, :5]
    constants = _constants(settings, t.device)
    active = torch.where(constants.logistic, torch.sigmoid(raw), raw)
    # In float64: in a lower precision a wide grid would cost digits of the targets.
    x_y, w_h, label = torch.split(exact, [2, 2, 1], dim=1)
    size = w_h * grid.size
    if settings.size_floor:
        size = size.clamp(min=settings.size_floor)
    targets = torch.cat([(x_y * grid.size).frac(), torch.log(size / grid.anchors.index_select(0, k))], dim=1)
    small = torch.rsub(w_h[:, :1] * w_h[:, 1:], 2)
    if settings.small_box_exponent != 1:
        small = small**settings.small_box_exponent
    weight = torch.addcmul(constants.of_object, small, constants.of_box).to(numbers)
    if pays is not None:
        weight = weight * pays
    return Owners(slot, pays, (n, k, j, i), outputs, active, targets.to(numbers), weight, label.long())


def pay_owners(owners: Owners, overlap: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """The coordinate and objectness terms, and the class term before its weight, 0-d each.

    `overlap` is the IoU of each truth with the predictor that answers for it, `[N, T]`.
    """
    away = _residuals(owners, overlap, settings)
    paid = torch.mul(away, away).mul_(owners.weight).sum(dim=0)
    z = owners.outputs[:, 5:]
    if settings.class_squared:
        classes = _off_target(torch.softmax(z, dim=1), owners.label).square()
    else:
        classes = -torch.log_softmax(z, dim=1).gather(1, owners.label)
    if owners.pays is not None:
        classes = torch.where(owners.pays, classes, 0)
    return paid[:4].sum(), paid[4], classes.sum()


def slopes_of(owners: Owners, overlap: Tensor, factor: Tensor, settings: Settings) -> Tensor:
    """The gradients of these terms, times the 0-d `factor`, `[M, 5+C]`."""
    away = owners.weight * _residuals(owners, overlap, settings)
    moves = torch.ops.aten.sigmoid_backward(away, owners.active)
    moves = torch.where(_constants(settings, away.device).logistic, moves, away)
    p = torch.softmax(owners.outputs[:, 5:], dim=1)
    classes = _off_target(p, owners.label)
    if settings.class_squared:
        classes = 2 * p * (classes - (p * classes).sum(dim=1, keepdim=True))
    slopes = torch.cat([2 * moves, settings.class_weight * classes], dim=1).mul_(factor)
    return slopes if owners.pays is None else torch.where(owners.pays, slopes, 0)


def write_owners(g: Tensor, owners: Owners, overlap: Tensor, factor: Tensor, settings: Settings) -> None:
    """Write the gradients of these terms into `g` `[N, A, 5+C, H, W]`.

    On the host they replace what is there, unless the profile has the responsible pay the dense terms too; elsewhere
    they are added, since there a slot that pays nothing has a row as well.
    """
    slopes = slopes_of(owners, overlap, factor, settings)
    n, k, j, i = owners.place
    if owners.pays is not None:
        g.movedim(2, -1).index_put_((n, k, j, i), slopes.to(g.dtype), accumulate=True)
        return
    if settings.every_prior:
        slopes[:, :4] += g[n, k, :4, j, i]
    if settings.every_no_object:
        slopes[:, 4] += g[n, k, 4, j, i]
    g[n, k, :, j, i] = slopes.to(g.dtype)


def _residuals(owners: Owners, overlap: Tensor, settings: Settings) -> Tensor:
    """How far bx, by, tw, th and bo are from their targets, `[M, 5]`."""
    goal = overlap.reshape(-1, 1).index_select(0, owners.slot)
    if settings.target_one:
        goal = torch.ones_like(goal)
    return owners.active - torch.cat([owners.targets, goal], dim=1)


def _off_target(p: Tensor, label: Tensor) -> Tensor:
    """Probabilities `[M, C]` less 1 where the class is the truth's."""
    return p.scatter_add(1, label, p.new_full(label.shape, -1))

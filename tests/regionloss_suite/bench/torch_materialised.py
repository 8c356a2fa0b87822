"""A comparator: the loss as vectorised eager PyTorch, with every intermediate of every truth slot in memory.

It is what a careful programmer writes without considering memory: no loops, no synchronisation, autograd for the
gradient. `torch.compile` compiles it as one graph, unlike `regionloss.torch.eager`, which computes its decisions
on the host.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from regionloss_adapters import Adapter, Question, from_torch, truths
from regionloss_spec import Profile

#: Truth rows per image, as a data loader for VOC or COCO pads them.
SLOTS = 50

_FORM = truths.Padded(capacity=SLOTS)
_NOTES = ("a comparator of the benchmarks: vectorised eager PyTorch, every intermediate materialised",)


def materialised() -> Adapter:
    """The comparator, eager."""

    def loss(predictions: Tensor, rows: Tensor, question: Question) -> Tensor:
        return _loss(region_loss, predictions, rows, question)

    return from_torch(loss, name="materialised", notes=_NOTES, **_declared())


def materialised_compiled() -> Adapter:
    """The comparator under `torch.compile`, as one graph."""

    def loss(predictions: Tensor, rows: Tensor, question: Question) -> Tensor:
        return _loss(_compiled(), predictions, rows, question)

    return from_torch(loss, name="materialised-compiled", notes=(*_NOTES, "compiled whole"), **_declared())


def _declared() -> dict[str, Any]:
    return {
        "truths": _FORM,
        "answers": ("gradient", "potential"),
        "options": ("max_truths",),
        "dtypes": ("float32", "float16", "bfloat16"),
        "devices": ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",),
    }


@cache
def _compiled() -> Any:
    return torch.compile(region_loss, dynamic=False, fullgraph=True)


def _loss(compute: Any, predictions: Tensor, rows: Tensor, question: Question) -> Tensor:
    anchors = _anchors(tuple(question.batch.anchors.ravel().tolist()), predictions.device)
    early = question.batch.images_seen < question.profile.prior_until
    value: Tensor = compute(predictions, rows, anchors, question.batch.classes, early, question.profile)
    return value


@cache
def _anchors(sizes: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(sizes, dtype=torch.float64, device=device).view(-1, 2)


def region_loss(
    predictions: Tensor, rows: Tensor, anchors: Tensor, classes: int, early: bool, profile: Profile
) -> Tensor:
    """The potential of profile `darknet`, 0-d.

    Args:
        predictions: `[N, A*(5+C), H, W]`.
        rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`, zeros behind the truths of an image.
        anchors: cells, float64 `[A, 2]`.
        classes: C.
        early: whether the prior is on.
        profile: for its weights, threshold and capacity.
    """
    images, _, height, width = predictions.shape
    t = predictions.float().view(images, len(anchors), 5 + classes, height, width)
    grid = torch.tensor([width, height], dtype=torch.float64, device=t.device)
    b_xy, t_wh, b_o = torch.sigmoid(t[:, :, :2]), t[:, :, 2:4], torch.sigmoid(t[:, :, 4])

    exact = rows.double()
    read = (exact[..., 0] != 0).cumprod(dim=1).bool()  # [N, T]
    if profile.max_truths:
        read &= torch.arange(rows.shape[1], device=t.device) < profile.max_truths
    exact = torch.where(read[..., None], exact, 0.5)
    sizes = exact[..., 2:4] * grid  # cells
    place = exact[..., :2] * grid
    cell = place.long()
    k = _iou_of_shapes(sizes[:, :, None], anchors).argmax(dim=-1)  # [N, T]
    owner = ((k * height + cell[..., 1]) * width + cell[..., 0]).where(read, 0)

    with torch.no_grad():
        # A truth without a size has IoU 0 with every box.
        iou = _ious(b_xy, t_wh, anchors.float(), place.float(), (sizes * read[..., None]).float())  # [N, T, A, H, W]
        max_iou = iou.amax(dim=1)
        # Of several truths on one predictor, the one with the highest index is the last.
        rank = torch.arange(1, rows.shape[1] + 1, device=t.device) * read
        last = torch.zeros(images, len(anchors) * height * width, dtype=torch.long, device=t.device)
        last.scatter_reduce_(1, owner, rank, "amax")
        paid = read & (last.gather(1, owner) == rank)
        responsible = (last > 0).view(b_o.shape)
        target = iou.flatten(2).gather(2, owner[..., None])[..., 0]  # [N, T]

    q = profile.squared_factor
    silent = ~responsible & (max_iou <= profile.thresh)
    total = q * profile.no_object_weight * torch.where(silent, b_o, 0).square().sum()
    if early:
        pulled = ~responsible[:, :, None]
        total = total + q * profile.prior_weight * torch.where(pulled, b_xy - 0.5, 0).square().sum()
        total = total + q * profile.prior_weight * torch.where(pulled, t_wh, 0).square().sum()

    mine = t.transpose(2, 1).flatten(2).gather(2, owner[:, None].expand(-1, 5 + classes, -1))  # [N, 5+C, T]
    small = (2 - exact[..., 2:4].prod(dim=-1)) ** profile.small_box_exponent
    away_xy = torch.sigmoid(mine[:, :2]) - (place - cell).float().movedim(-1, 1)
    away_wh = mine[:, 2:4] - torch.log(sizes / anchors[k]).float().movedim(-1, 1)
    away = away_xy.square().sum(dim=1) + away_wh.square().sum(dim=1)
    short = torch.sigmoid(mine[:, 4]) - target
    label = exact[..., 4].long().where(read, 0)
    log_p = torch.log_softmax(mine[:, 5:], dim=1).gather(1, label[:, None])[:, 0]
    each = q * profile.coord_weight * small.float() * away + q * profile.object_weight * short.square()
    return total + torch.where(paid, each - profile.class_weight * log_p, 0).sum()


def _iou_of_shapes(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoUs of boxes `[..., 1, 2]` with the anchors around the same centre, `[..., A]`."""
    shared = torch.minimum(sizes, anchors).prod(dim=-1)
    return shared / (sizes.prod(dim=-1) + anchors.prod(dim=-1) - shared)


def _ious(b_xy: Tensor, t_wh: Tensor, anchors: Tensor, place: Tensor, sizes: Tensor) -> Tensor:
    """IoUs of every decoded box with every truth, `[N, T, A, H, W]`, both in cells."""
    height, width = b_xy.shape[-2:]
    corner = torch.arange(width, device=b_xy.device), torch.arange(height, device=b_xy.device)[:, None]
    sides, lengths = [], []
    for axis in range(2):
        centre = b_xy[:, :, axis] + corner[axis]  # [N, A, H, W]
        length = torch.exp(t_wh[:, :, axis]) * anchors[:, axis, None, None]
        truth, extent = place[:, :, axis, None, None, None], sizes[:, :, axis, None, None, None]  # [N, T, 1, 1, 1]
        high = torch.minimum((centre + length / 2)[:, None], truth + extent / 2)
        low = torch.maximum((centre - length / 2)[:, None], truth - extent / 2)
        sides.append((high - low).clamp(min=0))
        lengths.append(length)
    shared = sides[0] * sides[1]
    union = (lengths[0] * lengths[1])[:, None] + sizes.prod(dim=-1)[:, :, None, None, None] - shared
    return (shared / union).nan_to_num_(nan=0.0)  # 0/0 if both underflow, and for an infinite size times 0

"""A comparator: the loss in the style of most ports, with Python loops where darknet has loops in C.

Every predictor is handled separately, its numbers are read from their tensors one by one, targets and masks are
written one by one, and the loss is a masked sum over them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from regionloss_adapters import Adapter, Question, from_torch, truths

Box = tuple[float, float, float, float]


def python_loop() -> Adapter:
    """The comparator."""
    return from_torch(
        region_loss,
        name="python-loop",
        truths=truths.Padded(dtype="float64"),
        answers=("gradient", "potential"),
        options=("max_truths",),
        devices=("cpu", "cuda") if torch.cuda.is_available() else ("cpu",),
        notes=("a comparator of the benchmarks: Python loops, as in most ports",),
    )


def region_loss(predictions: Tensor, rows: Tensor, question: Question) -> Tensor:
    """The potential of profile `darknet`, 0-d, of predictions `[N, A*(5+C), H, W]` and padded truths `[N, T, 5]`."""
    profile, classes = question.profile, question.batch.classes
    anchors = [(float(w), float(h)) for w, h in question.batch.anchors]
    images, _, height, width = predictions.shape
    t = predictions.view(images, len(anchors), 5 + classes, height, width)
    b_xy, t_wh, b_o = torch.sigmoid(t[:, :, :2]), t[:, :, 2:4], torch.sigmoid(t[:, :, 4])
    boxes = torch.cat([b_xy, torch.exp(t_wh)], dim=2).detach()

    no_object = torch.ones_like(b_o)
    responsible = torch.zeros_like(b_o)
    target = torch.zeros_like(t[:, :, :5])
    weight = torch.zeros_like(b_o)
    label = torch.zeros(b_o.shape, dtype=torch.long, device=t.device)
    for n in range(images):
        truths_of_image: list[list[float]] = []
        for row in rows[n, : profile.max_truths or None]:
            if row[0].item() == 0:
                break
            truths_of_image.append([number.item() for number in row])
        for j in range(height):
            for i in range(width):
                for k, anchor in enumerate(anchors):
                    box = _decoded(boxes, n, k, j, i, anchor)
                    best = 0.0
                    for x, y, w, h, _ in truths_of_image:
                        best = max(best, _iou(box, (x * width, y * height, w * width, h * height)))
                    if best > profile.thresh:
                        no_object[n, k, j, i] = 0
        for x, y, w, h, number in truths_of_image:
            i, j = int(x * width), int(y * height)
            shapes = [_iou((0.0, 0.0, *anchor), (0.0, 0.0, w * width, h * height)) for anchor in anchors]
            k = shapes.index(max(shapes))
            overlap = _iou(_decoded(boxes, n, k, j, i, anchors[k]), (x * width, y * height, w * width, h * height))
            no_object[n, k, j, i] = 0
            responsible[n, k, j, i] = 1
            target[n, k, 0, j, i] = x * width - i
            target[n, k, 1, j, i] = y * height - j
            target[n, k, 2, j, i] = math.log(w * width / anchors[k][0])
            target[n, k, 3, j, i] = math.log(h * height / anchors[k][1])
            target[n, k, 4, j, i] = overlap
            weight[n, k, j, i] = (2 - w * h) ** profile.small_box_exponent
            label[n, k, j, i] = int(number)

    mine = responsible.bool()
    away = torch.cat([b_xy, t_wh], dim=2).movedim(2, -1)[mine] - target[:, :, :4].movedim(2, -1)[mine]  # [M, 4]
    short = (b_o - target[:, :, 4])[mine]
    loss = profile.no_object_weight * b_o[no_object.bool()].square().sum()
    loss = loss + profile.coord_weight * (weight[mine][:, None] * away.square()).sum()
    loss = loss + profile.object_weight * short.square().sum()
    if question.batch.images_seen < profile.prior_until:
        away = torch.cat([b_xy - 0.5, t_wh], dim=2).movedim(2, -1)[~mine]
        loss = loss + profile.prior_weight * away.square().sum()
    z = t[:, :, 5:].movedim(2, -1)[mine]
    return profile.squared_factor * loss + profile.class_weight * F.cross_entropy(z, label[mine], reduction="sum")


def _decoded(boxes: Tensor, n: int, k: int, j: int, i: int, anchor: tuple[float, float]) -> Box:
    """The box of one predictor, cells, from σ(tx), σ(ty), e^tw and e^th in `[N, A, 4, H, W]`."""
    x, y = boxes[n, k, 0, j, i].item() + i, boxes[n, k, 1, j, i].item() + j
    return x, y, boxes[n, k, 2, j, i].item() * anchor[0], boxes[n, k, 3, j, i].item() * anchor[1]


def _iou(one: Box, other: Box) -> float:
    w = min(one[0] + one[2] / 2, other[0] + other[2] / 2) - max(one[0] - one[2] / 2, other[0] - other[2] / 2)
    h = min(one[1] + one[3] / 2, other[1] + other[3] / 2) - max(one[1] - one[3] / 2, other[1] - other[3] / 2)
    if w <= 0 or h <= 0:
        return 0.0
    shared = w * h
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)

"""Everything that the loss decides and then holds constant, on tensors (spec chapters 04, 05, 06 and 11)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from regionloss.domain import CLASS_ONLY
from regionloss.torch.eager.boxes import decode, iou
from regionloss.torch.eager.tree import log_probability_of_path
from regionloss_spec import Profile

#: (image, anchor, row, column) of a predictor, an index into `[N, A, H, W]`.
Predictor = tuple[int, int, int, int]


@dataclass(frozen=True)
class Truths:
    """What the predictions are held against, float64 on the host: what only depends on this is taken exactly.

    Attributes:
        rows: x, y, w, h and class of the truths that are read, `[T, 5]` for each image.
        anchors: `[A, 2]`, cells.
    """

    rows: list[Tensor]
    anchors: Tensor

    def of(self, indices: Sequence[tuple[int, int]]) -> Tensor:
        """The rows of some (image, truth), `[M, 5]`."""
        return torch.cat([torch.zeros(0, 5, dtype=torch.float64)] + [self.rows[n][truth][None] for n, truth in indices])


@dataclass(frozen=True)
class Match:
    """One truth and the predictor that is responsible for it.

    Attributes:
        truth: index in the list of its image.
        label: its class.
        predictor: (image, anchor, row, column).
        iou: IoU of the decoded box with the truth, 0 for a truth without a box.
        pays_box: whether the predictor pays coordinates and objectness for this truth.
        pays_class: whether it pays the class term for this truth.
    """

    truth: int
    label: int
    predictor: Predictor
    iou: float
    pays_box: bool
    pays_class: bool


@dataclass(frozen=True, eq=False)
class Decisions:
    """What is held constant when the loss is differentiated (`constant.assignment`, `constant.max-iou`).

    Attributes:
        max_iou: largest IoU of each decoded box with any truth of its image, `[N, A, H, W]`.
        best_truth: the first truth that reaches it, -1 where no truth overlaps, `[N, A, H, W]`.
        matches: every truth that was read, in order.
        responsible, no_object, prior, ignored: indicators, bool `[N, A, H, W]`.
        assigned_truth: the truth whose box a predictor answers for, -1 for none, `[N, A, H, W]`.
    """

    max_iou: Tensor
    best_truth: Tensor
    matches: tuple[Match, ...]
    responsible: Tensor
    no_object: Tensor
    prior: Tensor
    ignored: Tensor
    assigned_truth: Tensor


def decide(t: Tensor, truths: Truths, images_seen: int, profile: Profile, tree: tuple[int, ...] | None) -> Decisions:
    """Take every decision for predictions `[N, A, 5+C, H, W]` that need no gradient."""
    images, anchors, _, height, width = t.shape
    max_iou = t.new_zeros(images, anchors, height, width)
    best_truth = torch.full(max_iou.shape, -1, device=t.device)
    assigned_truth = best_truth.clone()
    with_boxes = torch.ones(images, 1, 1, 1, dtype=torch.bool, device=t.device)
    matches: list[Match] = []
    for n, rows in enumerate(truths.rows):
        if not len(rows):
            continue
        if profile.class_term == "tree" and bool((rows[0, :2] > CLASS_ONLY).all()):
            with_boxes[n] = False
            matches.append(_match_by_class(n, t[n], int(rows[0, 4]), tree or ()))
            continue
        boxes = _boxes(t[n], truths.anchors)
        overlaps = iou(boxes[:, None], rows[:, :4].T[:, :, None, None, None].to(t))  # [T, A, H, W]
        max_iou[n], first = overlaps.max(dim=0)  # the first of equals
        best_truth[n] = torch.where(max_iou[n] > 0, first, -1)
        matches += _settle(_match(n, rows, boxes, overlaps, truths.anchors, profile), profile)
    for match in matches:
        if match.pays_box:
            assigned_truth[match.predictor] = match.truth
    responsible = assigned_truth >= 0
    quiet = _quiet(max_iou, profile)
    early = images_seen < profile.prior_until
    return Decisions(
        max_iou=max_iou,
        best_truth=best_truth,
        matches=tuple(matches),
        responsible=responsible,
        no_object=with_boxes & ~quiet & (~responsible | (profile.no_object_applies == "every-predictor")),
        prior=with_boxes & (~responsible | (profile.prior_applies == "every-predictor")) & early,
        ignored=with_boxes & quiet & ~responsible,
        assigned_truth=assigned_truth,
    )


def _boxes(t: Tensor, anchors: Tensor) -> Tensor:
    """Decoded boxes of all predictors of one image, `[4, A, H, W]`."""
    _, _, height, width = t.shape
    column = torch.arange(width, device=t.device)
    row = torch.arange(height, device=t.device)[:, None]
    return decode(t[:, :4].movedim(1, 0), column, row, anchors.T[:, :, None, None].to(t), height, width)


def _quiet(max_iou: Tensor, profile: Profile) -> Tensor:
    """Where MaxIOU silences the no-object term (`noobj.equality`, `noobj.equality-ignored`, `noobj.no-ignore`)."""
    if profile.ignore == "none" or profile.no_object_target == "max-iou":
        return torch.zeros_like(max_iou, dtype=torch.bool)
    return max_iou > profile.thresh if profile.ignore == "above" else max_iou >= profile.thresh


def _match(image: int, rows: Tensor, boxes: Tensor, overlaps: Tensor, anchors: Tensor, profile: Profile) -> list[Match]:
    """The predictor responsible for each truth (`assign.cell`, `assign.anchor-tie`, `assign.no-overlap`)."""
    _, _, height, width = boxes.shape
    i = torch.floor(rows[:, 0] * width).long()
    j = torch.floor(rows[:, 1] * height).long()
    k = _fit(i, j, rows, boxes, anchors, profile).argmax(dim=0)  # the first on a tie, anchor 0 where nothing overlaps
    matches = []
    for truth, (anchor, row, column) in enumerate(torch.stack([k.cpu(), j, i], dim=1).tolist()):
        overlap = float(overlaps[truth, anchor, row, column])
        matches.append(Match(truth, int(rows[truth, 4]), (image, anchor, row, column), overlap, True, True))
    return matches


def _fit(i: Tensor, j: Tensor, rows: Tensor, boxes: Tensor, anchors: Tensor, profile: Profile) -> Tensor:
    """How well each anchor of its cell fits each truth (`assign.anchor-shape` and its siblings), `[A, T]`."""
    _, _, height, width = boxes.shape
    truth = rows[:, :4].T[:, None]  # [4, 1, T]
    if profile.anchor_choice == "predicted-iou":
        return iou(boxes[:, :, j, i], truth.to(boxes))
    if profile.anchor_choice == "predicted-shape":
        return iou(_at_origin(boxes[2:, :, j, i]), _at_origin(truth[2:].to(boxes)))
    grid = torch.tensor([width, height], dtype=anchors.dtype)[:, None, None]
    sizes = anchors.T[:, :, None] / grid  # [2, A, 1]
    if profile.anchor_choice == "anchor-shape":
        return iou(_at_origin(sizes), _at_origin(truth[2:]))
    corner = (torch.stack([i, j])[:, None] / grid).expand(2, len(anchors), -1)  # [2, A, T]
    return iou(torch.cat([corner, sizes.expand(corner.shape)]), truth)


def _at_origin(sizes: Tensor) -> Tensor:
    """Boxes of given sizes `[2, ...]` around one centre, `[4, ...]`."""
    return torch.cat([torch.zeros_like(sizes), sizes])


def _settle(matches: list[Match], profile: Profile) -> list[Match]:
    """Say which truths are paid where several chose one predictor (`assign.last-truth-wins` and its siblings)."""
    by_predictor: dict[Predictor, list[Match]] = {}
    for match in matches:
        by_predictor.setdefault(match.predictor, []).append(match)
    settled = []
    for match in matches:
        rivals = by_predictor[match.predictor]
        pays_box = {"last": match is rivals[-1], "first": match is rivals[0], "sum": True}[profile.collision]
        pays_class = pays_box or profile.class_collision == "accumulate"
        settled.append(dataclasses.replace(match, pays_box=pays_box, pays_class=pays_class))
    return settled


def _match_by_class(image: int, t: Tensor, label: int, tree: tuple[int, ...]) -> Match:
    """The predictor most sure of a class that came without a box (`tree.class-only-choice`)."""
    # A sum of logarithms, because the product underflows to a tie where the network is sure of other classes.
    sure = F.logsigmoid(t[:, 4]) + log_probability_of_path(t[:, 5:].movedim(1, -1), label, tree)  # [A, H, W]
    anchors, _, width = sure.shape
    first = int(sure.movedim(0, -1).flatten().argmax())  # in the order row, column, anchor
    cell, k = divmod(first, anchors)
    j, i = divmod(cell, width)
    return Match(0, label, (image, k, j, i), 0.0, pays_box=False, pays_class=True)

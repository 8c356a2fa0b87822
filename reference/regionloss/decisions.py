"""Everything that the loss decides and then holds constant: assignment, MaxIOU, indicators (spec chapters 4 to 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regionloss.boxes import decode, iou, shape_iou
from regionloss.classes import group_of, log_softmax, path_to_root
from regionloss.domain import CLASS_ONLY
from regionloss_spec import Profile
from regionloss_spec.batch import Array


@dataclass(frozen=True)
class Match:
    """One truth and the predictor that is responsible for it.

    Attributes:
        image, truth: whose truth, by index.
        anchor, row, column: the responsible predictor.
        iou: IoU of its decoded box with the truth, 0 for a truth without a box.
        pays_box: whether it pays coordinates and objectness for this truth.
        pays_class: whether it pays the class term for this truth.
    """

    image: int
    truth: int
    anchor: int
    row: int
    column: int
    iou: float
    pays_box: bool = True
    pays_class: bool = True

    @property
    def predictor(self) -> tuple[int, int, int, int]:
        """Index of the predictor in arrays of shape `[N, A, H, W]`."""
        return self.image, self.anchor, self.row, self.column


@dataclass(frozen=True, eq=False)
class Decisions:
    """What is held constant when the loss is differentiated (`constant.assignment`, `constant.max-iou`).

    Attributes:
        max_iou: largest IoU of each predictor's decoded box with any truth of its image, `[N, A, H, W]`.
        best_truth: the first truth that reaches it, -1 where no truth overlaps, `[N, A, H, W]`.
        matches: every truth that was read, in order, with its responsible predictor.
        responsible: 1^truth, bool `[N, A, H, W]`.
        no_object: 1{MaxIOU < Thresh} as the profile reads it, bool `[N, A, H, W]`.
        prior: 1{t < 12800} as the profile reads it, bool `[N, A, H, W]`.
        class_only: images that give a class and no box, bool `[N]`.
    """

    max_iou: Array
    best_truth: Array
    matches: tuple[Match, ...]
    responsible: Array
    no_object: Array
    prior: Array
    class_only: Array

    @property
    def ignored(self) -> Array:
        """Predictors that MaxIOU silences: neither responsible nor no-object, bool `[N, A, H, W]`."""
        return ~self.responsible & ~self.no_object & ~self.class_only[:, None, None, None]

    @property
    def assigned_truth(self) -> Array:
        """The truth that each predictor is responsible for, the last of several, -1 for none, `[N, A, H, W]`."""
        truth = np.full(self.max_iou.shape, -1)
        for match in self.matches:
            if match.pays_box:
                truth[match.predictor] = match.truth
        return truth


def decide(
    t: Array, truths: list[Array], anchors: Array, images_seen: int, profile: Profile, tree: tuple[int, ...] | None
) -> Decisions:
    """Take every decision for a batch.

    Predicted boxes and their IoUs are computed in the type of the predictions; what follows from the truths and the
    anchors alone is computed in theirs.

    Args:
        t: raw predictions `[N, A, 5+C, H, W]`, float64 or float32.
        truths: the rows that are read, `[T, 5]` for each image, float64.
        anchors: `[A, 2]`, cells, float64.
        images_seen: t of 1{t < 12800}.
        profile: the choices of the loss.
        tree: parents of the classes, for a class tree.
    """
    images, _, _, height, width = t.shape
    shape = (images, len(anchors), height, width)
    max_iou = np.zeros(shape, t.dtype)
    best_truth = np.full(shape, -1)
    class_only = np.zeros(images, dtype=bool)
    matches: list[Match] = []
    for image, rows in enumerate(truths):
        # `tree.class-only-image`
        if profile.class_term == "tree" and len(rows) and (rows[0, :2] > CLASS_ONLY).all():
            class_only[image] = True
            matches.append(_match_by_class(image, t[image], int(rows[0, 4]), tree or ()))
            continue
        boxes = decode(t[image], anchors.astype(t.dtype))
        # Over all truths of this image, and over no other prediction: `noobj.max-iou`, `noobj.every-truth`,
        # `noobj.same-image`, `noobj.not-suppression`. Without truths it stays 0: `noobj.empty-image`, `truths.empty`.
        for truth, row in enumerate(rows):
            overlap = iou(boxes, row[:4].astype(t.dtype))
            best_truth[image] = np.where(overlap > max_iou[image], truth, best_truth[image])
            max_iou[image] = np.maximum(overlap, max_iou[image])
        matches += [_match(image, truth, row, boxes, anchors, profile) for truth, row in enumerate(rows)]
    return conclude(max_iou, best_truth, matches, class_only, images_seen, profile)


def conclude(
    max_iou: Array, best_truth: Array, choices: list[Match], class_only: Array, images_seen: int, profile: Profile
) -> Decisions:
    """The indicators, once every truth has chosen its predictor (`table.three-states`, `table.other-anchors`).

    Args:
        max_iou: `[N, A, H, W]`.
        best_truth: `[N, A, H, W]`.
        choices: one match for every truth that is read, in order, before collisions are resolved.
        class_only: `[N]`.
        images_seen: t of 1{t < 12800}.
        profile: the choices of the loss.
    """
    matches = _settle(choices, profile)
    responsible = np.zeros(max_iou.shape, dtype=bool)
    # Whatever its MaxIOU: `object.overrides-ignore`.
    for match in matches:
        if match.pays_box:
            responsible[match.predictor] = True
    with_boxes = ~class_only[:, None, None, None]  # `tree.class-only-silence`
    silent = silenced(max_iou, profile)
    # `noobj.not-responsible`, `noobj.every-predictor`
    no_object = ~silent & with_boxes & (~responsible | (profile.no_object_applies == "every-predictor"))
    # Whatever their MaxIOU: `prior.limit`, `prior.not-responsible`, `prior.every-predictor`, `prior.ignored-too`.
    prior = (
        (images_seen < profile.prior_until) & with_boxes & (~responsible | (profile.prior_applies == "every-predictor"))
    )
    return Decisions(max_iou, best_truth, tuple(matches), responsible, no_object, prior, class_only)


def silenced(max_iou: Array, profile: Profile) -> Array:
    """Where MaxIOU silences the no-object term (`noobj.equality`, `noobj.equality-ignored`, `noobj.no-ignore`)."""
    if profile.ignore == "none" or profile.no_object_target == "max-iou":
        return np.zeros(max_iou.shape, dtype=bool)
    # `noobj.threshold`
    return max_iou > profile.thresh if profile.ignore == "above" else max_iou >= profile.thresh


def _match(image: int, truth: int, row: Array, boxes: Array, anchors: Array, profile: Profile) -> Match:
    """The predictor responsible for one truth (`assign.one-predictor`)."""
    _, _, height, width = boxes.shape
    i = int(np.floor(row[0] * width))  # `assign.cell`, `assign.cell-border`
    j = int(np.floor(row[1] * height))  # `assign.cell`, `assign.cell-border`
    fit = anchor_fit(j, i, row, boxes, anchors, profile)
    # The first on a tie (`assign.anchor-tie`), and anchor 0 where nothing overlaps (`assign.no-overlap`).
    k = int(np.argmax(fit))
    return Match(image, truth, k, j, i, float(iou(boxes[:, k, j, i], row[:4].astype(boxes.dtype))))


def anchor_fit(j: int, i: int, row: Array, boxes: Array, anchors: Array, profile: Profile) -> Array:
    """How well each anchor of cell (j, i) fits a truth `[5]`, as the profile chooses, `[A]`.

    `boxes` are the decoded boxes of the image, `[4, A, H, W]`.
    """
    _, _, height, width = boxes.shape
    a_w, a_h = anchors[:, 0] / width, anchors[:, 1] / height
    _, _, w, h = row[:4]
    if profile.anchor_choice == "anchor-shape":  # `assign.anchor-shape`
        return shape_iou(a_w, a_h, w, h)
    if profile.anchor_choice == "anchor-corner":  # `assign.anchor-corner`
        corner = np.stack([np.full(len(anchors), i / width), np.full(len(anchors), j / height), a_w, a_h])
        return iou(corner, row[:4])
    if profile.anchor_choice == "predicted-shape":  # `assign.predicted-shape`
        return shape_iou(boxes[2, :, j, i], boxes[3, :, j, i], w, h)
    return iou(boxes[:, :, j, i], row[:4].astype(boxes.dtype))  # `assign.predicted-iou`


def _settle(matches: list[Match], profile: Profile) -> list[Match]:
    """Decide which truths are paid if several chose one predictor (`truths.order`, `assign.repeated-truth`)."""
    first: dict[tuple[int, int, int, int], int] = {}
    last: dict[tuple[int, int, int, int], int] = {}
    for index, match in enumerate(matches):
        first.setdefault(match.predictor, index)
        last[match.predictor] = index
    settled = []
    for index, match in enumerate(matches):
        if not match.pays_box:  # a class without a box has no rival
            settled.append(match)
            continue
        # `assign.last-truth-wins`, `assign.first-truth-wins`, `assign.every-truth-pays`
        winner = {"last": last[match.predictor], "first": first[match.predictor], "sum": index}[profile.collision]
        pays_box = index == winner
        # `assign.class-replaced`, `assign.class-accumulates`
        pays_class = pays_box or profile.class_collision == "accumulate"
        settled.append(
            Match(match.image, match.truth, match.anchor, match.row, match.column, match.iou, pays_box, pays_class)
        )
    return settled


def _match_by_class(image: int, t: Array, label: int, tree: tuple[int, ...]) -> Match:
    """The predictor with the largest probability of a class that has no box (`tree.class-only-choice`)."""
    z = np.moveaxis(t[:, 5:], 1, 0)
    # Logarithms, since products of small probabilities underflow into false ties.
    log_p = -np.logaddexp(0.0, -t[:, 4])
    for node in path_to_root(label, tree):
        group = group_of(node, tree)
        log_p = log_p + log_softmax(z[group])[node - group.start]
    by_cell = np.moveaxis(log_p, 0, -1)  # [H, W, A]: the first in the order row, column, anchor on a tie
    j, i, k = np.unravel_index(int(np.argmax(by_cell)), by_cell.shape)
    return Match(image, 0, int(k), int(j), int(i), 0.0, pays_box=False)

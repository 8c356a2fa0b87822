"""Mistakes of MaxIOU and of the predictors that it silences (spec chapter 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from regionloss.boxes import decode, iou, shape_iou, sigmoid
from regionloss.decisions import Decisions, silenced
from regionloss.terms import CLASSES, T_O
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant
from regionloss_suite.mutants.tools import Answering, Given, as_if, decided, needs, redecided

#: IoUs `[A, H, W]` of the predictors of an image with one of its truths `[5]`.
Overlap = Callable[[Given, int, Array], Array]


def _other_max_iou(overlap: Overlap) -> Answering:
    """Another measure in place of the IoU of decoded boxes, for MaxIOU alone."""

    def change(decisions: Decisions, given: Given) -> Decisions:
        max_iou, nearest = np.zeros_like(decisions.max_iou), np.full_like(decisions.best_truth, -1)
        for image, rows in enumerate(given.truths):
            if decisions.class_only[image]:
                continue
            for truth, row in enumerate(rows):
                overlaps = overlap(given, image, row)
                nearest[image] = np.where(overlaps > max_iou[image], truth, nearest[image])
                max_iou[image] = np.maximum(overlaps, max_iou[image])
        return redecided(decisions, given, max_iou=max_iou, best_truth=nearest)

    return decided(change)


def _of_anchors(given: Given, image: int, row: Array) -> Array:
    return iou(decode(np.zeros_like(given.t[image]), given.anchors), row[:4])


def _of_shapes(given: Given, image: int, row: Array) -> Array:
    boxes = decode(given.t[image], given.anchors)
    return shape_iou(boxes[2], boxes[3], row[2], row[3])


def _without_offsets(given: Given, image: int, row: Array) -> Array:
    """Box and truth each within its own cell: far apart they still overlap."""
    boxes = decode(given.t[image], given.anchors)
    _, _, height, width = boxes.shape
    boxes[0] = sigmoid(given.t[image, :, 0]) / width
    boxes[1] = sigmoid(given.t[image, :, 1]) / height
    here = np.array([row[0] * width % 1 / width, row[1] * height % 1 / height, row[2], row[3]])
    return iou(boxes, here)


def _in_its_cell(given: Given, image: int, row: Array) -> Array:
    ious = iou(decode(given.t[image], given.anchors), row[:4])
    _, height, width = ious.shape
    here = np.zeros((height, width), dtype=bool)
    here[int(row[1] * height), int(row[0] * width)] = True
    return np.where(here, ious, 0.0)


def _of_its_class(given: Given, image: int, row: Array) -> Array:
    ious = iou(decode(given.t[image], given.anchors), row[:4])
    return np.where(given.t[image, :, CLASSES:].argmax(axis=1) == int(row[4]), ious, 0.0)


def _leaking(decisions: Decisions, given: Given) -> Decisions:
    """The truths of all images for every image."""
    max_iou = decisions.max_iou.copy()
    for image in np.flatnonzero(~decisions.class_only):
        boxes = decode(given.t[image], given.anchors)
        for other in np.flatnonzero(~decisions.class_only):
            for row in given.truths[other]:
                max_iou[image] = np.maximum(max_iou[image], iou(boxes, row[:4]))
    return redecided(decisions, given, max_iou=max_iou)


def _of_the_last_truth(decisions: Decisions, given: Given) -> Decisions:
    max_iou = np.zeros_like(decisions.max_iou)
    for image in np.flatnonzero(~decisions.class_only):
        for row in given.truths[image][-1:]:
            max_iou[image] = iou(decode(given.t[image], given.anchors), row[:4])
    return redecided(decisions, given, max_iou=max_iou)


def _in_every_cell(decisions: Decisions, given: Given) -> Decisions:
    """The anchor that is ignored somewhere is ignored in every cell."""
    needs(given.profile.no_object_target == "zero", "an indicator")
    spread = np.broadcast_to(
        silenced(decisions.max_iou, given.profile).any(axis=(2, 3), keepdims=True), decisions.max_iou.shape
    )
    return redecided(decisions, given, silenced=spread)


def _squared(decisions: Decisions, given: Given) -> Decisions:
    no_object = redecided(decisions, given, max_iou=decisions.max_iou**2).no_object
    return dataclasses.replace(decisions, no_object=no_object)


def _suppressed(decisions: Decisions, given: Given) -> Decisions:
    """A predictor is ignored if a more certain one overlaps it."""
    silenced = np.zeros_like(decisions.responsible)
    images, anchors, height, width = silenced.shape
    needs(anchors * height * width <= 256, "few predictors, since each is compared with all others")
    for image in range(images):
        boxes = decode(given.t[image], given.anchors).reshape(4, -1)
        certain = given.t[image, :, T_O].reshape(-1)
        beaten = [((iou(boxes, box) > 0.6) & (certain > certain[one])).any() for one, box in enumerate(boxes.T)]
        silenced[image] = np.reshape(beaten, (anchors, height, width))
    return redecided(decisions, given, silenced=silenced)


def _by_confidence(decisions: Decisions, given: Given) -> Decisions:
    confident = decisions.max_iou * sigmoid(given.t[:, :, T_O])
    return dataclasses.replace(decisions, no_object=redecided(decisions, given, max_iou=confident).no_object)


MUTANTS: list[Mutant] = [
    Mutant(
        id="max-iou-of-anchors",
        clause="noobj.max-iou",
        title="MaxIOU is that of the anchor in the middle of its cell, not of the decoded box",
        after="AlexeyAB/darknet#5227",
        answer=_other_max_iou(_of_anchors),
    ),
    Mutant(
        id="max-iou-of-shapes",
        clause="noobj.max-iou",
        title="MaxIOU compares shapes alone, wherever box and truth lie",
        after="pjreddie/darknet#1111",
        answer=_other_max_iou(_of_shapes),
    ),
    Mutant(
        id="boxes-without-cell-offsets",
        clause="noobj.max-iou",
        title="boxes are compared without the offsets of their cells, so a distant box of similar shape is ignored",
        answer=_other_max_iou(_without_offsets),
    ),
    Mutant(
        id="truths-of-the-cell-only",
        clause="noobj.every-truth",
        title="MaxIOU looks only at truths centred in the predictor's own cell",
        answer=_other_max_iou(_in_its_cell),
    ),
    Mutant(
        id="last-truth-only",
        clause="noobj.every-truth",
        title="MaxIOU is overwritten by each truth, so that the last one of the list remains",
        answer=decided(_of_the_last_truth),
    ),
    Mutant(
        id="truths-of-the-predicted-class",
        clause="noobj.every-truth",
        title="MaxIOU looks only at truths of the predictor's most probable class",
        answer=_other_max_iou(_of_its_class),
    ),
    Mutant(
        id="ignored-in-every-cell",
        clause="noobj.every-truth",
        title="an anchor that is ignored in one cell is ignored in all",
        after="BobLiu20/YOLOv3_PyTorch#15",
        answer=decided(_in_every_cell),
    ),
    Mutant(
        id="ignore-leaks-across-images",
        clause="noobj.same-image",
        title="the truths of all images of the batch count for each of them",
        answer=decided(_leaking),
    ),
    Mutant(
        id="thresh-unset",
        clause="noobj.threshold",
        title="the threshold is .5, the default of an unset option, or .6 if .5 is set",
        answer=as_if(thresh=lambda profile: 0.6 if profile.thresh == 0.5 else 0.5),
    ),
    Mutant(
        id="threshold-on-square",
        clause="noobj.threshold",
        title="the square of MaxIOU is compared with the threshold",
        answer=decided(_squared),
    ),
    Mutant(
        id="ignored-at-equality",
        clause="noobj.equality",
        title="a predictor at the threshold is ignored",
        after="the sign of the tutorial formula",
        options={"thresh": 0.5},
        answer=as_if(ignore="at-or-above"),
    ),
    Mutant(
        id="nobody-ignored",
        clause="noobj.threshold",
        title="there is no ignore rule",
        after="thtrieu/darkflow",
        answer=as_if(ignore="none"),
    ),
    Mutant(
        id="paid-at-equality",
        clause="noobj.equality-ignored",
        title="a predictor at the threshold pays although it should be ignored",
        profile="formula",
        options={"thresh": 0.5},
        answer=as_if(ignore="above"),
    ),
    Mutant(
        id="ignored-nevertheless",
        clause="noobj.no-ignore",
        title="predictors above the threshold are ignored although there is no ignore rule",
        options={"ignore": "none"},
        answer=as_if(ignore="above"),
    ),
    Mutant(
        id="non-max-suppression",
        clause="noobj.not-suppression",
        title="a predictor is ignored when a more certain prediction overlaps it",
        after="deeplearning.ai forum thread 437371",
        answer=decided(_suppressed),
    ),
    Mutant(
        id="threshold-on-confidence",
        clause="noobj.not-suppression",
        title="MaxIOU times objectness is compared with the threshold, as in detection",
        answer=decided(_by_confidence),
    ),
]

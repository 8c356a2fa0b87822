"""Mistakes of the assignment (spec chapter 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from regionloss.boxes import decode, iou
from regionloss.decisions import Decisions, Match, anchor_fit
from regionloss.decisions import _settle as settle
from regionloss_spec import Profile
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched
from regionloss_suite.mutants.tools import Answering, Given, as_if, boxed, decided, needs, paying, redecided

Cell = Callable[[float, float, int, int], tuple[int, int]]


def _cell(choose: Cell) -> Answering:
    """Another cell (row, column) for a centre (x, y) on a grid (H, W), kept inside the grid."""

    def match(image: int, truth: int, row: Array, boxes: Array, anchors: Array, profile: Profile) -> Match:
        _, _, height, width = boxes.shape
        j, i = choose(row[0], row[1], height, width)
        j, i = min(max(j, 0), height - 1), min(max(i, 0), width - 1)
        k = int(np.argmax(anchor_fit(j, i, row, boxes, anchors, profile)))
        return Match(image, truth, k, j, i, float(iou(boxes[:, k, j, i], row[:4])))

    return patched(decisions___match=match)


def _rounded(x: float, y: float, height: int, width: int) -> tuple[int, int]:
    return round(y * height), round(x * width)


def _exchanged(x: float, y: float, height: int, width: int) -> tuple[int, int]:
    return int(x * width), int(y * height)


def _earlier(x: float, y: float, height: int, width: int) -> tuple[int, int]:
    return int(np.ceil(y * height)) - 1, int(np.ceil(x * width)) - 1


def _fits(decisions: Decisions, given: Given, match: Match) -> Array:
    boxes = decode(given.t[match.image], given.anchors)
    return anchor_fit(match.row, match.column, given.row(match), boxes, given.anchors, given.profile)


def _several(decisions: Decisions, given: Given) -> Decisions:
    """Every anchor with a match above .7, in addition to the best."""
    matches: list[Match] = []
    for match in boxed(decisions):
        boxes = decode(given.t[match.image], given.anchors)
        for k, fit in enumerate(_fits(decisions, given, match)):
            if k == match.anchor or fit > 0.7:
                box = boxes[:, k, match.row, match.column]
                matches.append(dataclasses.replace(match, anchor=k, iou=float(iou(box, given.row(match)[:4]))))
    boxless = [match for match in decisions.matches if decisions.class_only[match.image]]
    return redecided(decisions, given, matches=[*boxless, *settle(matches, given.profile)])


def _lower_limit(decisions: Decisions, given: Given) -> Decisions:
    kept = [match for match in boxed(decisions) if _fits(decisions, given, match).max() > 0.2]
    boxless = [match for match in decisions.matches if decisions.class_only[match.image]]
    return redecided(decisions, given, matches=[*boxless, *settle(kept, given.profile)])


def _one_object_a_cell(decisions: Decisions, given: Given) -> Decisions:
    """A cell learns only its last truth."""
    last = {(match.image, match.row, match.column): match for match in paying(decisions)}
    kept = [
        match
        for match in decisions.matches
        if not match.pays_box or last[match.image, match.row, match.column] is match
    ]
    return redecided(decisions, given, matches=kept)


def _last_of_equals(j: int, i: int, row: Array, boxes: Array, anchors: Array, profile: Profile) -> Array:
    fit = anchor_fit(j, i, row, boxes, anchors, profile)
    return np.where(np.arange(len(fit)) == np.flatnonzero(fit == fit.max())[-1] if fit.max() > 0 else fit > 1, 1.0, 0.0)


def _nowhere(image: int, truth: int, row: Array, boxes: Array, anchors: Array, profile: Profile) -> Match:
    _, _, height, width = boxes.shape
    i, j = int(row[0] * width), int(row[1] * height)
    fit = anchor_fit(j, i, row, boxes, anchors, profile)
    if fit.max() == 0:
        i, j = 0, 0
    k = int(np.argmax(fit))
    return Match(image, truth, k, j, i, float(iou(boxes[:, k, j, i], row[:4])))


def _best_wins(decisions: Decisions, given: Given) -> Decisions:
    """Of colliding truths, the one with the largest IoU is paid."""
    needs(given.profile.collision == "last" and given.profile.class_collision == "replace", "one truth that wins")
    best: dict[tuple[int, ...], Match] = {}
    for match in boxed(decisions):
        other = best.get(match.predictor)
        if other is None or match.iou > other.iou:
            best[match.predictor] = match
    return dataclasses.replace(
        decisions,
        matches=tuple(
            match
            if decisions.class_only[match.image]
            else dataclasses.replace(
                match,
                pays_box=best[match.predictor] is match,
                pays_class=best[match.predictor] is match,
            )
            for match in decisions.matches
        ),
    )


def _neighbour_anchor(decisions: Decisions, given: Given) -> Decisions:
    """A truth whose predictor is taken moves to the next best anchor that is free."""
    needs(given.profile.class_collision == "replace", "one truth that wins")
    taken: set[tuple[int, ...]] = set()
    matches: list[Match] = []
    for match in decisions.matches:
        if decisions.class_only[match.image]:
            matches.append(match)
            continue
        boxes = decode(given.t[match.image], given.anchors)
        order = np.argsort(-_fits(decisions, given, match), kind="stable")
        free = [int(k) for k in order if (match.image, int(k), match.row, match.column) not in taken]
        k = free[0] if free else match.anchor
        overlap = float(iou(boxes[:, k, match.row, match.column], given.row(match)[:4]))
        moved = dataclasses.replace(match, anchor=k, iou=overlap)
        taken.add(moved.predictor)
        matches.append(moved)
    boxless = [match for match in matches if decisions.class_only[match.image]]
    rest = [match for match in matches if not decisions.class_only[match.image]]
    return redecided(decisions, given, matches=[*boxless, *settle(rest, given.profile)])


def _twins_pay(decisions: Decisions, given: Given) -> Decisions:
    """Equal rows are all paid."""
    last = {match.predictor: given.row(match) for match in paying(decisions)}
    return dataclasses.replace(
        decisions,
        matches=tuple(
            match
            if match.pays_box or match.predictor not in last or (given.row(match) != last[match.predictor]).any()
            else dataclasses.replace(match, pays_box=True, pays_class=True)
            for match in decisions.matches
        ),
    )


def _twins_dropped(decisions: Decisions, given: Given) -> Decisions:
    kept: list[Match] = []
    for match in decisions.matches:
        twins = [other for other in kept if other.image == match.image]
        if not any((given.row(other) == given.row(match)).all() for other in twins):
            kept.append(match)
    return redecided(decisions, given, matches=kept)


def _class_of_the_first(decisions: Decisions, given: Given) -> Decisions:
    needs(given.profile.class_collision == "replace", "one class that wins")
    first: set[tuple[int, ...]] = set()
    matches = []
    for match in decisions.matches:
        matches.append(dataclasses.replace(match, pays_class=match.predictor not in first))
        first.add(match.predictor)
    return dataclasses.replace(decisions, matches=tuple(matches))


MUTANTS: list[Mutant] = [
    Mutant(
        id="cell-rounded",
        clause="assign.cell",
        title="the cell is computed by rounding to nearest instead of down",
        answer=_cell(_rounded),
    ),
    Mutant(
        id="row-for-column",
        clause="assign.cell",
        title="row and column of the truth's cell are swapped",
        after="experiencor/keras-yolo2#244",
        answer=_cell(_exchanged),
    ),
    Mutant(
        id="border-to-the-earlier-cell",
        clause="assign.cell-border",
        title="a centre on a border belongs to the cell before it",
        answer=_cell(_earlier),
    ),
    Mutant(
        id="several-anchors-responsible",
        clause="assign.one-predictor",
        title="every anchor with a match above .7 is responsible in addition to the best",
        after="apple/turicreate",
        answer=decided(_several),
    ),
    Mutant(
        id="poor-match-dropped",
        clause="assign.one-predictor",
        title="a truth whose best match is at most .2 is assigned to no predictor",
        answer=decided(_lower_limit),
    ),
    Mutant(
        id="one-object-a-cell",
        clause="assign.one-predictor",
        title="a cell learns only the last of its truths, whatever their anchors",
        after="leeyoshinari/YOLO_v2#34",
        answer=decided(_one_object_a_cell),
    ),
    Mutant(
        id="anchor-by-predicted-iou",
        clause="assign.anchor-shape",
        title="the anchor is chosen by the IoU of the predicted box",
        after="thtrieu/darkflow",
        answer=as_if(anchor_choice="predicted-iou"),
    ),
    Mutant(
        id="anchor-at-the-corner",
        clause="assign.anchor-shape",
        title="the anchor is chosen by its IoU when placed at the corner of the cell",
        after="zjykzj/YOLOv2",
        answer=as_if(anchor_choice="anchor-corner"),
    ),
    Mutant(
        id="anchor-by-predicted-shape",
        clause="assign.anchor-shape",
        title="the anchor is chosen by the shape of the predicted box, as with bias_match left unset",
        answer=as_if(anchor_choice="predicted-shape"),
    ),
    Mutant(
        id="anchor-shape-for-corner",
        clause="assign.anchor-corner",
        title="the anchor is chosen by shape alone instead of by its IoU at the corner of the cell",
        options={"anchor_choice": "anchor-corner"},
        answer=as_if(anchor_choice="anchor-shape"),
    ),
    Mutant(
        id="anchor-shape-for-predicted-shape",
        clause="assign.predicted-shape",
        title="the anchor is chosen by its own shape instead of that of the predicted box",
        options={"anchor_choice": "predicted-shape"},
        answer=as_if(anchor_choice="anchor-shape"),
    ),
    Mutant(
        id="predicted-shape-for-predicted-iou",
        clause="assign.predicted-iou",
        title="the anchor is chosen by the shape of the predicted box instead of its IoU",
        options={"anchor_choice": "predicted-iou"},
        answer=as_if(anchor_choice="predicted-shape"),
    ),
    Mutant(
        id="last-of-equal-anchors",
        clause="assign.anchor-tie",
        title="of anchors that fit equally well, the last is chosen",
        answer=patched(decisions__anchor_fit=_last_of_equals),
    ),
    Mutant(
        id="nothing-overlaps-cell-zero",
        clause="assign.no-overlap",
        title="a truth that no anchor overlaps is assigned to the first cell of the image",
        after="AlexeyAB/darknet",
        options={"anchor_choice": "anchor-corner"},
        answer=patched(decisions___match=_nowhere),
    ),
    Mutant(
        id="first-truth-wins",
        clause="assign.last-truth-wins",
        title="of colliding truths, the first is paid",
        after="samylee/YOLOV2_PyTorch_Train",
        answer=as_if(collision="first"),
    ),
    Mutant(
        id="every-truth-pays",
        clause="assign.last-truth-wins",
        title="all colliding truths are paid and added up",
        after="thtrieu/darkflow#646",
        answer=as_if(collision="sum"),
    ),
    Mutant(
        id="best-truth-wins",
        clause="assign.last-truth-wins",
        title="of colliding truths, the one that the box overlaps best is paid",
        answer=decided(_best_wins),
    ),
    Mutant(
        id="loser-moves-on",
        clause="assign.last-truth-wins",
        title="a truth whose predictor is taken moves to the next best anchor",
        after="thtrieu/darkflow#646",
        answer=decided(_neighbour_anchor),
    ),
    Mutant(
        id="last-truth-for-first",
        clause="assign.first-truth-wins",
        title="of colliding truths, the last is paid instead of the first",
        options={"collision": "first"},
        answer=as_if(collision="last"),
    ),
    Mutant(
        id="last-truth-for-sum",
        clause="assign.every-truth-pays",
        title="of colliding truths, the last is paid instead of all",
        options={"collision": "sum"},
        answer=as_if(collision="last"),
    ),
    Mutant(
        id="repeated-truth-paid-twice",
        clause="assign.repeated-truth",
        title="a truth that is in the list twice is paid twice",
        answer=decided(_twins_pay),
    ),
    Mutant(
        id="repeated-truth-dropped",
        clause="assign.repeated-truth",
        title="a truth that is in the list twice is paid once although all are added up",
        options={"collision": "sum"},
        answer=decided(_twins_dropped),
    ),
    Mutant(
        id="class-of-the-first",
        clause="assign.class-replaced",
        title="box and objectness are those of the last truth, the class is that of the first",
        answer=decided(_class_of_the_first),
    ),
    Mutant(
        id="classes-left-standing",
        clause="assign.class-replaced",
        title="the classes of earlier truths stay in the target",
        after="pjreddie/darknet with softmax=0",
        options={"class_term": "logistic"},
        answer=as_if(class_collision="accumulate"),
    ),
    Mutant(
        id="classes-replaced",
        clause="assign.class-accumulates",
        title="the classes of earlier truths are cleared",
        options={"class_term": "logistic", "class_collision": "accumulate"},
        answer=as_if(class_collision="replace"),
    ),
]

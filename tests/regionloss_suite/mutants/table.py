"""Mistakes about how the indicators exclude one another, and about what is constant (spec chapters 0 and 10)."""

from __future__ import annotations

import dataclasses

import numpy as np

from regionloss.boxes import decode, iou_grad, sigmoid, sigmoid_grad
from regionloss.decisions import Decisions, Match
from regionloss.terms import T_H, T_O, T_W, T_X, T_Y
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant
from regionloss_suite.mutants.tools import (
    Given,
    Predictor,
    Terms,
    decided,
    needs,
    paid,
    paying,
    read,
    redecided,
    spoilt,
)


def _told_as_ignored(answer: Answer, question: Question) -> Answer:
    """Ignored by MaxIOU alone, responsible or not."""
    given, places = read(question), set(answer.ignored or ())
    for n, truth, k, j, i in answer.responsible or ():
        boxes = decode(given.t[n], given.anchors)
        slope = iou_grad(boxes[:, k, j, i], given.truths[n][truth, :4])
        if question.profile.ignore != "none" and question.profile.no_object_target == "zero" and slope.any():
            places.add((n, k, j, i))
    return dataclasses.replace(answer, ignored=tuple(sorted(places)))


def _told_of_other_anchors(answer: Answer, question: Question) -> Answer:
    """The whole cell of a truth is reported as responsible."""
    anchors = range(len(question.batch.anchors))
    taken = {(n, k, j, i) for n, _, k, j, i in answer.responsible or ()}
    responsible = list(answer.responsible or ())
    for n, truth, _, j, i in answer.responsible or ():
        for k in anchors:
            if (n, k, j, i) not in taken:
                taken.add((n, k, j, i))
                responsible.append((n, truth, k, j, i))
    return dataclasses.replace(answer, responsible=tuple(responsible))


def _cell_silenced(decisions: Decisions, given: Given) -> Decisions:
    """The other anchors of a cell with an object do not pay no-object."""
    held = np.zeros_like(decisions.responsible)
    for match in paying(decisions):
        held[match.image, :, match.row, match.column] = True
    return redecided(decisions, given, silenced=held)


def _no_prior_in_the_cell(decisions: Decisions, given: Given) -> Decisions:
    """A cell with an object belongs to its responsible anchor, and the others pay no prior."""
    held = np.zeros_like(decisions.responsible)
    for match in paying(decisions):
        held[match.image, :, match.row, match.column] = True
    return dataclasses.replace(decisions, prior=decisions.prior & (~held | decisions.responsible))


def _decay(answer: Answer, question: Question) -> Answer:
    assert answer.gradient is not None
    t = np.asarray(question.batch.predictions, dtype=np.float64)
    return dataclasses.replace(answer, gradient=answer.gradient + question.upstream * 1e-9 * t)


def _masked_infinity(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The mask multiplies residuals of decoded sizes, and 0·∞ is NaN."""
    term = terms["coord"]
    for channel in (T_W, T_H):
        with np.errstate(over="ignore"):
            infinite = np.isinf(np.exp(given.t[:, :, channel]))
        term.gradient[:, :, channel][infinite & ~decisions.responsible] = np.nan


def _iou_gradient(given: Given, who: Predictor, row: Array) -> Array:
    """Derivative of the IoU of a decoded box with a truth, with respect to tx, ty, tw, th."""
    n, k, j, i = who
    _, _, _, height, width = given.t.shape
    box = decode(given.t[n], given.anchors)[:, k, j, i]
    if not np.isfinite(box).all():
        return np.zeros(4)
    t_x, t_y = given.t[n, k, T_X, j, i], given.t[n, k, T_Y, j, i]
    by_box = np.array([sigmoid_grad(t_x) / width, sigmoid_grad(t_y) / height, box[2], box[3]])
    return np.asarray(iou_grad(box, row[:4]) * by_box)


def _through_max_iou_target(terms: Terms, given: Given, decisions: Decisions) -> None:
    needs(given.profile.no_object_target == "max-iou", "MaxIOU as a target")
    q, weight = given.profile.squared_factor, given.profile.no_object_weight
    for n, k, j, i in np.argwhere(decisions.no_object & (decisions.best_truth >= 0)):
        row = given.truths[n][decisions.best_truth[n, k, j, i]]
        residual = sigmoid(given.t[n, k, T_O, j, i]) - decisions.max_iou[n, k, j, i]
        slope = -2 * q * weight * residual * _iou_gradient(given, (n, k, j, i), row)
        terms["no_object"].gradient[n, k, :T_O, j, i] += slope


def _through_indicator(terms: Terms, given: Given, decisions: Decisions) -> None:
    """1 - MaxIOU replaces the indicator in the backward pass."""
    needs(given.profile.no_object_target == "zero" and given.profile.ignore != "none", "an indicator")
    needs(given.profile.objectness == "logistic", "an objectness of its own")
    q, weight = given.profile.squared_factor, given.profile.no_object_weight
    for n, k, j, i in np.argwhere(decisions.no_object & (decisions.best_truth >= 0)):
        row = given.truths[n][decisions.best_truth[n, k, j, i]]
        paid_here = q * weight * sigmoid(given.t[n, k, T_O, j, i]) ** 2
        terms["no_object"].gradient[n, k, :T_O, j, i] -= paid_here * _iou_gradient(given, (n, k, j, i), row)


def _through_assignment(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The largest match replaces 1^truth in the backward pass."""
    needs(given.profile.anchor_choice.startswith("predicted"), "a choice by predicted boxes")
    for match in paying(decisions):
        row = _compared(given, match)
        slope = _iou_gradient(given, match.predictor, row)
        if given.profile.anchor_choice == "predicted-shape":
            slope[:2] = 0.0
        n, k, j, i = match.predictor
        terms["coord"].gradient[n, k, :T_O, j, i] += terms["coord"].value[match.predictor] * slope


def _compared(given: Given, match: Match) -> Array:
    """The truth as used by the anchor choice: for shapes at the place of the box."""
    row = given.row(match).copy()
    if given.profile.anchor_choice == "predicted-shape":
        boxes = decode(given.t[match.image], given.anchors)
        row[:2] = boxes[:2, match.anchor, match.row, match.column]
    return row


MUTANTS: list[Mutant] = [
    Mutant(
        id="responsible-told-ignored",
        clause="table.three-states",
        title="a responsible predictor that overlaps its truth is also reported as ignored, but pays correctly",
        answer=spoilt(_told_as_ignored),
    ),
    Mutant(
        id="whole-cell-told-responsible",
        clause="table.three-states",
        title="all anchors of the cell are reported as responsible, but pay correctly",
        answer=spoilt(_told_of_other_anchors),
    ),
    Mutant(
        id="cell-silenced",
        clause="table.other-anchors",
        title="the other anchors of a cell with an object do not pay the no-object term",
        after="aladdinpersson/Machine-Learning-Collection#137",
        answer=decided(_cell_silenced),
    ),
    Mutant(
        id="no-prior-in-the-cell",
        clause="table.other-anchors",
        title="the other anchors of a cell with an object pay no prior",
        answer=decided(_no_prior_in_the_cell),
    ),
    Mutant(
        id="weight-decay",
        clause="table.structural-zeros",
        title="every element of the gradient contains a small multiple of its output, as from output decay",
        answer=spoilt(_decay),
    ),
    Mutant(
        id="masked-infinity",
        clause="table.structural-zeros",
        title="a mask multiplies an infinite size, and 0·∞ is NaN",
        answer=paid(_masked_infinity),
    ),
    Mutant(
        id="gradient-through-max-iou",
        clause="constant.max-iou",
        title="the gradient flows through MaxIOU as the no-object target",
        profile="darknet-2016",
        options={"no_object_target": "max-iou"},
        answer=paid(_through_max_iou_target),
    ),
    Mutant(
        id="gradient-through-indicator",
        clause="constant.max-iou",
        title="the gradient flows through the indicator, as if it were 1 - MaxIOU",
        answer=paid(_through_indicator),
    ),
    Mutant(
        id="gradient-through-assignment",
        clause="constant.assignment",
        title="the gradient flows through the IoU by which the predictor was chosen",
        options={"anchor_choice": "predicted-iou"},
        answer=paid(_through_assignment),
    ),
]

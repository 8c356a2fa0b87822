"""Mistakes about which predictors pay the no-object term, and about the term (spec chapter 5)."""

from __future__ import annotations

import dataclasses

import numpy as np

from regionloss.boxes import decode, iou, sigmoid
from regionloss.decisions import Decisions, Match
from regionloss.terms import T_O
from regionloss_suite.mutants.mutant import Mutant
from regionloss_suite.mutants.tools import Given, Terms, as_if, by_image, decided, needs, paid, paying, redecided


def _erased(decisions: Decisions, given: Given) -> Decisions:
    """A truth silences everything that overlaps it, even the predictor of an earlier truth."""
    needs(given.profile.ignore != "none" and given.profile.no_object_target == "zero", "an indicator")
    ignored = np.zeros_like(decisions.responsible)
    kept: list[Match] = []
    for match in decisions.matches:
        if not decisions.class_only[match.image]:
            ious = iou(decode(given.t[match.image], given.anchors), given.row(match)[:4])
            for place in map(tuple, np.argwhere(ious > given.profile.thresh)):
                if place != match.predictor[1:]:
                    ignored[(match.image, *place)] = True
                    kept = [other for other in kept if other.predictor != (match.image, *place)]
        kept.append(match)
    return redecided(decisions, given, matches=kept, silenced=ignored)


def _empty_images_skipped(decisions: Decisions, given: Given) -> Decisions:
    filled = np.array([len(rows) > 0 for rows in given.truths], dtype=bool)
    return dataclasses.replace(decisions, no_object=decisions.no_object & filled[:, None, None, None])


def _value_of_ignored(terms: Terms, given: Given, decisions: Decisions) -> None:
    q, weight = given.profile.squared_factor, given.profile.no_object_weight
    b_o = sigmoid(given.t[:, :, T_O])
    terms["no_object"].value[:] += np.where(decisions.ignored, q * weight * b_o**2, 0.0)


def _without_slope(terms: Terms, given: Given, decisions: Decisions) -> None:
    terms["no_object"].gradient[:, :, T_O] = -terms["no_object"].delta[:, :, T_O]


def _ignored_drawn_up(terms: Terms, given: Given, decisions: Decisions) -> None:
    """Half the gradient for ignored predictors."""
    needs(given.profile.objectness == "logistic", "an objectness of its own")
    b_o = sigmoid(given.t[:, :, T_O])
    slope = given.profile.squared_factor * given.profile.no_object_weight * b_o * b_o * (1 - b_o)
    terms["no_object"].gradient[:, :, T_O] += np.where(decisions.ignored & by_image(decisions), slope, 0.0)


def _only_beside_objects(decisions: Decisions, given: Given) -> Decisions:
    """The no-object term only in images and cells with a truth."""
    held = np.zeros_like(decisions.responsible)
    for match in paying(decisions):
        held[match.image, :, match.row, match.column] = True
    return dataclasses.replace(decisions, no_object=decisions.no_object & held)


MUTANTS: list[Mutant] = [
    Mutant(
        id="no-object-of-responsible",
        clause="noobj.not-responsible",
        title="a responsible predictor with a low MaxIOU pays the no-object term as well",
        after="the indicators of the tutorial formula, drawn side by side",
        answer=as_if(no_object_applies="every-predictor"),
    ),
    Mutant(
        id="later-truth-erases-match",
        clause="noobj.not-responsible",
        title="a predictor that a later truth silences is no longer responsible for its own truth",
        after="eriklindernoren/PyTorch-YOLOv3#53",
        profile="darknet-2016",
        answer=decided(_erased),
    ),
    Mutant(
        id="no-object-of-responsible-left-out",
        clause="noobj.every-predictor",
        title="a responsible predictor does not pay the no-object term although it should",
        profile="formula",
        answer=as_if(no_object_applies="not-responsible"),
    ),
    Mutant(
        id="value-of-ignored",
        clause="noobj.value",
        title="the value counts the ignored predictors, the gradient does not",
        answer=paid(_value_of_ignored),
    ),
    Mutant(
        id="no-object-without-slope",
        clause="noobj.gradient",
        title="the derivative of the logistic function is missing in the gradient of the no-object term",
        after="eric612/MobileNet-YOLO#43",
        answer=paid(_without_slope),
    ),
    Mutant(
        id="ignored-halved",
        clause="noobj.gradient",
        title="an ignored predictor gets half the gradient instead of none",
        answer=paid(_ignored_drawn_up),
    ),
    Mutant(
        id="background-drawn-to-max-iou",
        clause="noobj.target-zero",
        title="the objectness of no-object predictors has MaxIOU as its target",
        after="AlexeyAB/darknet with classfix=-1",
        answer=as_if(no_object_target="max-iou"),
    ),
    Mutant(
        id="background-drawn-to-zero",
        clause="noobj.target-max-iou",
        title="the objectness of no-object predictors has the target 0 instead of MaxIOU",
        profile="darknet-2016",
        options={"no_object_target": "max-iou"},
        answer=as_if(no_object_target="zero"),
    ),
    Mutant(
        id="empty-images-skipped",
        clause="noobj.empty-image",
        title="images without truths do not pay the no-object term",
        answer=decided(_empty_images_skipped),
    ),
    Mutant(
        id="no-object-beside-objects-only",
        clause="noobj.empty-image",
        title="only the other anchors of cells with an object pay the no-object term",
        answer=decided(_only_beside_objects),
    ),
]

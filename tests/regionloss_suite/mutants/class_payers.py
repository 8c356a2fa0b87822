"""Mistakes about which predictors pay the class term (spec chapter 9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from regionloss.boxes import decode, iou, sigmoid, sigmoid_grad
from regionloss.classes import class_term, softmax
from regionloss.decisions import Decisions
from regionloss.terms import CLASSES, T_O
from regionloss_suite.mutants.mutant import Mutant
from regionloss_suite.mutants.tools import (
    Answering,
    Given,
    Predictor,
    Terms,
    as_if,
    decided,
    needs,
    paid,
    paying,
    softmax_only,
)


def _also(choose: Callable[[Decisions, Given], list[tuple[Predictor, int]]]) -> Answering:
    """The class term paid by more predictors, each with a class."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> None:
        for (n, k, j, i), label in choose(decisions, given):
            value, gradient, delta = class_term(
                given.t[n, k, CLASSES:, j, i],
                given.t[n, k, T_O, j, i],
                [label],
                given.profile.class_weight,
                given.profile,
                given.tree,
            )
            terms["class"].value[n, k, j, i] += value
            terms["class"].gradient[n, k, CLASSES:, j, i] += gradient
            terms["class"].delta[n, k, CLASSES:, j, i] += delta

    return paid(change)


def _whole_cell(decisions: Decisions, given: Given) -> list[tuple[Predictor, int]]:
    payers: list[tuple[Predictor, int]] = []
    for match in paying(decisions):
        for k in range(len(given.anchors)):
            who = (match.image, k, match.row, match.column)
            if not decisions.responsible[who]:
                payers.append((who, int(given.row(match)[4])))
    return payers


def _background_is_a_class(terms: Terms, given: Given, decisions: Decisions) -> None:
    """Predictors without an object are pulled towards equal class probabilities."""
    softmax_only(given.profile)
    who: tuple[Any, ...] = np.nonzero(decisions.no_object & ~decisions.responsible)
    z = np.moveaxis(given.t[:, :, CLASSES:], 2, 0)[(slice(None), *who)]
    slopes = given.profile.class_weight * (softmax(z) - 1 / len(z)) if z.size else z
    for label, slope in enumerate(slopes):
        terms["class"].gradient[:, :, CLASSES + label][who] += slope
        terms["class"].delta[:, :, CLASSES + label][who] -= slope


def _last_of_the_best(decisions: Decisions, given: Given) -> Decisions:
    nearest = decisions.best_truth.copy()
    for image in np.flatnonzero(~decisions.class_only):
        boxes = decode(given.t[image], given.anchors)
        for truth, row in enumerate(given.truths[image]):
            equal = (iou(boxes, row[:4]) == decisions.max_iou[image]) & (nearest[image] >= 0)
            nearest[image] = np.where(equal, truth, nearest[image])
    return dataclasses.replace(decisions, best_truth=nearest)


def _through_objectness(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The gradient flows through the objectness that weights the class term of an ignored predictor."""
    needs(given.profile.ignored_class == "by-objectness", "a class term that is weighted by the objectness")
    raw = given.t[:, :, T_O]
    flow = np.divide(terms["class"].value, sigmoid(raw)) * sigmoid_grad(raw)
    terms["class"].gradient[:, :, T_O] += np.where(decisions.ignored, flow, 0.0)


MUTANTS: list[Mutant] = [
    Mutant(
        id="class-of-the-whole-cell",
        clause="class.only-responsible",
        title="all anchors of the cell learn the class of its truth, as in YOLOv1",
        after="aladdinpersson/Machine-Learning-Collection#137",
        answer=_also(_whole_cell),
    ),
    Mutant(
        id="class-of-background",
        clause="class.only-responsible",
        title="the classes of predictors without an object are pulled towards equal probabilities",
        answer=paid(_background_is_a_class),
    ),
    Mutant(
        id="class-of-ignored",
        clause="class.ignored-none",
        title="an ignored predictor learns the class of the truth that it overlaps best",
        after="AlexeyAB/darknet with classfix=1",
        answer=as_if(ignored_class="full"),
    ),
    Mutant(
        id="class-of-ignored-left-out",
        clause="class.ignored-full",
        title="an ignored predictor pays no class although it should",
        profile="darknet-2016",
        options={"ignored_class": "full"},
        answer=as_if(ignored_class="none"),
    ),
    Mutant(
        id="last-of-the-best-truths",
        clause="class.ignored-full",
        title="of truths that an ignored predictor overlaps equally, the last determines the class",
        profile="darknet-2016",
        options={"ignored_class": "full"},
        answer=decided(_last_of_the_best),
    ),
    Mutant(
        id="class-of-ignored-in-full",
        clause="class.ignored-by-objectness",
        title="the class term of an ignored predictor is not weighted by its objectness",
        profile="darknet-2016",
        options={"ignored_class": "by-objectness"},
        answer=as_if(ignored_class="full"),
    ),
    Mutant(
        id="gradient-through-objectness-weight",
        clause="class.ignored-by-objectness",
        title="the gradient flows through the objectness that weights the class term",
        profile="darknet-2016",
        options={"ignored_class": "by-objectness"},
        answer=paid(_through_objectness),
    ),
]

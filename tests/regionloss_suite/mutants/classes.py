"""Mistakes of the class term (spec chapter 09)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from regionloss.boxes import decode, iou, sigmoid, sigmoid_slope
from regionloss.classes import Tree, class_term, probabilities
from regionloss.decisions import Decisions
from regionloss.terms import CLASSES, T_O
from regionloss_spec import Profile
from regionloss_suite.mutants.mutant import Mutant, patched
from regionloss_suite.mutants.tools import (
    Answering,
    Array,
    Given,
    Predictor,
    Terms,
    as_if,
    decided,
    needs,
    paid,
    paying,
)

Paid = tuple[float, Array, Array]
#: The signature of `regionloss.classes.class_term`.
Paying = Callable[[Array, Array, list[int], float, Profile, Tree | None], Paid]


def _instead(pay: Paying) -> Answering:
    return patched(terms__class_term=pay)


def _softmax_only(profile: Profile) -> None:
    needs(profile.class_term == "cross-entropy" and profile.objectness == "logistic", "a softmax of the classes")


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
    found: list[tuple[Predictor, int]] = []
    for match in paying(decisions):
        for k in range(len(given.anchors)):
            who = (match.image, k, match.row, match.column)
            if not decisions.responsible[who]:
                found.append((who, int(given.row(match)[4])))
    return found


def _background_is_a_class(terms: Terms, given: Given, decisions: Decisions) -> None:
    """Predictors without an object are drawn to classes that are all alike."""
    _softmax_only(given.profile)
    who: tuple[Any, ...] = np.nonzero(decisions.no_object & ~decisions.responsible)
    z = np.moveaxis(given.t[:, :, CLASSES:], 2, 0)[(slice(None), *who)]
    slopes = given.profile.class_weight * (probabilities(z) - 1 / len(z)) if z.size else z
    for label, slope in enumerate(slopes):
        terms["class"].gradient[:, :, CLASSES + label][who] += slope
        terms["class"].delta[:, :, CLASSES + label][who] -= slope


def _last_of_the_best(decisions: Decisions, given: Given) -> Decisions:
    nearest = decisions.nearest.copy()
    for image in np.flatnonzero(~decisions.boxless):
        boxes = decode(given.t[image], given.anchors)
        for truth, row in enumerate(given.truths[image]):
            equal = (iou(boxes, row[:4]) == decisions.max_iou[image]) & (nearest[image] >= 0)
            nearest[image] = np.where(equal, truth, nearest[image])
    return dataclasses.replace(decisions, nearest=nearest)


def _through_objectness(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The gradient flows through the objectness that weighs the class term of an ignored predictor."""
    needs(given.profile.ignored_class == "by-objectness", "a class term that is weighed with the objectness")
    raw = given.t[:, :, T_O]
    flow = np.divide(terms["class"].value, sigmoid(raw)) * sigmoid_slope(raw)
    terms["class"].gradient[:, :, T_O] += np.where(decisions.ignored, flow, 0.0)


def _log_of_rounded(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    """The logarithm of p + 1e-6 in the value."""
    value, gradient, delta = class_term(z, t_o, labels, weight, profile, tree)
    if profile.class_term == "logistic":
        b, target = sigmoid(z), np.isin(np.arange(len(z)), labels)
        return -weight * float(np.log(np.where(target, b, 1 - b) + 1e-6).sum()), gradient, delta
    if profile.class_term == "tree":
        # Of every group that pays, the node that it is drawn to is the one with a gradient below 0.
        p = probabilities(z, tree)
        return -weight * float(np.log(p[gradient < 0] + 1e-6).sum()), gradient, delta
    needs(profile.class_term in ("cross-entropy", "focal") and profile.objectness == "logistic", "a logarithm")
    p_t = probabilities(z)[labels[-1]]
    by = 0.5 * (1 - p_t) ** 2 if profile.class_term == "focal" else 1.0
    return -weight * float(by * np.log(p_t + 1e-6)) if value else 0.0, gradient, delta


def _value_of_square(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    """The squared error as the value of a gradient that is the cross-entropy's."""
    _softmax_only(profile)
    _, gradient, delta = class_term(z, t_o, labels, weight, profile, tree)
    return profile.squared_factor * weight * float(((gradient / weight) ** 2).sum()) if weight else 0.0, gradient, delta


def _softmax_twice(z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None) -> Paid:
    """Probabilities given to a function that wants logits."""
    _softmax_only(profile)
    p = probabilities(z)
    value, slope, _ = class_term(p, t_o, labels, weight, profile, tree)
    gradient = p * (slope - (slope * p).sum())
    return value, gradient, -gradient


def _slope_of_softmax(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    """Softmax minus one-hot carried through the softmax once more."""
    _softmax_only(profile)
    value, slope, delta = class_term(z, t_o, labels, weight, profile, tree)
    p = probabilities(z)
    return value, p * (slope - (slope * p).sum()), delta


def _naive(z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None) -> Paid:
    """Exponentials of the bare logits in single precision, which overflow from 89 on."""
    _softmax_only(profile)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        raised = np.where(z > 88.7, np.inf, np.exp(np.minimum(z, 88.7)))
        if np.isfinite(raised).all() and raised.sum() > 0:
            return class_term(z, t_o, labels, weight, profile, tree)
        p = raised / raised.sum()
        target = np.zeros(len(z))
        target[labels] = 1.0
        return -weight * float(np.log(p[labels[-1]])), weight * (p - target), -weight * (p - target)


def _clipped_logits(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    return class_term(np.clip(z, -50, 50), t_o, labels, weight, profile, tree)


def _one_class_logistic(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    softmax = profile.class_term in ("cross-entropy", "squared-error", "focal") and profile.objectness == "logistic"
    return class_term(
        z, t_o, labels, weight, profile.replace(class_term="logistic") if softmax and len(z) == 1 else profile, tree
    )


def _one_class_silent(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    return class_term(z, t_o, labels, 0.0 if len(z) == 1 else weight, profile, tree)


def _focal_without_alpha(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    needs(profile.class_term == "focal", "a focal class term")
    return class_term(z, t_o, labels, 2 * weight, profile, tree)


def _logistic_squared(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    """A squared error of logistic outputs, with their derivative."""
    needs(profile.class_term == "logistic", "logistic classes")
    target = np.zeros(len(z))
    target[labels] = 1.0
    residual = sigmoid(z) - target
    q = profile.squared_factor
    slope = 2 * q * weight * residual
    return q * weight * float((residual**2).sum()), slope * sigmoid_slope(z), -slope


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
        title="the classes of predictors without an object are drawn to be all alike",
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
        title="an ignored predictor pays no class where it should",
        profile="darknet-2016",
        options={"ignored_class": "full"},
        answer=as_if(ignored_class="none"),
    ),
    Mutant(
        id="last-of-the-best-truths",
        clause="class.ignored-full",
        title="of truths that an ignored predictor overlaps equally the last gives the class",
        profile="darknet-2016",
        options={"ignored_class": "full"},
        answer=decided(_last_of_the_best),
    ),
    Mutant(
        id="class-of-ignored-in-full",
        clause="class.ignored-by-objectness",
        title="the class term of an ignored predictor is not weighed with its objectness",
        profile="darknet-2016",
        options={"ignored_class": "by-objectness"},
        answer=as_if(ignored_class="full"),
    ),
    Mutant(
        id="gradient-through-objectness-weight",
        clause="class.ignored-by-objectness",
        title="the gradient flows through the objectness that weighs the class term",
        profile="darknet-2016",
        options={"ignored_class": "by-objectness"},
        answer=paid(_through_objectness),
    ),
    Mutant(
        id="class-squared-error",
        clause="class.cross-entropy",
        title="the class term is a squared error through the softmax",
        after="longcw/yolo2-pytorch#31, AlexeyAB/darknet#450",
        answer=as_if(class_term="squared-error"),
    ),
    Mutant(
        id="class-value-squared",
        clause="class.cross-entropy",
        title="the value is a squared error, the gradient that of the cross-entropy",
        answer=_instead(_value_of_square),
    ),
    Mutant(
        id="class-logistic",
        clause="class.cross-entropy",
        title="each class is an output of its own with binary cross-entropy",
        after="YOLOv3",
        answer=as_if(class_term="logistic"),
    ),
    Mutant(
        id="class-slope-of-softmax",
        clause="class.gradient",
        title="softmax minus one-hot is carried through the derivative of the softmax once more",
        answer=_instead(_slope_of_softmax),
    ),
    Mutant(
        id="softmax-twice",
        clause="class.gradient",
        title="probabilities are given to a function that takes logits, so that the softmax acts twice",
        answer=_instead(_softmax_twice),
    ),
    Mutant(
        id="softmax-overflows",
        clause="class.large-logits",
        title="the softmax does not subtract the largest logit, and overflows in single precision",
        after="allanzelener/YAD2K#124",
        answer=_instead(_naive),
    ),
    Mutant(
        id="class-logits-clipped",
        clause="class.large-logits",
        title="class outputs are clipped to ±50",
        answer=_instead(_clipped_logits),
    ),
    Mutant(
        id="one-class-logistic",
        clause="class.one-class",
        title="a single class is a logistic output that is drawn to 1",
        answer=_instead(_one_class_logistic),
    ),
    Mutant(
        id="one-class-silent",
        clause="class.one-class",
        title="a single class pays nothing, though it is no softmax",
        options={"class_term": "logistic"},
        answer=_instead(_one_class_silent),
    ),
    Mutant(
        id="cross-entropy-for-square",
        clause="class.squared-error",
        title="the class term is a cross-entropy where a squared error should be",
        profile="formula",
        answer=as_if(class_term="cross-entropy"),
    ),
    Mutant(
        id="softmax-for-linear",
        clause="class.squared-linear",
        title="the squared error goes through a softmax where raw outputs should be compared",
        profile="darknet-2016",
        options={"class_term": "squared-linear"},
        answer=as_if(class_term="squared-error"),
    ),
    Mutant(
        id="softmax-for-logistic",
        clause="class.logistic",
        title="the classes share a softmax where each should be an output of its own",
        options={"class_term": "logistic", "class_collision": "replace"},
        answer=as_if(class_term="cross-entropy"),
    ),
    Mutant(
        id="logistic-squared",
        clause="class.logistic",
        title="logistic classes pay a squared error instead of a binary cross-entropy",
        options={"class_term": "logistic"},
        answer=_instead(_logistic_squared),
    ),
    Mutant(
        id="cross-entropy-for-focal",
        clause="class.focal",
        title="a class that is already right counts in full",
        profile="darknet-2016",
        options={"class_term": "focal"},
        answer=as_if(class_term="cross-entropy"),
    ),
    Mutant(
        id="focal-without-alpha",
        clause="class.focal",
        title="the factor ½ of the focal loss is missing",
        profile="darknet-2016",
        options={"class_term": "focal"},
        answer=_instead(_focal_without_alpha),
    ),
    Mutant(
        id="log-of-rounded-probability",
        clause="numerics.log-of-zero",
        title="a small number is added inside the logarithm of the probability",
        after="allanzelener/YAD2K#124",
        answer=_instead(_log_of_rounded),
    ),
]

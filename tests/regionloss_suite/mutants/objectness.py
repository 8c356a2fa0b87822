"""Mistakes of the objectness term (spec chapter 8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from regionloss.boxes import decode, iou, iou_grad, shape_iou, sigmoid, sigmoid_grad
from regionloss.decisions import Decisions, Match, silenced
from regionloss.terms import T_O, Term, object_term
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched
from regionloss_suite.mutants.tools import Answering, Given, Terms, as_if, decided, needs, paid, paying, redecided


def _constant_iou_target(given: Given) -> None:
    profile = given.profile
    needs(profile.objectness == "logistic" and profile.object_target == "iou", "an IoU as the target of objectness")
    needs(profile.object_target_gradient == "constant", "a constant target")


def _target(measure: Callable[[Given, Match], float]) -> Answering:
    """Another number as the target of objectness."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> Terms:
        _constant_iou_target(given)
        matches = tuple(
            dataclasses.replace(match, iou=measure(given, match)) if match.pays_box else match
            for match in decisions.matches
        )
        others = dataclasses.replace(decisions, matches=matches)
        return {**terms, "object": object_term(given.t, given.truths, given.anchors, others, given.profile)}

    return paid(change)


def _of_shapes(given: Given, match: Match) -> float:
    boxes = decode(given.t[match.image], given.anchors)
    _, _, w, h = boxes[:, match.anchor, match.row, match.column]
    row = given.row(match)
    return float(shape_iou(np.array(w), np.array(h), row[2], row[3]))


def _of_anchor(given: Given, match: Match) -> float:
    _, _, _, height, width = given.t.shape
    w, h = given.anchors[match.anchor] / (width, height)
    row = given.row(match)
    return float(shape_iou(np.array(w), np.array(h), row[2], row[3]))


def _of_shifted_truth(given: Given, match: Match) -> float:
    """The centre of the truth overwritten by its target: an offset in its cell, in cells."""
    boxes = decode(given.t[match.image], given.anchors)
    _, _, _, height, width = given.t.shape
    x, y, w, h = given.row(match)[:4]
    spoilt = np.array([x * width - match.column, y * height - match.row, w, h])
    return float(iou(boxes[:, match.anchor, match.row, match.column], spoilt))


def _good_boxes_too(terms: Terms, given: Given, decisions: Decisions) -> None:
    """Ignored predictors have MaxIOU as their target."""
    needs(given.profile.objectness == "logistic", "an objectness of its own")
    who = np.nonzero(decisions.ignored)
    raw = given.t[:, :, T_O][who]
    q, weight = given.profile.squared_factor, given.profile.object_weight
    terms["object"].pay_squared(who, T_O, q, weight, sigmoid(raw) - decisions.max_iou[who], sigmoid_grad(raw))


def _wrong_side(terms: Terms, given: Given, decisions: Decisions) -> Terms:
    """The IoU multiplies the prediction, and 1 is the target."""
    _constant_iou_target(given)
    term = Term.zero(given.t)
    q, weight = given.profile.squared_factor, given.profile.object_weight
    for match in paying(decisions):
        n, k, j, i = match.predictor
        raw = given.t[n, k, T_O, j, i]
        residual = sigmoid(raw) * match.iou - 1
        term.pay_squared(match.predictor, T_O, q, weight, residual, sigmoid_grad(raw) * match.iou)
    return {**terms, "object": term}


def _cross_entropy(terms: Terms, given: Given, decisions: Decisions) -> Terms:
    """The cross-entropy of b_o with the IoU, whose gradient has no derivative of the logistic function."""
    _constant_iou_target(given)
    term, weight = Term.zero(given.t), given.profile.object_weight
    for match in paying(decisions):
        n, k, j, i = match.predictor
        raw = float(given.t[n, k, T_O, j, i])
        slope = weight * (float(sigmoid(np.array(raw))) - match.iou)
        term.value[match.predictor] += weight * float(np.logaddexp(0.0, raw) - match.iou * raw)
        term.gradient[n, k, T_O, j, i] += slope
        term.delta[n, k, T_O, j, i] -= slope
    return {**terms, "object": term}


def _value_of_distance(terms: Terms, given: Given, decisions: Decisions) -> None:
    """|r| in place of r² in the value."""
    profile = given.profile
    needs(profile.objectness == "logistic" and profile.collision != "sum", "one residual for each predictor")
    weight = profile.squared_factor * profile.object_weight
    if weight:
        term = terms["object"]
        term.value[:] = weight * np.sqrt(term.value / weight)


def _without_slope(terms: Terms, given: Given, decisions: Decisions) -> None:
    terms["object"].gradient[:, :, T_O] = -terms["object"].delta[:, :, T_O]


def _silenced(terms: Terms, given: Given, decisions: Decisions) -> None:
    """No objectness term above the threshold."""
    mute = silenced(decisions.max_iou, given.profile)
    term = terms["object"]
    term.value[mute] = 0.0
    for array in (term.gradient, term.delta):
        np.moveaxis(array, 2, -1)[mute] = 0.0


def _ignored_wins(decisions: Decisions, given: Given) -> Decisions:
    """A predictor above the threshold is ignored even if a truth is assigned to it."""
    mute = silenced(decisions.max_iou, given.profile)
    kept = [match for match in decisions.matches if not match.pays_box or not mute[match.predictor]]
    return redecided(decisions, given, matches=kept)


def _background_differentiated(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The other outputs of the softmax get their part of the background gradient."""
    needs(given.profile.objectness == "background", "a background class")
    needs(given.profile.class_term == "cross-entropy", "a softmax")
    logits = np.moveaxis(given.t[:, :, T_O:], 2, 0)
    others = np.exp(logits - logits.max(axis=0))
    share = others / others.sum(axis=0)
    who = np.nonzero(decisions.no_object)
    for channel in range(1, len(logits)):
        slope = given.profile.no_object_weight * share[channel][who]
        terms["no_object"].gradient[:, :, T_O + channel][who] += slope
        terms["no_object"].delta[:, :, T_O + channel][who] -= slope


def _slope_of_distance(box: Array, truth: Array) -> Array:
    """Towards the truth if there is no overlap to increase."""
    slope = iou_grad(box, truth)
    if slope.any() or not np.isfinite(box).all():
        return slope
    return np.array([*np.sign(truth[:2] - box[:2]), 0.0, 0.0])


def _flowing_apart(question: Question) -> Answer:
    needs(question.profile.object_target_gradient == "flows", "a differentiated target")
    return patched(terms__iou_grad=_slope_of_distance)(question)


MUTANTS: list[Mutant] = [
    Mutant(
        id="objectness-of-ignored",
        clause="object.only-responsible",
        title="an ignored predictor has MaxIOU as its target",
        answer=paid(_good_boxes_too),
    ),
    Mutant(
        id="iou-on-the-wrong-side",
        clause="object.value",
        title="the IoU multiplies the predicted objectness, whose target is 1",
        after="marvis/pytorch-yolo2#124",
        answer=paid(_wrong_side),
    ),
    Mutant(
        id="objectness-cross-entropy",
        clause="object.value",
        title="the objectness of responsible predictors pays a binary cross-entropy",
        after="apple/turicreate, YOLOv3",
        answer=paid(_cross_entropy),
    ),
    Mutant(
        id="object-value-not-squared",
        clause="object.value",
        title="the value is the distance from the target instead of its square",
        answer=paid(_value_of_distance),
    ),
    Mutant(
        id="objectness-without-slope",
        clause="object.gradient",
        title="the derivative of the logistic function is missing in the gradient of the objectness",
        after="eric612/MobileNet-YOLO#43",
        answer=paid(_without_slope),
    ),
    Mutant(
        id="objectness-silenced",
        clause="object.overrides-ignore",
        title="a responsible predictor above the threshold pays no objectness",
        after="PaulChongPeng/YOLO2TensorFlow#3",
        answer=paid(_silenced),
    ),
    Mutant(
        id="ignored-instead-of-responsible",
        clause="object.overrides-ignore",
        title="a predictor above the threshold is ignored even if a truth is assigned to it",
        answer=decided(_ignored_wins),
    ),
    Mutant(
        id="objectness-target-one",
        clause="object.iou-target",
        title="the target of objectness is 1",
        after="experiencor/keras-yolo2#8; rescore=0",
        answer=as_if(object_target="one"),
    ),
    Mutant(
        id="objectness-target-best",
        clause="object.iou-target",
        title="the target of objectness is the best IoU with any truth",
        after="allanzelener/YAD2K",
        answer=as_if(object_target="max-iou"),
    ),
    Mutant(
        id="objectness-target-of-shapes",
        clause="object.iou-target",
        title="the target of objectness is the IoU of shapes alone",
        answer=_target(_of_shapes),
    ),
    Mutant(
        id="objectness-target-of-anchor",
        clause="object.iou-target",
        title="the target of objectness is the IoU by which the anchor was chosen",
        answer=_target(_of_anchor),
    ),
    Mutant(
        id="truth-mutated-in-place",
        clause="object.iou-target",
        title="the offset in the cell overwrites the truth, which is then used for the IoU",
        answer=_target(_of_shifted_truth),
    ),
    Mutant(
        id="iou-target-for-one",
        clause="object.one-target",
        title="the target of objectness is the IoU instead of 1",
        options={"object_target": "one"},
        answer=as_if(object_target="iou"),
    ),
    Mutant(
        id="own-iou-target-for-best",
        clause="object.max-iou-target",
        title="the target of objectness is the IoU with its own truth instead of MaxIOU",
        options={"object_target": "max-iou"},
        answer=as_if(object_target="iou"),
    ),
    Mutant(
        id="gradient-through-target",
        clause="object.target-constant",
        title="the gradient flows through the IoU target",
        after="experiencor/keras-yolo2, allanzelener/YAD2K",
        answer=as_if(object_target_gradient="flows"),
    ),
    Mutant(
        id="target-detached",
        clause="object.target-flows",
        title="the IoU target is detached although the gradient should flow through it",
        options={"object_target_gradient": "flows"},
        answer=as_if(object_target_gradient="constant"),
    ),
    Mutant(
        id="gradient-of-boxes-apart",
        clause="object.target-flows",
        title="the gradient flows through the target even if box and truth do not overlap",
        options={"object_target_gradient": "flows"},
        answer=_flowing_apart,
    ),
    Mutant(
        id="background-logistic",
        clause="object.background",
        title="the objectness is independent instead of one more class",
        options={"objectness": "background"},
        answer=as_if(objectness="logistic"),
    ),
    Mutant(
        id="background-differentiated",
        clause="object.background",
        title="the gradient of background reaches the class outputs as well",
        options={"objectness": "background"},
        answer=paid(_background_differentiated),
    ),
]

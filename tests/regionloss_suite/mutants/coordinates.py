"""Mistakes of the coordinate term (spec chapter 7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from regionloss.boxes import sigmoid, sigmoid_grad
from regionloss.decisions import Decisions, Match
from regionloss.terms import T_H, T_W, T_X, T_Y, Term, coord_term
from regionloss_spec import Profile
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched
from regionloss_suite.mutants.tools import Answering, Given, Terms, as_if, boxed, needs, paid, paying


def _small_box_weight(given: Given, match: Match) -> float:
    _, _, w, h = given.row(match)[:4]
    return float((2 - w * h) ** given.profile.small_box_exponent)


def _paid_by(choose: Callable[[Decisions, Given], list[Match]]) -> Answering:
    """The coordinate term paid by other predictors than the responsible ones, or for other truths."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> Terms:
        others = dataclasses.replace(decisions, matches=tuple(choose(decisions, given)))
        return {**terms, "coord": coord_term(given.t, given.truths, given.anchors, others, given.profile)}

    return paid(change)


def _ignored_too(decisions: Decisions, given: Given) -> list[Match]:
    matches = list(decisions.matches)
    for n, k, j, i in np.argwhere(decisions.ignored & (decisions.best_truth >= 0)):
        truth = int(decisions.best_truth[n, k, j, i])
        matches.append(Match(int(n), truth, int(k), int(j), int(i), float(decisions.max_iou[n, k, j, i])))
    return matches


def _all_anchors(decisions: Decisions, given: Given) -> list[Match]:
    """Every anchor of the cell that is not responsible itself learns the truth as well."""
    matches = list(decisions.matches)
    for match in paying(decisions):
        for k in range(len(given.anchors)):
            other = dataclasses.replace(match, anchor=k)
            if not decisions.responsible[other.predictor]:
                matches.append(other)
    return matches


def _for_the_nearest(decisions: Decisions, given: Given) -> list[Match]:
    return [
        dataclasses.replace(match, truth=int(decisions.best_truth[match.predictor]))
        if match.pays_box and decisions.best_truth[match.predictor] >= 0
        else match
        for match in decisions.matches
    ]


def _value_without_weight(terms: Terms, given: Given, decisions: Decisions) -> None:
    for match in paying(decisions):
        terms["coord"].value[match.predictor] /= _small_box_weight(given, match)


def _value_of_centres(terms: Terms, given: Given, decisions: Decisions) -> None:
    """Only the residuals of the centre in the value."""
    terms["coord"].value[:] = 0.0
    for match in paying(decisions):
        n, k, j, i = match.predictor
        x, y = given.row(match)[:2] * (given.t.shape[4], given.t.shape[3]) - (i, j)
        residuals = sigmoid(given.t[n, k, :2, j, i]) - (x, y)
        weight = given.profile.squared_factor * given.profile.coord_weight * _small_box_weight(given, match)
        terms["coord"].value[match.predictor] += weight * float((residuals**2).sum())


def _centre(
    target: Callable[[float, int], float], predicted: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> Answering:
    """Another residual of the centre; `target` gets the position of the truth in cells and the cell."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> None:
        q = given.profile.squared_factor
        for match in paying(decisions):
            n, k, j, i = match.predictor
            x, y = given.row(match)[:2] * (given.t.shape[4], given.t.shape[3])
            weight = given.profile.coord_weight * _small_box_weight(given, match)
            for channel, place, cell in ((T_X, x, i), (T_Y, y, j)):
                raw = given.t[n, k, channel, j, i]
                was = sigmoid(raw) - (place - cell)
                terms["coord"].pay_squared(match.predictor, channel, q, -weight, was, sigmoid_grad(raw))
                terms["coord"].pay_squared(
                    match.predictor, channel, q, weight, predicted(raw) - target(place, cell), slope(raw)
                )

    return paid(change)


def _without_slope(terms: Terms, given: Given, decisions: Decisions) -> None:
    for channel in (T_X, T_Y):
        terms["coord"].gradient[:, :, channel] = -terms["coord"].delta[:, :, channel]


def _slope_on_sizes(terms: Terms, given: Given, decisions: Decisions) -> None:
    for channel in (T_W, T_H):
        terms["coord"].gradient[:, :, channel] *= sigmoid_grad(given.t[:, :, channel])


def _sizes(change: Callable[[float, float, int, float, Profile], tuple[float, float]]) -> Answering:
    return patched(terms___size_residual=change)


def _without_grid(t_size: float, size: float, cells: int, anchor: float, profile: Profile) -> tuple[float, float]:
    needs(profile.size_space == "log" and profile.size_target_floor == "none", "sizes in their logarithms")
    return t_size - float(np.log(size / anchor)), 1.0


def _anchors_exchanged(terms: Terms, given: Given, decisions: Decisions) -> Terms:
    anchors = given.anchors[:, ::-1]
    return {**terms, "coord": coord_term(given.t, given.truths, anchors, decisions, given.profile)}


def _weight_of_prediction(terms: Terms, given: Given, decisions: Decisions) -> None:
    """2 - w·h of the decoded box, at least 0, as a constant."""
    exponent = given.profile.small_box_exponent
    needs(exponent > 0, "a weight that depends on the size")
    rescale = np.ones_like(terms["coord"].value)
    _, _, _, height, width = given.t.shape
    for match in paying(decisions):
        n, k, j, i = match.predictor
        with np.errstate(over="ignore"):
            w, h = given.anchors[k] * np.exp(given.t[n, k, T_W : T_H + 1, j, i]) / (width, height)
            weight = max(2 - w * h, 0.0) ** exponent
        rescale[match.predictor] = weight / _small_box_weight(given, match)
    _rescaled(terms["coord"], rescale)


def _weight_on_sizes_only(terms: Terms, given: Given, decisions: Decisions) -> None:
    needs(given.profile.small_box_exponent > 0, "a weight that depends on the size")
    q = given.profile.squared_factor
    for match in paying(decisions):
        n, k, j, i = match.predictor
        x, y = given.row(match)[:2] * (given.t.shape[4], given.t.shape[3]) - (i, j)
        surplus = given.profile.coord_weight * (_small_box_weight(given, match) - 1)
        for channel, place in ((T_X, x), (T_Y, y)):
            raw = given.t[n, k, channel, j, i]
            terms["coord"].pay_squared(match.predictor, channel, q, -surplus, sigmoid(raw) - place, sigmoid_grad(raw))


def _weight_of_one_side(terms: Terms, given: Given, decisions: Decisions) -> None:
    exponent = given.profile.small_box_exponent
    needs(exponent > 0, "a weight that depends on the size")
    rescale = np.ones_like(terms["coord"].value)
    for match in paying(decisions):
        w = float(given.row(match)[2])
        rescale[match.predictor] = (2 - w * w) ** exponent / _small_box_weight(given, match)
    _rescaled(terms["coord"], rescale)


def _weight_of_root(terms: Terms, given: Given, decisions: Decisions) -> None:
    exponent = given.profile.small_box_exponent
    needs(exponent > 0, "a weight that depends on the size")
    rescale = np.ones_like(terms["coord"].value)
    for match in boxed(decisions):
        rescale[match.predictor] = _small_box_weight(given, match) ** -0.5
    _rescaled(terms["coord"], rescale)


def _rescaled(term: Term, factor: Array) -> None:
    term.value[:] *= factor
    term.gradient[:] *= factor[:, :, None]
    term.delta[:] *= factor[:, :, None]


MUTANTS: list[Mutant] = [
    Mutant(
        id="coordinates-of-ignored",
        clause="coord.only-responsible",
        title="an ignored predictor learns the box of the truth that it overlaps best",
        answer=_paid_by(_ignored_too),
    ),
    Mutant(
        id="coordinates-of-the-whole-cell",
        clause="coord.only-responsible",
        title="all anchors of the cell learn the box of its truth",
        after="aladdinpersson/Machine-Learning-Collection#137",
        answer=_paid_by(_all_anchors),
    ),
    Mutant(
        id="coordinates-of-the-nearest",
        clause="coord.only-responsible",
        title="a responsible predictor learns the box that it overlaps best instead of its own",
        answer=_paid_by(_for_the_nearest),
    ),
    Mutant(
        id="coordinate-value-unweighted",
        clause="coord.value",
        title="the value lacks the weight of small boxes, the gradient has it",
        answer=paid(_value_without_weight),
    ),
    Mutant(
        id="coordinate-value-of-centres",
        clause="coord.value",
        title="the value counts the residuals of the centre and not those of the size",
        answer=paid(_value_of_centres),
    ),
    Mutant(
        id="raw-centre-compared",
        clause="coord.centre-target",
        title="the raw tx and ty are compared with the offset of the truth",
        answer=_centre(lambda place, cell: place - cell, lambda raw: raw, np.ones_like),
    ),
    Mutant(
        id="centre-target-without-offset",
        clause="coord.centre-target",
        title="the offset in the cell is compared with the position of the truth in the grid",
        answer=_centre(lambda place, cell: place, sigmoid, sigmoid_grad),
    ),
    Mutant(
        id="centre-without-slope",
        clause="coord.centre-gradient",
        title="the derivative of the logistic function is missing in the gradient of the centre",
        after="davisking/dlib#3088, eric612/MobileNet-YOLO#43",
        answer=paid(_without_slope),
    ),
    Mutant(
        id="size-decoded",
        clause="coord.size-target",
        title="decoded sizes are compared instead of their logarithms",
        after="experiencor/keras-yolo2",
        answer=as_if(size_space="decoded"),
    ),
    Mutant(
        id="size-rooted",
        clause="coord.size-target",
        title="the roots of sizes are compared instead of their logarithms",
        after="thtrieu/darkflow",
        answer=as_if(size_space="square-root"),
    ),
    Mutant(
        id="size-target-without-grid",
        clause="coord.size-target",
        title="the size of the truth as a fraction of the image is divided by the anchor in cells",
        answer=_sizes(_without_grid),
    ),
    Mutant(
        id="size-target-of-the-other-side",
        clause="coord.size-target",
        title="the width of the truth is compared with the height of the anchor, and its height with the width",
        answer=paid(_anchors_exchanged),
    ),
    Mutant(
        id="slope-on-sizes",
        clause="coord.size-gradient",
        title="the gradient of tw and th contains a derivative of the logistic function",
        answer=paid(_slope_on_sizes),
    ),
    Mutant(
        id="log-size-for-decoded",
        clause="coord.decoded-size",
        title="logarithms are compared instead of decoded sizes",
        options={"size_space": "decoded"},
        answer=as_if(size_space="log"),
    ),
    Mutant(
        id="decoded-size-for-root",
        clause="coord.square-root-size",
        title="decoded sizes are compared instead of their roots",
        options={"size_space": "square-root"},
        answer=as_if(size_space="decoded"),
    ),
    Mutant(
        id="size-target-clamped",
        clause="coord.size-target-unclamped",
        title="size targets are at least one cell",
        after="uvipen/Yolo-v2-pytorch",
        answer=as_if(size_target_floor="one-cell"),
    ),
    Mutant(
        id="size-target-not-clamped",
        clause="coord.size-target-floor",
        title="size targets are not limited to at least one cell",
        options={"size_target_floor": "one-cell"},
        answer=as_if(size_target_floor="none"),
    ),
    Mutant(
        id="no-small-box-weight",
        clause="coord.small-box-weight",
        title="small boxes have the same weight as large ones",
        after="AlexeyAB/darknet, marvis/pytorch-yolo2; pjreddie/darknet#1301",
        answer=as_if(small_box_exponent=0),
    ),
    Mutant(
        id="small-box-weight-squared",
        clause="coord.small-box-weight",
        title="the weight of small boxes is squared",
        after="andy-yun/pytorch-0.4-yolov3, samylee/YOLOV2_PyTorch_Train",
        answer=as_if(small_box_exponent=2),
    ),
    Mutant(
        id="small-box-weight-rooted",
        clause="coord.small-box-weight",
        title="the square root of the weight of small boxes is used",
        after="marvis/pytorch-yolo2#164",
        answer=paid(_weight_of_root),
    ),
    Mutant(
        id="small-box-weight-of-width",
        clause="coord.small-box-weight",
        title="the weight of small boxes is 2 - w² instead of 2 - w·h",
        answer=paid(_weight_of_one_side),
    ),
    Mutant(
        id="small-box-weight-on-sizes-only",
        clause="coord.small-box-weight",
        title="the weight of small boxes multiplies the residuals of the size and not those of the centre",
        answer=paid(_weight_on_sizes_only),
    ),
    Mutant(
        id="small-box-weight-of-prediction",
        clause="constant.weight",
        title="the weight of small boxes uses the predicted size",
        after="zjykzj/YOLOv2",
        answer=paid(_weight_of_prediction),
    ),
    Mutant(
        id="small-boxes-weigh-more",
        clause="coord.constant-weight",
        title="small boxes have a larger weight although all should have the same",
        profile="darknet-2016",
        answer=as_if(small_box_exponent=1),
    ),
    Mutant(
        id="small-box-weight-not-squared",
        clause="coord.squared-small-box-weight",
        title="the weight of small boxes is not squared although it should be",
        options={"small_box_exponent": 2},
        answer=as_if(small_box_exponent=1),
    ),
]

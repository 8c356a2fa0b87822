"""Single mistakes of one term, or of one decision, that no list has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from meta.unlisted.mistake import BOTH, EVERYTHING, SCALAR, Mistake, always
from regionloss.boxes import decode, iou, sigmoid, sigmoid_grad
from regionloss.classes import class_term, log_softmax, softmax, true_nodes
from regionloss.decisions import Decisions, Match
from regionloss.terms import CLASSES, T_H, T_O, T_W, T_X, T_Y, Term, coord_term, object_term
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import patched, right
from regionloss_suite.mutants.tools import (
    Answering,
    Given,
    Terms,
    decided,
    needs,
    paid,
    paying,
    reading,
    redecided,
    spoilt,
)


def _scaled(term: Term, weight: Array) -> None:
    """Multiply what every predictor pays by its own number, `[N, A, H, W]`."""
    term.value[:] *= weight
    term.gradient[:] *= weight[:, :, None]
    term.delta[:] *= weight[:, :, None]


def _repaid(
    term: Term, channel: int, who: tuple[Any, ...], before: Array, after: Array, weight: Any, slope: Any
) -> None:
    """One squared residual replaced by another; `weight` includes q."""
    term.pay_squared(who, channel, 1.0, -weight, before, slope)
    term.pay_squared(who, channel, 1.0, weight, after, slope)


# The prior.


def _prior_of_raw_centre(terms: Terms, given: Given, decisions: Decisions) -> None:
    who = np.nonzero(decisions.prior)
    weight = given.profile.squared_factor * given.profile.prior_weight
    for channel in (T_X, T_Y):
        raw = given.t[:, :, channel][who]
        terms["prior"].pay_squared(who, channel, 1.0, -weight, sigmoid(raw) - 0.5, sigmoid_grad(raw))
        terms["prior"].pay_squared(who, channel, 1.0, weight, raw, 1.0)


def _prior_of_next_anchor(terms: Terms, given: Given, decisions: Decisions) -> None:
    who = np.nonzero(decisions.prior)
    weight = given.profile.squared_factor * given.profile.prior_weight
    for channel in (T_W, T_H):
        sizes = given.anchors[:, channel - T_W]
        target = np.log(np.roll(sizes, -1) / sizes)[who[1]]
        raw = given.t[:, :, channel][who]
        _repaid(terms["prior"], channel, who, raw, raw - target, weight, 1.0)


def _prior_to_upper_third(terms: Terms, given: Given, decisions: Decisions) -> None:
    who = np.nonzero(decisions.prior)
    weight = given.profile.squared_factor * given.profile.prior_weight
    raw = given.t[:, :, T_Y][who]
    _repaid(terms["prior"], T_Y, who, sigmoid(raw) - 0.5, sigmoid(raw) - 1 / 3, weight, sigmoid_grad(raw))


def _prior_for_first_image(decisions: Decisions, given: Given) -> Decisions:
    first = np.arange(len(decisions.prior)) == 0
    return dataclasses.replace(decisions, prior=decisions.prior & first[:, None, None, None])


def _prior_by_image(decisions: Decisions, given: Given) -> Decisions:
    """Image n of the batch has been seen after n more images."""
    late = given.images_seen + np.arange(len(decisions.prior)) >= given.profile.prior_until
    return dataclasses.replace(decisions, prior=decisions.prior & ~late[:, None, None, None])


def _prior_fades(question: Question) -> Answer:
    """The weight of the prior falls linearly until its limit."""
    profile = question.profile
    left = 1 - question.batch.images_seen / profile.prior_until if profile.prior_until else 1.0
    faded = profile.replace(prior_weight=profile.prior_weight * min(max(left, 0.0), 1.0))
    return right(dataclasses.replace(question, profile=faded))


def _prior_weight_in_single(question: Question) -> Answer:
    weight = float(np.float32(question.profile.prior_weight))
    return right(dataclasses.replace(question, profile=question.profile.replace(prior_weight=weight)))


# The coordinates.


def _coord_with(change: Callable[[Array, Array, Given, Match], tuple[Array, Array]]) -> Answering:
    """The coordinate term of other truths or anchors; `change` gets copies of a row and of the anchors."""

    def pay(terms: Terms, given: Given, decisions: Decisions) -> Terms:
        term = Term.zero(given.t)
        for match in paying(decisions):
            row, anchors = change(given.row(match).copy(), given.anchors.copy(), given, match)
            truths = [*given.truths]
            truths[match.image] = truths[match.image].copy()
            truths[match.image][match.truth] = row
            only = dataclasses.replace(decisions, matches=(match,))
            part = coord_term(given.t, truths, anchors, only, given.profile)
            for whole, piece in (
                (term.value, part.value),
                (term.gradient, part.gradient),
                (term.delta, part.delta),
            ):
                whole += piece
        return {**terms, "coord": term}

    return paid(pay)


def _first_and_last_anchor(row: Array, anchors: Array, given: Given, match: Match) -> tuple[Array, Array]:
    anchors[[0, -1]] = anchors[[-1, 0]]
    return row, anchors


def _offsets_exchanged(row: Array, anchors: Array, given: Given, match: Match) -> tuple[Array, Array]:
    """The offset down is the target of tx, the offset across that of ty."""
    _, _, _, height, width = given.t.shape
    across, down = row[0] * width - match.column, row[1] * height - match.row
    row[:2] = (match.column + down) / width, (match.row + across) / height
    return row, anchors


def _log_with_epsilon(row: Array, anchors: Array, given: Given, match: Match) -> tuple[Array, Array]:
    """1e-3 inside the logarithm of a size in anchors, by smaller anchors."""
    size = row[2:4] * np.array(given.t.shape[:2:-1])
    if given.profile.size_space == "log":
        anchors[match.anchor] *= size / (size + 1e-3 * anchors[match.anchor])
    return row, anchors


def _coord_weighted(weight: Callable[[Array], float]) -> Answering:
    """Another weight of small boxes, by the truth `[5]`."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> None:
        factor = np.ones(terms["coord"].value.shape)
        for match in paying(decisions):
            row = given.row(match)
            factor[match.predictor] = weight(row) / (2 - row[2] * row[3]) ** given.profile.small_box_exponent
        _scaled(terms["coord"], factor)

    return paid(change)


def _also_weighted(name: str) -> Answering:
    """The weight of small boxes multiplies another term too."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> None:
        factor = np.ones(terms[name].value.shape)
        for match in paying(decisions):
            row = given.row(match)
            factor[match.predictor] = (2 - row[2] * row[3]) ** given.profile.small_box_exponent
        _scaled(terms[name], factor)

    return paid(change)


def _x_for_y(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The gradient of tx is written to ty as well."""
    for array in (terms["coord"].gradient, terms["coord"].delta):
        array[:, :, T_Y] = array[:, :, T_X]


def _smooth_sizes(terms: Terms, given: Given, decisions: Decisions) -> None:
    """|r| - ½ beyond 1 in place of ½r² for sizes."""
    needs(given.profile.collision != "sum", "one truth that pays")
    term, q = terms["coord"], given.profile.squared_factor
    for match in paying(decisions):
        n, k, j, i = match.predictor
        row = given.row(match)
        weight = given.profile.coord_weight * (2 - row[2] * row[3]) ** given.profile.small_box_exponent
        for channel in (T_W, T_H):
            residual = -term.delta[n, k, channel, j, i] / (2 * q * weight) if q * weight else 0.0
            far = abs(residual)
            if far > 1:
                term.value[match.predictor] += q * weight * (2 * far - 1 - far**2)
                term.gradient[n, k, channel, j, i] /= far
                term.delta[n, k, channel, j, i] /= far


# The objectness.


def _object_of(measure: Callable[[Given, Match], float]) -> Answering:
    """Another target of the objectness where it is an IoU."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> Terms:
        matches = tuple(
            dataclasses.replace(match, iou=measure(given, match)) if match.pays_box else match
            for match in decisions.matches
        )
        other = dataclasses.replace(decisions, matches=matches)
        return {**terms, "object": object_term(given.t, given.truths, given.anchors, other, given.profile)}

    return paid(change)


def _next_truth(given: Given, match: Match) -> float:
    rows = given.truths[match.image]
    row = rows[(match.truth + 1) % len(rows)]
    box = decode(given.t[match.image], given.anchors)[:, match.anchor, match.row, match.column]
    return float(iou(box, row[:4]))


def _box_at_truth(given: Given, match: Match) -> float:
    """The IoU with the truth moved to the middle of its cell."""
    _, _, _, height, width = given.t.shape
    box = decode(given.t[match.image], given.anchors)[:, match.anchor, match.row, match.column]
    _, _, w, h, _ = given.row(match)
    return float(iou(box, np.array([(match.column + 0.5) / width, (match.row + 0.5) / height, w, h])))


def _object_by_iou(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The objectness term is weighted by the IoU."""
    factor = np.ones(terms["object"].value.shape)
    for match in paying(decisions):
        factor[match.predictor] = match.iou
    _scaled(terms["object"], factor)


def _object_both_ways(terms: Terms, given: Given, decisions: Decisions) -> None:
    """A responsible predictor whose objectness is above its target pays nothing."""
    above = np.zeros(terms["object"].value.shape)
    for match in paying(decisions):
        above[match.predictor] = float(terms["object"].delta[:, :, T_O][match.predictor] < 0)
    _scaled(terms["object"], 1 - above)


def _object_one_if_overlapping(terms: Terms, given: Given, decisions: Decisions) -> None:
    """A predictor that does not overlap its truth pays no objectness."""
    factor = np.ones(terms["object"].value.shape)
    for match in paying(decisions):
        factor[match.predictor] = float(match.iou > 0)
    _scaled(terms["object"], factor)


# The no-object term.


def _background_cross_entropy(terms: Terms, given: Given, decisions: Decisions) -> Terms | None:
    """-ln(1 - b) for predictors without an object."""
    if given.profile.objectness == "background" or given.profile.no_object_target != "zero":
        return None
    term, who = Term.zero(given.t), np.nonzero(decisions.no_object)
    raw = given.t[:, :, T_O][who]
    term.value[who] = given.profile.no_object_weight * np.logaddexp(0.0, raw)
    term.gradient[:, :, T_O][who] = given.profile.no_object_weight * sigmoid(raw)
    term.delta[:, :, T_O][who] = -term.gradient[:, :, T_O][who]
    return {**terms, "no_object": term}


def _without_last_row(terms: Terms, given: Given, decisions: Decisions) -> None:
    factor = np.ones(terms["no_object"].value.shape)
    factor[:, :, -1:] = 0.0
    _scaled(terms["no_object"], factor)


def _hard_background(terms: Terms, given: Given, decisions: Decisions) -> None:
    """Only predictors that say "object" with more than a tenth pay."""
    _scaled(terms["no_object"], (sigmoid(given.t[:, :, T_O]) > 0.1).astype(float))


def _half_for_responsible(terms: Terms, given: Given, decisions: Decisions) -> None:
    _scaled(terms["no_object"], np.where(decisions.responsible, 0.5, 1.0))


def _rounded_max_iou(decisions: Decisions, given: Given) -> Decisions:
    return redecided(decisions, given, max_iou=np.round(decisions.max_iou, 1))


# The classes.


def _class_by(cross: Callable[[Array, int], tuple[float, Array]]) -> Answering:
    """Another cross-entropy, value and gradient by the logits and the true class."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> Terms | None:
        profile = given.profile
        if profile.class_term != "cross-entropy" or profile.objectness != "logistic":
            return None
        term = Term.zero(given.t)
        for match in decisions.matches:
            if match.pays_class:
                n, k, j, i = match.predictor
                value, slope = cross(given.t[n, k, CLASSES:, j, i], int(given.row(match)[4]))
                term.value[n, k, j, i] += profile.class_weight * value
                term.gradient[n, k, CLASSES:, j, i] += profile.class_weight * slope
                term.delta[n, k, CLASSES:, j, i] -= profile.class_weight * slope
        return {**terms, "class": term}

    return paid(change)


def _smoothed_labels(z: Array, label: int) -> tuple[float, Array]:
    target = np.full(len(z), 0.1 / len(z))
    target[label] += 0.9
    return -float((target * log_softmax(z)).sum()), softmax(z) - target


def _warm(z: Array, label: int) -> tuple[float, Array]:
    """A softmax with temperature 2."""
    slope = softmax(z / 2)
    slope[label] -= 1
    return -float(log_softmax(z / 2)[label]), slope / 2


def _last_class_shifted(table: Array, image: int, given: Given) -> Array:
    classes = given.t.shape[2] - CLASSES
    table[:, 4] = np.where(table[:, 4] == classes - 1, max(classes - 2, 0), table[:, 4])
    return table


def _class_of_neighbour(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The class term is also paid by the cell to the right."""
    for match in paying(decisions):
        n, k, j, i = match.predictor
        i += 1
        if i < given.t.shape[4] and not decisions.responsible[n, k, j, i]:
            value, gradient, delta = class_term(
                given.t[n, k, CLASSES:, j, i],
                given.t[n, k, T_O, j, i],
                [int(given.row(match)[4])],
                given.profile.class_weight,
                given.profile,
                given.tree,
            )
            terms["class"].value[n, k, j, i] += value
            terms["class"].gradient[n, k, CLASSES:, j, i] += gradient
            terms["class"].delta[n, k, CLASSES:, j, i] += delta


def _class_by_objectness(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The class term is weighted by the objectness, held constant."""
    _scaled(terms["class"], sigmoid(given.t[:, :, T_O]))


def _focal_of_one(z: Array, t_o: Any, labels: list[int], weight: float, profile: Any, tree: Any) -> Any:
    """γ = 1 where the class term is focal."""
    if profile.class_term != "focal":
        return class_term(z, t_o, labels, weight, profile, tree)
    log_p, p = log_softmax(z), softmax(z)
    label = labels[-1]
    onehot = np.arange(len(z)) == label
    slope = 0.5 * weight * (1 - p[label] - p[label] * log_p[label]) * (p - onehot)
    return -0.5 * weight * float((1 - p[label]) * log_p[label]), slope, -slope


def _squared_logits(z: Array, t_o: Any, labels: list[int], weight: float, profile: Any, tree: Any) -> Any:
    """A squared error on the logistic of each class in place of the softmax."""
    if profile.class_term != "squared-error":
        return class_term(z, t_o, labels, weight, profile, tree)
    residual = sigmoid(z) - (np.arange(len(z)) == labels[-1])
    slope = 2 * profile.squared_factor * weight * residual * sigmoid_grad(z)
    return profile.squared_factor * weight * float((residual**2).sum()), slope, -slope


def _without_roots(labels: list[int], tree: tuple[int, ...]) -> list[tuple[slice, int]]:
    """The group of the roots is left out of a path, unless nothing else is on it."""
    nodes = true_nodes(labels, tree)
    return [(group, node) for group, node in nodes if tree[node] >= 0] or nodes


def _chosen_with_objectness(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The predictor that a class-only image chooses has its objectness pulled to 1."""
    for match in decisions.matches:
        if decisions.class_only[match.image]:
            n, k, j, i = match.predictor
            raw = given.t[n, k, T_O, j, i]
            weight = given.profile.squared_factor * given.profile.object_weight
            terms["object"].pay_squared(match.predictor, T_O, 1.0, weight, sigmoid(raw) - 1, sigmoid_grad(raw))


def _chosen_by_first_anchor(decisions: Decisions, given: Given) -> Decisions:
    """A class-only image takes anchor 0 of the chosen cell."""
    matches = tuple(
        dataclasses.replace(match, anchor=0) if decisions.class_only[match.image] else match
        for match in decisions.matches
    )
    return dataclasses.replace(decisions, matches=matches)


# Assignment and scale.


def _moved(move: Callable[[Match, Given], Match]) -> Answering:
    """Matches moved to another predictor; of two that meet there, the later one pays."""

    def change(decisions: Decisions, given: Given) -> Decisions:
        matches = [match if decisions.class_only[match.image] else move(match, given) for match in decisions.matches]
        last = {match.predictor: index for index, match in enumerate(matches) if match.pays_box}
        return redecided(
            decisions,
            given,
            matches=[
                match
                if index == last.get(match.predictor, index)
                else dataclasses.replace(match, pays_box=False, pays_class=False)
                for index, match in enumerate(matches)
            ],
        )

    return decided(change)


def _to(match: Match, given: Given, anchor: int, row: int, column: int) -> Match:
    box = decode(given.t[match.image], given.anchors)[:, anchor, row, column]
    overlap = float(iou(box, given.row(match)[:4]))
    return dataclasses.replace(match, anchor=anchor, row=row, column=column, iou=overlap)


def _other_end(match: Match, given: Given) -> Match:
    last = len(given.anchors) - 1
    anchor = {0: last, last: 0}.get(match.anchor, match.anchor)
    return _to(match, given, anchor, match.row, match.column)


def _never_on_border(match: Match, given: Given) -> Match:
    """The last column is given to the one before it."""
    column = min(match.column, max(given.t.shape[4] - 2, 0))
    return _to(match, given, match.anchor, match.row, column)


def _by_area(j: int, i: int, row: Array, boxes: Array, anchors: Array, profile: Any) -> Array:
    """The anchor with the nearest area, whatever its shape."""
    _, _, height, width = boxes.shape
    areas = anchors.prod(axis=1) / (height * width)
    wanted = row[2] * row[3]
    return np.asarray(np.minimum(areas, wanted) / np.maximum(areas, wanted))


def _by_distance(j: int, i: int, row: Array, boxes: Array, anchors: Array, profile: Any) -> Array:
    """The anchor with the nearest width and height, in cells."""
    _, _, height, width = boxes.shape
    apart = np.hypot(anchors[:, 0] - row[2] * width, anchors[:, 1] - row[3] * height)
    return np.asarray(1 / (1 + apart))


def _value_by_images(answer: Answer, question: Question) -> Answer:
    """The value is divided by the images once more, the gradient is not."""
    assert answer.potential is not None
    return dataclasses.replace(answer, potential=answer.potential / max(len(question.batch.truths), 1))


def _floor_of_width(question: Question) -> Answer:
    """One cell is the smallest width of a target, and there is no smallest height."""

    profile = question.profile
    needs(profile.size_target_floor == "one-cell" and profile.small_box_exponent == 0, "a floor, and equal weights")
    unclamped = profile.replace(size_target_floor="none")

    def pay(terms: Terms, given: Given, decisions: Decisions) -> Terms:
        free = coord_term(given.t, given.truths, given.anchors, decisions, unclamped)
        term, weight = terms["coord"], profile.squared_factor * profile.coord_weight
        wrong, plain = free.delta[:, :, T_H], term.delta[:, :, T_H].copy()
        term.gradient[:, :, T_H] = free.gradient[:, :, T_H]
        term.delta[:, :, T_H] = wrong
        term.value[:] += (wrong**2 - plain**2) / (4 * weight)
        return terms

    return paid(pay)(question)


def _mistake(
    id: str,
    title: str,
    answer: Answering,
    clauses: tuple[str, ...],
    family: tuple[str, ...] = (),
    answers: tuple[str, ...] = EVERYTHING,
    profile: str = "darknet",
) -> Mistake:
    return Mistake(
        id=id,
        kind="term",
        title=title,
        right=clauses,
        family=family,
        answers=answers,
        profile=profile,
        begin=always(answer),
    )


SMALL = ("coord.small-box-weight",)

MISTAKES = [
    _mistake(
        "prior-of-raw-centre",
        "the prior pulls tx and ty themselves to 0",
        paid(_prior_of_raw_centre),
        ("prior.value", "prior.gradient"),
    ),
    _mistake(
        "prior-of-next-anchor",
        "the prior pulls a size to that of the next anchor",
        paid(_prior_of_next_anchor),
        ("prior.value",),
        ("prior.gradient",),
        BOTH,
    ),
    _mistake(
        "prior-to-upper-third",
        "the prior pulls ty to a third of the cell",
        paid(_prior_to_upper_third),
        ("prior.value",),
        ("prior.gradient",),
    ),
    _mistake(
        "prior-for-first-image",
        "only the first image of a batch pays the prior",
        decided(_prior_for_first_image),
        ("prior.limit",),
        ("prior.value",),
    ),
    _mistake(
        "prior-counts-within-batch",
        "the images of a batch are counted one by one for the limit of the prior",
        decided(_prior_by_image),
        ("prior.limit", "prior.images-seen"),
        (),
        BOTH,
    ),
    _mistake(
        "prior-fades",
        "the weight of the prior falls linearly until its limit",
        _prior_fades,
        ("prior.weight",),
        ("prior.limit",),
        profile="leetenki",
    ),
    _mistake(
        "prior-weight-in-single",
        "the weight of the prior is the 0.01 of single precision",
        _prior_weight_in_single,
        ("prior.weight", "numerics.float64", "numerics.bound"),
    ),
    _mistake(
        "sizes-by-the-other-anchor",
        "the targets of sizes use the first anchor for the last and the last for the first",
        _coord_with(_first_and_last_anchor),
        ("coord.size-target",),
        ("notation.anchor-units",),
        BOTH,
    ),
    _mistake(
        "offsets-exchanged",
        "the offset down is the target of tx, and the offset across that of ty",
        _coord_with(_offsets_exchanged),
        ("coord.centre-target",),
        ("notation.grid-axes",),
    ),
    _mistake(
        "log-with-epsilon",
        "1e-3 is added inside the logarithm of the target of a size",
        _coord_with(_log_with_epsilon),
        ("coord.size-target", "coord.size-target-unclamped"),
        ("numerics.bound",),
        BOTH,
    ),
    _mistake(
        "small-box-weight-of-height",
        "the weight of small boxes is 2 - h²",
        _coord_weighted(lambda row: 2 - row[3] ** 2),
        SMALL,
        ("constant.weight",),
    ),
    _mistake(
        "small-box-weight-of-mean-side",
        "the weight of small boxes is 2 minus the root of the area",
        _coord_weighted(lambda row: 2 - float(np.sqrt(row[2] * row[3]))),
        SMALL,
        ("constant.weight",),
        BOTH,
    ),
    _mistake(
        "small-box-weight-from-one",
        "the weight of small boxes is 1 - w·h, so a box that fills the image learns nothing",
        _coord_weighted(lambda row: 1 - row[2] * row[3]),
        SMALL,
        ("constant.weight",),
        SCALAR,
    ),
    _mistake(
        "small-boxes-in-objectness",
        "the weight of small boxes multiplies the objectness too",
        _also_weighted("object"),
        ("object.value", "scale.object-weight", *SMALL),
        ("object.gradient",),
    ),
    _mistake(
        "small-boxes-in-classes",
        "the weight of small boxes multiplies the class term too",
        _also_weighted("class"),
        ("class.cross-entropy", "scale.class-weight", *SMALL),
        ("class.gradient",),
        BOTH,
    ),
    _mistake(
        "gradient-of-x-for-y",
        "the gradient of tx is written to ty as well",
        paid(_x_for_y),
        ("coord.centre-gradient",),
        ("coord.centre-target", "notation.grid-axes"),
    ),
    _mistake(
        "smooth-sizes",
        "sizes pay a smooth L1 in place of a square",
        paid(_smooth_sizes),
        ("coord.value", "coord.size-gradient"),
        ("coord.size-target",),
        BOTH,
    ),
    _mistake(
        "object-target-at-least-half",
        "the target of the objectness is at least one half",
        _object_of(lambda given, match: max(match.iou, 0.5)),
        ("object.iou-target",),
    ),
    _mistake(
        "object-target-of-next-truth",
        "the target of the objectness is the IoU with the next truth of the list",
        _object_of(_next_truth),
        ("object.iou-target",),
        (),
        BOTH,
    ),
    _mistake(
        "object-target-of-centred-truth",
        "the target of the objectness is the IoU with the truth in the middle of its cell",
        _object_of(_box_at_truth),
        ("object.iou-target",),
    ),
    _mistake(
        "object-target-rooted",
        "the target of the objectness is the root of the IoU",
        _object_of(lambda given, match: float(np.sqrt(match.iou))),
        ("object.iou-target",),
        (),
        SCALAR,
    ),
    _mistake(
        "object-weighted-by-iou",
        "the objectness term is weighted by the IoU",
        paid(_object_by_iou),
        ("object.value", "scale.object-weight"),
        ("object.gradient",),
        BOTH,
    ),
    _mistake(
        "object-only-upwards",
        "a responsible predictor that is too sure pays no objectness",
        paid(_object_both_ways),
        ("object.value",),
        ("object.gradient", "object.only-responsible"),
    ),
    _mistake(
        "object-one-if-overlapping",
        "a responsible predictor that does not overlap its truth pays no objectness",
        paid(_object_one_if_overlapping),
        ("object.one-target", "object.value"),
        ("object.only-responsible", "object.gradient"),
        profile="yad2k",
    ),
    _mistake(
        "background-cross-entropy",
        "the no-object term is a cross-entropy",
        paid(_background_cross_entropy),
        ("noobj.value", "noobj.gradient"),
    ),
    _mistake(
        "background-without-last-row",
        "the last row of the grid pays no no-object term",
        paid(_without_last_row),
        ("noobj.value",),
        ("table.three-states", "notation.predictor", "noobj.gradient", "notation.grid-axes"),
        BOTH,
    ),
    _mistake(
        "background-hard-only",
        "only predictors with an objectness above a tenth pay the no-object term",
        paid(_hard_background),
        ("noobj.value",),
        ("table.three-states", "noobj.gradient", "noobj.not-suppression"),
    ),
    _mistake(
        "background-half-for-responsible",
        "a responsible predictor pays half the no-object term",
        paid(_half_for_responsible),
        ("noobj.every-predictor",),
        ("scale.no-object-weight",),
        profile="formula",
    ),
    _mistake(
        "threshold-on-one-decimal",
        "MaxIOU is rounded to one decimal before it is compared",
        decided(_rounded_max_iou),
        ("noobj.threshold", "noobj.equality-ignored", "noobj.max-iou"),
        (),
        BOTH,
        "mxnet",
    ),
    _mistake(
        "labels-smoothed",
        "a tenth of the class target is spread over all classes",
        _class_by(_smoothed_labels),
        ("class.cross-entropy", "class.gradient"),
    ),
    _mistake(
        "softmax-warm",
        "the softmax has a temperature of 2",
        _class_by(_warm),
        ("class.cross-entropy", "class.gradient", "decode.class-probabilities"),
        (),
        BOTH,
    ),
    _mistake(
        "last-class-shifted",
        "the last class is taken for the one before it",
        reading(_last_class_shifted),
        ("class.cross-entropy", "class.gradient"),
        ("notation.truth-units", "domain.class"),
    ),
    _mistake(
        "class-of-right-neighbour",
        "the cell to the right of an object learns its class too",
        paid(_class_of_neighbour),
        ("class.only-responsible",),
        ("table.structural-zeros",),
    ),
    _mistake(
        "class-weighted-by-objectness",
        "the class term is weighted by the objectness, held constant",
        paid(_class_by_objectness),
        ("class.cross-entropy", "scale.class-weight"),
        ("class.gradient",),
        BOTH,
        "darknet-2016",
    ),
    _mistake(
        "focal-of-one",
        "the focal loss has γ = 1",
        patched(terms__class_term=_focal_of_one),
        ("class.focal",),
        profile="darknet-2016",
    ),
    _mistake(
        "squares-of-logistic-classes",
        "the squared error is that of the logistic function of each class",
        patched(terms__class_term=_squared_logits),
        ("class.squared-error", "decode.class-probabilities"),
        answers=BOTH,
        profile="formula",
    ),
    _mistake(
        "tree-without-roots",
        "the group of the roots pays nothing",
        patched(classes__true_nodes=_without_roots),
        ("tree.path",),
        ("tree.groups",),
        profile="yolo9000",
    ),
    _mistake(
        "class-only-with-objectness",
        "the predictor that a class-only image chooses has its objectness pulled to 1",
        paid(_chosen_with_objectness),
        ("tree.class-only-silence",),
        ("tree.class-only-image",),
        profile="yolo9000",
    ),
    _mistake(
        "class-only-at-first-anchor",
        "a class-only image takes the first anchor of the chosen cell",
        decided(_chosen_by_first_anchor),
        ("tree.class-only-choice",),
        answers=BOTH,
        profile="yolo9000",
    ),
    _mistake(
        "first-and-last-anchor-exchanged",
        "the first anchor is responsible in place of the last, and the last in place of the first",
        _moved(_other_end),
        ("assign.anchor-shape", "assign.one-predictor"),
        ("assign.anchor-tie",),
    ),
    _mistake(
        "never-in-last-column",
        "a truth in the last column is assigned to the column before it",
        _moved(_never_on_border),
        ("assign.cell",),
        ("assign.cell-border",),
        BOTH,
    ),
    _mistake(
        "anchor-by-area",
        "the anchor with the nearest area is responsible",
        patched(decisions__anchor_fit=_by_area),
        ("assign.anchor-shape",),
        ("assign.one-predictor",),
    ),
    _mistake(
        "anchor-by-distance",
        "the anchor with the nearest width and height is responsible",
        patched(decisions__anchor_fit=_by_distance),
        ("assign.anchor-shape",),
        ("assign.one-predictor",),
        BOTH,
    ),
    _mistake(
        "value-by-images-twice",
        "the loss is divided by the number of images twice, its gradient once",
        spoilt(_value_by_images),
        ("scale.per-image", "scale.potential"),
        answers=BOTH,
        profile="samylee",
    ),
    _mistake(
        "floor-of-width-only",
        "one cell is the smallest width of a target, and there is no smallest height",
        _floor_of_width,
        ("coord.size-target-floor",),
        profile="uvipen",
    ),
]

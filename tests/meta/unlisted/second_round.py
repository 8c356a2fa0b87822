"""More mistakes of every kind, as they are found in ports: wrong axes, indices, masks, buffers, units and limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from meta.unlisted import framework, max_iou, memory, overlap, single_terms
from meta.unlisted.everywhere import BOUND, SINGLE
from meta.unlisted.max_iou import EVERY, MAX
from meta.unlisted.mistake import BOTH, EVERYTHING, SCALAR, TERMS, Mistake, always
from regionloss.boxes import decode, iou, shape_iou, sigmoid
from regionloss.decisions import Decisions, Match
from regionloss.terms import CLASSES, T_H, T_O, class_term_of_all
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array, Batch
from regionloss_suite.mutants.mutant import patched, right
from regionloss_suite.mutants.tools import (
    Answering,
    Given,
    Predictor,
    Terms,
    as_if,
    asked,
    decided,
    inside,
    paid,
    paying,
    read,
    reading,
    redecided,
    spoilt,
)

if TYPE_CHECKING:  # the list of mistakes can be read without PyTorch
    from torch import Tensor


# The IoU.


def _to_the_far_edge_of_the_truth(boxes: Array, truth: Array) -> Array:
    """The minimum of the two far edges is forgotten."""
    across, down = (
        np.maximum(
            truth[centre]
            + truth[size] / 2
            - np.maximum(boxes[centre] - boxes[size] / 2, truth[centre] - truth[size] / 2),
            0.0,
        )
        for centre, size in ((0, 2), (1, 3))
    )
    inner = across * down
    return overlap._ratio(inner, boxes[2] * boxes[3] + truth[2] * truth[3] - inner)


def _read_as_edges(boxes: Array, truth: Array) -> Array:
    """What a helper does that takes edges unless it is told otherwise."""
    across = np.minimum(boxes[2], truth[2]) - np.maximum(boxes[0], truth[0])
    down = np.minimum(boxes[3], truth[3]) - np.maximum(boxes[1], truth[1])
    inner = np.where((across <= 0) | (down <= 0), 0.0, across * down)
    first = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    second = (truth[2] - truth[0]) * (truth[3] - truth[1])
    return overlap._ratio(inner, first + second - inner)


def _areas_of_squares(boxes: Array, truth: Array) -> Array:
    inner, _, _ = overlap._areas(boxes, truth)
    return overlap._ratio(inner, boxes[2] ** 2 + truth[2] ** 2 - inner)


def _truth_counted_twice(boxes: Array, truth: Array) -> Array:
    inner, _, second = overlap._areas(boxes, truth)
    return overlap._ratio(inner, 2 * second - inner)


def _of_each_direction(boxes: Array, truth: Array) -> Array:
    """Two intervals have an IoU in each direction."""
    product = np.ones(boxes.shape[1:])
    for centre, size in ((0, 2), (1, 3)):
        far = np.minimum(boxes[centre] + boxes[size] / 2, truth[centre] + truth[size] / 2)
        near = np.maximum(boxes[centre] - boxes[size] / 2, truth[centre] - truth[size] / 2)
        inner = np.maximum(far - near, 0.0)
        product *= overlap._ratio(inner, boxes[size] + truth[size] - inner)
    return product


def _upright_edges_from_width(boxes: Array, truth: Array) -> Array:
    """The edges of the box alone; its area is right."""
    inner, _, _ = overlap._areas(boxes[[0, 1, 2, 2]], truth)
    return overlap._ratio(inner, boxes[2] * boxes[3] + truth[2] * truth[3] - inner)


# MaxIOU.


def _of_boxes(change: Callable[[Array, Array, Given], None]) -> Answering:
    """MaxIOU of decoded boxes `[4, A, H, W]` that are changed in place, with the outputs `[A, 5+C, H, W]` beside."""

    def measure(given: Given, image: int) -> Array:
        t = given.t[image]
        boxes = decode(t, given.anchors)
        with np.errstate(all="ignore"):
            change(boxes, t, given)
            ious = np.array([iou(boxes, row[:4]) for row in given.truths[image]]).reshape(-1, *boxes.shape[1:])
        return max_iou._largest(ious)

    return max_iou._each_image(measure)


def _offsets_exchanged(boxes: Array, t: Array, given: Given) -> None:
    """As from a mesh of coordinates with the other order of axes."""
    _, _, height, width = t.shape
    row, column = np.indices((height, width))
    boxes[0] += (row - column) / width
    boxes[1] += (column - row) / height


def _raw_centres(boxes: Array, t: Array, given: Given) -> None:
    _, _, height, width = t.shape
    boxes[0] += (t[:, 0] - sigmoid(t[:, 0])) / width
    boxes[1] += (t[:, 1] - sigmoid(t[:, 1])) / height


def _until_one_is_apart(ious: Array, rows: Array) -> Array:
    return max_iou._largest(ious * np.cumprod(ious > 0, axis=0))


def _by_matches(count: Callable[[Array, Match], Array]) -> Answering:
    """MaxIOU over the IoUs `[A, H, W]` with each truth, as its match lets them count."""

    def change(decisions: Decisions, given: Given) -> Decisions:
        largest = np.zeros_like(decisions.max_iou)
        for match in decisions.matches:
            if not decisions.class_only[match.image]:
                (ious,) = max_iou._ious(given, match.image, given.row(match)[None])
                largest[match.image] = np.maximum(largest[match.image], count(ious, match))
        return redecided(decisions, given, max_iou=largest)

    return decided(change)


def _of_its_anchor(ious: Array, match: Match) -> Array:
    own = np.arange(len(ious)) == match.anchor
    return np.where(own[:, None, None], ious, 0.0)


def _viewed(decisions: Decisions, given: Given) -> Decisions:
    """Made as `[N, H, W, A]` and then viewed, not permuted, as `[N, A, H, W]`."""
    shape = decisions.max_iou.shape
    largest = np.ascontiguousarray(np.moveaxis(decisions.max_iou, 1, -1)).reshape(shape)
    return redecided(decisions, given, max_iou=largest)


# A memory.


def _responsible_kept() -> Answering:
    kept: dict[tuple[int, ...], Array] = {}

    def change(decisions: Decisions, given: Given) -> Decisions:
        shape = decisions.responsible.shape
        before = kept.get(shape, np.zeros(shape, dtype=bool))
        kept[shape] = before | decisions.responsible
        if given.profile.no_object_applies == "every-predictor":
            return decisions
        return dataclasses.replace(decisions, no_object=decisions.no_object & ~before)

    return decided(change)


def _images_seen_kept() -> Answering:
    kept: dict[tuple[int, ...], int] = {}

    def change(batch: Batch, given: Given) -> Batch:
        return dataclasses.replace(batch, images_seen=kept.setdefault(given.t.shape, given.images_seen))

    return asked(change)


def _scalar_added_up() -> Answering:
    total = [0.0]

    def answer(question: Question) -> Answer:
        said = right(question)
        assert said.potential is not None
        total[0] += said.potential
        return dataclasses.replace(said, potential=total[0])

    return answer


def _class_targets_kept() -> Answering:
    """A target with a 1 for each class that a predictor has had, of which the search for the 1 finds the oldest."""
    kept: dict[tuple[tuple[int, ...], Predictor], float] = {}

    def change(terms: Terms, given: Given, decisions: Decisions) -> Terms:
        truths = [table.copy() for table in given.truths]
        for match in decisions.matches:
            if match.pays_class:
                row = truths[match.image][match.truth]
                row[4] = kept.setdefault((given.t.shape, match.predictor), row[4])
        return {**terms, "class": class_term_of_all(given.t, truths, decisions, given.profile, given.tree)}

    return paid(change)


def _truths_shuffled() -> Answering:
    draw = np.random.default_rng(0)
    return reading(lambda table, image, given: draw.permutation(table))


def _rows_left_behind() -> Answering:
    """One buffer for each place of the batch; a shorter list overwrites only its beginning."""
    kept: dict[int, Array] = {}

    def change(table: Array, image: int, given: Given) -> Array:
        rows = np.concatenate([table, kept.get(image, table)[len(table) :]])
        kept[image] = rows
        rows = np.asarray(rows[rows[:, 4] < given.t.shape[2] - CLASSES])
        return rows[: given.profile.max_truths] if given.profile.max_truths else rows

    return reading(change)


# Everywhere.


def _three_decimals(table: Array, image: int, given: Given) -> Array:
    """As in text files with labels."""
    table[:, :2] = inside(np.round(table[:, :2], 3))
    table[:, 2:4] = np.maximum(np.round(table[:, 2:4], 3), 1e-3)
    return table


def _gradient(change: Callable[[Array], Array]) -> Answering:
    def spoil(answer: Answer, question: Question) -> Answer:
        assert answer.gradient is not None
        return dataclasses.replace(answer, gradient=change(answer.gradient))

    return spoilt(spoil)


def _sparse(gradient: Array) -> Array:
    size = np.abs(gradient)
    return np.where(size < 1e-3 * size.max(initial=0.0), 0.0, gradient)


def _difference_quotient(t: Array) -> Array:
    step = 1e-2
    return np.asarray((sigmoid(t + step) - sigmoid(t - step)) / (2 * step))


def _in_bfloat16(batch: Batch, given: Given) -> Batch:
    """Rounded to the nearest number with the upper half of the bits, on a tie to the even one."""
    single = np.clip(batch.predictions, -3e38, 3e38).astype(np.float32)
    bits = np.ascontiguousarray(single).view(np.uint32)
    half_up = np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    rounded = ((bits + half_up) & np.uint32(0xFFFF0000)).view(np.float32)
    return dataclasses.replace(batch, predictions=rounded.astype(np.float64))


def _root_of_the_loss(answer: Answer, question: Question) -> Answer:
    assert answer.potential is not None
    return dataclasses.replace(answer, potential=float(np.sqrt(answer.potential)))


# A framework.


def _softmax_over_columns(given: framework.Given) -> dict[str, Tensor]:
    """The softmax of the last axis, which is not that of the classes."""
    terms, profile = framework._pay(given), given.profile
    if profile.class_term != "cross-entropy" or profile.objectness != "logistic":
        return terms
    log_p = given.t[:, :, CLASSES:].log_softmax(dim=-1)
    value = given.t.new_zeros(())
    for (n, k, j, i), labels, weight in given.decisions.class_payers:
        value = value - weight * log_p[n, k, labels[-1], j, i]
    return {**terms, "class": value / max(len(given.t), 1) if profile.reduction == "per-image" else value}


def _gradient_of_the_last(given: framework.Given) -> dict[str, Tensor]:
    """All pay their coordinates, and only the last truth of an image is differentiated."""
    last = {match.image: match for match in given.decisions.matches if match.pays_box}
    few = dataclasses.replace(given.decisions, matches=tuple(last.values()))
    terms, part = framework._pay(given), framework._pay(dataclasses.replace(given, decisions=few))["coord"]
    return {**terms, "coord": terms["coord"].detach() + part - part.detach()}


def _classes_in_half(given: framework.Given) -> dict[str, Tensor]:
    import torch

    outputs = given.t[:, :, CLASSES:].clamp(-65504, 65504).half().to(given.t)
    return framework._pay(given, **{"class": torch.cat([given.t[:, :, :CLASSES], outputs], dim=2)})


def _without_class_zero(given: framework.Given) -> dict[str, Tensor]:
    """Class 0 is the index that the cross-entropy is told to ignore."""
    payers = [payer for payer in given.decisions.class_payers if payer[1][-1] != 0]
    fewer = dataclasses.replace(given, decisions=dataclasses.replace(given.decisions, class_payers=payers))
    return {**framework._pay(given), "class": framework._pay(fewer)["class"]}


def _objectness_clamped(given: framework.Given) -> dict[str, Tensor]:
    import torch

    t_o = given.t[:, :, T_O:CLASSES].clamp(-3, 3)
    t = torch.cat([given.t[:, :, :T_O], t_o, given.t[:, :, CLASSES:]], dim=2)
    return framework._pay(given, no_object=t, object=t)


# Single terms.


def _column_for_row(row: Array, anchors: Array, given: Given, match: Match) -> tuple[Array, Array]:
    """The target of ty is y·H - i."""
    row[1] += (match.row - match.column) / given.t.shape[3]
    return row, anchors


def _small_boxes_in_cells(terms: Terms, given: Given, decisions: Decisions) -> None:
    _, _, _, height, width = given.t.shape
    factor = np.ones(terms["coord"].value.shape)
    for match in paying(decisions):
        area = float(np.prod(given.row(match)[2:4]))
        factor[match.predictor] = ((2 - area * width * height) / (2 - area)) ** given.profile.small_box_exponent
    single_terms._scaled(terms["coord"], factor)


def _classes_of_the_first_image(table: Array, image: int, given: Given) -> Array:
    first = given.truths[0]
    shared = min(len(table), len(first))
    table[:shared, 4] = first[:shared, 4]
    return table


def _anchors_in_cells_with_fractions(question: Question) -> Answer:
    """In the choice of the anchor alone."""
    _, _, _, height, width = read(question).t.shape

    def fit(widths: Array, heights: Array, w: float, h: float) -> Array:
        return shape_iou(widths * width, heights * height, w, h)

    return patched(decisions__shape_iou=fit)(question)


def _prior_without_height(terms: Terms, given: Given, decisions: Decisions) -> None:
    who = np.nonzero(decisions.prior)
    weight = given.profile.squared_factor * given.profile.prior_weight
    terms["prior"].pay_squared(who, T_H, 1.0, -weight, given.t[:, :, T_H][who], 1.0)


def _class_of_the_last(decisions: Decisions, given: Given) -> Decisions:
    last = {match.predictor: index for index, match in enumerate(decisions.matches)}
    return redecided(
        decisions,
        given,
        matches=[
            dataclasses.replace(match, pays_class=index == last[match.predictor])
            for index, match in enumerate(decisions.matches)
        ],
    )


def _of_kind(
    kind: str,
    id: str,
    title: str,
    begin: Callable[[], Answering],
    right: tuple[str, ...],
    family: tuple[str, ...] = (),
    answers: tuple[str, ...] = EVERYTHING,
    dtype: str = "float64",
    profile: str = "darknet",
) -> Mistake:
    return Mistake(
        id=id,
        kind=kind,
        title=title,
        right=right,
        family=family,
        profile=profile,
        answers=answers,
        dtype=dtype,
        begin=begin,
    )


_iou, _max_iou, _memory = overlap._mistake, max_iou._mistake, memory._mistake

MISTAKES = [
    _iou(
        "iou-to-the-far-edge-of-the-truth",
        "the overlap ends at the far edge of the truth, also where the box ends before it",
        overlap._everywhere(_to_the_far_edge_of_the_truth),
    ),
    _iou(
        "iou-centres-as-edges",
        "centre and size of both boxes are read as their edges, for the IoU alone",
        overlap._placed(_read_as_edges),
        BOTH,
        ("notation.truth-units",),
    ),
    _iou(
        "iou-areas-of-squares",
        "the area of a box in the union is the square of its width",
        overlap._everywhere(_areas_of_squares),
        profile="lightnet",
    ),
    _iou(
        "iou-truth-counted-twice",
        "the union counts the area of the truth twice in place of that of the predicted box",
        overlap._placed(_truth_counted_twice),
        BOTH,
    ),
    _iou(
        "iou-product-of-directions",
        "the IoU is the product of the IoU across and the IoU down",
        overlap._everywhere(_of_each_direction),
        profile="darknet-2016",
    ),
    _iou(
        "iou-squared",
        "the square of the IoU is used wherever the spec has the IoU",
        overlap._everywhere(lambda boxes, truth: iou(boxes, truth) ** 2),
        BOTH,
        ("object.iou-target",),
    ),
    _iou(
        "iou-upright-edges-from-width",
        "the upper and lower edge of the predicted box lie half its width from its centre",
        overlap._placed(_upright_edges_from_width),
        SCALAR,
    ),
    _max_iou(
        "max-iou-of-exchanged-offsets",
        "MaxIOU is that of boxes whose column is counted down and whose row is counted across",
        _of_boxes(_offsets_exchanged),
        MAX,
        ("notation.grid-axes", "decode.centre"),
    ),
    _max_iou(
        "max-iou-without-the-first",
        "MaxIOU leaves out the first truth",
        max_iou._combined(lambda ious, rows: max_iou._largest(ious[1:])),
        EVERY,
        MAX,
        BOTH,
        "leetenki",
    ),
    _max_iou(
        "max-iou-until-one-is-apart",
        "MaxIOU looks at no truth after the first that the box does not overlap",
        max_iou._combined(_until_one_is_apart),
        EVERY,
        MAX,
    ),
    _max_iou(
        "max-iou-of-its-anchor",
        "a truth silences only predictors of the anchor that is responsible for it",
        _by_matches(_of_its_anchor),
        EVERY,
        (*MAX, "table.other-anchors"),
        BOTH,
        "yad2k",
    ),
    _max_iou(
        "max-iou-of-raw-centres",
        "MaxIOU is that of boxes whose centre is decoded without the logistic function",
        _of_boxes(_raw_centres),
        MAX,
        ("decode.centre",),
    ),
    _max_iou(
        "max-iou-of-paid-truths",
        "truths that have lost their predictor do not count for MaxIOU",
        _by_matches(lambda ious, match: ious if match.pays_box else 0 * ious),
        EVERY,
        (*MAX, "assign.last-truth-wins"),
    ),
    _max_iou(
        "max-iou-viewed",
        "MaxIOU is made in the order row, column, anchor and read in the order anchor, row, column",
        decided(_viewed),
        MAX,
        ("notation.predictor", "noobj.not-suppression", "notation.grid-axes"),
        SCALAR,
    ),
    _memory(
        "responsible-kept",
        "a predictor once responsible never pays the no-object term in later calls of that shape",
        _responsible_kept,
        family=("noobj.not-responsible",),
    ),
    _memory(
        "images-seen-kept-by-shape",
        "the number of images seen is that of the first call of this shape",
        _images_seen_kept,
        BOTH,
        ("prior.limit", "prior.images-seen"),
        profile="marvis",
    ),
    _memory(
        "scalar-added-up",
        "the returned scalar is the sum over all calls",
        _scalar_added_up,
        SCALAR,
        ("scale.potential",),
    ),
    _memory(
        "class-targets-kept",
        "the class target of a predictor is the first that it had in a call of that shape",
        _class_targets_kept,
        profile="darknet-2016",
    ),
    _memory(
        "truths-shuffled",
        "the truths of an image are shuffled in each call",
        _truths_shuffled,
        BOTH,
        ("truths.order",),
    ),
    _memory(
        "rows-left-behind",
        "rows of a longer list of an earlier call are read after those of a shorter one",
        _rows_left_behind,
        profile="mxnet",
    ),
    _of_kind(
        "everywhere",
        "truths-with-three-decimals",
        "the boxes of the truths are rounded to three decimals",
        always(reading(_three_decimals)),
        ("notation.truth-units", *BOUND),
        ("coord.centre-target", "coord.size-target", "domain.no-repair"),
        profile="samylee",
    ),
    _of_kind(
        "everywhere",
        "gradient-made-sparse",
        "elements of the gradient below a thousandth of the largest are dropped",
        always(_gradient(_sparse)),
        BOUND,
        answers=BOTH,
        profile="andy-yun",
    ),
    _of_kind(
        "everywhere",
        "slope-by-differences",
        "the derivative of the logistic function is a difference quotient with a step of 0.01",
        always(patched(terms__sigmoid_grad=_difference_quotient)),
        BOUND,
        ("object.gradient", "noobj.gradient", "coord.centre-gradient", "prior.gradient"),
    ),
    _of_kind(
        "everywhere",
        "gradient-with-the-sign-of-a-step",
        "the gradient has the sign of the step of descent, as darknet's delta has",
        always(_gradient(lambda gradient: -gradient)),
        ("scale.potential",),
        ("object.gradient", "noobj.gradient", "class.gradient", "coord.centre-gradient", "coord.size-gradient"),
        BOTH,
    ),
    _of_kind(
        "everywhere",
        "predictions-in-bfloat16",
        "the predictions are rounded to bfloat16 first",
        always(asked(_in_bfloat16)),
        SINGLE,
        ("numerics.bfloat16",),
        dtype="float32",
    ),
    _of_kind(
        "everywhere",
        "root-of-the-loss",
        "the square root of the loss is returned",
        always(spoilt(_root_of_the_loss)),
        ("scale.potential",),
        answers=SCALAR,
    ),
    _of_kind(
        "framework",
        "whole-gradient-twice",
        "the loss is differentiated twice into the same gradient",
        framework._hooked(lambda gradient, question: 2 * gradient),
        ("scale.potential", "scale.per-image"),
        ("scale.squared-factor",),
        BOTH,
        profile="uvipen",
    ),
    _of_kind(
        "framework",
        "gradient-channels-last",
        "the memory of the gradient has its channels last and is read as if they came first",
        framework._hooked(lambda gradient, question: gradient.permute(0, 2, 3, 1).reshape(gradient.shape)),
        ("notation.channel-order",),
        ("notation.predictor", "notation.grid-axes"),
        TERMS,
        "float32",
    ),
    _of_kind(
        "framework",
        "softmax-over-columns",
        "the softmax of a class runs over the columns of the grid",
        framework._loss(_softmax_over_columns),
        ("decode.class-probabilities",),
        ("class.cross-entropy", "class.gradient", "class.only-responsible", "table.structural-zeros"),
        TERMS,
    ),
    _of_kind(
        "framework",
        "coord-gradient-of-the-last",
        "of the coordinates of an image only those of the last truth are differentiated",
        framework._loss(_gradient_of_the_last),
        ("coord.centre-gradient", "coord.size-gradient"),
        ("coord.only-responsible", "coord.value"),
        BOTH,
    ),
    _of_kind(
        "framework",
        "class-outputs-in-half",
        "the class outputs pass through half precision in the class term",
        framework._loss(_classes_in_half),
        SINGLE,
        ("class.cross-entropy", "class.gradient", "numerics.float16"),
        TERMS,
        "float32",
    ),
    _of_kind(
        "framework",
        "class-zero-ignored",
        "a truth of class 0 pays no class term, as with an index that the cross-entropy ignores",
        framework._loss(_without_class_zero),
        ("class.cross-entropy",),
        ("class.gradient", "class.only-responsible"),
        TERMS,
    ),
    _of_kind(
        "framework",
        "objectness-clamped",
        "to is clamped at ±3 in the terms of the objectness, so that its gradient dies outside",
        framework._loss(_objectness_clamped),
        ("decode.objectness",),
        ("noobj.gradient", "noobj.value", "object.gradient", "object.value"),
        TERMS,
    ),
    _of_kind(
        "term",
        "column-for-row",
        "the column is subtracted in the target of ty instead of the row",
        always(single_terms._coord_with(_column_for_row)),
        ("coord.centre-target",),
        ("notation.grid-axes",),
        BOTH,
    ),
    _of_kind(
        "term",
        "small-box-weight-in-cells",
        "the weight of small boxes is 2 minus the area in cells",
        always(paid(_small_boxes_in_cells)),
        ("coord.small-box-weight",),
        ("constant.weight", "notation.truth-units"),
    ),
    _of_kind(
        "term",
        "classes-of-the-first-image",
        "a truth has the class of the truth with its number in the first image of the batch",
        always(reading(_classes_of_the_first_image)),
        ("class.cross-entropy", "class.gradient"),
        ("class.only-responsible", "assign.class-replaced", "notation.truth-units"),
    ),
    _of_kind(
        "term",
        "anchors-in-cells-with-fractions",
        "the anchor is chosen by comparing anchors in cells with truths in fractions of the image",
        always(_anchors_in_cells_with_fractions),
        ("assign.anchor-shape",),
        ("assign.one-predictor", "notation.anchor-units"),
        BOTH,
    ),
    _of_kind(
        "term",
        "responsible-weighted-as-background",
        "the objectness of responsible predictors has the weight of the no-object term",
        always(as_if(object_weight=lambda profile: profile.no_object_weight)),
        ("scale.object-weight",),
        ("object.value", "object.gradient"),
        BOTH,
    ),
    _of_kind(
        "term",
        "prior-without-height",
        "the prior leaves th alone",
        always(paid(_prior_without_height)),
        ("prior.value", "prior.gradient"),
    ),
    _of_kind(
        "term",
        "class-of-the-last",
        "of colliding truths, the first pays its box and the last its class",
        always(decided(_class_of_the_last)),
        ("assign.class-replaced", "assign.first-truth-wins"),
        profile="samylee",
    ),
]

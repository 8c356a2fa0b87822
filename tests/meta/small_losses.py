"""Small losses as they are reported and ported: darknet's own with one part changed, and adapters that stop.

Each is the reference with a few lines beside it, so that what is right to say of it follows from its code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from regionloss import Result, region_loss
from regionloss.boxes import iou, iou_grad, shape_iou, sigmoid, sigmoid_grad
from regionloss.decisions import Decisions, Match
from regionloss.loss import pay_terms
from regionloss.terms import T_H, T_O, T_W, Term
from regionloss_adapters import Adapter, Question, truths
from regionloss_adapters.wrap.from_loss import from_numpy
from regionloss_spec import Profile, load_profile
from regionloss_spec.batch import Array

#: What a loss returns: its scalar and its gradient.
Answered = tuple[float, Array]
Loss = Callable[[Array, Sequence[Array], Question], Answered]

DARKNET = load_profile("darknet")
WITHOUT_PRIOR = DARKNET.replace(prior_until=0)

#: What each reduction divides by; t is `[N, A, 5+C, H, W]`.
DIVISORS: dict[str, Callable[[Result], int]] = {
    "per-image": lambda result: len(result.t),
    "per-object": lambda result: sum(map(len, result.truths)),
    "per-responsible": lambda result: len(_paid(result)),
    "per-predictor": lambda result: _cells(result) * len(result.t) * len(result.anchors),
    "per-cell": lambda result: _cells(result) * len(result.t),
    "per-predictor-of-an-image": lambda result: _cells(result) * len(result.anchors),
    "per-cell-of-an-image": lambda result: _cells(result),
}


def _cells(result: Result) -> int:
    return int(np.prod(result.t.shape[3:]))


def ported(loss: Loss, name: str, columns: str = "x y w h class", dtype: str = "float64") -> Adapter:
    """A loss behind the wrapper that a port would use; it has no options."""
    return from_numpy(
        loss, name=name, truths=truths.Ragged(columns=columns), answers=("gradient", "potential"), dtypes=(dtype,)
    )


def _result(predictions: Array, rows: Sequence[Array], question: Question, profile: Profile = DARKNET) -> Result:
    batch = question.batch
    with np.errstate(all="ignore"):  # sizes may overflow although logarithms do not
        return region_loss(
            predictions, rows, batch.anchors, batch.classes, images_seen=batch.images_seen, profile=profile
        )


def _decided(result: Result, decisions: Decisions) -> Result:
    """The same batch with other decisions, and the terms that follow from them."""
    terms = pay_terms(result.t, result.truths, result.anchors, decisions, result.profile, None)
    return dataclasses.replace(result, decisions=decisions, terms=terms)


def _answered(result: Result) -> Answered:
    return result.potential, result.gradient


def of_profile(**options: Any) -> Adapter:
    """Darknet's loss with other choices, whatever the question says."""
    profile = DARKNET.replace(**options)
    return ported(
        lambda predictions, rows, question: _answered(_result(predictions, rows, question, profile)), f"with {options}"
    )


def flipped(*names: str) -> Adapter:
    """Darknet's loss whose gradient has the wrong sign in some terms, and whose scalar is right."""

    def loss(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
        result = _result(predictions, rows, question)
        wrong = np.asarray(sum(result.terms[name].gradient for name in names))
        return result.potential, result.gradient - 2 * wrong.reshape(result.gradient.shape)

    return ported(loss, f"the wrong sign of {', '.join(names)}")


def _minus(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
    """What darknet writes into its delta: minus the gradient."""
    result = _result(predictions, rows, question)
    return result.potential, -result.gradient


def _twice(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
    result = _result(predictions, rows, question)
    return 2 * result.potential, 2 * result.gradient


def _in_anchors(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
    """Sizes are compared as multiples of the anchor: e^t with the truth's size over the anchor's."""
    result = _result(predictions, rows, question)
    term, t = result.terms["coord"], result.t
    gradient, value = term.gradient.copy(), term.value.copy()
    for match in _paid(result):
        n, k, j, i = match.predictor
        (x, y, w, h), own = result.truths[n][match.truth, :4], t[n, k, :, j, i]
        height, width = t.shape[3:]
        with np.errstate(over="ignore"):
            ratio = np.exp(own[T_W : T_H + 1])
            size = ratio - np.array([w * width, h * height]) / result.anchors[k]
            centre = sigmoid(own[:T_W]) - np.array([x * width - i, y * height - j])
            gradient[n, k, T_W : T_H + 1, j, i] = (2 - w * h) * size * ratio
            value[match.predictor] = (2 - w * h) / 2 * (size @ size + centre @ centre)
    coord = Term(value, gradient, term.delta)
    return _answered(dataclasses.replace(result, terms={**result.terms, "coord": coord}))


def _paid(result: Result) -> list[Match]:
    return [match for match in result.decisions.matches if match.pays_box]


def divided(reduction: str) -> Adapter:
    """Darknet's loss without its prior, divided by a count of the batch."""

    def loss(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
        result = _result(predictions, rows, question, WITHOUT_PRIOR)
        count = max(DIVISORS[reduction](result), 1)
        return result.potential / count, result.gradient / count

    return ported(loss, reduction)


def never_empty(columns: str) -> Adapter:
    """Darknet's loss in float32, which stops at an image without truths; its boxes are corners or centres with sizes.

    Args:
        columns: of its rows, `x1 y1 x2 y2 class` or `x y w h class`.
    """

    def loss(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
        if not all(map(len, rows)):
            raise RuntimeError("no truths")
        if columns.startswith("x1"):
            rows = [np.column_stack([(r[:, :2] + r[:, 2:4]) / 2, r[:, 2:4] - r[:, :2], r[:, 4]]) for r in rows]
        result = _result(predictions, rows, question)
        return result.potential, result.gradient.astype(np.float32)

    return ported(loss, f"never empty, rows of {columns}", columns, "float32")


def silent_by_shape(*, erases: bool) -> Adapter:
    """In the cell of a truth, anchors whose shape has an IoU above one half with it are silent, and nothing else is.

    Without prior. The silence leaves responsible predictors alone, unless it `erases` the match of an earlier truth,
    as it does where one array holds who is responsible and who is silent.
    """

    def loss(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
        result = _result(predictions, rows, question, WITHOUT_PRIOR)
        decisions = result.decisions
        responsible, silent = np.zeros_like(decisions.responsible), np.zeros_like(decisions.responsible)
        height, width = result.t.shape[3:]
        for match in decisions.matches:
            n, k, j, i = match.predictor
            _, _, w, h = result.truths[n][match.truth, :4]
            near = shape_iou(result.anchors[:, 0] / width, result.anchors[:, 1] / height, w, h) > 0.5
            near[k] = False
            silent[n, near, j, i] = True
            if erases:
                responsible[n, near, j, i] = False
            responsible[match.predictor] = True
        matches = tuple(
            dataclasses.replace(
                match,
                pays_box=match.pays_box and bool(responsible[match.predictor]),
                pays_class=match.pays_class and bool(responsible[match.predictor]),
            )
            for match in decisions.matches
        )
        no_object = ~responsible & ~silent
        changed = dataclasses.replace(decisions, matches=matches, responsible=responsible, no_object=no_object)
        return _answered(_decided(result, changed))

    return ported(loss, f"silent by shape{', erasing matches' * erases}")


def with_a_cell_added(*, flows: bool) -> Adapter:
    """The IoU of boxes whose width and height are one cell too large, as target and as MaxIOU; without prior.

    Args:
        flows: whether the target of objectness has a gradient.
    """

    def loss(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
        result = _result(predictions, rows, question, WITHOUT_PRIOR)
        decisions = result.decisions
        height, width = result.t.shape[3:]
        cell = np.array([0.0, 0.0, 1 / width, 1 / height])
        boxes = result.boxes + cell[:, None, None, None]
        max_iou = np.zeros_like(decisions.max_iou)
        matches = []
        for match in decisions.matches:
            n, k, j, i = match.predictor
            overlap = iou(boxes[n], result.truths[n][match.truth, :4] + cell)
            max_iou[n] = np.maximum(max_iou[n], overlap)
            matches.append(dataclasses.replace(match, iou=float(overlap[k, j, i])))
        no_object = ~decisions.responsible & ~(max_iou > result.profile.thresh)
        changed = _decided(
            result,
            dataclasses.replace(decisions, max_iou=max_iou, matches=tuple(matches), no_object=no_object),
        )
        for match in _paid(changed) if flows else ():
            n, k, j, i = match.predictor
            own = result.t[n, k, :, j, i]
            _, _, w, h = result.boxes[n, :, k, j, i]
            by_box = iou_grad(boxes[n, :, k, j, i], result.truths[n][match.truth, :4] + cell)
            if not by_box.any():  # apart, where the size of the box may be infinite
                continue
            by_output = by_box * [sigmoid_grad(own[0]) / width, sigmoid_grad(own[1]) / height, w, h]
            residual = sigmoid(own[T_O]) - match.iou
            changed.terms["object"].gradient[n, k, :T_O, j, i] -= result.profile.object_weight * residual * by_output
        return _answered(changed)

    return ported(loss, f"a cell added{', the target flows' * flows}")


def _misspelt(predictions: Array, rows: Sequence[Array], question: Question) -> Answered:
    return question.batch.no_such_attribute, predictions  # type: ignore[attr-defined]


minus_gradient = ported(_minus, "minus the gradient")
doubled = ported(_twice, "twice the loss")
in_anchors = ported(_in_anchors, "sizes in anchors")
square_root = of_profile(size_space="square-root")
misspelt = ported(_misspelt, "a misspelt attribute")

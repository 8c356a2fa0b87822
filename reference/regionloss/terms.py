"""The five terms, each with its value and its gradient, in the order of the formula (spec chapters 5 to 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from regionloss.boxes import decode, iou, iou_grad, sigmoid, sigmoid_grad
from regionloss.classes import Tree, class_term, logsumexp, softmax
from regionloss.decisions import Decisions, Match
from regionloss_spec import Profile
from regionloss_spec.batch import Array

T_X, T_Y, T_W, T_H, T_O, CLASSES = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True, eq=False)
class Term:
    """What every predictor pays for one term, before the reduction.

    Attributes:
        value: `[N, A, H, W]`.
        gradient: of the sum of `value` with respect to the raw predictions, `[N, A, 5+C, H, W]`.
        delta: what darknet writes into `l.delta`: minus the gradient, before the logistic derivative.
    """

    value: Array
    gradient: Array
    delta: Array

    @classmethod
    def zero(cls, t: Array) -> Term:
        """A term that nobody pays yet, for predictions `[N, A, 5+C, H, W]`."""
        return cls(np.zeros((*t.shape[:2], *t.shape[3:])), np.zeros(t.shape), np.zeros(t.shape))

    def pay_squared(
        self, index: tuple[Any, ...], channel: int, q: float, weight: Any, residual: Any, grad: Any
    ) -> None:
        """Add q·λ·r² and its derivative 2q·λ·r·(dr/dt); `index` is into `[N, A, H, W]` (`scale.squared-factor`)."""
        self.value[index] += q * weight * np.square(residual)  # of a Python float, ** raises where this is infinite
        self.gradient[:, :, channel][index] += 2 * q * weight * residual * grad
        self.delta[:, :, channel][index] -= 2 * q * weight * residual


def no_object_term(t: Array, decisions: Decisions, profile: Profile) -> Term:
    """λ_noobj·(0 - b_o)² where the indicator is 1 (`noobj.value`, `noobj.gradient`, `scale.no-object-weight`)."""
    term = Term.zero(t)
    index = np.nonzero(decisions.no_object)
    if profile.objectness == "background":
        _pay_background(term, t, index, profile.no_object_weight, target=1.0)
        return term
    t_o = t[:, :, T_O][index]
    # `noobj.target-zero`, `noobj.target-max-iou`
    target = decisions.max_iou[index] if profile.no_object_target == "max-iou" else 0.0
    term.pay_squared(
        index, T_O, profile.squared_factor, profile.no_object_weight, sigmoid(t_o) - target, sigmoid_grad(t_o)
    )
    return term


def prior_term(t: Array, decisions: Decisions, profile: Profile) -> Term:
    """λ_prior·Σ(prior - b)²: a pull towards the middle of the cell and the anchor's size (`prior.value`)."""
    term = Term.zero(t)
    index = np.nonzero(decisions.prior)
    # On the coordinates alone: `prior.coordinates-only`, `prior.gradient`, `prior.weight`.
    for channel in (T_X, T_Y):
        raw = t[:, :, channel][index]
        term.pay_squared(
            index, channel, profile.squared_factor, profile.prior_weight, sigmoid(raw) - 0.5, sigmoid_grad(raw)
        )
    for channel in (T_W, T_H):  # `prior.coordinates-only`, `prior.gradient`, `prior.weight`
        raw = t[:, :, channel][index]
        term.pay_squared(index, channel, profile.squared_factor, profile.prior_weight, raw, 1.0)
    return term


def coord_term(t: Array, truths: list[Array], anchors: Array, decisions: Decisions, profile: Profile) -> Term:
    """λ_coord·s·Σ(truth - b)² of every responsible predictor (`coord.value`, `coord.only-responsible`)."""
    term = Term.zero(t)
    _, _, _, height, width = t.shape
    for match in decisions.matches:
        if not match.pays_box:
            continue
        x, y, w, h = truths[match.image][match.truth, :4]
        n, k, j, i = match.predictor
        a_w, a_h = anchors[k]
        t_x, t_y, t_w, t_h = t[n, k, :4, j, i]
        # It depends on the truth alone, on no prediction: `scale.coord-weight`, `constant.weight`,
        # `coord.small-box-weight`, `coord.constant-weight`, `coord.squared-small-box-weight`.
        weight = profile.coord_weight * (2 - w * h) ** profile.small_box_exponent
        residual_w, grad_w = _size_residual(t_w, w, width, a_w, profile)
        residual_h, grad_h = _size_residual(t_h, h, height, a_h, profile)
        q = profile.squared_factor
        # `coord.centre-target`, `coord.centre-gradient`
        term.pay_squared(match.predictor, T_X, q, weight, sigmoid(t_x) - (x * width - i), sigmoid_grad(t_x))
        term.pay_squared(match.predictor, T_Y, q, weight, sigmoid(t_y) - (y * height - j), sigmoid_grad(t_y))
        # `coord.size-gradient`
        term.pay_squared(match.predictor, T_W, q, weight, residual_w, grad_w)
        term.pay_squared(match.predictor, T_H, q, weight, residual_h, grad_h)
    return term


def object_term(t: Array, truths: list[Array], anchors: Array, decisions: Decisions, profile: Profile) -> Term:
    """λ_obj·(IoU - b_o)² of every responsible predictor (`object.value`, `object.only-responsible`)."""
    term = Term.zero(t)
    for match in decisions.matches:
        if not match.pays_box:
            continue
        n, k, j, i = index = match.predictor
        if profile.objectness == "background":
            _pay_background(term, t, index, profile.object_weight, target=0.0)
            continue
        t_o = t[n, k, T_O, j, i]
        target, target_grad = _object_target(match, t[n], truths[n], anchors, decisions, profile)
        residual = sigmoid(t_o) - target  # `decode.objectness`
        q, weight = profile.squared_factor, profile.object_weight
        # `object.gradient`, `scale.object-weight`
        term.pay_squared(index, T_O, q, weight, residual, sigmoid_grad(t_o))
        term.gradient[n, k, :T_O, j, i] -= 2 * q * weight * residual * target_grad
    return term


def class_term_of_all(t: Array, truths: list[Array], decisions: Decisions, profile: Profile, tree: Tree | None) -> Term:
    """λ_class times the class term of all that pay one (`class.only-responsible`, `scale.class-weight`)."""
    term = Term.zero(t)
    for (n, k, j, i), true_classes, weight in class_payers(t, truths, decisions, profile):
        value, gradient, delta = class_term(
            t[n, k, CLASSES:, j, i], t[n, k, T_O, j, i], true_classes, weight, profile, tree
        )
        term.value[n, k, j, i] += value
        term.gradient[n, k, CLASSES:, j, i] += gradient
        term.delta[n, k, CLASSES:, j, i] += delta
    return term


def class_payers(
    t: Array, truths: list[Array], decisions: Decisions, profile: Profile
) -> list[tuple[tuple[int, int, int, int], list[int], float]]:
    """Who pays a class term: the predictor, its true classes in the order of the truths, and the weight."""
    labels: dict[tuple[int, int, int, int], list[int]] = {}
    pays: list[tuple[tuple[int, int, int, int], list[int], float]] = []
    for match in decisions.matches:
        label = int(truths[match.image][match.truth, 4])
        if match.pays_class and profile.class_collision == "accumulate":
            labels.setdefault(match.predictor, []).append(label)
        elif match.pays_class:
            pays.append((match.predictor, [label], profile.class_weight))
    pays += [(predictor, accumulated, profile.class_weight) for predictor, accumulated in labels.items()]
    # `class.ignored-none`, `class.ignored-full`, `class.ignored-by-objectness`
    if profile.ignored_class != "none":
        for n, k, j, i in np.argwhere(decisions.ignored & (decisions.best_truth >= 0)):
            label = int(truths[n][decisions.best_truth[n, k, j, i], 4])
            by = float(sigmoid(t[n, k, T_O, j, i])) if profile.ignored_class == "by-objectness" else 1.0
            pays.append(((int(n), int(k), int(j), int(i)), [label], profile.class_weight * by))
    return pays


def _size_residual(t_size: float, size: float, cells: int, anchor: float, profile: Profile) -> tuple[float, float]:
    """Residual of a width or height and its derivative with respect to the raw output.

    `size` is the truth's, a fraction of the image that is `cells` cells long; `anchor` is in cells.
    """
    # `coord.size-target`, `coord.size-target-floor`, `coord.size-target-unclamped`
    if profile.size_space == "log":
        floor = 1.0 if profile.size_target_floor == "one-cell" else 0.0
        return t_size - float(np.log(max(size * cells, floor) / anchor)), 1.0
    if profile.size_space == "decoded":  # `coord.decoded-size`
        predicted = anchor * float(np.exp(t_size))
        return predicted - size * cells, predicted
    predicted = float(np.sqrt(anchor / cells) * np.exp(t_size / 2))
    return predicted - float(np.sqrt(size)), predicted / 2  # `coord.square-root-size`


def _object_target(
    match: Match, t: Array, truths: Array, anchors: Array, decisions: Decisions, profile: Profile
) -> tuple[float, Array]:
    """The target of objectness and its derivative with respect to tx, ty, tw, th `[4]`, zero where it is constant."""
    _, k, j, i = match.predictor
    if profile.object_target == "one":  # `object.one-target`
        return 1.0, np.zeros(4)
    # `object.iou-target`, `object.max-iou-target`
    constant = match.iou if profile.object_target == "iou" else float(decisions.max_iou[match.predictor])
    if profile.object_target_gradient == "constant":  # `object.target-constant`
        return constant, np.zeros(4)
    truth = match.truth if profile.object_target == "iou" else int(decisions.best_truth[match.predictor])
    if truth < 0:
        return 0.0, np.zeros(4)
    box = decode(t, anchors)[:, k, j, i]
    grad = iou_grad(box, truths[truth, :4])
    if not grad.any():  # apart, or of an overflowed size: the target is constant
        return constant, np.zeros(4)
    _, height, width = t.shape[1:]
    t_x, t_y = t[k, T_X, j, i], t[k, T_Y, j, i]
    box_grad = np.array([sigmoid_grad(t_x) / width, sigmoid_grad(t_y) / height, box[2], box[3]])
    return float(iou(box, truths[truth, :4])), grad * box_grad  # `object.target-flows`


def _pay_background(term: Term, t: Array, index: tuple[Any, ...], weight: float, target: float) -> None:
    """The objectness output as background class: 1 without an object, 0 with one (`object.background`).

    Only the derivative with respect to t_o itself is taken; darknet leaves the class outputs out of it.
    """
    logits = np.moveaxis(t[:, :, T_O:], 2, 0)[(slice(None), *index)]  # [1+C, ...]
    residual = softmax(logits)[0] - target
    whole = logsumexp(logits)
    term.value[index] += weight * (whole - (logits[0] if target else logsumexp(logits[1:])))
    term.gradient[:, :, T_O][index] += weight * residual
    term.delta[:, :, T_O][index] -= weight * residual

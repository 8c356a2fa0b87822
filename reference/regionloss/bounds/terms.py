"""The bound of every gradient element and of every value, term by term as `regionloss.terms` pays them."""

from __future__ import annotations

from typing import Any

import numpy as np

from regionloss.bounds.elementary import class_output_error, decoded_overlap, logistic_error, probability_error
from regionloss.bounds.precision import Precision
from regionloss.boxes import iou_grad, sigmoid, sigmoid_grad
from regionloss.classes import class_probabilities, groups_of
from regionloss.decisions import Match
from regionloss.loss import Result
from regionloss.terms import CLASSES, T_H, T_O, T_W, T_X, T_Y, class_payers
from regionloss_spec.batch import Array


class TermErrors:
    """Errors of everything that a result pays, before the reduction.

    Attributes:
        gradient: of each gradient element from its elementary quantities, `[N, A, 5+C, H, W]`.
        delta: of each element of darknet's delta, likewise.
        values: of what each predictor pays, `[N, A, H, W]`, by term.
        summands: how many numbers each term adds up.
        max_iou: of MaxIOU, `[N, A, H, W]`.
    """

    def __init__(self, result: Result, precision: Precision) -> None:
        self.result = result
        self.precision = precision
        self.u = precision.rounding
        self.gradient = np.zeros(result.t.shape)
        self.delta = np.zeros(result.t.shape)
        self.values = {name: np.zeros(term.value.shape) for name, term in result.terms.items()}
        self.summands = dict.fromkeys(result.terms, 0)
        self.max_iou = self._max_iou()
        self._no_object()
        self._prior()
        for match in result.decisions.matches:
            if match.pays_box:
                self._coord(match)
                self._object(match)
        self._class()

    def _squared(
        self, name: str, index: Any, channel: int, weight: Any, residual: Any, error: Any, grad: Any, grad_error: Any
    ) -> None:
        """Error of q·λ·r² and of 2q·λ·r·(dr/dt), from the errors of r and of dr/dt."""
        q = self.result.profile.squared_factor
        self.summands[name] += np.size(residual)
        self.values[name][index] += q * weight * (2 * np.abs(residual) + error) * error
        self.delta[:, :, channel][index] += 2 * q * weight * error
        self.gradient[:, :, channel][index] += (
            2 * q * weight * (error * np.abs(grad) + (np.abs(residual) + error) * grad_error)
        )

    def _logistic(self, t: Any) -> tuple[Any, Any, Any]:
        """σ, its derivative and the error of both."""
        return sigmoid(t), sigmoid_grad(t), logistic_error(t, self.precision)

    def _max_iou(self) -> Array:
        result = self.result
        worst = np.zeros(result.decisions.max_iou.shape)
        for image, rows in enumerate(result.truths):
            if result.decisions.class_only[image]:
                continue
            sizes = np.moveaxis(result.t[image][:, T_W : T_H + 1], 1, 0)
            for row in rows:
                overlap = decoded_overlap(result.boxes[image], sizes, row[:4], self.precision)
                worst[image] = np.maximum(worst[image], overlap.iou_error)
        return worst

    def _no_object(self) -> None:
        result, profile = self.result, self.result.profile
        index = np.nonzero(result.decisions.no_object)
        if profile.objectness == "background":
            self._background("no_object", index, profile.no_object_weight)
            return
        b, grad, error = self._logistic(result.t[:, :, T_O][index])
        target: Any = 0.0
        target_error: Any = 0.0
        if profile.no_object_target == "max-iou":
            target, target_error = result.decisions.max_iou[index], self.max_iou[index]
        self._squared("no_object", index, T_O, profile.no_object_weight, b - target, error + target_error, grad, error)

    def _prior(self) -> None:
        result = self.result
        index = np.nonzero(result.decisions.prior)
        weight = result.profile.prior_weight
        for channel, place in ((T_X, index[3]), (T_Y, index[2])):
            b, grad, error = self._logistic(result.t[:, :, channel][index])
            self._squared("prior", index, channel, weight, b - 0.5, error + self.u * (place + 1), grad, error)
        for channel in (T_W, T_H):
            raw = result.t[:, :, channel][index]
            self._squared("prior", index, channel, weight, raw, self.u * (np.abs(raw) + 1), 1.0, 0.0)

    def _coord(self, match: Match) -> None:
        result, profile = self.result, self.result.profile
        n, k, j, i = match.predictor
        x, y, w, h = result.truths[n][match.truth, :4]
        _, _, _, height, width = result.t.shape
        weight = profile.coord_weight * (2 - w * h) ** profile.small_box_exponent
        for channel, place, cells, cell in ((T_X, x, width, i), (T_Y, y, height, j)):
            b, grad, error = self._logistic(result.t[n, k, channel, j, i])
            residual = b - (place * cells - cell)
            self._squared(
                "coord", match.predictor, channel, weight, residual, error + self.u * (place * cells + 1), grad, error
            )
        for channel, size, cells, anchor in (
            (T_W, w, width, result.anchors[k, 0]),
            (T_H, h, height, result.anchors[k, 1]),
        ):
            raw = result.t[n, k, channel, j, i]
            if profile.size_space == "log":
                floor = 1.0 if profile.size_target_floor == "one-cell" else 0.0
                target = np.log(max(size * cells, floor) / anchor)
                error = self.u * (abs(raw) + abs(target) + 1)
                self._squared("coord", match.predictor, channel, weight, raw - target, error, 1.0, 0.0)
                continue
            predicted, target = anchor * np.exp(raw), size * cells
            if profile.size_space == "square-root":
                predicted, target = np.sqrt(predicted / cells), np.sqrt(size)
            relative, tiny = self.u * (1 + abs(raw)), self.precision.scalar_tiny
            grad = predicted if profile.size_space == "decoded" else predicted / 2
            error = relative * predicted + self.u * target + tiny
            grad_error = relative * grad + tiny
            self._squared("coord", match.predictor, channel, weight, predicted - target, error, grad, grad_error)

    def _object(self, match: Match) -> None:
        result, profile = self.result, self.result.profile
        n, k, j, i = index = match.predictor
        if profile.objectness == "background":
            self._background("object", index, profile.object_weight)
            return
        b, grad, error = self._logistic(result.t[n, k, T_O, j, i])
        sizes = result.t[n, k, T_W : T_H + 1, j, i]
        target, target_error, truth = 1.0, 0.0, -1
        if profile.object_target == "iou":
            truth = match.truth
            met = decoded_overlap(result.boxes[n][:, k, j, i], sizes, result.truths[n][truth, :4], self.precision)
            target, target_error = match.iou, float(met.iou_error)
        elif profile.object_target == "max-iou":
            truth = int(result.decisions.best_truth[index])
            target, target_error = result.decisions.max_iou[index], self.max_iou[index]
        residual, weight = b - target, profile.object_weight
        self._squared("object", index, T_O, weight, residual, error + target_error, grad, error)
        if profile.object_target_gradient == "flows" and truth >= 0:
            spread = abs(residual), error + target_error
            self.gradient[n, k, :T_O, j, i] += 2 * profile.squared_factor * weight * self._flow(index, truth, *spread)

    def _flow(self, index: tuple[int, int, int, int], truth: int, residual: float, error: float) -> Array:
        """Error of residual · dIoU/dt for tx, ty, tw and th, `[4]`, from the residual and its error."""
        result = self.result
        n, k, j, i = index
        raw, box, row = result.t[n, k, :T_O, j, i], result.boxes[n][:, k, j, i], result.truths[n][truth, :4]
        iou_wrt_box = np.abs(iou_grad(box, row))
        if not iou_wrt_box.any():  # the target stands still
            return np.zeros(4)
        iou_wrt_box_error = decoded_overlap(box, raw[2:], row, self.precision).grad_error()
        _, _, _, height, width = result.t.shape
        grid = np.array([width, height])
        grad = np.concatenate([sigmoid_grad(raw[:2]) / grid, box[2:]])
        grad_error = np.concatenate(
            [logistic_error(raw[:2], self.precision) / grid, self.u * (1 + np.abs(raw[2:])) * box[2:]]
        )
        product_error = iou_wrt_box_error * grad + (iou_wrt_box + iou_wrt_box_error) * grad_error
        return np.asarray(error * iou_wrt_box * grad + (residual + error) * product_error)

    def _class(self) -> None:
        result, profile = self.result, self.result.profile
        for (n, k, j, i), labels, weight in class_payers(result.t, result.truths, result.decisions, profile):
            z, t_o = result.t[n, k, CLASSES:, j, i], result.t[n, k, T_O, j, i]
            error = self._class_error(z, t_o, labels[-1], weight)
            if profile.class_term == "tree":  # groups off the path are zero by structure
                paid = result.terms["class"].gradient[n, k, CLASSES:, j, i]
                for group in groups_of(result.tree or ()):
                    error[group] *= (paid[group] != 0).any()
            self.gradient[n, k, CLASSES:, j, i] += error
            self.delta[n, k, CLASSES:, j, i] += error
            spread = 1 + float(np.abs(z).max()) + len(z)
            raw = spread if profile.class_term == "squared-linear" else 1.0
            self.values["class"][n, k, j, i] += self.u * weight * spread * raw
            self.summands["class"] += len(z)

    def _class_error(self, z: Array, t_o: float, label: int, weight: float) -> Array:
        """Error of the class gradient of one predictor `[C]`, from the error of its probabilities."""
        result, profile = self.result, self.result.profile
        if profile.class_term == "squared-linear":
            return np.asarray(2 * profile.squared_factor * weight * self.u * (np.abs(z) + 1))
        p = class_probabilities(z, np.asarray(t_o), profile, result.tree)
        error = class_output_error(z, np.asarray(t_o), profile, result.tree, self.precision)
        if profile.class_term == "squared-error":
            grad = 2 * profile.squared_factor * weight
            return np.asarray(grad * (2 * error + 2 * p * (error.sum() + self.u)))
        if profile.class_term == "focal":
            residual = np.abs(p - (np.arange(len(z)) == label))
            modulation, modulation_error = self._focal(float(p[label]), float(error[label]))
            return np.asarray(weight * (modulation * error + modulation_error * (residual + error)))
        return np.asarray(weight * error)

    def _focal(self, p: float, error: float) -> tuple[float, float]:
        """(1-p)(1-p - 2p ln p)/2, which scales the gradient under `class.focal`, and its error."""
        log_p = float(np.log(max(p, self.precision.scalar_tiny)))
        rest = 1 - p
        error += self.u * rest
        modulation = rest * (rest - 2 * p * log_p) / 2
        grad = abs(rest - 2 * p * log_p + rest * (3 + 2 * log_p)) / 2
        grad += rest  # the logarithm's own error is that of p, over p
        # Half the second derivative is below 2.4/p.
        return modulation, grad * error + 5 * error**2 / max(p, error) + self.u * modulation

    def _background(self, name: str, index: Any, weight: float) -> None:
        """Error of an objectness that joins the softmax as background class."""
        t = self.result.t
        logits = np.moveaxis(t[:, :, T_O:], 2, 0)[(slice(None), *index)]
        error = weight * probability_error(logits, self.precision)[0]
        self.gradient[:, :, T_O][index] += error
        self.delta[:, :, T_O][index] += error
        self.values[name][index] += weight * self.u * (1 + 2 * np.abs(logits).max(axis=0) + len(logits))
        self.summands[name] += np.size(logits[0])

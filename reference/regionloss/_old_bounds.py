"""How far a correct implementation may be from the reference, element by element (spec chapter 15).

Each bound is the sum of |dg/dv|·err(v) over the elementary quantities v that a gradient element is made of. Nothing
here can be set from outside: a bound follows from the inputs and the precision alone (`numerics.bound`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss.boxes import iou, iou_slope, sigmoid, sigmoid_slope
from regionloss.classes import class_probabilities, groups_of
from regionloss.decisions import Match
from regionloss.loss import Result
from regionloss.terms import CLASSES, T_H, T_O, T_W, T_X, T_Y

Array = NDArray[Any]

#: Roundings that an elementary quantity may cost: a few operations, each good to a unit or two in the last place.
ROUNDINGS = 4.0


@dataclass(frozen=True)
class Precision:
    """A floating-point format that a loss is asked in.

    Attributes:
        name: `float64`, `float32`, `float16` or `bfloat16`.
        unit: unit roundoff of the arithmetic; the half formats compute in float32 (`numerics.accumulation`).
        output: unit roundoff of the answer, where it is rounded once more, else 0.
        tiny: smallest normal number of the answer, below which it may be flushed to zero (`numerics.underflow`).
        largest: largest number of the answer, beyond which it may be infinite.
        scalar_tiny: `tiny` of a scalar, which is of the computing precision (`numerics.accumulation`).
    """

    name: str
    unit: float
    output: float
    tiny: float
    largest: float
    scalar_tiny: float


PRECISIONS = {
    "float64": Precision("float64", 2.0**-53, 0.0, 2.0**-1022, (2 - 2.0**-52) * 2.0**1023, 2.0**-1022),
    "float32": Precision("float32", 2.0**-24, 0.0, 2.0**-126, (2 - 2.0**-23) * 2.0**127, 2.0**-126),
    "float16": Precision("float16", 2.0**-24, 2.0**-11, 2.0**-14, 65504.0, 2.0**-126),
    "bfloat16": Precision("bfloat16", 2.0**-24, 2.0**-8, 2.0**-126, (2 - 2.0**-7) * 2.0**127, 2.0**-126),
}


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds of the answers to one batch in one precision.

    Attributes:
        gradient: `[N, A*(5+C), H, W]`; 0 where the gradient is zero by structure (`table.structural-zeros`).
        terms: bound of each term's value, by name.
        max_iou: error that MaxIOU may have, `[N, A, H, W]`.
        printed_cost: bound of the cost that darknet prints.
    """

    gradient: Array
    terms: dict[str, float]
    max_iou: Array
    printed_cost: float

    @property
    def potential(self) -> float:
        """Bound of the sum of the terms."""
        return sum(self.terms.values())


def bounds(result: Result, precision: Precision) -> Bounds:
    """The bounds of every answer to the batch of a result."""
    return _Bounding(result, precision).all()


class _Bounding:
    """Collects the bound of every gradient element and of every value, term by term as `terms.py` pays them."""

    def __init__(self, result: Result, precision: Precision) -> None:
        self.result = result
        self.precision = precision
        self.u = ROUNDINGS * precision.unit
        self.gradient = np.zeros(result.t.shape)
        self.delta = np.zeros(result.t.shape)
        self.values = {name: np.zeros(term.value.shape) for name, term in result.terms.items()}

    def all(self) -> Bounds:
        result, t = self.result, self.result.t
        max_iou = self._max_iou()
        self._no_object(max_iou)
        self._prior()
        for match in result.decisions.matches:
            if match.pays_box:
                self._coord(match)
                self._object(match, max_iou)
        self._class()
        paid = np.zeros(t.shape)
        for term in result.terms.values():
            paid += np.abs(term.gradient)
        touched = (self.gradient > 0) | (paid > 0)
        total = result.scale * (self.gradient + (self.u + self.precision.output) * paid)
        gradient = np.where(touched, total + self.precision.tiny, 0.0).reshape(result.gradient.shape)
        terms = {name: self._sum(name) for name in self.values}
        return Bounds(gradient, terms, max_iou, self._printed_cost(sum(terms.values())))

    def _printed_cost(self, potential: float) -> float:
        """Bound of Σδ², which is summed in float32 whatever the precision (`scale.printed-cost`)."""
        result = self.result
        if result.profile.printed_cost == "potential":
            return potential
        error = self.delta + self.u * np.abs(result.delta)
        if result.profile.printed_cost == "gradient":
            error = self.gradient + self.u * np.abs(result.delta)
        rounding = ROUNDINGS * PRECISIONS["float32"].unit * (1 + np.sqrt(result.t.size))
        return float(((2 * np.abs(result.delta) + error) * error).sum() + rounding * result.printed_cost)

    def _sum(self, name: str) -> float:
        """Bound of a term: of its summands, and of adding up n of them in the computing precision."""
        value = np.abs(self.result.terms[name].value)
        count = max(int(np.count_nonzero(value)), 1)
        total = self.values[name].sum() + self.u * (1 + np.sqrt(count)) * value.sum()
        tiny = count * self.precision.scalar_tiny if value.any() else 0.0
        return self.result.scale * float(total) + tiny

    def _squared(
        self, name: str, who: Any, channel: int, weight: Any, residual: Any, error: Any, slope: Any, slope_error: Any
    ) -> None:
        """Bound of q·λ·r² and of 2q·λ·r·(dr/dt), from the errors of r and of dr/dt."""
        q = self.result.profile.squared_factor
        self.values[name][who] += q * weight * (2 * np.abs(residual) + error) * error
        self.delta[:, :, channel][who] += 2 * q * weight * error
        self.gradient[:, :, channel][who] += (
            2 * q * weight * (error * np.abs(slope) + (np.abs(residual) + error) * slope_error)
        )

    def _logistic(self, t: Any) -> tuple[Any, Any, Any]:
        """σ, its slope and the error of both: near 1 the slope has an absolute error, since 1 - σ cancels."""
        b = sigmoid(t)
        return b, sigmoid_slope(t), self.u * b

    def _iou_error(self, box: Array, t_size: Array, truth: Array) -> Array:
        """Error of the IoU of decoded boxes `[4, ...]`, whose sizes are exp of `t_size` `[2, ...]`, with a truth."""
        sides, side_errors = [], []
        relative = self.u * (1 + np.abs(t_size))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for axis in (0, 1):
                right = np.minimum(box[axis] + box[axis + 2] / 2, truth[axis] + truth[axis + 2] / 2)
                left = np.maximum(box[axis] - box[axis + 2] / 2, truth[axis] - truth[axis + 2] / 2)
                sides.append(np.maximum(right - left, 0))
                edges = np.abs(box[axis]) + np.abs(truth[axis]) + truth[axis + 2]
                side_errors.append(self.u * edges + relative[axis] * box[axis + 2])
            intersection = sides[0] * sides[1]
            error = (sides[0] + side_errors[0]) * (sides[1] + side_errors[1]) - intersection
            area, other = box[2] * box[3], truth[2] * truth[3]
            union = area + other - intersection
            union_error = area * (relative[0] + relative[1] + self.u) + self.u * other + error
            overlap = iou(box, truth)
            total = (error + overlap * union_error) / union + self.u * overlap
        return np.asarray(np.where(np.isfinite(total), np.minimum(total, 1.0), 0.0))

    def _max_iou(self) -> Array:
        result = self.result
        worst = np.zeros(result.decisions.max_iou.shape)
        for image, rows in enumerate(result.truths):
            if result.decisions.boxless[image]:
                continue
            sizes = np.moveaxis(result.t[image][:, T_W : T_H + 1], 1, 0)
            for row in rows:
                worst[image] = np.maximum(worst[image], self._iou_error(result.boxes[image], sizes, row[:4]))
        return worst

    def _no_object(self, max_iou: Array) -> None:
        result, profile = self.result, self.result.profile
        who = np.nonzero(result.decisions.no_object)
        if profile.objectness == "background":
            self._background("no_object", who, profile.no_object_weight)
            return
        b, slope, error = self._logistic(result.t[:, :, T_O][who])
        target: Any = 0.0
        target_error: Any = 0.0
        if profile.no_object_target == "max-iou":
            target, target_error = result.decisions.max_iou[who], max_iou[who]
        self._squared("no_object", who, T_O, profile.no_object_weight, b - target, error + target_error, slope, error)

    def _prior(self) -> None:
        result = self.result
        who = np.nonzero(result.decisions.prior)
        weight = result.profile.prior_weight
        for channel, place in ((T_X, who[3]), (T_Y, who[2])):
            b, slope, error = self._logistic(result.t[:, :, channel][who])
            self._squared("prior", who, channel, weight, b - 0.5, error + self.u * (place + 1), slope, error)
        for channel in (T_W, T_H):
            raw = result.t[:, :, channel][who]
            self._squared("prior", who, channel, weight, raw, self.u * (np.abs(raw) + 1), 1.0, 0.0)

    def _coord(self, match: Match) -> None:
        result, profile = self.result, self.result.profile
        n, k, j, i = match.predictor
        x, y, w, h = result.truths[n][match.truth, :4]
        _, _, _, height, width = result.t.shape
        weight = profile.coord_weight * (2 - w * h) ** profile.small_box_exponent
        for channel, place, cells, cell in ((T_X, x, width, i), (T_Y, y, height, j)):
            b, slope, error = self._logistic(result.t[n, k, channel, j, i])
            residual = b - (place * cells - cell)
            self._squared(
                "coord", match.predictor, channel, weight, residual, error + self.u * (place * cells + 1), slope, error
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
            relative = self.u * (1 + abs(raw))
            slope = predicted if profile.size_space == "decoded" else predicted / 2
            error = relative * predicted + self.u * target
            self._squared("coord", match.predictor, channel, weight, predicted - target, error, slope, relative * slope)

    def _object(self, match: Match, max_iou: Array) -> None:
        result, profile = self.result, self.result.profile
        n, k, j, i = who = match.predictor
        if profile.objectness == "background":
            self._background("object", who, profile.object_weight)
            return
        b, slope, error = self._logistic(result.t[n, k, T_O, j, i])
        box, sizes = result.boxes[n][:, k, j, i], result.t[n, k, T_W : T_H + 1, j, i]
        target, target_error, truth = 1.0, 0.0, -1
        if profile.object_target == "iou":
            truth = match.truth
            target, target_error = match.iou, float(self._iou_error(box, sizes, result.truths[n][truth, :4]))
        elif profile.object_target == "max-iou":
            truth = int(result.decisions.nearest[who])
            target, target_error = result.decisions.max_iou[who], max_iou[who]
        residual, weight = b - target, profile.object_weight
        self._squared("object", who, T_O, weight, residual, error + target_error, slope, error)
        if profile.object_target_gradient == "flows" and truth >= 0:
            row = result.truths[n][truth, :4]
            _, _, _, height, width = result.t.shape
            moves = np.abs(iou_slope(box, row))
            if not moves.any():  # the target stands still
                return
            centre = [sigmoid(result.t[n, k, T_X, j, i]) / width, sigmoid(result.t[n, k, T_Y, j, i]) / height]
            # The slope of IoU is a ratio of areas; its error is that of the IoU, magnified by the sides of the box.
            magnified = target_error / np.minimum(box[2:].min(), row[2:].min()) + self.u * moves * (
                1 + np.abs(sizes).max()
            )
            reach = (error + target_error) * moves + (abs(residual) + error + target_error) * magnified
            self.gradient[n, k, :T_O, j, i] += (
                2 * profile.squared_factor * weight * reach * np.array([*centre, *box[2:]])
            )

    def _class(self) -> None:
        result, profile = self.result, self.result.profile
        weights: dict[tuple[int, ...], float] = {}
        for match in result.decisions.matches:
            if match.pays_class:
                weights[match.predictor] = weights.get(match.predictor, 0.0) + profile.class_weight
        if profile.ignored_class != "none":
            for place in map(tuple, np.argwhere(result.decisions.ignored & (result.decisions.nearest >= 0))):
                weights[place] = profile.class_weight
        for (n, k, j, i), weight in weights.items():
            z, t_o = result.t[n, k, CLASSES:, j, i], result.t[n, k, T_O, j, i]
            paid = result.terms["class"].gradient[n, k, CLASSES:, j, i]
            error = self._class_error(z, t_o, weight)
            in_groups = np.ones(len(z), dtype=bool)
            if profile.class_term == "tree":  # groups off the path are zero by structure
                for group in groups_of(result.tree or ()):
                    in_groups[group] = (paid[group] != 0).any()
            self.gradient[n, k, CLASSES:, j, i] += np.where(in_groups, error, 0.0)
            self.delta[n, k, CLASSES:, j, i] += np.where(in_groups, error, 0.0)
            value = abs(result.terms["class"].value[n, k, j, i])
            spread = float(np.abs(z).max()) + len(z)
            self.values["class"][n, k, j, i] += self.u * (
                value + weight * (1 + spread) * (1 + spread * (profile.class_term == "squared-linear"))
            )

    def _class_error(self, z: Array, t_o: float, weight: float) -> Array:
        """Error of the class gradient of one predictor `[C]`, from the error of its probabilities."""
        result, profile = self.result, self.result.profile
        p = class_probabilities(z, np.asarray(t_o), profile, result.tree)
        if profile.class_term == "squared-linear":
            return np.asarray(2 * profile.squared_factor * weight * self.u * (np.abs(z) + 1))
        if profile.class_term == "logistic":
            return np.asarray(weight * self.u * p)
        below = np.abs(z - z.max()) if profile.objectness == "logistic" else np.abs(z - max(float(z.max()), t_o))
        error = self.u * p * (1 + below + (p * below).sum() + len(z))
        if profile.class_term == "squared-error":
            slope = 2 * profile.squared_factor * weight
            return np.asarray(slope * (2 * error + 2 * p * (error.sum() + self.u)))
        if profile.class_term == "focal":
            # The modulation (1-p)(1-p-2p ln p)/2 and its derivative are both below 2 + |ln p_t|.
            farthest = float(below.max()) + np.log(len(z))
            return np.asarray(weight * (2 + farthest) * (error + error.max() + self.u * p))
        return np.asarray(weight * error)

    def _background(self, name: str, who: Any, weight: float) -> None:
        """Bound of an objectness that joins the softmax as background class."""
        t = self.result.t
        logits = np.moveaxis(t[:, :, T_O:], 2, 0)[(slice(None), *who)]
        if self.result.profile.class_term != "cross-entropy":
            self._squared(name, who, T_O, weight, logits[0], self.u * (np.abs(logits[0]) + 1), 1.0, 0.0)
            return
        spread = np.abs(logits).max(axis=0) * 2 + len(logits)
        self.gradient[:, :, T_O][who] += weight * self.u * (1 + spread)
        self.delta[:, :, T_O][who] += weight * self.u * (1 + spread)
        self.values[name][who] += weight * self.u * (1 + spread)

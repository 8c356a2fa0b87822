"""How far the numbers of darknet's statistics line may be from the reference's (`numerics.bound`)."""

from __future__ import annotations

import numpy as np

from regionloss.bounds.elementary import class_output_error, decoded_overlap, logistic_error, probability_error
from regionloss.bounds.precision import Precision, adding
from regionloss.classes import class_probabilities, path_to_root
from regionloss.loss import Result
from regionloss.statistics import class_targets, objectness
from regionloss.terms import CLASSES, T_H, T_O, T_W
from regionloss_spec.batch import Array


def statistics_bounds(result: Result, precision: Precision) -> dict[str, float]:
    """The bound of every statistic, by name; of `avg_recall` where the truths are counted as the reference does."""
    boxed = [match for match in result.decisions.matches if not result.decisions.class_only[match.image]]
    b_o, b_o_error = objectness(result.t, result.profile), _objectness_error(result, precision)
    index = tuple(np.array([match.predictor for match in boxed], dtype=int).reshape(-1, 4).T)
    overlaps = np.array([match.iou for match in boxed])
    counted = ~result.decisions.class_only
    return {
        "avg_iou": _mean(overlaps, iou_errors(result, precision), precision),
        "avg_class": _mean(*_sureness(result, precision), precision),
        "avg_obj": _mean(b_o[index], b_o_error[index], precision),
        "avg_no_obj": _mean(b_o[counted].ravel(), b_o_error[counted].ravel(), precision, b_o.size),
        "avg_recall": precision.rounding,
        "count": 0.0,
    }


def iou_errors(result: Result, precision: Precision) -> Array:
    """Error of the IoU of each truth that has a box with that of its predictor, `[M]`."""
    errors = []
    for match in result.decisions.matches:
        if result.decisions.class_only[match.image]:
            continue
        n, k, j, i = match.predictor
        box, sizes = result.boxes[n][:, k, j, i], result.t[n, k, T_W : T_H + 1, j, i]
        errors.append(float(decoded_overlap(box, sizes, result.truths[n][match.truth, :4], precision).iou_error))
    return np.array(errors)


def _mean(values: Array, errors: Array, precision: Precision, count: int | None = None) -> float:
    """Bound of a mean: of its summands, and of adding up so many of them (`numerics.bound`)."""
    count = len(values) if count is None else count
    if not count:
        return 0.0
    total = float(np.abs(values).sum())
    return (float(errors.sum()) + adding(len(values), total, precision)) / count + precision.scalar_tiny


def _objectness_error(result: Result, precision: Precision) -> Array:
    if result.profile.objectness == "logistic":
        return logistic_error(result.t[:, :, T_O], precision)
    if result.profile.class_term != "cross-entropy":  # the raw output itself
        return np.zeros(result.t[:, :, T_O].shape)
    return np.asarray(probability_error(np.moveaxis(result.t[:, :, T_O:], 2, 0), precision)[0])


def _sureness(result: Result, precision: Precision) -> tuple[Array, Array]:
    """The output for each class target and its error, in a tree that of the product over its path; `[M]` each."""
    z, t_o = np.moveaxis(result.t[:, :, CLASSES:], 2, 0), result.t[:, :, T_O]
    p = class_probabilities(z, t_o, result.profile, result.tree)
    error = class_output_error(z, t_o, result.profile, result.tree, precision)
    values, errors = [], []
    for index, label, again in class_targets(result.truths, result.decisions, result.profile):
        path = path_to_root(label, result.tree) if result.profile.class_term == "tree" and result.tree else [label]
        size, off = (np.array([array[node][index] for node in path]) for array in (np.abs(p), error))
        product = 0.0 if again else float(np.prod(size))
        values.append(product)
        errors.append(0.0 if again else float(np.prod(size + off)) - product)
    return np.array(values), np.array(errors)

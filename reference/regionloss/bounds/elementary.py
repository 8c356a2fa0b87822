"""Errors of the elementary quantities from which the results follow (the table of `numerics.bound`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regionloss.bounds.precision import Precision
from regionloss.boxes import iou, iou_grad, sigmoid
from regionloss.classes import Tree, groups_of, softmax
from regionloss_spec import Profile
from regionloss_spec.batch import Array


@dataclass(frozen=True, eq=False)
class Overlap:
    """Boxes `[4, ...]` beside a truth, with the errors of what their IoU is made of; areas and errors are `[...]`.

    Attributes:
        box, truth: centre and size, fractions of the image.
        sides: width and height of the intersection, `[2, ...]`.
        side_errors: their errors, `[2, ...]`.
        intersection, intersection_error: 0 and 0 where the two are surely apart.
        areas, areas_error: of the sum of the two areas.
        precision: the format of the arithmetic.
    """

    box: Array
    truth: Array
    sides: Array
    side_errors: Array
    intersection: Array
    intersection_error: Array
    areas: Array
    areas_error: Array
    precision: Precision

    @property
    def union(self) -> Array:
        """What the two cover together."""
        return np.asarray(self.areas - self.intersection)

    @property
    def union_error(self) -> Array:
        """Error of the union."""
        return np.asarray(self.areas_error + self.intersection_error)

    @property
    def least_union(self) -> Array:
        """The smallest union that an implementation may divide by: cancellation leaves a unit in the last place."""
        return np.asarray(np.maximum(self.union - self.union_error, self.precision.unit * self.union))

    @property
    def iou_error(self) -> Array:
        """Error of the IoU; 0 where the two are surely apart or the union is not a positive finite number."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            share = iou(self.box, self.truth)
            error = (self.intersection_error + share * self.union_error) / self.least_union
            # A box whose size or area overflows has an IoU below 1024 times the smallest number, or 0.
            error += self.precision.rounding * share + 1024 * self.precision.scalar_tiny
        met = np.isfinite(error) & (share + self.intersection_error > 0)
        return np.asarray(np.where(met, error, 0.0))

    def grad_error(self) -> Array:
        """Error of `iou_grad` of one box, `[4]`; which edges move with the box is taken as known."""
        grad = np.abs(iou_grad(self.box, self.truth))
        error = np.zeros(4)
        for channel in range(4):
            across = 1 - channel % 2  # how far x and w move the intersection depends on its height
            side, side_error = self.sides[across], self.side_errors[across]
            size = self.box[2 + across] if channel > 1 else 0.0
            # The derivative is (e·side·S - I·size)/U², e being 0, ½ or 1 in size and S the sum of the areas.
            above = (side + side_error) * (self.areas + self.areas_error) - side * self.areas
            above += self.intersection_error * size
            parts = side * self.areas + self.intersection * size
            below = 2 * self.union * self.union_error + self.union_error**2
            rounding = 2 * self.precision.rounding * parts
            error[channel] = (above + rounding + grad[channel] * below) / self.least_union**2
        return error


def overlap(box: Array, relative: Array, truth: Array, precision: Precision) -> Overlap:
    """Boxes `[4, ...]` with the relative errors of their sizes `[2, ...]` beside a truth `[4]`."""
    u = precision.rounding
    truth = truth.reshape(4, *[1] * (box.ndim - 1))
    with np.errstate(over="ignore", invalid="ignore"):
        half, other_half = box[2:] / 2, truth[2:] / 2
        # Of each edge of the intersection: that of the box, that of the truth, and how far either may be off.
        right, left = (box[:2] + half, truth[:2] + other_half), (box[:2] - half, truth[:2] - other_half)
        off = u * np.abs(box[:2]) + relative * half, u * (np.abs(truth[:2]) + other_half)
        sides = np.minimum(*right) - np.maximum(*left)
        most = np.minimum(right[0] + off[0], right[1] + off[1]) - np.maximum(left[0] - off[0], left[1] - off[1])
        least = np.minimum(right[0] - off[0], right[1] - off[1]) - np.maximum(left[0] + off[0], left[1] + off[1])
        sides, most, least = np.maximum(sides, 0), np.maximum(most, 0), np.maximum(least, 0)
        intersection = sides[0] * sides[1]
        side_errors = np.maximum(most - sides, sides - least)
        reach = sides + side_errors
        intersection_error = np.where(
            most[0] * most[1] > 0, reach[0] * reach[1] - intersection + precision.scalar_tiny, 0.0
        )
        area, other = box[2] * box[3], truth[2] * truth[3]
        areas_error = area * (relative[0] + relative[1] + u) + u * other + 2 * precision.scalar_tiny
    return Overlap(
        box, truth, sides, side_errors, intersection, intersection_error, area + other, areas_error, precision
    )


def decoded_overlap(box: Array, t_size: Array, truth: Array, precision: Precision) -> Overlap:
    """Decoded boxes `[4, ...]`, whose sizes are exponentials of `t_size` `[2, ...]`, beside a truth."""
    return overlap(box, precision.rounding * (1 + np.abs(t_size)), truth, precision)


def logistic_error(t: Array, precision: Precision) -> Array:
    """Error of σ(t), and of its derivative: near 1 that has an absolute error, since 1 - σ cancels."""
    return np.asarray(precision.rounding * sigmoid(t) + precision.scalar_tiny)


def probability_error(z: Array, precision: Precision, tree: Tree | None = None) -> Array:
    """Error of a softmax over the first axis, or over each sibling group of it."""
    if tree is not None:
        return np.concatenate([probability_error(z[group], precision) for group in groups_of(tree)])
    p, below = softmax(z), z.max(axis=0) - z
    relative = precision.rounding * (1 + below + (p * below).sum(axis=0) + len(z))
    return np.asarray(relative * p + precision.scalar_tiny)


def class_output_error(z: Array, t_o: Array, profile: Profile, tree: Tree | None, precision: Precision) -> Array:
    """Error of `class_probabilities`, over the first axis."""
    if profile.class_term == "squared-linear":
        return np.zeros(z.shape)
    if profile.class_term == "logistic":
        return logistic_error(z, precision)
    if profile.class_term == "tree":
        return probability_error(z, precision, tree or ())
    if profile.objectness == "background":
        return probability_error(np.concatenate([t_o[None], z]), precision)[1:]
    return probability_error(z, precision)

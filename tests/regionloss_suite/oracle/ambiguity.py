"""Decisions with a margin too small for a precision, and their other possible outcomes.

A clause settles a margin of exactly zero if the compared numbers are exact in the precision or come from the very same
numbers. A correct implementation may decide any other margin below the rounding error of the comparison either way.
correct implementation.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from regionloss import Result
from regionloss.bounds import Bounds, Precision
from regionloss.bounds.elementary import decoded_overlap, overlap, probability_error
from regionloss.boxes import iou
from regionloss.classes import path_to_root, softmax
from regionloss.decisions import Match, anchor_fit
from regionloss_spec.batch import Array

Place = tuple[int, int, int, int]


@dataclass(frozen=True)
class Change:
    """Another possible outcome of a decision: the match of a truth, or MaxIOU and the truth that reaches it."""

    what: Literal["match", "max_iou"]
    where: Any
    value: Any


@dataclass(frozen=True)
class Open:
    """A decision that the precision cannot settle, with its other outcomes; all of them may be equivalent."""

    kind: str
    others: tuple[Change, ...]


def open_decisions(result: Result, bounds: Bounds, precision: Precision) -> list[Open]:
    """Every decision of a batch whose margin is below the rounding error of the numbers that decide it."""
    ambiguous = []
    for at, match in enumerate(result.decisions.matches):
        if result.decisions.class_only[match.image]:
            kind, choices = "class-only image", _surest(result, match, precision)
        else:
            kind, choices = _choices(result, match, precision)
        if choices:
            ambiguous.append(Open(kind, tuple(Change("match", at, choice) for choice in choices)))
    return [*ambiguous, *_thresholds(result, bounds, precision), *_nearest(result, bounds, precision)]


def _thresholds(result: Result, bounds: Bounds, precision: Precision) -> list[Open]:
    """The predictors whose MaxIOU may be on the other side of the threshold."""
    decisions, profile = result.decisions, result.profile
    if (profile.ignore == "none" or profile.no_object_target != "zero") and profile.ignored_class == "none":
        return []
    margin = np.abs(decisions.max_iou - profile.thresh)
    close = (margin <= bounds.max_iou + precision.unit * profile.thresh) & (bounds.max_iou > 0)
    ambiguous = []
    for place in _places(close):
        if margin[place] == 0 and exact(result, place):
            continue
        nearest = int(decisions.best_truth[place])
        if nearest < 0:  # none overlaps, but one is within rounding of it
            nearest = int(np.argmax([_met(result, place, truth, precision)[1] for truth in result.truths[place[0]]]))
        others = [np.nextafter(profile.thresh, -1.0)] if decisions.max_iou[place] >= profile.thresh else []
        others += [np.nextafter(profile.thresh, 2.0)] if decisions.max_iou[place] <= profile.thresh else []
        ambiguous.append(Open("threshold", tuple(Change("max_iou", place, (side, nearest)) for side in others)))
    return ambiguous


def _nearest(result: Result, bounds: Bounds, precision: Precision) -> list[Open]:
    """The predictors with two best truths, not twins, whose IoUs are within rounding, if the choice matters."""
    profile, decisions = result.profile, result.decisions
    matters = np.zeros(decisions.max_iou.shape, dtype=bool)
    if profile.ignored_class != "none":
        matters |= decisions.max_iou + bounds.max_iou >= profile.thresh
    if profile.object_target == "max-iou" and profile.object_target_gradient == "flows":
        matters |= decisions.responsible
    ambiguous = []
    for place in _places(matters & (bounds.max_iou > 0)):
        rows, best = result.truths[place[0]], int(decisions.best_truth[place])
        met = [_met(result, place, row, precision) for row in rows]
        share, error = met[best] if best >= 0 else (0.0, 0.0)
        others = [
            truth
            for truth, (other, other_error) in enumerate(met)
            if other + other_error > 0
            and other + other_error >= share - error
            and not any((rows[truth, :4] == rows[twin, :4]).all() for twin in (best, *range(truth)) if twin >= 0)
        ]
        if best >= 0 and exact(result, place):  # the first of equal ones
            others = [truth for truth in others if met[truth][0] != share]
        if others:
            value = decisions.max_iou[place]
            changes = tuple(Change("max_iou", place, (value, truth)) for truth in others)
            ambiguous.append(Open("nearest truth", changes))
    return ambiguous


def _met(result: Result, place: Place, row: Array, precision: Precision) -> tuple[float, float]:
    """IoU of a predictor's box with a truth, and its error."""
    n, k, j, i = place
    box = result.boxes[n][:, k, j, i]
    error = decoded_overlap(box, result.t[n, k, 2:4, j, i], row[:4], precision).iou_error
    return float(iou(box, row[:4])), float(error)


def _choices(result: Result, match: Match, precision: Precision) -> tuple[str, list[Match]]:
    """The other predictors that a truth may choose, because of a border between cells or because of its anchors."""
    row = result.truths[match.image][match.truth]
    _, _, _, height, width = result.t.shape
    cells = [
        (j, i)
        for j in _cells(float(row[1]), match.row, height, precision)
        for i in _cells(float(row[0]), match.column, width, precision)
    ]
    alternatives = []
    for j, i in cells:
        for k in _anchors(result, match, (j, i), precision):
            if (k, j, i) != (match.anchor, match.row, match.column):
                target = float(iou(result.boxes[match.image][:, k, j, i], row[:4]))
                alternatives.append(dataclasses.replace(match, anchor=k, row=j, column=i, iou=target, pays_box=True))
    return "cell border" if len(cells) > 1 else "anchor", alternatives


def _cells(centre: float, cell: int, cells: int, precision: Precision) -> list[int]:
    """The cell of a centre, and the one beyond a border that it almost reaches."""
    place = centre * cells
    border = round(place)
    held = precision.name == "float64" or float(np.float32(centre)) == centre
    if abs(place - border) > precision.rounding * place or (place == border and held):
        return [cell]
    beyond = border - 1 if cell == border else border
    return [cell, beyond] if 0 <= beyond < cells else [cell]


def _anchors(result: Result, match: Match, cell: tuple[int, int], precision: Precision) -> list[int]:
    """The anchors whose fit to a truth is best within rounding."""
    boxes, row = result.boxes[match.image], result.truths[match.image][match.truth]
    fit = anchor_fit(*cell, row, boxes, result.anchors, result.profile)
    error = _fit_error(result, match, cell, fit, precision)
    best = int(np.argmax(fit))
    least = fit[best] - error[best]
    close = [int(k) for k in np.flatnonzero((fit + error > 0) & (fit + error >= least))]
    if least <= 0 and 0 not in close:  # if none overlaps
        close.append(0)
    return [best] + [k for k in close if k != best and not _same_numbers(result, match, cell, best, k)]


def _fit_error(result: Result, match: Match, cell: tuple[int, int], fit: Array, precision: Precision) -> Array:
    """Error of `anchor_fit`, `[A]`."""
    choice, u = result.profile.anchor_choice, precision.rounding
    row, (j, i) = result.truths[match.image][match.truth], cell
    relative = np.full((2, len(fit)), u)
    if choice.startswith("predicted"):
        relative = u * (1 + np.abs(result.t[match.image, :, 2:4, j, i].T))
    if choice.endswith("shape"):  # sides are the sizes themselves, and no edges are subtracted
        return np.asarray(4 * fit * (relative.sum(axis=0) + u))
    boxes = result.boxes[match.image][:, :, j, i]
    if choice == "anchor-corner":
        _, _, _, height, width = result.t.shape
        corner = np.array([i / width, j / height])[:, None].repeat(len(fit), axis=1)
        boxes = np.concatenate([corner, (result.anchors / [width, height]).T])
    return overlap(boxes, relative, row[:4], precision).iou_error


def _same_numbers(result: Result, match: Match, cell: tuple[int, int], one: int, other: int) -> bool:
    """Whether a tie of two anchors is one in every implementation, because it compares the very same numbers."""
    shapes, choice = result.anchors[[one, other]], result.profile.anchor_choice
    _, _, _, height, width = result.t.shape
    row = result.truths[match.image][match.truth]
    if choice.startswith("predicted"):
        outputs = result.t[match.image, [one, other], :4, *cell]
        return bool((outputs[0] == outputs[1]).all() and (shapes[0] == shapes[1]).all())
    if (shapes[0] == shapes[1]).all():
        return True
    in_image = shapes / [width, height]
    shared = np.minimum(in_image, row[2:4])
    if choice == "anchor-shape" and all((np.sort(pair[0]) == np.sort(pair[1])).all() for pair in (in_image, shared)):
        return True  # the same factors, at most in the other order
    fit = anchor_fit(*cell, row, result.boxes[match.image], result.anchors, result.profile)
    return bool(_short(shapes) and _short(row[:4]) and _halves(result) and fit[one] == fit[other])


def _surest(result: Result, match: Match, precision: Precision) -> list[Match]:
    """The other predictors that may have the highest score for the class of an image without boxes."""
    t, tree = result.t[match.image], result.tree or ()
    z = np.moveaxis(t[:, 5:], 1, 0)
    path = path_to_root(int(result.truths[match.image][match.truth, 4]), tree)
    p, error = softmax(z, tree)[path], probability_error(z, precision, tree)[path]
    with np.errstate(divide="ignore"):
        sure = np.log(p).sum(axis=0) - np.logaddexp(0.0, -t[:, 4])
    # As a product, each factor has its relative error; as a sum of logarithms, the sum has one as well.
    spread = precision.rounding * (1 + len(path) + np.abs(sure))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(np.isfinite(sure), spread + (error / p).sum(axis=0), 0.0)
    least = sure[match.anchor, match.row, match.column] - spread[match.anchor, match.row, match.column]
    # A product that underflows ties with all others that underflow.
    least = -np.inf if least <= np.log(precision.scalar_tiny) else least
    met = {t[match.anchor, 4:, match.row, match.column].tobytes()}
    alternatives = []
    for j, i, k in np.argwhere(np.moveaxis(sure + spread >= least, 0, -1)):
        outputs = np.ascontiguousarray(t[k, 4:, j, i]).tobytes()
        if outputs not in met:  # equal outputs have equal scores in every arithmetic, and the first wins
            alternatives.append(dataclasses.replace(match, anchor=int(k), row=int(j), column=int(i)))
        met.add(outputs)
    return alternatives


def exact(result: Result, place: Place) -> bool:
    """Whether every precision represents and divides the box of a predictor and the truths of its image exactly."""
    image, anchor, row, column = place
    still = not result.t[image, anchor, :4, row, column].any()
    return still and _short(result.anchors[anchor]) and _short(result.truths[image][:, :4]) and _halves(result)


def _short(numbers: Array) -> bool:
    scaled = numbers * 2.0**8
    return bool((scaled == np.floor(scaled)).all())


def _halves(result: Result) -> bool:
    """Whether a division by the grid is exact."""
    _, _, _, height, width = result.t.shape
    return not width & (width - 1) and not height & (height - 1)


def _places(where: Array) -> list[Place]:
    return [(int(n), int(k), int(j), int(i)) for n, k, j, i in np.argwhere(where)]

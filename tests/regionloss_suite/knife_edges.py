"""Decisions that the tested precision cannot settle, and the answers that are then accepted as well.

A margin of exactly zero is no knife edge where the numbers compared are exact in the tested precision, or come from the
very same numbers: such a tie is settled by its clause. A margin smaller than the rounding of what is compared may fall
either way in a correct implementation.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from regionloss import Result
from regionloss.bounds import ROUNDINGS, Bounds, Precision
from regionloss.boxes import iou
from regionloss.decisions import Match, anchor_fit, conclude
from regionloss.loss import pay_terms
from regionloss_spec import Batch


def other_answers(batch: Batch, result: Result, bounds: Bounds, precision: Precision) -> list[Result]:
    """The reference on the other side of every knife edge of a batch; empty when it has none."""
    return [*_over_the_threshold(batch, result, bounds, precision), *_with_other_predictors(batch, result, precision)]


def _over_the_threshold(batch: Batch, result: Result, bounds: Bounds, precision: Precision) -> list[Result]:
    decisions, thresh = result.decisions, result.profile.thresh
    margin = np.abs(decisions.max_iou - thresh)
    close = (margin > 0) & (margin <= bounds.max_iou + precision.unit * thresh)
    if result.profile.ignore == "none" or not close.any():
        return []
    sides = (np.nextafter(thresh, -1.0), np.nextafter(thresh, 2.0))
    return [
        _decided(batch, result, list(decisions.matches), np.where(close, side, decisions.max_iou)) for side in sides
    ]


def _with_other_predictors(batch: Batch, result: Result, precision: Precision) -> list[Result]:
    """Every truth on an edge with each predictor that it may choose, one at a time, and all on their second choice."""
    matches = list(result.decisions.matches)
    others = {at: _other_choices(result, match, precision) for at, match in enumerate(matches)}
    changes = [{at: choice} for at, choices in others.items() for choice in choices]
    together = {at: choices[0] for at, choices in others.items() if choices}
    if len(together) > 1:
        changes.append(together)
    return [
        _decided(batch, result, [change.get(at, match) for at, match in enumerate(matches)], result.decisions.max_iou)
        for change in changes
    ]


def _decided(batch: Batch, result: Result, choices: list[Match], max_iou: NDArray[np.float64]) -> Result:
    """The result with other decisions."""
    decisions = conclude(
        max_iou, result.decisions.nearest, choices, result.decisions.boxless, batch.images_seen, result.profile
    )
    decisions = dataclasses.replace(decisions, max_iou=result.decisions.max_iou)  # the target stays what it is
    terms = pay_terms(result.t, result.truths, result.anchors, decisions, result.profile, result.tree)
    return dataclasses.replace(result, decisions=decisions, terms=terms)


def _other_choices(result: Result, match: Match, precision: Precision) -> list[Match]:
    """The other predictors that a truth may choose in the tested precision."""
    if result.decisions.boxless[match.image]:
        return []
    reach = ROUNDINGS * precision.unit
    row = result.truths[match.image][match.truth]
    _, _, _, height, width = result.t.shape
    cells = [
        (j, i)
        for j in _cells(row[1] * height, match.row, height, reach)
        for i in _cells(row[0] * width, match.column, width, reach)
    ]
    found = []
    for j, i in cells:
        for k in _anchors(result, match, (j, i), reach):
            if (k, j, i) != (match.anchor, match.row, match.column):
                target = float(iou(result.boxes[match.image][:, k, j, i], row[:4]))
                found.append(dataclasses.replace(match, anchor=k, row=j, column=i, iou=target, pays_box=True))
    return found


def _cells(place: float, cell: int, cells: int, reach: float) -> list[int]:
    """The cell of a place, and the one beyond a border that the place hardly misses."""
    border = round(place)
    if not 0 < abs(place - border) <= reach * place:
        return [cell]
    beyond = border - 1 if cell == border else border
    return [cell, beyond] if 0 <= beyond < cells else [cell]


def _anchors(result: Result, match: Match, cell: tuple[int, int], reach: float) -> list[int]:
    """The anchors that fit a truth best, up to the rounding of the fits."""
    boxes, row = result.boxes[match.image], result.truths[match.image][match.truth]
    fit = anchor_fit(*cell, row, boxes, result.anchors, result.profile)
    best = int(np.argmax(fit))
    predicted = not result.profile.anchor_choice.startswith("anchor")
    sizes = np.abs(result.t[match.image, :, 2:4, *cell]).max() if predicted else 0.0
    close = [int(k) for k in np.flatnonzero(fit >= fit[best] - 4 * reach * (1 + sizes))]
    return [best] + [k for k in close if k != best and not _same_numbers(result, match, cell, best, k)]


def _same_numbers(result: Result, match: Match, cell: tuple[int, int], one: int, other: int) -> bool:
    """Whether a tie of two anchors is one for every implementation, because it compares the very same numbers."""
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
    boxes = result.boxes[match.image]
    fit = anchor_fit(*cell, row, boxes, result.anchors, result.profile)
    numbers = np.array([*shapes.ravel(), *row[:4]]) * 2.0**8
    exact = bool((numbers == np.floor(numbers)).all()) and not width & (width - 1) and not height & (height - 1)
    return exact and bool(fit[one] == fit[other])

"""Decisions that the tested precision cannot settle, and the answers that are then accepted as well.

A margin of exactly zero is no knife edge: a tie in exact arithmetic is settled by its clause. A margin that is not zero
but smaller than the rounding of the quantity that decides may fall either way in a correct implementation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from regionloss import Result, evaluate
from regionloss.bounds import ROUNDINGS, Bounds, Precision
from regionloss.decisions import anchor_fit
from regionloss_spec import Batch, Profile


def other_answers(batch: Batch, profile: Profile, result: Result, bounds: Bounds, precision: Precision) -> list[Result]:
    """The reference on the other side of every knife edge of a batch; empty when it has none."""
    answers = []
    thresh = profile.thresh
    margin = np.abs(result.decisions.max_iou - thresh)
    close = (margin > 0) & (margin <= bounds.max_iou + precision.unit * thresh)
    if profile.ignore != "none" and close.any():
        step = 2 * float(margin[close].max())
        answers += [evaluate(batch, profile.replace(thresh=max(thresh + sign * step, 0.0))) for sign in (-1, 1)]
    return answers + [evaluate(nudged, profile) for nudged in _nudged(batch, result, precision)]


def _nudged(batch: Batch, result: Result, precision: Precision) -> Iterator[Batch]:
    """The batch with a truth moved over the cell border, or reshaped past the anchor, that it hardly misses."""
    reach = ROUNDINGS * precision.unit
    _, _, _, height, width = result.t.shape
    for match in result.decisions.matches:
        if result.decisions.boxless[match.image]:
            continue
        row = result.truths[match.image][match.truth]
        for column, cells in ((0, width), (1, height)):
            place = row[column] * cells
            if 0 < abs(place - round(place)) <= reach * place:
                yield from _moved(batch, match.image, match.truth, column, 2 * reach)
        boxes = result.boxes[match.image]
        fits = np.sort(anchor_fit(match.row, match.column, row, boxes, result.anchors, result.profile))[::-1]
        sizes = np.abs(result.t[match.image, :, 2:4, match.row, match.column]).max()
        slack = reach * (1 + (0 if result.profile.anchor_choice.startswith("anchor") else sizes))
        if len(fits) > 1 and 0 < fits[0] - fits[1] <= 4 * slack:
            for column in (2, 3):
                yield from _moved(batch, match.image, match.truth, column, 8 * slack)


def _moved(batch: Batch, image: int, truth: int, column: int, by: float) -> Iterator[Batch]:
    for factor in (1 - by, 1 + by):
        rows = batch.truths[image].copy()
        rows[truth, column] *= factor
        if (column < 2 and rows[truth, column] >= 1) or (column >= 2 and rows[truth, column] > 1):
            continue
        truths = (*batch.truths[:image], rows, *batch.truths[image + 1 :])
        yield dataclasses.replace(batch, truths=truths)

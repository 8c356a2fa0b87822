"""Decisions with a margin too small for a precision: a relation between two answers says nothing there.

Unlike `knife_edges`, which finds the other answers that are then right as well, this only says that there is an edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss import Result
from regionloss.bounds import ROUNDINGS, Bounds, Precision
from regionloss.boxes import iou, sigmoid
from regionloss.classes import path_to_root, probabilities
from regionloss.decisions import Match, anchor_fit

Array = NDArray[Any]


def unsettled(result: Result, bounds: Bounds, precision: Precision) -> tuple[str, ...]:
    """Every decision whose margin is smaller than the rounding of what decides it, by its kind.

    A margin of exactly zero is settled by a clause, except where two products of rounded numbers are compared.
    """
    profile = result.profile
    reach = ROUNDINGS * precision.unit
    open_decisions = []
    if profile.ignore != "none" and profile.no_object_target == "zero":
        margin = np.abs(result.decisions.max_iou - profile.thresh)
        close = (margin > 0) & (margin <= bounds.max_iou + precision.unit * profile.thresh)
        open_decisions += ["threshold"] * int(np.count_nonzero(close))
    for match in result.decisions.matches:
        if result.decisions.boxless[match.image]:
            if _class_choice_is_close(result, match, reach, precision):
                open_decisions.append("class-only image")
            continue
        if _border_is_close(result, match, reach):
            open_decisions.append("cell border")
        if _anchor_is_close(result, match, reach):
            open_decisions.append("anchor")
        if profile.object_target_gradient == "flows" and match.pays_box and _edges_are_close(result, match, reach):
            open_decisions.append("kink of the IoU")
    return (*open_decisions, "nearest truth") if _nearest_is_close(result, bounds) else tuple(open_decisions)


def _border_is_close(result: Result, match: Match, reach: float) -> bool:
    _, _, _, height, width = result.t.shape
    x, y = result.truths[match.image][match.truth, :2]
    return any(0 < abs(place - round(place)) <= reach * place for place in (x * width, y * height))


def _anchor_is_close(result: Result, match: Match, reach: float) -> bool:
    profile = result.profile
    row, boxes = result.truths[match.image][match.truth], result.boxes[match.image]
    fits = np.sort(anchor_fit(match.row, match.column, row, boxes, result.anchors, profile))[::-1]
    predicted = profile.anchor_choice.startswith("predicted")
    sizes = np.abs(result.t[match.image, :, 2:4, match.row, match.column]).max() if predicted else 0.0
    gap = float(fits[0] - fits[1]) if len(fits) > 1 else np.inf
    return bool((gap > 0 or (predicted and fits[0] > 0)) and gap <= 8 * reach * (1 + sizes))


def _class_choice_is_close(result: Result, match: Match, reach: float, precision: Precision) -> bool:
    t, tree = result.t[match.image], result.tree or ()
    p = probabilities(np.moveaxis(t[:, 5:], 1, 0), tree)
    path = path_to_root(int(result.truths[match.image][0, 4]), tree)
    products = sigmoid(t[:, 4]) * np.prod([p[node] for node in path], axis=0)
    # Equal outputs have equal products in every arithmetic, so only those of different outputs can be close.
    outputs = np.moveaxis(t[:, 4:], 1, -1).reshape(products.size, -1)
    _, places = np.unique(outputs, axis=0, return_index=True)
    sure = np.sort(products.ravel()[places])[::-1]
    if len(sure) == 1:
        return False
    return bool(sure[0] <= precision.tiny or sure[1] >= sure[0] * (1 - 8 * reach * (1 + np.abs(t[:, 4:]).max())))


def _edges_are_close(result: Result, match: Match, reach: float) -> bool:
    """Whether an edge of the box lies on one of the truth that its target is made with: the IoU has a kink there."""
    n, k, j, i = match.predictor
    truth = match.truth if result.profile.object_target == "iou" else int(result.decisions.nearest[match.predictor])
    if truth < 0:
        return False
    box, row = result.boxes[n][:, k, j, i], result.truths[n][truth]
    for axis in (0, 1):
        mine, theirs = (side[axis] + np.array([-0.5, 0.5]) * side[axis + 2] for side in (box, row))
        if (np.abs(mine[:, None] - theirs[None]) <= 16 * reach * (1 + np.abs(mine).max())).any():
            return True
    return False


def _nearest_is_close(result: Result, bounds: Bounds) -> bool:
    """Whether two truths, not twins, overlap best to within the rounding, where it matters which of them it is."""
    profile, decisions = result.profile, result.decisions
    matters = np.zeros(decisions.max_iou.shape, dtype=bool)
    if profile.ignored_class != "none":
        matters |= decisions.ignored
    if profile.object_target == "max-iou" and profile.object_target_gradient == "flows":
        matters |= decisions.responsible
    for n, k, j, i in np.argwhere(matters & (decisions.nearest >= 0)):
        rows = result.truths[n]
        best = rows[decisions.nearest[n, k, j, i]]
        overlaps = [iou(result.boxes[n][:, k, j, i], row[:4]) for row in rows if (row[:4] != best[:4]).any()]
        if overlaps and max(overlaps) >= decisions.max_iou[n, k, j, i] - 2 * bounds.max_iou[n, k, j, i]:
            return True
    return False

"""The answers that are also accepted if the tested precision cannot settle a decision of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import combinations, islice, product
from math import prod

import numpy as np

from regionloss import Result
from regionloss.bounds import Bounds, Precision
from regionloss.bounds.elementary import Overlap, decoded_overlap
from regionloss.bounds.statistics import iou_errors
from regionloss.decisions import Match, conclude
from regionloss.loss import pay_terms
from regionloss.terms import object_term
from regionloss_spec import Batch
from regionloss_spec.batch import Array
from regionloss_suite.oracle.ambiguity import Change, Open, exact, open_decisions

#: The most combinations of open decisions to try.
OUTCOMES = 64


def other_answers(batch: Batch, result: Result, bounds: Bounds, precision: Precision) -> list[Result]:
    """The reference with each open decision of a batch taken differently, alone and combined; empty if none is open."""
    decisions = open_decisions(result, bounds, precision)
    return [_decided(batch, result, changes) for changes in islice(_combinations(decisions), OUTCOMES)]


def unsettled(result: Result, bounds: Bounds, precision: Precision) -> tuple[str, ...]:
    """The kinds of the open decisions of a batch, one by one, with those of `other_slopes`."""
    kinks = ("kink of the IoU" for match in result.decisions.matches if _moved_truths(result, match, precision))
    return (*(decision.kind for decision in open_decisions(result, bounds, precision)), *kinks)


def too_many(result: Result, bounds: Bounds, precision: Precision) -> bool:
    """Whether the open decisions have more combinations than `other_answers` tries."""
    decisions = open_decisions(result, bounds, precision)
    return prod(1 + len(decision.others) for decision in decisions) > 1 + OUTCOMES


def other_slopes(result: Result, precision: Precision) -> list[Result]:
    """The reference with every truth edge that almost meets one of its predictor's box moved to either side of it.

    The IoU has a kink there, and if it is differentiated, any slope between the two sides is right.
    """
    results = []
    for match in result.decisions.matches:
        n, truth = match.image, _target(result, match)
        for row in _moved_truths(result, match, precision):
            truths = [rows.copy() for rows in result.truths]
            truths[n][truth, :4] = row
            paid = object_term(result.t, truths, result.anchors, result.decisions, result.profile)
            results.append(dataclasses.replace(result, truths=truths, terms={**result.terms, "object": paid}))
    return results


def other_recalls(result: Result, precision: Precision) -> list[float]:
    """Every share of truths with an IoU above ½ that rounding allows."""
    boxed = [match for match in result.decisions.matches if not result.decisions.class_only[match.image]]
    if not boxed:
        return []
    overlaps, errors = np.array([match.iou for match in boxed]), iou_errors(result, precision)
    settled = (overlaps == 0.5) & [exact(result, match.predictor) for match in boxed]
    close = (np.abs(overlaps - 0.5) <= errors) & ~settled
    sure = int(np.count_nonzero((overlaps > 0.5) & ~close))
    return [(sure + more) / len(boxed) for more in range(int(np.count_nonzero(close)) + 1)]


def _combinations(decisions: list[Open]) -> Iterator[tuple[Change, ...]]:
    """The combinations of other outcomes: first one decision, then all of them, then any two, three and so on."""
    yield from ((other,) for decision in decisions for other in decision.others)
    if len(decisions) > 1:
        yield tuple(decision.others[0] for decision in decisions)
    for count in range(2, len(decisions) + 1):
        for chosen in combinations(decisions, count):
            yield from product(*(decision.others for decision in chosen))


def _decided(batch: Batch, result: Result, changes: tuple[Change, ...]) -> Result:
    """The result with other decisions."""
    before = result.decisions
    max_iou, nearest = before.max_iou.copy(), before.best_truth.copy()
    # Assignments are resolved again: a truth may get back the predictor that another one leaves.
    choices = [
        match if before.class_only[match.image] else dataclasses.replace(match, pays_box=True)
        for match in before.matches
    ]
    for change in changes:
        if change.what == "match":
            choices[change.where] = change.value
        else:
            max_iou[change.where], nearest[change.where] = change.value
    decisions = conclude(max_iou, nearest, choices, before.class_only, batch.images_seen, result.profile)
    terms = pay_terms(result.t, result.truths, result.anchors, decisions, result.profile, result.tree)
    return dataclasses.replace(result, decisions=decisions, terms=terms)


def _target(result: Result, match: Match) -> int:
    """The truth that defines the target of a match, -1 for none."""
    if not match.pays_box or result.profile.object_target_gradient == "constant":
        return -1
    if result.profile.object_target == "iou":
        return match.truth
    return int(result.decisions.best_truth[match.predictor]) if result.profile.object_target == "max-iou" else -1


def _moved_truths(result: Result, match: Match, precision: Precision) -> list[Array]:
    """The truth of a target, `[4]`, with its edges on either side of the box edges that they almost meet."""
    n, k, j, i = match.predictor
    truth = _target(result, match)
    if truth < 0:
        return []
    box, row = result.boxes[n][:, k, j, i], result.truths[n][truth, :4]
    met = decoded_overlap(box, result.t[n, k, 2:4, j, i], row, precision)
    places = [_sides(met, axis) for axis in (0, 1)]
    if max(len(places_found) for places_found in places) == 1:
        return []
    return [
        np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
        for (left, right), (top, bottom) in product(*places)
    ]


def _sides(met: Overlap, axis: int) -> list[tuple[float, float]]:
    """Left and right of the truth, each on both sides of a box edge that is within rounding of it."""
    mine, theirs = (side[axis] + np.array([-0.5, 0.5]) * side[axis + 2] for side in (met.box, met.truth))
    beside = 2.0**-50 * max(np.abs(mine).max(), np.abs(theirs).max())
    sides = []
    for edge in theirs:
        gaps = np.abs(mine - edge)
        nearest = mine[np.argmin(gaps)]
        sides.append([nearest - beside, nearest + beside] if gaps.min() <= met.side_errors[axis] else [edge])
    return [(float(left), float(right)) for left, right in product(*sides)]

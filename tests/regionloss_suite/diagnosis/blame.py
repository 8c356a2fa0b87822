"""Findings that no profile expresses: which clause each one breaks, and which of them is blamed first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from regionloss_spec import load_clauses
from regionloss_suite.diagnosis.differences import clause_of
from regionloss_suite.diagnosis.ranking import RankedClause, reached
from regionloss_suite.judging.judge import Observation
from regionloss_suite.measure.experiments import Identified

#: By finding, the clause that it breaks, in the order in which a wrong stage spoils the later ones. `axis` stands for
#: the clause that states the value of the axis of that name.
#: These isolate one clause by themselves: everything else that the question needs was measured or cancels. Of
#: several, separated by `|`, the one that the golden cases speak for.
ISOLATING = {
    "hidden state": "numerics.repeatability",
    "mutation of inputs": "numerics.repeatability",
    "empty image": "truths.empty",
    "iou": "iou.definition",
    "centre of the box": "decode.centre",
    "size of the box": "decode.size",
    "empty images": "noobj.empty-image",
    "images of MaxIOU": "noobj.same-image",
    "truths of MaxIOU": "noobj.every-truth",
    "box of MaxIOU": "noobj.max-iou",
    "cells of MaxIOU": "noobj.max-iou",
    "grid axes": "notation.grid-axes",
    "axes of truths": "notation.truth-units | assign.cell",
    "cell rule": "assign.cell | assign.cell-border | notation.truth-units",
    "coordinates of the ignored": "coord.only-responsible",
    "no images": "domain.empty-batch",
}
#: These show that something is wrong at a stage; the golden cases must speak for the clause as well.
SUGGESTING = {
    "IoU of other boxes": "iou.definition",
    "MaxIOU of other boxes": "noobj.max-iou",
    "truth_end": "axis",
    "max_truths": "axis",
    "anchor_choice": "axis",
    "anchor tie": "assign.anchor-tie",
    "collision": "axis",
    "ignore": "noobj.max-iou",
    "thresh": "axis",
    "objectness": "noobj.gradient",
    "no_object_weight": "noobj.gradient",
    "prior_until": "axis",
    "prior_weight": "prior.gradient",
    "prior_applies": "axis",
    "box of the ignored": "prior.ignored-too",
    "target of t_x": "coord.centre-target",
    "target of t_y": "coord.centre-target",
    "weights of x and y": "coord.value",
    "coord_weight": "coord.centre-gradient",
    "small_box_exponent": "axis",
    "size_space": "axis",
    "weight of sizes": "coord.size-gradient",
    "size_target_floor": "axis",
    "object_target": "axis",
    "object_weight": "object.gradient",
    "object_target_gradient": "axis",
    "class_term": "axis",
    "class_weight": "class.gradient",
    "ignored_class": "axis",
    "class_collision": "axis",
}
#: The score of a clause by golden cases alone from which it is blamed, and how far the next one must be behind.
_SURE, _CLEAR = 0.5, 0.85
#: The share of the best score that a suggested clause needs, and how many findings may be odd before none is believed.
_SUPPORTED, _MOST = 0.3, 6
#: Where every departing number is off by less than this share of the largest, the format is too coarse.
_COARSE = 2e-3
#: Fewer cases than this are no evidence that it is everywhere.
_FEW = 5


@dataclass(frozen=True)
class Blame:
    """A clause that is blamed for what no known cause explains.

    Attributes:
        clause: its id.
        words: what shows it.
        evidence: the isolating question, with the answer.
    """

    clause: str
    words: str
    evidence: str


def blame(
    identified: Identified | None,
    ranked: list[RankedClause],
    rest: list[Observation],
    clauses: Collection[str],
    *,
    alone: bool,
) -> Blame | None:
    """The clause that explains the rest of the departing cases, by an isolating question or by the golden cases.

    Args:
        identified: what the measuring questions say, if they were put.
        ranked: the clauses by how well they explain the rest.
        rest: what departs even from the measured loss.
        clauses: the ids of the clauses whose cases depart there.
        alone: whether nothing else was measured to differ: of several differences the golden cases show a mixture.
    """
    odd = {} if identified is None else {finding.axis: finding for finding in identified.odd}
    if alone and (coarse := _coarse(rest)) is not None:
        return coarse
    order = [one.clause for one in ranked]
    for axis, stated in ISOLATING.items():
        several = stated.split(" | ")
        clause = min(several, key=lambda one: order.index(one) if one in order else len(order))
        direct = clause == "numerics.repeatability"  # which no case pins
        pinned = clause in clauses or all(clause in reached(observation.case) for observation in rest)
        if axis in odd and (direct or pinned):
            return Blame(clause, f"{axis}: no profile expresses it", odd[axis].evidence)
    if not alone:
        return None
    known = load_clauses()
    primary = [one for one in ranked if not known[one.clause].follows_from and one.clause in clauses]
    primary = [one for one in primary if not one.clause.startswith("table.")]
    if not primary:
        return None
    best = primary[0]
    if best.score >= _SURE and (len(primary) == 1 or primary[1].score <= _CLEAR * best.score):
        return Blame(
            best.clause,
            "the golden cases of this clause depart, and few others",
            f"what departs and what does not is what a loss that breaks {best.clause} shows",
        )
    if len(odd) > _MOST:
        return None
    scores = {one.clause: one.score for one in primary}
    for axis, stated in SUGGESTING.items():
        if axis not in odd or identified is None:
            continue
        clause = clause_of(axis, identified.asked) if stated == "axis" else stated
        if scores.get(clause, 0.0) >= _SUPPORTED * best.score:
            return Blame(clause, f"{axis}: no profile expresses it", odd[axis].evidence)
    return None


def _coarse(rest: list[Observation]) -> Blame | None:
    """The clause of the format, if everything that departs is off by little."""
    worst = 0.0
    for observation in rest:
        comparison = observation.exchange.comparison
        if comparison is None or comparison.answer.gradient is None:
            return None
        if np.shape(comparison.answer.gradient) != comparison.result.gradient.shape:
            return None
        apart = np.abs(np.asarray(comparison.answer.gradient, dtype=np.float64) - comparison.result.gradient)
        scale = float(np.abs(comparison.result.gradient).max(initial=0.0))
        if not np.isfinite(apart).all() or not np.isfinite(scale) or apart.max(initial=0.0) > _COARSE * scale:
            return None
        worst = max(worst, float(apart.max(initial=0.0)) / max(scale, 1e-300))
    clause = f"numerics.{rest[0].exchange.dtype}"
    if len(rest) < _FEW or not worst:
        return None
    evidence = f"every gradient that departs is off by at most {worst:.2g} of its largest element"
    return Blame(clause, "off a little everywhere", evidence)

"""Findings that no profile expresses: which clause each one breaks, and which of them is blamed first."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from regionloss_spec import Case, load_clauses
from regionloss_suite.diagnosis.common_patterns import Blame, common_pattern
from regionloss_suite.diagnosis.differences import clause_of
from regionloss_suite.diagnosis.ranking import RankedClause, reached
from regionloss_suite.judging.judge import Observation
from regionloss_suite.measure.experiments import Identified
from regionloss_suite.measure.findings import Finding

#: Findings about where things are, on which all later ones build.
_PLACES = ("grid axes", "axes of truths", "cell rule")
_CENTRE = ("target of t_x", "target of t_y", "weights of x and y")
_BOXES = (*_PLACES, "objectness", "iou", "centre of the box", "size of the box")
#: Findings that isolate one clause: everything else that their question needs was measured or cancels. By finding, the
#: clause that it breaks, and the findings on which it builds: where one of these is odd, it isolates nothing. `axis`
#: stands for the clause that states the value of the axis of that name; of several clauses, separated by `|`, the one
#: that the golden cases speak for is blamed.
ISOLATING: dict[str, tuple[str, tuple[str, ...]]] = {
    "hidden state": ("numerics.repeatability", ()),
    "mutation of inputs": ("numerics.repeatability", ()),
    "empty image": ("truths.empty", ()),
    "empty images": ("noobj.empty-image", ()),
    "no images": ("domain.empty-batch", ()),
    "grid axes": ("notation.grid-axes", ()),
    "axes of truths": ("notation.truth-units | assign.cell", ("grid axes",)),
    "cell rule": ("assign.cell | assign.cell-border | notation.truth-units", ("grid axes", "axes of truths")),
    "prior_until": ("axis", ()),
    "prior_weight": ("prior.gradient", ("prior_until", *_CENTRE)),
    "objectness": ("noobj.gradient", ()),
    "iou": ("iou.definition", (*_PLACES, *_CENTRE, "objectness")),
    "centre of the box": ("decode.centre", (*_PLACES, "objectness")),
    "size of the box": ("decode.size", (*_PLACES, "objectness")),
    "images of MaxIOU": ("noobj.same-image", _BOXES),
    "truths of MaxIOU": ("noobj.every-truth | noobj.max-iou", _BOXES),
    "box of MaxIOU": ("noobj.max-iou", _BOXES),
    "cells of MaxIOU": ("noobj.max-iou | noobj.every-truth", _BOXES),
    "anchor_choice": ("axis", _BOXES),
    "anchor tie": ("assign.anchor-tie", (*_BOXES, "anchor_choice")),
    "target of t_x": ("coord.centre-target", (*_PLACES, "anchor_choice")),
    "target of t_y": ("coord.centre-target", (*_PLACES, "anchor_choice")),
    "weights of x and y": ("coord.value", (*_PLACES, "anchor_choice")),
    "small_box_exponent": ("axis", (*_PLACES, *_CENTRE, "anchor_choice")),
    "size_space": ("axis", (*_PLACES, "anchor_choice", "object_target_gradient")),
    "weight of sizes": (
        "coord.size-gradient",
        (*_PLACES, *_CENTRE, "anchor_choice", "size_space", "small_box_exponent", "reduction"),
    ),
    "size_target_floor": ("axis", (*_PLACES, "anchor_choice", "size_space")),
    "coordinates of the ignored": ("coord.only-responsible", (*_PLACES, "iou", "ignore", "size_space")),
    "form of objectness": ("object.gradient | object.value", (*_PLACES, "anchor_choice")),
    "weight of objectness": ("object.value | object.gradient", (*_PLACES, "anchor_choice")),
    "object_target": ("axis", (*_BOXES, "anchor_choice")),
    "class_term": ("axis", (*_PLACES, "anchor_choice")),
    "collision": ("axis", (*_PLACES, "anchor_choice")),
    "class_collision": ("axis", (*_PLACES, "anchor_choice", "collision", "class_term")),
}
#: Findings about gradients of the box, to which a target that is not held constant adds its own.
_FLOWING = (*_CENTRE, "size_space", "weight of sizes", "small_box_exponent", "size_target_floor")
_OBJECTNESS = ("objectness", "iou", "form of objectness", "weight of objectness", "object_target")
#: One finding of each independent part of the loss: a mistake in one leaves the others as they are.
_INDEPENDENT = (
    ("prior_weight",), ("objectness",), (*_CENTRE, "small_box_exponent"), ("size_space",),
    ("object_target", "form of objectness", "weight of objectness"),
    ("class_term",),
)  # fmt: skip
#: The share of the departing cases that reach a clause which the answers do not show by itself.
_NEARLY = 0.9
#: If so many parts are odd, one thing is wrong with all of them, and no finding isolates anything.
_SYSTEMIC = 3
#: These show that something is wrong at a stage; the golden cases must speak for the clause as well.
SUGGESTING = {
    "IoU of other boxes": "iou.definition",
    "MaxIOU of other boxes": "noobj.max-iou",
    "truth_end": "axis",
    "max_truths": "axis",
    "ignore": "noobj.max-iou",
    "thresh": "axis",
    "no_object_weight": "noobj.gradient",
    "prior_applies": "axis",
    "box of the ignored": "prior.ignored-too",
    "coord_weight": "coord.centre-gradient",
    "object_weight": "object.gradient",
    "object_target_gradient": "axis",
    "class_weight": "class.gradient",
    "ignored_class": "axis",
}
#: Fewer departing cases than this do not speak for a clause by themselves, unless they pin hardly anything else.
_FEW, _PINNED = 3, 3
#: The score of a clause by golden cases alone from which it is blamed, and how far the next one must be behind.
_SURE, _CLEAR = 0.5, 0.85
#: The share of the best score that a suggested clause needs, and how many findings may be odd before none is believed.
_SUPPORTED, _MOST = 0.3, 6


def blame(
    identified: Identified | None,
    ranked: list[RankedClause],
    rest: list[Observation],
    clauses: Collection[str],
    *,
    alone: bool,
) -> list[Blame]:
    """The clauses that explain the rest of the departing cases, by isolating questions or by the golden cases.

    Args:
        identified: what the measuring questions say, if they were put.
        ranked: the clauses by how well they explain the rest.
        rest: what departs even from the measured loss.
        clauses: the ids of the clauses whose cases depart there.
        alone: whether nothing else was measured to differ: of several differences the golden cases show a mixture.
    """
    odd = {} if identified is None else {one.axis: one for one in identified.odd if not one.failed}
    pattern = common_pattern(rest) if alone else None
    if pattern is not None:
        return [pattern]
    isolated = [] if identified is None else _isolated(identified, odd, ranked, rest, clauses)
    if isolated or not alone or len(odd) > _MOST:
        return isolated
    known = load_clauses()
    primary = [one for one in ranked if not known[one.clause].follows_from and one.clause in clauses]
    primary = [one for one in primary if not one.clause.startswith("table.")]
    if not primary:
        return []
    best = primary[0]
    if len({one.case.id for one in rest}) < _FEW and not all(_made_for_it(one.case) for one in rest):
        return []
    if best.score >= _SURE and (len(primary) == 1 or primary[1].score <= _CLEAR * best.score):
        return [
            Blame(
                best.clause,
                "the golden cases of this clause depart, and few others",
                f"what departs and what does not is what a loss that breaks {best.clause} shows",
            )
        ]
    scores = {one.clause: one.score for one in primary}
    for axis, stated in SUGGESTING.items():
        if axis not in odd or identified is None:
            continue
        clause = clause_of(axis, identified.asked) if stated == "axis" else stated
        if scores.get(clause, 0.0) >= _SUPPORTED * best.score:
            return [Blame(clause, f"{axis}: no profile expresses it", odd[axis].evidence)]
    return []


def _made_for_it(case: Case) -> bool:
    """Whether a case was made by hand for a few clauses."""
    return not case.recorded and len(case.clauses) <= _PINNED


def _isolated(
    identified: Identified,
    odd: Mapping[str, Finding],
    ranked: list[RankedClause],
    rest: list[Observation],
    clauses: Collection[str],
) -> list[Blame]:
    """The clauses of the isolating findings, as far as what they build upon is as it should be."""
    if "digits" in odd:  # then no number means what it would mean in a precise answer
        if identified.scalar_only:
            return []
        return [Blame(f"numerics.{rest[0].exchange.dtype}", "few digits", odd["digits"].evidence)]
    systemic = sum(any(axis in odd for axis in axes) for axes in _INDEPENDENT) >= _SYSTEMIC
    order = [one.clause for one in ranked]
    blamed: dict[str, Blame] = {}
    for axis, (stated, needs) in ISOLATING.items():
        if axis not in odd or any(need in odd for need in needs):
            continue
        if "iou" in needs and identified.findings["iou"].value is None:
            continue  # a wrong IoU would look the same
        if axis in _FLOWING and identified.scalar_only and any(name in odd for name in _OBJECTNESS):
            continue  # slopes of the scalar contain those of objectness
        if axis in _FLOWING and "iou" in odd and identified.findings["object_target_gradient"].value != "constant":
            continue  # the gradient of a target that is another IoU may be part of the answer
        several = [clause_of(axis, identified.asked)] if stated == "axis" else stated.split(" | ")
        clause = min(several, key=lambda one: order.index(one) if one in order else len(order))
        direct = clause == "numerics.repeatability"  # which no case pins
        reaching = sum(clause in reached(observation.case) for observation in rest)
        pinned = clause in clauses or reaching >= _NEARLY * len(rest)
        if direct or (pinned and not systemic):
            blamed.setdefault(clause, Blame(clause, f"{axis}: no profile expresses it", odd[axis].evidence))
    return list(blamed.values())

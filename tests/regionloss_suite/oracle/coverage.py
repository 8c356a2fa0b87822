"""Which clauses a batch reaches, for cases that do not state it: recordings, and inputs used under another profile."""

from __future__ import annotations

import numpy as np

from regionloss import Result
from regionloss.bounds import PRECISIONS, statistics_bounds
from regionloss.decisions import Match, anchor_fit
from regionloss_spec import load_clauses
from regionloss_spec.batch import Array
from regionloss_suite.oracle.alternatives import other_recalls

#: The feature that a batch needs to show a clause. Only hand-made cases reach the clauses that are not listed here.
_SHOWN_BY = {
    "a predictor": ("notation.predictor", "notation.channel-order"),
    "a gradient": (
        "table.three-states",
        "table.structural-zeros",
        "scale.potential",
        "scale.printed-cost",
        "numerics.bound",
    ),
    **{f"outputs that {dtype} holds": (f"numerics.{dtype}",) for dtype in PRECISIONS},
    "one image": ("scale.squared-factor", "decode.objectness"),
    "several images": ("scale.sum", "scale.per-image", "noobj.same-image"),
    "a responsible predictor": (
        "notation.anchor-units",
        "notation.truth-units",
        "decode.centre",
        "decode.size",
        "iou.definition",
        "assign.cell",
        "assign.one-predictor",
        "noobj.every-predictor",
        "prior.every-predictor",
        "coord.only-responsible",
        "coord.value",
        "coord.centre-target",
        "coord.centre-gradient",
        "coord.size-target",
        "coord.decoded-size",
        "coord.square-root-size",
        "coord.size-gradient",
        "coord.small-box-weight",
        "coord.constant-weight",
        "coord.squared-small-box-weight",
        "scale.coord-weight",
        "object.only-responsible",
        "object.value",
        "object.gradient",
        "object.iou-target",
        "object.one-target",
        "object.max-iou-target",
        "object.target-flows",
        "object.background",
        "scale.object-weight",
    ),
    "a class": (
        "class.cross-entropy",
        "class.squared-error",
        "class.squared-linear",
        "class.logistic",
        "class.focal",
        "tree.groups",
        "tree.path",
    ),
    "a class term that is not 0 by itself": ("class.only-responsible", "scale.class-weight"),
    "a softmax": ("decode.class-probabilities",),
    "a cross-entropy": ("class.gradient",),
    "a choice that predictions take part in": ("constant.assignment",),
    "an image with truths": ("constant.max-iou",),
    "a weight that the truth's size is part of": ("constant.weight",),
    "an object under a cell": ("coord.size-target-unclamped", "coord.size-target-floor"),
    "a target that predictions take part in": ("object.target-constant",),
    "a no-object predictor that overlaps a truth": ("noobj.target-zero",),
    "one class": ("class.one-class",),
    "a path that leaves groups out": ("tree.off-path",),
    "several anchors": (
        "assign.anchor-shape",
        "assign.anchor-corner",
        "assign.predicted-shape",
        "assign.predicted-iou",
        "table.other-anchors",
    ),
    "an anchor tie": ("assign.anchor-tie",),
    "a centre on a border": ("assign.cell-border",),
    "a grid that is not square": ("notation.grid-axes",),
    "a collision": (
        "assign.last-truth-wins",
        "assign.first-truth-wins",
        "assign.every-truth-pays",
        "assign.class-accumulates",
        "assign.class-replaced",
        "truths.order",
    ),
    "a repeated truth": ("assign.repeated-truth",),
    "a responsible predictor below the threshold": ("noobj.not-responsible",),
    "a responsible predictor above the threshold": ("object.overrides-ignore",),
    "a no-object predictor": ("noobj.value", "noobj.gradient", "scale.no-object-weight"),
    "a target of MaxIOU": ("noobj.target-max-iou",),
    "an ignored predictor": ("noobj.max-iou", "noobj.threshold", "noobj.not-suppression", "class.ignored-none"),
    "an ignored predictor that pays a class": ("class.ignored-full", "class.ignored-by-objectness"),
    "an ignored predictor of another cell": ("noobj.every-truth",),
    "a predictor that a threshold would have ignored": ("noobj.no-ignore",),
    "an image without truths": ("noobj.empty-image", "truths.empty"),
    "the prior": ("prior.value", "prior.gradient", "prior.weight", "prior.coordinates-only"),
    "the prior beside a responsible predictor": ("prior.not-responsible",),
    "the prior of an ignored predictor": ("prior.ignored-too",),
    "the limit of the prior": ("prior.limit",),
    "large logits": ("class.large-logits",),
    "an image without boxes": ("tree.class-only-image", "tree.class-only-choice", "tree.class-only-silence"),
    "a collision in the tree": ("tree.collision",),
    "a sharp line of statistics": ("statistics.no-obj",),
    "a sharp line that counts a class": ("statistics.class",),
    "a sharp line that counts an object": (
        "statistics.avg-iou",
        "statistics.obj",
        "statistics.recall",
        "statistics.count",
    ),
    "no object": ("statistics.count-zero",),
}  # fmt: skip


def clauses_reached(result: Result, images_seen: int) -> tuple[str, ...]:
    """Ids of the clauses that a batch reaches under the profile of its result, in the order of the spec."""
    shown = _shown(result, images_seen)
    ids = {clause for feature, clauses in _SHOWN_BY.items() if feature in shown for clause in clauses}
    return tuple(
        clause.id for clause in load_clauses().values() if clause.id in ids and clause.applies_to(result.profile)
    )


def _shown(result: Result, images_seen: int) -> set[str]:
    decisions, profile, t = result.decisions, result.profile, result.t
    images, anchors, _, height, width = t.shape
    boxed = [match for match in decisions.matches if not decisions.class_only[match.image]]
    above = decisions.max_iou > profile.thresh
    at_match = np.array([above[match.predictor] for match in boxed], dtype=bool)
    predictors = [match.predictor for match in boxed]
    quiet_place = [tuple(place) for place in np.argwhere(decisions.ignored)]
    sharp = _iou_is_sharp(result)
    alone = t.shape[2] == 6 and profile.class_term not in ("logistic", "squared-linear")  # softmax of one class is 1
    features = {
        "a predictor": t.size > 0,
        "a gradient": bool(np.any(result.gradient)),
        **{f"outputs that {dtype} holds": t.size > 0 and holds(dtype, t) for dtype in PRECISIONS},
        "one image": images > 0,
        "several images": images > 1,
        "a responsible predictor": bool(boxed),
        "a class": bool(decisions.matches),
        "a class term that is not 0 by itself": bool(decisions.matches) and not alone,
        "a softmax": bool(decisions.matches) and not alone and profile.class_term not in ("logistic", "squared-linear"),
        "a cross-entropy": bool(decisions.matches) and not alone and profile.class_term == "cross-entropy",
        "a choice that predictions take part in": bool(boxed) and profile.anchor_choice.startswith("predicted"),
        "an image with truths": bool(boxed),
        "a weight that the truth's size is part of": bool(boxed) and profile.small_box_exponent > 0,
        "an object under a cell": any(_under_a_cell(result, match, width, height) for match in boxed),
        "a target that predictions take part in": bool(boxed) and profile.object_target != "one",
        "a no-object predictor that overlaps a truth": bool((decisions.no_object & (decisions.max_iou > 0)).any()),
        "one class": t.shape[2] == 6 and bool(decisions.matches),
        "a path that leaves groups out": profile.class_term == "tree"
        and bool((result.terms["class"].gradient == 0).any()),
        "several anchors": anchors > 1 and bool(boxed),
        "an anchor tie": any(_tied(result, match) for match in boxed),
        "a centre on a border": any(_on_border(result, match, width, height) for match in boxed),
        "a grid that is not square": width != height and bool(boxed),
        "a collision": any(_label(result, a) != _label(result, b) for a, b in _collisions(boxed)),
        "a repeated truth": any((_row(result, a) == _row(result, b)).all() for a, b in _collisions(boxed)),
        "a responsible predictor below the threshold": bool((~at_match).any()),
        "a responsible predictor above the threshold": bool(at_match.any()),
        "a no-object predictor": bool(decisions.no_object.any()),
        "a target of MaxIOU": bool((decisions.no_object & (decisions.max_iou > 0)).any()),
        "an ignored predictor": bool(quiet_place),
        "an ignored predictor that pays a class": bool(quiet_place) and profile.ignored_class != "none",
        "an ignored predictor of another cell": any(
            (image, row, column) not in {(m.image, m.row, m.column) for m in boxed}
            for image, _, row, column in quiet_place
        ),
        "a predictor that a threshold would have ignored": bool((above & ~decisions.responsible).any()),
        "an image without truths": any(not len(rows) for rows in result.truths),
        "the prior": bool(decisions.prior.any()),
        "the prior beside a responsible predictor": bool(decisions.prior.any()) and bool(boxed),
        "the prior of an ignored predictor": bool((decisions.prior & decisions.ignored).any()),
        "the limit of the prior": images_seen in (profile.prior_until, profile.prior_until - 1),
        "large logits": bool((np.abs(t[:, :, 5:]) > 20).any()) and bool(predictors),
        "an image without boxes": bool(decisions.class_only.any()),
        "a collision in the tree": profile.class_term == "tree" and bool(_collisions(boxed)),
        "a sharp line of statistics": sharp and t.size > 0,
        "a sharp line that counts a class": sharp and bool(decisions.matches),
        "a sharp line that counts an object": sharp and bool(boxed),
        "no object": not boxed,
    }
    return {feature for feature, there in features.items() if there}


def holds(dtype: str, values: Array) -> bool:
    """Whether a format represents every value exactly, including NaN and infinity."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        held = values.astype(np.float32 if dtype == "bfloat16" else dtype)
    exact = (held == values) | np.isnan(values)
    if dtype == "bfloat16":  # a float32 whose lower half is zero
        exact &= (held.view(np.uint32) & 0xFFFF) == 0
    return bool(exact.all())


def _iou_is_sharp(result: Result) -> bool:
    """Whether float32 gives the mean of the IoUs to a thousandth, or to a millionth, and decides which are recalled."""
    mean, precision = result.statistics.avg_iou, PRECISIONS["float32"]
    if np.isnan(mean):
        return True
    known = statistics_bounds(result, precision)["avg_iou"] <= 1e-3 * max(mean, 1e-3)
    return known and len(other_recalls(result, precision)) == 1


def _collisions(matches: list[Match]) -> list[tuple[Match, Match]]:
    return [(a, b) for at, a in enumerate(matches) for b in matches[at + 1 :] if a.predictor == b.predictor]


def _row(result: Result, match: Match) -> Array:
    return np.asarray(result.truths[match.image][match.truth])


def _label(result: Result, match: Match) -> tuple[float, ...]:
    return tuple(_row(result, match))


def _tied(result: Result, match: Match) -> bool:
    fit = anchor_fit(
        match.row, match.column, _row(result, match), result.boxes[match.image], result.anchors, result.profile
    )
    return int((fit == fit.max()).sum()) > 1


def _on_border(result: Result, match: Match, width: int, height: int) -> bool:
    x, y = _row(result, match)[:2]
    return any(place > 0 and place == int(place) for place in (x * width, y * height))


def _under_a_cell(result: Result, match: Match, width: int, height: int) -> bool:
    w, h = _row(result, match)[2:4]
    return bool(w * width < 1 or h * height < 1)

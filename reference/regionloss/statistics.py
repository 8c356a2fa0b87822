"""What darknet prints about a batch: the statistics line and the cost (spec chapters 10 and 14)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regionloss.boxes import sigmoid
from regionloss.classes import Tree, class_probabilities, path_to_root, softmax
from regionloss.decisions import Decisions
from regionloss.terms import CLASSES, T_O
from regionloss_spec import Profile
from regionloss_spec.batch import Array


@dataclass(frozen=True)
class Statistics:
    """darknet's line `Region Avg IOU: …`; a mean over nothing is NaN, as darknet prints it (`statistics.count-zero`).

    Attributes:
        avg_iou: mean IoU of each truth with the box of its responsible predictor.
        avg_class: mean probability of the true class, its path's product in a tree.
        avg_obj: mean objectness of the responsible predictors, counted per truth.
        avg_no_obj: mean objectness of all predictors, responsible ones included.
        avg_recall: share of the truths whose IoU is above .5.
        count: number of truths with a box.
    """

    avg_iou: float
    avg_class: float
    avg_obj: float
    avg_no_obj: float
    avg_recall: float
    count: int


def statistics(t: Array, truths: list[Array], decisions: Decisions, profile: Profile, tree: Tree | None) -> Statistics:
    """The numbers of darknet's statistics line for predictions `[N, A, 5+C, H, W]`."""
    z = np.moveaxis(t[:, :, CLASSES:], 2, 0)  # [C, N, A, H, W]
    p = class_probabilities(z, t[:, :, T_O], profile, tree)
    b_o = objectness(t, profile)
    sure = [
        0.0 if again else _sureness(p, label, predictor, profile, tree)
        for predictor, label, again in class_targets(truths, decisions, profile)
    ]
    boxed = [match for match in decisions.matches if not decisions.class_only[match.image]]
    return Statistics(
        avg_iou=_mean([match.iou for match in boxed]),  # `statistics.avg-iou`
        avg_class=_mean(sure),  # `statistics.class`
        avg_obj=_mean([float(b_o[match.predictor]) for match in boxed]),  # `statistics.obj`
        # `statistics.no-obj`
        avg_no_obj=float(b_o[~decisions.class_only].sum() / b_o.size) if b_o.size else float("nan"),
        avg_recall=_mean([float(match.iou > 0.5) for match in boxed]),  # `statistics.recall`
        count=len(boxed),  # `statistics.count`
    )


def class_targets(
    truths: list[Array], decisions: Decisions, profile: Profile
) -> list[tuple[tuple[int, ...], int, bool]]:
    """The class targets written (`statistics.class`): predictor, class, and whether only the count notices it.

    darknet counts a truth that adds its class to another's, but not its probability.
    """
    targets: list[tuple[tuple[int, ...], int, bool]] = []
    counted: set[tuple[int, ...]] = set()
    for match in decisions.matches:
        again = (
            match.predictor in counted and profile.class_term == "logistic" and profile.class_collision == "accumulate"
        )
        targets.append((match.predictor, int(truths[match.image][match.truth, 4]), again))
        counted.add(match.predictor)
    if profile.ignored_class != "none":  # counted wherever MaxIOU is above the threshold, responsible or not
        for place in map(tuple, np.argwhere((decisions.max_iou > profile.thresh) & (decisions.best_truth >= 0))):
            targets.append((place, int(truths[place[0]][decisions.best_truth[place], 4]), False))
    return targets


def printed_cost(delta: Array) -> float:
    """Σδ², which darknet prints as the loss though it is not the potential of its gradient (`scale.printed-cost`).

    Summed one by one in float32, as darknet's `mag_array` does: over a large grid that shows in the fifth digit.
    """
    with np.errstate(over="ignore"):  # darknet prints inf as well
        single = delta.astype(np.float32).ravel()
        running = np.cumsum(single * single, dtype=np.float32)
    return float(running[-1]) if running.size else 0.0


def objectness(t: Array, profile: Profile) -> Array:
    """b_o of all predictors, `[N, A, H, W]`; the raw output where darknet leaves it so."""
    if profile.objectness == "logistic":
        return sigmoid(t[:, :, T_O])
    if profile.class_term != "cross-entropy":
        return t[:, :, T_O]
    return np.asarray(softmax(np.moveaxis(t[:, :, T_O:], 2, 0))[0])


def _sureness(p: Array, label: int, predictor: tuple[int, ...], profile: Profile, tree: Tree | None) -> float:
    """Probability of a class at a predictor, in a tree that of its whole path."""
    path = path_to_root(label, tree) if profile.class_term == "tree" and tree is not None else [label]
    return float(np.prod([p[node][predictor] for node in path]))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")

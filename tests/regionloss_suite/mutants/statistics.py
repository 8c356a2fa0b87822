"""Mistakes in darknet's statistics line (spec chapter 14)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from regionloss.boxes import sigmoid
from regionloss.decisions import Decisions
from regionloss.statistics import statistics
from regionloss.terms import T_O
from regionloss_spec import Profile
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched
from regionloss_suite.mutants.tools import Answering, boxed, needs, paying


def _told(change: Callable[[Array, Decisions, Profile], dict[str, Any]]) -> Answering:
    """Some of the numbers replaced."""

    def misled(t: Array, truths: list[Array], decisions: Decisions, profile: Profile, tree: Any) -> Any:
        line = statistics(t, truths, decisions, profile, tree)
        return dataclasses.replace(line, **change(t, decisions, profile))

    return patched(loss__statistics=misled)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _of_max_iou(t: Array, decisions: Decisions, profile: Profile) -> dict[str, Any]:
    return {"avg_iou": _mean([float(decisions.max_iou[match.predictor]) for match in boxed(decisions)])}


def _class_of_winners(t: Array, decisions: Decisions, profile: Profile) -> dict[str, Any]:
    needs(profile.class_term == "cross-entropy" and profile.ignored_class == "none", "one class for each predictor")
    return {"avg_class": 1.0 if any(decisions.matches) else float("nan")}


def _once_a_predictor(t: Array, decisions: Decisions, profile: Profile) -> dict[str, Any]:
    needs(profile.objectness == "logistic", "an objectness of its own")
    return {"avg_obj": _mean([float(sigmoid(t[:, :, T_O])[match.predictor]) for match in paying(decisions)])}


def _of_background(t: Array, decisions: Decisions, profile: Profile) -> dict[str, Any]:
    needs(profile.objectness == "logistic", "an objectness of its own")
    return {"avg_no_obj": _mean([float(sure) for sure in sigmoid(t[:, :, T_O])[~decisions.responsible]])}


def _at_one_half(t: Array, decisions: Decisions, profile: Profile) -> dict[str, Any]:
    return {"avg_recall": _mean([float(match.iou >= 0.5) for match in boxed(decisions)])}


def _above_the_threshold(t: Array, decisions: Decisions, profile: Profile) -> dict[str, Any]:
    return {"avg_recall": _mean([float(match.iou > profile.thresh) for match in boxed(decisions)])}


def _winners(t: Array, decisions: Decisions, profile: Profile) -> dict[str, Any]:
    return {"count": len({match.predictor for match in boxed(decisions)})}


def _zero_for_nothing(t: Array, decisions: Decisions, profile: Profile) -> dict[str, Any]:
    if any(True for _ in boxed(decisions)):
        return {}
    return {"avg_iou": 0.0, "avg_obj": 0.0, "avg_recall": 0.0}


MUTANTS: list[Mutant] = [
    Mutant(
        id="avg-iou-of-max-iou",
        clause="statistics.avg-iou",
        title="Avg IOU is the mean of the best IoU of responsible predictors with any truth",
        answer=_told(_of_max_iou),
    ),
    Mutant(
        id="class-always-sure",
        clause="statistics.class",
        title="Class is the probability of the target itself, which is 1",
        answer=_told(_class_of_winners),
    ),
    Mutant(
        id="obj-once-a-predictor",
        clause="statistics.obj",
        title="Obj counts a predictor with two truths once",
        answer=_told(_once_a_predictor),
    ),
    Mutant(
        id="no-obj-of-background",
        clause="statistics.no-obj",
        title="No Obj is the mean over the predictors that are not responsible",
        answer=_told(_of_background),
    ),
    Mutant(
        id="recall-at-one-half",
        clause="statistics.recall",
        title="Avg Recall counts an IoU of exactly one half",
        answer=_told(_at_one_half),
    ),
    Mutant(
        id="recall-above-thresh",
        clause="statistics.recall",
        title="Avg Recall counts the IoUs above the threshold of MaxIOU instead of one half",
        answer=_told(_above_the_threshold),
    ),
    Mutant(
        id="count-of-winners",
        clause="statistics.count",
        title="count leaves out the truths that lost their predictor",
        answer=_told(_winners),
    ),
    Mutant(
        id="zero-for-nothing",
        clause="statistics.count-zero",
        title="a mean over nothing is reported as 0",
        after="pjreddie/darknet#566",
        answer=_told(_zero_for_nothing),
    ),
]

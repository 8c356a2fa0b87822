"""The cases on which an adapter failed, for the pictures of the HTML report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss_spec import Case, ProfileError, load_profile
from regionloss_spec.case import CASES, load_case
from regionloss_suite.judging.judge import Observation
from regionloss_suite.judging.report import Report
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Comparison

#: By case id, the case and the gradient that the adapter answered, where it answered one.
Failing = Mapping[str, tuple[Case, NDArray[Any] | None]]

#: Pictures of more cases than this would bury the first one.
_MOST = 6


def failing_verdicts(report: Report) -> dict[str, list[Verdict]]:
    """By case, the verdicts that were first seen on it: what deviates before what was expected to."""
    leading = [verdict for verdict, _ in report.folded() if verdict.first is not None]
    leading.sort(key=lambda verdict: verdict.verdict != "deviating")
    by_case: dict[str, list[Verdict]] = {}
    for verdict in leading:
        if verdict.first is not None:
            by_case.setdefault(verdict.first.case, []).append(verdict)
    return dict(list(by_case.items())[:_MOST])


def answered(report: Report, observations: Sequence[Observation]) -> Failing:
    """The failing cases with what the adapter answered to them, as `Judge.observations` holds it."""
    formats = {
        name: verdicts[0].first.dtype for name, verdicts in failing_verdicts(report).items() if verdicts[0].first
    }
    found: dict[str, tuple[Case, NDArray[Any] | None]] = {}
    for seen in observations:
        name, asked = seen.case.id, seen.asked
        if name not in formats or (name in found and found[name][1] is not None):
            continue
        gradient = None
        if isinstance(asked, Comparison) and seen.departs and asked.dtype == formats[name]:
            gradient = asked.answer.gradient
        found[name] = (seen.case, None if gradient is None else np.asarray(gradient, dtype=np.float64))
    return found


def bundled(report: Report) -> Failing:
    """The failing cases of a stored report that are bundled with the spec, as they were put to the adapter."""
    known = {path.stem: path for path in CASES.glob("*.json")}
    return {name: (_put(load_case(known[name]), report), None) for name in failing_verdicts(report) if name in known}


def _put(case: Case, report: Report) -> Case:
    """A dialect without cases of its own is asked darknet's under its profile."""
    if report.profile == "any" or case.base in report.profile.split(", "):
        return case
    try:
        return dataclasses.replace(case, base=report.profile, profile=load_profile(report.profile))
    except ProfileError:
        return case

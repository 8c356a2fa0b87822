"""The cases on which an adapter failed, for the pictures of the HTML report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from regionloss_spec import Case, ProfileError, load_profile
from regionloss_spec.batch import Array
from regionloss_spec.case import CASES, load_case
from regionloss_suite.judging.judge import Observation
from regionloss_suite.judging.report import Report
from regionloss_suite.judging.verdict import Verdict

#: By case id, the case and the gradient that the adapter returned, if any.
Failing = Mapping[str, tuple[Case, Array | None]]

#: More pictures than this would bury the first one.
_MOST = 6


def failing_verdicts(report: Report) -> dict[str, list[Verdict]]:
    """By case, the verdicts that it showed first: deviations before expected deviations."""
    leading = [verdict for verdict, _ in report.folded() if verdict.first is not None]
    leading.sort(key=lambda verdict: verdict.verdict != "deviating")
    by_case: dict[str, list[Verdict]] = {}
    for verdict in leading:
        if verdict.first is not None:
            by_case.setdefault(verdict.first.case, []).append(verdict)
    return dict(list(by_case.items())[:_MOST])


def answered(report: Report, observations: Sequence[Observation]) -> Failing:
    """The failing cases with the adapter's answers, in the form of `Judge.observations`."""
    formats = {
        name: verdicts[0].first.dtype for name, verdicts in failing_verdicts(report).items() if verdicts[0].first
    }
    failing: dict[str, tuple[Case, Array | None]] = {}
    for observation in observations:
        name, comparison = observation.case.id, observation.exchange.comparison
        if name not in formats or (name in failing and failing[name][1] is not None):
            continue
        gradient = None
        if comparison is not None and observation.departs and comparison.dtype == formats[name]:
            gradient = comparison.answer.gradient
        failing[name] = (observation.case, None if gradient is None else np.asarray(gradient, dtype=np.float64))
    return failing


def bundled(report: Report) -> Failing:
    """The failing cases of a stored report that are bundled with the spec, under the profile of the report."""
    known = {path.stem: path for path in CASES.glob("*.json")}
    return {name: (_put(load_case(known[name]), report), None) for name in failing_verdicts(report) if name in known}


def _put(case: Case, report: Report) -> Case:
    """A dialect without cases of its own gets darknet's under its profile."""
    if report.profile == "any" or case.base in report.profile.split(", "):
        return case
    try:
        return dataclasses.replace(case, base=report.profile, profile=load_profile(report.profile))
    except ProfileError:
        return case

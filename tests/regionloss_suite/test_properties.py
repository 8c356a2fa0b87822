"""The properties, each one tried on batches that are drawn anew and are the same in every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from regionloss_spec import AXES, Profile, ProfileError, load_clauses, load_profile
from regionloss_spec.case_writer import write_case
from regionloss_spec.profile import axis_values
from regionloss_suite.asker import case_of
from regionloss_suite.judge import Judge
from regionloss_suite.plugin import judge_of, record_verdict
from regionloss_suite.properties import PROPERTIES, Outcome, Property, attempt
from regionloss_suite.properties.property import EVERYTHING
from regionloss_suite.verdict import Verdict

#: Under which profiles a loss is tried that takes any; the first with all batches, the others with a quarter.
_OWN = ("darknet", "darknet-2016", "formula", "yolo9000")


@dataclass(frozen=True)
class Trial:
    """One property under one profile, in one format, on one device.

    Attributes:
        prop: the property.
        profile: what the loss is asked as.
        dtype: the format of the predictions.
        device: where it computes.
        share: how much of the usual number of batches.
        axis: for a value of one axis that no profile of the run has, the only axis whose clauses are judged.
    """

    prop: Property
    profile: Profile
    dtype: str
    device: str
    share: float
    axis: str = ""

    @property
    def id(self) -> str:
        """A readable name, also for files."""
        value = f" {self.axis} {getattr(self.profile, self.axis)}" if self.axis else ""
        words = f"{self.profile.name}{value} {self.dtype} {self.device} {self.prop.id}".lower()
        return "-".join("".join(letter if letter.isalnum() else " " for letter in words).split())


def trials(judge: Judge) -> Iterator[Trial]:
    """What is tried on the adapter of a judge."""
    takes_any = judge.profile == "any"
    profiles = [load_profile(name) for name in (_OWN if takes_any else judge.profile.split(", "))]
    described = judge.description
    ways = [(dtype, device) for device in described.devices for dtype in described.dtypes]
    for at, profile in enumerate(profiles):
        for prop in PROPERTIES.values():
            if not prop.when(profile):
                continue
            for way, (dtype, device) in enumerate(ways):
                if way == 0:
                    yield Trial(prop, profile, dtype, device, 1.0 if at == 0 else 0.25)
                elif at == 0 and prop.every_format:
                    yield Trial(prop, profile, dtype, device, 0.4)
    if takes_any:
        yield from _variants(*ways[0])


def _variants(dtype: str, device: str) -> Iterator[Trial]:
    """Every value of every axis that darknet has not, alone."""
    darknet, tree = load_profile("darknet"), load_profile("yolo9000")
    for axis in AXES:
        for value in axis_values(axis):
            base = tree if value in ("tree", "accumulate") else darknet
            if getattr(base, axis) == value:
                continue
            try:
                profile = base.replace(**{axis: value})
            except ProfileError:
                continue
            yield Trial(PROPERTIES[EVERYTHING], profile, dtype, device, 1.0, axis)
            for prop in PROPERTIES.values():
                if not prop.by_feature and prop.when(profile) and _speaks_of(prop, axis, value):
                    yield Trial(prop, profile, dtype, device, 0.25, axis)


def _speaks_of(prop: Property, axis: str, value: object) -> bool:
    """Whether a property pins a clause that defines this value of an axis."""
    clauses = load_clauses()
    return any(clauses[clause].axis == axis and value in clauses[clause].values for clause in prop.clauses)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each property, profile, format and device."""
    if "trial" in metafunc.fixturenames:
        found = list(trials(judge_of(metafunc.config)))
        metafunc.parametrize("trial", found, ids=[trial.id for trial in found])


def test_property(request: pytest.FixtureRequest, regionloss_judge: Judge, trial: Trial) -> None:
    examples = max(2, round(trial.share * request.config.getoption("--regionloss-examples")))
    outcome = attempt(trial.prop, regionloss_judge.adapter, trial.profile, trial.dtype, trial.device, examples=examples)
    regionloss_judge.fault = regionloss_judge.fault or outcome.fault
    if outcome.crash:
        regionloss_judge.crashes[trial.id] = outcome.crash
    for verdict in _verdicts(trial, outcome):
        record_verdict(request, verdict)
    if outcome.departed is not None:
        pytest.fail(_report(trial, outcome, request.config.getoption("--regionloss-failures")), pytrace=False)
    if outcome.reason:
        pytest.skip(outcome.reason)


def _verdicts(trial: Trial, outcome: Outcome) -> Iterator[Verdict]:
    """One verdict for each clause that something was found out about."""
    for clause in (load_clauses()[clause] for clause in outcome.clauses):
        if trial.axis and clause.axis != trial.axis:
            continue
        yield Verdict(
            clause=clause.id,
            level=clause.level,
            verdict=outcome.verdict,
            properties=(trial.prop.name,),
            first=outcome.first,
            reason=outcome.reason,
        )


def _report(trial: Trial, outcome: Outcome, folder: str | None) -> str:
    """What departed, on which batch, and how to look at it."""
    assert outcome.departed is not None
    batch, profile = outcome.departed.batch, outcome.departed.profile
    lines = [
        f"{trial.prop.name}: it does not · {outcome.first}",
        f"clauses: {', '.join(outcome.clauses)}",
        f"profile {profile.name}, {trial.dtype} on {trial.device}",
    ]
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = write_case(case_of(trial.id, f"{trial.prop.name}: {outcome.first}", batch, profile), Path(folder))
        return "\n".join([*lines, f"the smallest batch: regionloss explain {path}"])
    places = np.argwhere(batch.predictions)[:12]
    shown = ", ".join(f"{place.tolist()}: {batch.predictions[tuple(place)]:.9g}" for place in places)
    more = np.count_nonzero(batch.predictions) - len(places)
    lines += [
        f"the smallest batch: predictions {list(batch.predictions.shape)}, 0 but at {shown or 'no place'}"
        + (f" and {more} more" if more > 0 else ""),
        f"  truths {[rows.tolist() for rows in batch.truths]}",
        f"  anchors {batch.anchors.tolist()}, classes {batch.classes}, images seen {batch.images_seen}"
        + (f", tree {list(batch.tree)}" if batch.tree is not None else ""),
        "to have it as a file for `regionloss explain`: --regionloss-failures DIR",
    ]
    return "\n".join(lines)

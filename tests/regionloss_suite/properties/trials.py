"""What is tried on an adapter: each property under its profiles, in its formats, on its devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regionloss import DomainError, evaluate
from regionloss.bounds import PRECISIONS
from regionloss_spec import AXES, Case, Profile, ProfileError, load_clauses, load_profile
from regionloss_spec.case import Expected
from regionloss_spec.case_writer import write_case
from regionloss_spec.profile import axis_values
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.properties import PROPERTIES, Outcome, Property, attempt
from regionloss_suite.properties.asked import Departs
from regionloss_suite.properties.harness import case_of
from regionloss_suite.properties.property import EVERYTHING

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


@dataclass(frozen=True, eq=False)
class Tried:
    """What came of a trial.

    Attributes:
        trial: what was tried.
        outcome: what was found out.
        verdicts: one for each clause that something was found out about.
        case: the smallest batch on which the property does not hold, if there is one.
    """

    trial: Trial
    outcome: Outcome
    verdicts: list[Verdict]
    case: Case | None

    def lines(self, file: Path | None = None) -> list[str]:
        """What departed, on which batch, and how to look at it, where that is written in a file."""
        assert self.case is not None
        profile, trial = self.case.profile, self.trial
        said = [
            f"{trial.prop.name}: it does not · {self.outcome.first}",
            f"clauses: {', '.join(self.outcome.clauses)}",
            f"profile {profile.name}, {trial.dtype} on {trial.device}",
        ]
        if file is not None:
            return [*said, f"the smallest batch: regionloss explain {file}"]
        return [
            *said,
            *_in_words(self.case),
            "to have it as a file for `regionloss explain`: --regionloss-failures DIR",
        ]


def attempted(trial: Trial, judge: Judge, examples: int = 16) -> Tried:
    """Try a property on about so many batches; a crash or an adapter's own fault is noted by the judge."""
    batches = max(2, round(trial.share * examples))
    outcome = attempt(trial.prop, judge.adapter, trial.profile, trial.dtype, trial.device, examples=batches)
    judge.fault = judge.fault or outcome.fault
    if outcome.crash:
        judge.crashes[trial.id] = outcome.crash
    case = None if outcome.departed is None else _case(trial, outcome, outcome.departed)
    return Tried(trial, outcome, list(_verdicts(trial, outcome)), case)


def _case(trial: Trial, outcome: Outcome, departed: Departs) -> Case:
    """The smallest batch as a case, which a conforming loss refuses where it lies outside the domain."""
    case = case_of(trial.id, f"{trial.prop.name}: {outcome.first}", departed.batch, departed.profile)
    expected = case.expected
    try:
        evaluate(case.batch, case.profile)
    except DomainError as error:
        place = {name: at for name, at in (("image", error.image), ("truth", error.truth)) if at is not None}
        expected = Expected(error={"clause": error.clause, **place})
    return dataclasses.replace(case, clauses=outcome.clauses, expected=expected)


def write_drawn(case: Case, folder: Path) -> Path:
    """Write a drawn batch as a case that `regionloss explain` and `regionloss check --cases` take."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_case(case, folder)


def _verdicts(trial: Trial, outcome: Outcome) -> Iterator[Verdict]:
    first = None if outcome.first is None else dataclasses.replace(outcome.first, case=trial.id)
    for clause in (load_clauses()[clause] for clause in outcome.clauses):
        another_format = clause.id.removeprefix("numerics.") in PRECISIONS and clause.id != f"numerics.{trial.dtype}"
        if another_format or (trial.axis and clause.axis != trial.axis):
            continue
        yield Verdict(
            clause=clause.id,
            level=clause.level,
            verdict=outcome.verdict,
            properties=(trial.prop.name,),
            first=first,
            reason=outcome.reason if first is None else f"it does not hold that {trial.prop.name}",
        )


def _in_words(case: Case) -> list[str]:
    batch = case.batch
    places = np.argwhere(batch.predictions)[:12]
    shown = ", ".join(f"{place.tolist()}: {batch.predictions[tuple(place)]:.9g}" for place in places)
    more = np.count_nonzero(batch.predictions) - len(places)
    return [
        f"the smallest batch: predictions {list(batch.predictions.shape)}, 0 but at {shown or 'no place'}"
        + (f" and {more} more" if more > 0 else ""),
        f"  truths {[rows.tolist() for rows in batch.truths]}",
        f"  anchors {batch.anchors.tolist()}, classes {batch.classes}, images seen {batch.images_seen}"
        + (f", tree {list(batch.tree)}" if batch.tree is not None else ""),
    ]

"""Which properties run on an adapter: each under its profiles, in its formats, on its devices."""

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
from regionloss_suite.judging.exchange import drawn_case
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.properties import PROPERTIES, Property, PropertyResult, run_property
from regionloss_suite.properties.property import EVERYTHING
from regionloss_suite.properties.response import DeviationError

#: The profiles for a loss that supports any: the first gets all batches, the others a quarter each.
_OWN = ("darknet", "darknet-2016", "formula", "yolo9000")


@dataclass(frozen=True)
class PropertyRun:
    """One property under one profile, in one format, on one device.

    Attributes:
        prop: the property.
        profile: the profile of the questions.
        dtype: the format of the predictions.
        device: the device of the loss.
        share: the share of the usual number of batches.
        axis: for an axis value that no profile of the run has, the only axis whose clauses are judged.
    """

    prop: Property
    profile: Profile
    dtype: str
    device: str
    share: float
    axis: str = ""

    @property
    def id(self) -> str:
        """A readable name, also used for files."""
        value = f" {self.axis} {getattr(self.profile, self.axis)}" if self.axis else ""
        words = f"{self.profile.name}{value} {self.dtype} {self.device} {self.prop.id}".lower()
        return "-".join("".join(letter if letter.isalnum() else " " for letter in words).split())


def planned_runs(judge: Judge) -> Iterator[PropertyRun]:
    """The property runs for the adapter of a judge."""
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
                    yield PropertyRun(prop, profile, dtype, device, 1.0 if at == 0 else 0.25)
                elif at == 0 and prop.every_format:
                    yield PropertyRun(prop, profile, dtype, device, 0.4)
    if takes_any:
        yield from _variants(*ways[0])


def _variants(dtype: str, device: str) -> Iterator[PropertyRun]:
    """Every axis value that darknet does not have, one at a time."""
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
            yield PropertyRun(PROPERTIES[EVERYTHING], profile, dtype, device, 1.0, axis)
            for prop in PROPERTIES.values():
                if not prop.by_feature and prop.when(profile) and _speaks_of(prop, axis, value):
                    yield PropertyRun(prop, profile, dtype, device, 0.25, axis)


def _speaks_of(prop: Property, axis: str, value: object) -> bool:
    """Whether a property pins a clause that defines this value of an axis."""
    clauses = load_clauses()
    return any(clauses[clause].axis == axis and value in clauses[clause].values for clause in prop.clauses)


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """A property run with the verdicts that follow from it.

    Attributes:
        run: the property, profile, format and device.
        result: the result of the run.
        verdicts: one for each clause that it judges.
        case: the smallest batch that violates the property, if there is one.
    """

    run: PropertyRun
    result: PropertyResult
    verdicts: list[Verdict]
    case: Case | None

    def lines(self, file: Path | None = None) -> list[str]:
        """The deviation, its batch, and, if the batch is in a file, the command that explains it."""
        assert self.case is not None
        profile, run = self.case.profile, self.run
        lines = [
            f"property violated: {run.prop.name} · {self.result.first}",
            f"clauses: {', '.join(self.result.clauses)}",
            f"profile {profile.name}, {run.dtype} on {run.device}",
        ]
        if file is not None:
            return [*lines, f"the smallest batch: regionloss explain {file}"]
        return [
            *lines,
            *_in_words(self.case),
            "to write it to a file for `regionloss explain`: --regionloss-failures DIR",
        ]


def judge_run(run: PropertyRun, judge: Judge, examples: int = 16) -> JudgedRun:
    """Run a property on about `examples` batches; the judge records a crash, or a fault of the adapter itself."""
    batches = max(2, round(run.share * examples))
    result = run_property(run.prop, judge.adapter, run.profile, run.dtype, run.device, examples=batches)
    judge.fault = judge.fault or result.fault
    if result.crash:
        judge.crashes[run.id] = result.crash
    case = None if result.deviation is None else _case(run, result, result.deviation)
    return JudgedRun(run, result, list(_verdicts(run, result)), case)


def _case(run: PropertyRun, result: PropertyResult, deviation: DeviationError) -> Case:
    """The smallest batch as a case, in which a conforming loss refuses it if it lies outside the domain."""
    case = drawn_case(run.id, f"{run.prop.name}: {result.first}", deviation.batch, deviation.profile)
    expected = case.expected
    try:
        evaluate(case.batch, case.profile)
    except DomainError as error:
        place = {name: at for name, at in (("image", error.image), ("truth", error.truth)) if at is not None}
        expected = Expected(error={"clause": error.clause, **place})
    return dataclasses.replace(case, clauses=result.clauses, expected=expected)


def write_drawn(case: Case, folder: Path) -> Path:
    """Write a random batch as a case for `regionloss explain` and `regionloss check --cases`."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_case(case, folder)


def _verdicts(run: PropertyRun, result: PropertyResult) -> Iterator[Verdict]:
    first = None if result.first is None else dataclasses.replace(result.first, case=run.id)
    for clause in (load_clauses()[clause] for clause in result.clauses):
        another_format = clause.id.removeprefix("numerics.") in PRECISIONS and clause.id != f"numerics.{run.dtype}"
        if another_format or (run.axis and clause.axis != run.axis):
            continue
        yield Verdict(
            clause=clause.id,
            level=clause.level,
            verdict=result.verdict,
            properties=(run.prop.name,),
            first=first,
            reason=result.reason if first is None else f"violates: {run.prop.name}",
        )


def _in_words(case: Case) -> list[str]:
    batch = case.batch
    places = np.argwhere(batch.predictions)[:12]
    shown = ", ".join(f"{place.tolist()}: {batch.predictions[tuple(place)]:.9g}" for place in places)
    more = np.count_nonzero(batch.predictions) - len(places)
    return [
        f"the smallest batch: predictions {list(batch.predictions.shape)}, 0 except at {shown or 'no place'}"
        + (f" and {more} more" if more > 0 else ""),
        f"  truths {[rows.tolist() for rows in batch.truths]}",
        f"  anchors {batch.anchors.tolist()}, classes {batch.classes}, images seen {batch.images_seen}"
        + (f", tree {list(batch.tree)}" if batch.tree is not None else ""),
    ]

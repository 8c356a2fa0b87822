"""One run of the suite: pytest underneath, a report on top."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import math
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from regionloss_adapters import Adapter, AdapterError, load_adapter
from regionloss_spec import Case
from regionloss_spec.case import CASES
from regionloss_suite.diagnosis.diagnosis import Diagnosis, diagnose
from regionloss_suite.diagnosis.evidence import Measuring
from regionloss_suite.judging.differences import MeasuredDifference, Unexplained
from regionloss_suite.judging.find_cases import find_case, find_cases
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.judging.report import MARKS, Report
from regionloss_suite.judging.reproduce import Commands
from regionloss_suite.judging.verdict import Verdict, merged
from regionloss_suite.measure.formula import formula, measured_formula
from regionloss_suite.plugin import Collector

#: With more processes than this, each would load a framework for almost no work.
_MOST_JOBS = 4


@dataclass(frozen=True)
class Run:
    """A report, and the runs that it is based on.

    Attributes:
        report: every verdict.
        judge: has put every question, and keeps every answer.
        drawn: the observations on the random batches that violate a property, each run once more by itself.
    """

    report: Report
    judge: Judge
    drawn: list[Observation] = field(default_factory=list)


def run(
    adapter: Adapter | str,
    *,
    profile: str | None = None,
    cases: Path | str | Sequence[Case] | None = None,
    golden: bool = False,
    failures: Path | None = None,
    jobs: int = 1,
    show: bool = False,
    source: Path | None = None,
    budget: float = 120.0,
) -> Run:
    """Judge an adapter through pytest, first with the golden cases and then with the properties.

    Args:
        adapter: an adapter, or the name of one: `numpy`, `torch` or `module:object`.
        profile: judge it as this profile, a name or a `.toml` file; by default every profile that it claims.
        cases: use only these cases and no properties: a folder, a file, or the id of a bundled case; by default all
            bundled cases.
        golden: skip the properties.
        failures: the folder for the smallest batches that fail a property; by default they are not written.
        jobs: number of processes for the properties, if pytest-xdist is installed and the adapter has a name.
        show: whether to show progress on a terminal.
        source: the source already named by `name_source`, for the commands of the report.
        budget: seconds for measuring a loss that deviates.

    Raises:
        AdapterError: there is no such adapter, or it broke its own contract.
        NothingToJudgeError: no case belongs to the profile.
        CaseError, ProfileError: a file that cannot be read.
    """
    judge = judge_for(load_adapter(adapter) if isinstance(adapter, str) else adapter, profile, cases)
    name = adapter if isinstance(adapter, str) else judge.description.name
    with tempfile.TemporaryDirectory() as folder:
        results = _stage(judge, "test_golden", "golden cases", [], show=show)
        if len(results) != len(judge.clauses):
            raise RuntimeError(f"the suite itself failed: {len(results)} of {len(judge.clauses)} clauses were judged")
        if not golden and cases is None:
            options = ["--regionloss-failures", folder]
            if jobs > 1 and isinstance(adapter, str) and importlib.util.find_spec("xdist") is not None:
                options += ["-p", "xdist", "-n", str(min(jobs, _MOST_JOBS)), "--regionloss-adapter", adapter]
                options += [] if profile is None else ["--regionloss-profile", profile]
            results += _stage(judge, "test_properties", "properties", options, show=show)
        for result in results:
            if result.get("fault"):
                judge.fault = judge.fault or AdapterError(result["fault"])
            if result.get("crash"):
                judge.crashes[result["run"]] = result["crash"]
        if judge.fault is not None:
            raise judge.fault
        verdicts = merged(Verdict.from_json(entry) for result in results for entry in result["verdicts"])
        files = {result["run"]: Path(result["file"]) for result in results if "file" in result}
        drawn = {run_id: judge.observe(find_case(file)) for run_id, file in files.items()}
        measuring = Measuring(budget, _progress if show else None)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # a loss may print as it is measured
            diagnosis = diagnose(judge, verdicts, drawn=drawn, tally=_tally(results), measuring=measuring)
        verdicts = diagnosis.verdicts
        kept = {} if failures is None else _kept(_shown(diagnosis), files, failures)
    commands = Commands(
        adapter if isinstance(adapter, str) else None,
        profile,
        Path(cases) if isinstance(cases, str | Path) and Path(cases).exists() else None,
        kept,
        [run_id for run_id, some in drawn.items() if any(observation.departs for observation in some)],
        source,
    )
    verdicts = [commands.added(verdict) for verdict in verdicts]
    notes = judge.description.notes + diagnosis.notes + commands.crashed(judge.crashes, verdicts)
    report = Report(
        name, judge.profile, len(judge.cases), verdicts, judge.crashes, notes,
        differences=tuple(_with_commands(difference, commands) for difference in diagnosis.differences),
        unexplained=diagnosis.unexplained and _with_commands(diagnosis.unexplained, commands),
        formula=() if diagnosis.identified is None else tuple(measured_formula(diagnosis.identified)),
        claimed=() if diagnosis.identified is None else tuple(formula(diagnosis.identified.asked)),
    )  # fmt: skip
    return Run(report, judge, [observation for some in drawn.values() for observation in some])


_Found = TypeVar("_Found", MeasuredDifference, Unexplained)


def _with_commands(finding: _Found, commands: Commands) -> _Found:
    reproduce, explain = commands.of(finding.case) if finding.case else ("", "")
    return dataclasses.replace(finding, reproduce=reproduce, explain=explain)


def _progress(what: str, done: int, total: int) -> None:
    """Show on a terminal what is being measured."""
    terminal = sys.__stderr__  # what the loss prints is caught meanwhile
    if terminal is not None and terminal.isatty():
        text = f"measuring: {what} {done}/{total}" if done < total - 1 else ""
        print(f"\r\033[K{text}", end="", file=terminal, flush=True)


def _tally(results: list[dict[str, Any]]) -> dict[str, float]:
    """By clause, the Ochiai coefficient of the properties that fail and those that are run for it."""
    entries = [entry for result in results if "run" in result for entry in result["verdicts"]]
    counts = {kind: Counter(entry["clause"] for entry in entries if entry["verdict"] == kind) for kind in MARKS}
    departing = sum("file" in result for result in results)
    failed, held = counts["deviating"], counts["conforming"]
    return {clause: failed[clause] / math.sqrt(departing * (failed[clause] + held[clause])) for clause in failed}


def judge_for(adapter: Adapter, profile: str | None, cases: Path | str | Sequence[Case] | None) -> Judge:
    """A judge of the adapter, with the requested cases. Raises as `run` does."""
    chosen = find_cases(cases or CASES) if cases is None or isinstance(cases, str | Path) else list(cases)
    return Judge(adapter, chosen, profile)


def _stage(judge: Judge, module: str, name: str, options: list[str], *, show: bool) -> list[dict[str, Any]]:
    """The results of the tests of one module of the suite."""
    collector = Collector(judge, name, show=show)
    # The user's own pytest configuration and plugins must not affect a verdict.
    command = ["--pyargs", f"regionloss_suite.{module}", "-c", os.devnull, "--import-mode=importlib"]
    command += ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "regionloss_suite.plugin", *options]
    with tempfile.TemporaryDirectory() as empty, without("PYTEST_ADDOPTS"):
        pytest.main([*command, "--rootdir", empty], plugins=[collector])
    if collector.suite_failure or not collector.results:
        why = collector.suite_failure or "no test of it ran"
        raise RuntimeError(f"the suite itself failed, which says nothing about {judge.description.name}: {why}")
    return collector.results


def _shown(diagnosis: Diagnosis) -> set[str]:
    """The cases that stand for something in the report."""
    cases = {difference.case for difference in diagnosis.differences}
    cases |= {diagnosis.unexplained.case} if diagnosis.unexplained is not None else set()
    deviating = [one for one in diagnosis.verdicts if one.verdict == "deviating" and not one.follows]
    return cases | {verdict.first.case for verdict in deviating if verdict.first is not None}


def _kept(cases: set[str], files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """The files of the random batches that stand for something in the report, copied to their final place."""
    kept = {}
    for name in sorted(cases & set(files)):
        file = files[name]
        folder.mkdir(parents=True, exist_ok=True)
        for part in file.parent.glob(f"{file.stem}.*"):  # large tensors are stored beside it
            kept[file.stem] = Path(shutil.copy(part, folder)).with_suffix(".json")
    return kept


@contextmanager
def without(variable: str) -> Iterator[None]:
    """Take a variable out of the environment for a while."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value

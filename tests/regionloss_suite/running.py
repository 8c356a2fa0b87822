"""One run of the suite: pytest underneath, a report on top."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from regionloss_adapters import Adapter, load_adapter
from regionloss_spec import Case
from regionloss_spec.case import CASES
from regionloss_spec.recording import load_folder
from regionloss_suite.diagnosis import diagnose, fold
from regionloss_suite.judge import Judge
from regionloss_suite.plugin import Collector
from regionloss_suite.report import Report
from regionloss_suite.verdict import Verdict, merged


def run(
    adapter: Adapter | str,
    *,
    profile: str | None = None,
    cases: Path | str | Sequence[Case] | None = None,
    properties: bool = False,
    show: bool = False,
) -> tuple[Report, Judge]:
    """Judge an adapter through pytest: the report, and the judge that still knows the cases.

    Args:
        adapter: an adapter, or the name of one: `numpy`, `torch` or `module:object`.
        profile: judge it as this profile, a name or a `.toml` file; as all that it claims if left out.
        cases: the cases, or a folder of cases or recordings; the bundled cases if left out.
        properties: try the properties on drawn batches as well, which takes about a minute.
        show: whether to show progress on a terminal.

    Raises:
        AdapterError: there is no such adapter.
        NothingToJudgeError: no case belongs to the profile.
        CaseError, ProfileError: a file that cannot be read.
    """
    asked = load_adapter(adapter) if isinstance(adapter, str) else adapter
    judge = judge_for(asked, profile, cases)
    name = adapter if isinstance(adapter, str) else judge.description.name
    collector = Collector(judge, show=show)
    # The user's own pytest configuration and plugins have no say in a verdict.
    suites = ["regionloss_suite.test_golden", *(["regionloss_suite.test_properties"] if properties else [])]
    command = ["--pyargs", *suites, "-c", os.devnull, "--import-mode=importlib"]
    command += ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "regionloss_suite.plugin"]
    with tempfile.TemporaryDirectory() as empty, without("PYTEST_ADDOPTS"):
        pytest.main([*command, "--rootdir", empty], plugins=[collector])
    judged = {verdict.clause for verdict in collector.verdicts}
    if collector.failed_otherwise or not judged >= {clause.id for clause in judge.clauses}:
        raise RuntimeError(f"the suite itself failed, which says nothing about {name}: {collector.failed_otherwise}")
    if judge.fault is not None:
        raise judge.fault
    verdicts = diagnosed(judge, merged(collector.verdicts))
    return Report(name, judge.profile, len(judge.cases), verdicts, judge.crashes, judge.description.notes), judge


def diagnosed(judge: Judge, verdicts: list[Verdict]) -> list[Verdict]:
    """The verdicts of a judge in which what only follows is folded under what departs first."""
    return fold(verdicts, diagnose(judge, [verdict for verdict in verdicts if verdict.verdict == "deviating"]))


def judge_for(adapter: Adapter, profile: str | None, cases: Path | str | Sequence[Case] | None) -> Judge:
    """A judge of the adapter, with the cases that were asked for. Raises as `run` does."""
    chosen = load_folder(Path(cases or CASES)) if cases is None or isinstance(cases, str | Path) else list(cases)
    return Judge(adapter, chosen, profile)


@contextmanager
def without(variable: str) -> Iterator[None]:
    """Take a variable out of the environment for a while."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value

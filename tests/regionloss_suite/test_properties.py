"""The properties, each run on random batches that are the same in every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionloss_suite.judging.judge import Judge
from regionloss_suite.plugin import judge_of, record
from regionloss_suite.properties.plan import PropertyRun, judge_run, planned_runs, write_drawn


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each property, profile, format and device."""
    if "run" in metafunc.fixturenames:
        runs = list(planned_runs(judge_of(metafunc.config)))
        metafunc.parametrize("run", runs, ids=[run.id for run in runs])


def test_property(request: pytest.FixtureRequest, regionloss_judge: Judge, run: PropertyRun) -> None:
    judged = judge_run(run, regionloss_judge, request.config.getoption("--regionloss-examples"))
    result, folder = judged.result, request.config.getoption("--regionloss-failures")
    details = {"crash": result.crash, "fault": str(result.fault or "")}
    file = None
    if judged.case is not None and folder is not None:
        file = write_drawn(judged.case, Path(folder))
        details["file"] = str(file)
    record(request, judged.verdicts, run=run.id, **details)
    if judged.case is not None:
        pytest.fail("\n".join(judged.lines(file)), pytrace=False)
    if result.reason:
        pytest.skip(result.reason)

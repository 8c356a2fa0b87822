"""The properties, each one tried on batches that are drawn anew and are the same in every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionloss_suite.judging.judge import Judge
from regionloss_suite.plugin import judge_of, record
from regionloss_suite.properties.trials import Trial, attempted, trials, write_drawn


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each property, profile, format and device."""
    if "trial" in metafunc.fixturenames:
        found = list(trials(judge_of(metafunc.config)))
        metafunc.parametrize("trial", found, ids=[trial.id for trial in found])


def test_property(request: pytest.FixtureRequest, regionloss_judge: Judge, trial: Trial) -> None:
    tried = attempted(trial, regionloss_judge, request.config.getoption("--regionloss-examples"))
    outcome, folder = tried.outcome, request.config.getoption("--regionloss-failures")
    said = {"crash": outcome.crash, "fault": str(outcome.fault or "")}
    file = None
    if tried.case is not None and folder is not None:
        file = write_drawn(tried.case, Path(folder))
        said["file"] = str(file)
    record(request, tried.verdicts, trial=trial.id, **said)
    if tried.case is not None:
        pytest.fail("\n".join(tried.lines(file)), pytrace=False)
    if outcome.reason:
        pytest.skip(outcome.reason)

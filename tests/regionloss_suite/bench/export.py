"""From what was measured to the JSON of pytest-benchmark, from which every report is made."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regionloss_suite.bench.measure import Findings, Series
from regionloss_suite.bench.results import FIRST
from regionloss_suite.run import without


@dataclass(frozen=True, eq=False)
class Filed:
    """One series as pytest-benchmark is to file it.

    Attributes:
        group: the setting.
        name: contender, step and clock.
        seconds: one time for each round.
        extra: what the reports want to know beside the times.
    """

    group: str
    name: str
    seconds: tuple[float, ...]
    extra: dict[str, Any]


class NotFiledError(RuntimeError):
    """pytest-benchmark is not there or did not write its file."""


class _Filing:
    """A plugin of the run that files: its tests, and what its JSON says besides."""

    def __init__(self, filed: Sequence[Filed], about: dict[str, Any]) -> None:
        self.filed = filed
        self.about = about
        self.failed = ""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "filed" in metafunc.fixturenames:
            metafunc.parametrize("filed", self.filed, ids=[f"{one.group}|{one.name}" for one in self.filed])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = str(report.longrepr)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        machine_info.pop("node", None)  # the name of a machine says nothing of its speed
        if isinstance(cpu := machine_info.get("cpu"), dict):
            cpu.pop("flags", None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, benchmarks: Any, output_json: dict[str, Any]) -> None:
        del benchmarks
        for one in output_json["benchmarks"]:
            # What names the test rather than what was timed, and what a playback has no use for.
            one["name"] = one["param"].partition("|")[2]
            one["fullname"] = one.pop("param")
            for key in ("params", "options"):
                one.pop(key, None)
        output_json["regionloss"] = self.about


def filed(findings: Findings) -> list[Filed]:
    """Every series of a run, to be filed."""
    entries = {(entry.setting, entry.contender): entry for entry in findings.entries}
    found = []
    for series in findings.series:
        entry = entries.get((series.setting, series.contender))
        extra: dict[str, Any] = {"contender": series.contender, "step": series.step, "clock": series.clock}
        extra["rounds"] = list(series.rounds)
        if entry is not None and (series.step, series.clock) == ("both", FIRST[findings.plan.device]):
            extra |= {"conversions": entry.conversions, "gate": entry.gate, "notes": list(entry.notes)}
            extra |= entry.footprint.to_json()
        found.append(Filed(series.setting.name, _name(series), _seconds(series), extra))
    return found


def file(findings: Findings, about: dict[str, Any]) -> dict[str, Any]:
    """The JSON of pytest-benchmark for a run.

    Args:
        findings: what was measured.
        about: what its key `regionloss` says.

    Raises:
        NotFiledError: pytest-benchmark is not installed, or failed.
    """
    filing = _Filing(filed(findings), about)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "times.json"
        command = ["--pyargs", "regionloss_suite.bench.timings", "-c", os.devnull, "--rootdir", folder]
        command += ["--import-mode=importlib", "-p", "no:cacheprovider", f"--benchmark-json={path}"]
        command += [f"--benchmark-storage=file://{folder}"]
        for variable in ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_XDIST_WORKER"):
            stack.enter_context(without(variable))
        said = io.StringIO()
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.redirect_stderr(said))
        pytest.main(command, plugins=[filing])
        if filing.failed or not path.is_file():
            raise NotFiledError(f"pytest-benchmark did not file the times: {filing.failed or said.getvalue().strip()}")
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _name(series: Series) -> str:
    return f"{series.contender}, {series.step}, {series.clock}"


def _seconds(series: Series) -> tuple[float, ...]:
    """The times to five digits, which is more than any of them is good for."""
    return tuple(float(f"{second:.4e}") for second in series.rounds.values())

"""Convert measurements to the JSON of pytest-benchmark, from which every report is made.

pytest-benchmark times one function after another with one clock. Here candidates alternate and a device has its own
clocks, so `rounds.py` takes the times and pytest-benchmark plays them back, for its statistics, JSON, machine and
commit: `export` runs pytest on this very module, whose only test plays back one series.
"""

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
class ExportedSeries:
    """One series for pytest-benchmark.

    Attributes:
        group: the setting.
        name: candidate, step and clock.
        seconds: one time for each round.
        extra: what the reports need besides the times.
    """

    group: str
    name: str
    seconds: tuple[float, ...]
    extra: dict[str, Any]


class Playback:
    """A timer that makes each call take its measured time."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._readings = iter([reading for second in seconds for reading in (0.0, second)])

    def __call__(self) -> float:
        """The reading: 0 before a call, its measured time after it."""
        return next(self._readings)


def test_series(exported: ExportedSeries, request: pytest.FixtureRequest) -> None:
    """Pass one series to pytest-benchmark."""
    request.node.add_marker(pytest.mark.benchmark(timer=Playback(exported.seconds), group=exported.group))
    benchmark: Any = request.getfixturevalue("benchmark")
    benchmark.extra_info.update(exported.extra)
    benchmark.pedantic(lambda: None, rounds=len(exported.seconds))


class NotExportedError(RuntimeError):
    """pytest-benchmark is not installed or did not write its file."""


class _Export:
    """A plugin of the exporting run: its tests, and the additions to its JSON."""

    def __init__(self, series: Sequence[ExportedSeries], about: dict[str, Any]) -> None:
        self.series = series
        self.about = about
        self.failed = ""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "exported" in metafunc.fixturenames:
            metafunc.parametrize("exported", self.series, ids=[f"{one.group}|{one.name}" for one in self.series])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = str(report.longrepr)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        machine_info.pop("node", None)  # the name of a machine does not affect its speed
        if isinstance(cpu := machine_info.get("cpu"), dict):
            cpu.pop("flags", None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, benchmarks: Any, output_json: dict[str, Any]) -> None:
        del benchmarks
        for one in output_json["benchmarks"]:
            # Keys that name the test instead of the timed step, and keys that make no sense for a playback.
            one["name"] = one["param"].partition("|")[2]
            one["fullname"] = one.pop("param")
            for key in ("params", "options"):
                one.pop(key, None)
        output_json["regionloss"] = self.about


def exported_series(findings: Findings) -> list[ExportedSeries]:
    """Every series of a run, in export format."""
    entries = {(entry.setting, entry.candidate): entry for entry in findings.entries}
    exported = []
    for series in findings.series:
        entry = entries.get((series.setting, series.candidate))
        extra: dict[str, Any] = {"contender": series.candidate, "step": series.step, "clock": series.clock}
        extra["rounds"] = list(series.rounds)
        if entry is not None and (series.step, series.clock) == ("both", FIRST[findings.plan.device]):
            extra |= {"conversions": entry.conversions, "gate": entry.gate, "notes": list(entry.notes)}
            extra |= entry.footprint.to_json()
        exported.append(ExportedSeries(series.setting.name, _name(series), _seconds(series), extra))
    return exported


def export(findings: Findings, about: dict[str, Any]) -> dict[str, Any]:
    """The JSON of pytest-benchmark for a run.

    Args:
        findings: what was measured.
        about: the contents of its key `regionloss`.

    Raises:
        NotExportedError: pytest-benchmark is not installed, or failed.
    """
    plugin = _Export(exported_series(findings), about)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "times.json"
        command = ["--pyargs", "regionloss_suite.bench.export", "-c", os.devnull, "--rootdir", folder]
        command += ["--import-mode=importlib", "-p", "no:cacheprovider", f"--benchmark-json={path}"]
        command += [f"--benchmark-storage=file://{folder}"]
        for variable in ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_XDIST_WORKER"):
            stack.enter_context(without(variable))
        output = io.StringIO()
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(output))
        pytest.main(command, plugins=[plugin])
        if plugin.failed or not path.is_file():
            raise NotExportedError(
                f"pytest-benchmark did not write the times: {plugin.failed or output.getvalue().strip()}"
            )
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _name(series: Series) -> str:
    return f"{series.candidate}, {series.step}, {series.clock}"


def _seconds(series: Series) -> tuple[float, ...]:
    """The times to five digits, more than any of them is accurate to."""
    return tuple(float(f"{second:.4e}") for second in series.rounds.values())

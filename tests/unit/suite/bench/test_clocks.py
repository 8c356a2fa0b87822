"""Cold caches on the host, and the clocks of CUDA, played without one."""

from __future__ import annotations

import warnings

import pytest
import torch

from regionloss_suite.bench.export import export
from regionloss_suite.bench.measure import Series
from regionloss_suite.bench.results import WALL_COLD, Results
from regionloss_suite.bench.summary import markdown
from regionloss_suite.bench.tables import goals_table
from regionloss_suite.bench.torch_clocks import between_events, on_host, queued
from regionloss_suite.bench.torch_footprint import waits_of
from unit.suite.bench.made_up import FEW, TIMES, findings, results


def test_the_caches_are_filled_before_a_call_and_that_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    class Flush:
        def zero_(self) -> None:
            steps.append("flush")

    def reading() -> float:
        steps.append("clock")
        return float(len(steps))

    monkeypatch.setattr("regionloss_suite.bench.torch_clocks.perf_counter", reading)
    once = on_host(lambda _: steps.append("call"), lambda: steps.append("before"), flush=Flush())  # type: ignore[arg-type]
    assert once() == 2.0
    assert steps == ["before", "flush", "clock", "call", "clock"]


def test_times_with_cold_caches_stand_beside_the_goals_and_decide_none() -> None:
    run = findings(TIMES)
    run.series += [
        Series(FEW, name, "both", WALL_COLD, {0: seconds})
        for name, seconds in (("torch-analytic", 2e-3), ("materialised", 14e-3))
    ]
    times = Results(export(run, results(TIMES).about), "made up")
    table = goals_table(times)
    assert table is not None
    assert table.header[-1] == "with cold caches"
    assert table.rows[0][2:] == ("≥ 10.0×", "11.0×", "11.0×–11.6×", "✓ met", "7.00× (7.00–7.00)")
    assert table.rows[2][-1] == "–"
    page = markdown(times, {})
    assert "| faster than materialised | with cold caches |" in page
    assert "| 11.0× (11.0–11.6) | 7.00× (7.00–7.00) | 1.00 kB" in page
    assert "| torch-analytic | 1.00 ms (1.00–1.60) | 2.00 ms (2.00–2.00) |" in page


class FakeCuda:
    """Writes down what is asked of the device, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("synchronize", "_sleep"):
            monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: self.calls.append(name), raising=False)
        outer = self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                outer.calls.append("record")

            def synchronize(self) -> None:
                outer.calls.append("wait for the event")

            def elapsed_time(self, other: object) -> float:
                return 2.5  # milliseconds

        monkeypatch.setattr(torch.cuda, "Event", Event)


def test_events_time_the_call_alone_with_the_cache_flushed_and_the_device_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch)

    class Flush:
        def zero_(self) -> None:
            fake.calls.append("flush")

    arguments: list[object] = []

    def call(one: object) -> None:
        arguments.append(one)
        fake.calls.append("call")

    def before() -> str:
        fake.calls.append("before")
        return "the scalar"

    cold = between_events(call, before, flush=Flush())  # type: ignore[arg-type]
    assert cold() == 0.0025
    assert fake.calls == ["before", "flush", "_sleep", "record", "call", "record", "wait for the event"]
    assert arguments == ["the scalar"]
    fake.calls.clear()
    assert between_events(call)() == 0.0025
    assert fake.calls == ["_sleep", "record", "call", "record", "wait for the event"]


def test_the_host_waits_once_for_ten_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch)
    readings = iter([5.0, 7.0])
    monkeypatch.setattr("regionloss_suite.bench.torch_clocks.perf_counter", lambda: next(readings))
    assert queued(lambda _: fake.calls.append("call"), lambda: fake.calls.append("before"))() == 0.2
    assert fake.calls == ["before"] * 10 + ["synchronize"] + ["call"] * 10 + ["synchronize"]


def test_waits_for_the_device_are_those_that_pytorch_warns_of(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    FakeCuda(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def both() -> None:
        for text in (
            "called a synchronizing CUDA operation",
            "something else",
            "called a synchronizing CUDA operation",
        ):
            warnings.warn(text, stacklevel=1)

    assert waits_of(both) == 2
    assert modes == ["warn", 0]
    assert not torch.is_warn_always_enabled()

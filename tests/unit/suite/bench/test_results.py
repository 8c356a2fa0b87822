"""What is made of the times: the export, goals, regressions and the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionloss_suite.bench import diff
from regionloss_suite.bench.goals import goals_of
from regionloss_suite.bench.plan import GOALS
from regionloss_suite.bench.results import ResultsError, read_results, to_text
from regionloss_suite.bench.rounds import spread
from regionloss_suite.bench.summary import markdown, terminal
from regionloss_suite.bench.tables import digits, goals_table, in_bytes, in_seconds, percent, times
from unit.suite.bench.made_up import FEW, TIMES, results

pytestmark = pytest.mark.slow  # together they take long: processes, compilers or whole runs


def test_the_times_are_filed_by_pytest_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--benchmark-disable")
    data = results(TIMES).data
    assert {"machine_info", "commit_info", "benchmarks", "datetime", "version", "regionloss"} <= set(data)
    assert "node" not in data["machine_info"]
    first = data["benchmarks"][0]
    assert first["group"] == FEW.name
    assert first["name"] == "torch-analytic, both, wall"
    assert first["stats"]["data"] == [1e-3, 2e-3, 1e-3]
    assert first["stats"]["median"] == 1e-3
    assert first["stats"]["rounds"] == 3
    assert first["extra_info"] == {
        "contender": "torch-analytic",
        "step": "both",
        "clock": "wall",
        "rounds": [0, 1, 2],
        "conversions": False,
        "gate": "165 golden cases",
        "notes": ["a note"],
        "memory": 1000,
        "fresh_pages": FEW.gradient_bytes,
        "launches": None,
        "waits": None,
    }
    assert len(data["benchmarks"]) == len(TIMES) + 2


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    times = results(TIMES)
    path.write_text(to_text(times.data), encoding="utf-8")
    again = read_results(path)
    assert again.data == times.data
    assert again.candidates(FEW) == ["torch-analytic", "materialised"]
    assert again.ratio(FEW, "materialised", "torch-analytic") == spread([11.0, 11.0, 12.0])
    assert again.bandwidth(FEW) == 2 * FEW.gradient_bytes / 2e-4  # its own copy is better than the large one
    assert again.ratio(FEW, "materialised", "python-loop") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "not results of"), ('{"benchmarks": []}', "not results of .*'regionloss'")],
)
def test_a_file_without_results_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "times.json").write_text(text)
    with pytest.raises(ResultsError, match=rf"times.json: .*{message}"):
        read_results(tmp_path / "times.json")
    with pytest.raises(ResultsError, match=r"absent\.json: No such file"):
        read_results(tmp_path / "absent.json")


def test_goals_are_met_by_the_middle_of_the_rounds() -> None:
    table = goals_table(results(TIMES))
    assert table is not None
    by_goal = {(row[0], row[1]): row[2:] for row in table.rows}
    where = "13², C=20, N=16, 1–8 truths"
    faster = by_goal[where, "torch-analytic, times faster than materialised"]
    assert faster == ("≥ 10.0×", "11.0×", "11.0×–11.6×", "✓ met")
    assert by_goal[where, "torch-analytic, times faster than python-loop"] == ("≥ 300×", "–", "–", "not measured")
    slow = goals_table(results({**TIMES, "materialised": [9e-3, 18e-3, 12e-3]}))
    assert slow is not None
    assert slow.rows[0][3:] == ("9.00×", "9.00×–10.8×", "✗ not met")


def test_memory_is_a_share_of_the_gradient() -> None:
    large = GOALS["cpu"][3]
    (goal,) = [goal for goal in goals_of("cpu") if "memory" in goal.what]
    assert goal.met(results(TIMES, large, memory=large.gradient_bytes // 4)) is True
    assert goal.met(results(TIMES, large, memory=large.gradient_bytes // 4 + 1)) is False
    assert goal.met(results(TIMES)) is None


def test_a_ratio_that_is_lost_is_a_regression_and_a_slower_machine_is_none() -> None:
    old = results(TIMES)
    slower = results({name: [3 * second for second in seconds] for name, seconds in TIMES.items()})
    assert [change.regressed() for change in diff.compare(old, slower)] == [False]
    worse = results({**TIMES, "torch-analytic": [1.5e-3, 3e-3, 1.5e-3]})
    (change,) = diff.compare(old, worse)
    assert (change.candidate, change.base) == ("torch-analytic", "materialised")
    assert change.regressed()
    assert not change.regressed(slack=0.3)
    lines = diff.lines([change], old, worse)
    assert lines[0].startswith("✗ torch-analytic, faster than materialised, 13×13 · N=16")
    assert lines[1].startswith("1 ratio compared, 1 regressed")


def test_a_loss_that_has_become_wrong_is_a_regression_and_one_that_is_not_asked_is_none() -> None:
    old = results(TIMES)
    others = {name: seconds for name, seconds in TIMES.items() if name != "torch-analytic"}
    (change,) = diff.compare(old, results(others, refused=("torch-analytic",)))
    assert change.regressed()
    assert str(change).endswith("now not timed")
    assert diff.compare(old, results(others)) == []


def test_the_report_says_what_it_is_about() -> None:
    times = results(TIMES, refused=("python-loop",))
    page = markdown(times, {"Time": "charts/time.svg"})
    assert "| torch-analytic | 1.00 ms (1.00–1.60) | 500 µs | – | – |" in page
    assert (
        "| torch-analytic | 10.0× (10.0–16.0) | 5.00× (5.00–8.00) | 11.0× (11.0–11.6) | 1.00 kB (0.074 %) | fresh |"
        in page
    )
    assert "- python-loop is not timed in 1 setting: it is wrong" in page
    assert "![Time](charts/time.svg)" in page
    shown = terminal(times)
    assert any("1 thread" in line for line in shown)
    assert "  The allocator keeps freed blocks of up to 32 MB for reuse." in shown
    assert any(line.startswith("  torch-analytic  1.00 ms (1.00–1.60)") for line in shown)


def test_numbers_are_shown_to_three_digits() -> None:
    assert [digits(value) for value in (0.0, 1.0, 0.9999, 1234.5, 0.001234, -3.14159)] == [
        "0.00", "1.00", "1.00", "1230", "0.00123", "-3.14",
    ]  # fmt: skip
    assert [in_seconds(value) for value in (1.5, 0.0123, 4.56e-5, 7e-9)] == ["1.50 s", "12.3 ms", "45.6 µs", "7.00 ns"]
    assert [in_bytes(value) for value in (0, 999, 1e3, 39.1e6)] == ["0.00 B", "999 B", "1.00 kB", "39.1 MB"]
    assert (percent(0.25), times(12.34)) == ("25 %", "12.3×")

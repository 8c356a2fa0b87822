"""The command `regionloss bench`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from regionloss_suite.bench.plan import EFFORT
from regionloss_suite.bench.results import read_results
from regionloss_suite.bench.rounds import Effort
from regionloss_suite.cli.main import main

WRONG = """
import dataclasses
from regionloss_adapters.torch.fast import TorchAnalyticAdapter


class Wrong(TorchAnalyticAdapter):
    def answer(self, question):
        return super().answer(dataclasses.replace(question, profile=question.profile.replace(coord_weight=2)))
"""


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command call each candidate for a millisecond a round, since no time that it measures is looked at."""
    monkeypatch.setitem(EFFORT, "cpu", Effort(turn=0.001))


@pytest.mark.slow
@pytest.mark.usefixtures("small_cases", "short_turns")
def test_the_command_times_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, times_file, folder = tmp_path / "page.md", tmp_path / "times.json", tmp_path / "charts"
    command = ["bench", "torch-analytic", "--grid", "3x3", "--batch", "1", "2", "--truths", "2"]
    written = ["--json", str(times_file), "--markdown", str(page), "--svg", str(folder)]
    assert main([*command, *written]) == 0
    shown = capsys.readouterr()
    assert "3×3 · N=2 · C=20 · 2 truths in 50 rows · float32 · NCHW" in shown.out
    assert not shown.err
    times = read_results(times_file)
    assert [setting.images for setting in times.settings] == [1, 2]
    for setting in times.settings:
        assert times.candidates(setting) == ["torch-analytic", "materialised"]
        for step in ("both", "forward", "backward", "no_grad"):
            timing = times.timing(setting, "torch-analytic", step)
            assert timing is not None
            assert len(timing.rounds) == 15
    assert sorted(path.name for path in folder.iterdir()) == ["memory.svg", "time.svg"]
    assert "](charts/time.svg)" in page.read_text()
    assert main([*command, "--compare", str(times_file)]) in (0, 4)  # what a loaded machine makes of the ratios
    assert "ratios compared" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("small_cases", "short_turns")
def test_a_wrong_loss_is_not_timed_and_the_command_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["bench", "wrong:Wrong", "--quick", "--json", "times.json"]) == 1
    assert "wrong:Wrong is not timed in 1 setting: not conforming in float32" in capsys.readouterr().out
    times = read_results(tmp_path / "times.json")
    assert times.names == ["materialised"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nobody"],
            "no adapter 'nobody'; .*; the benchmarks also know materialised, materialised-compiled, python-loop",
        ),
        (["--quick", "--batch", "4"], "--quick fixes the sizes; remove --batch"),
        (["--compare", "absent.json"], "absent.json: No such file"),
        pytest.param(
            ["--device", "cuda"],
            "PyTorch finds no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_wrong_usage_is_told_before_anything_is_timed(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("size", [["--truths", "8-1"], ["--batch", "0"], ["--grid", "13"], ["--classes", "many"]])
def test_a_size_that_is_none_is_refused(size: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *size])

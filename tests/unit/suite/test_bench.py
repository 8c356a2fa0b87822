"""The benchmarks: what is timed and what is refused, how times become ratios, and what is made of them.

No test here asserts a time: clocks and losses are made up, or their times are not looked at.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import warnings
from mmap import PAGESIZE
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from regionloss import evaluate
from regionloss_adapters import (
    AdapterError,
    Answer,
    CannotAnswerError,
    Question,
    Timed,
    from_torch,
    layouts,
    load_adapter,
)
from regionloss_adapters.torch.fast import TorchAnalyticAdapter
from regionloss_spec import load_profile
from regionloss_suite.bench import diff
from regionloss_suite.bench.candidates import Candidate
from regionloss_suite.bench.chart import charts
from regionloss_suite.bench.export import export
from regionloss_suite.bench.gate import BatchCheck, NotTimedError, check_golden
from regionloss_suite.bench.goals import goals_of
from regionloss_suite.bench.measure import Entry, Findings, Gate, Series, measure
from regionloss_suite.bench.plan import EFFORT, GOALS, Item, Plan, crossed, standard
from regionloss_suite.bench.results import WALL_COLD, Results, ResultsError, read_results, to_text
from regionloss_suite.bench.roofline import Roofline, roofline_of
from regionloss_suite.bench.rounds import Effort, Spread, interleave, quantile, ratio, spread
from regionloss_suite.bench.setting import Setting
from regionloss_suite.bench.summary import markdown, terminal
from regionloss_suite.bench.tables import digits, goals_table, in_bytes, in_seconds, percent, times
from regionloss_suite.bench.torch_clocks import between_events, on_host, queued
from regionloss_suite.bench.torch_footprint import Footprint, Paged, footprint, launches_of, peak_of, waits_of
from regionloss_suite.bench.torch_machine import keep_memory
from regionloss_suite.cli.main import main

SMALL = Setting(height=4, width=3, images=3, classes=4, truths=(1, 3))
DARKNET = load_profile("darknet")


# The rounds.


def test_a_quantile_lies_between_the_two_numbers_around_it() -> None:
    assert [quantile([4.0, 1.0, 2.0], share) for share in (0.0, 0.2, 0.5, 0.75, 1.0)] == [1.0, 1.4, 2.0, 3.0, 4.0]
    assert spread([10.0, 20.0, 30.0, 40.0, 50.0, 60.0]) == Spread(20.0, 35.0, 50.0)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_a_ratio_is_taken_round_by_round() -> None:
    # Both are twice as slow in round 1, which a ratio of medians would not see.
    assert ratio({0: 3.0, 1: 6.0, 2: 3.0}, {0: 1.0, 1: 2.0, 2: 1.0}) == Spread(3.0, 3.0, 3.0)
    assert ratio({0: 3.0, 4: 8.0}, {4: 2.0, 5: 1.0}) == Spread(4.0, 4.0, 4.0)
    assert ratio({0: 3.0}, {1: 1.0}) is None


class Clock:
    """A made-up clock: each lane's calls take the times that it is given, the last of them for ever."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def lane(self, name: str, *seconds: float) -> Any:
        def once() -> float:
            self.called.append(name)
            count = self.called.count(name)
            return seconds[min(count, len(seconds)) - 1]

        return once


def test_candidates_take_turns_and_each_round_begins_with_another() -> None:
    clock = Clock()
    found = interleave(
        {"a": clock.lane("a", 1.0), "b": clock.lane("b", 2.0), "c": clock.lane("c", 3.0)},
        Effort(rounds=4, turn=0.1, most=100.0),
    )
    assert "".join(clock.called) == "aabbcc" + "abc" + "bca" + "cab" + "abc"  # two calls each go ahead
    assert found == {
        "a": {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0},
        "b": {0: 2.0, 1: 2.0, 2: 2.0, 3: 2.0},
        "c": {0: 3.0, 1: 3.0, 2: 3.0, 3: 3.0},
    }


def test_a_short_call_is_made_several_times_a_turn_and_the_first_do_not_count() -> None:
    clock = Clock()
    # Two calls ahead; then two of 9.0, and a turn of four whose median is 0.3.
    once = clock.lane("a", 5.0, 0.25, 9.0, 9.0, 0.3, 0.9, 0.2, 0.3)
    assert interleave({"a": once}, Effort(rounds=1, turn=1.0, most=100.0)) == {"a": {0: 0.3}}
    assert len(clock.called) == 2 + 2 + 4


@pytest.mark.parametrize(
    ("seconds", "ahead", "counted"),
    [(0.01, 8, 50), (0.0625, 8, 16), (0.3, 2, 3), (0.75, 1, 1), (1.5, 1, 1), (2.5, 0, 1)],
)
def test_how_many_calls_go_ahead_of_a_turn(seconds: float, ahead: int, counted: int) -> None:
    clock = Clock()
    interleave({"a": clock.lane("a", seconds)}, Effort(rounds=1, turn=1.0, most=100.0))
    assert len(clock.called) == 2 + ahead + counted


def test_a_slow_candidate_takes_part_in_some_rounds_that_lie_evenly() -> None:
    clock = Clock()
    timed_calls = {
        "slow": clock.lane("slow", 2.0),
        "fast": clock.lane("fast", 0.5),
        "endless": clock.lane("endless", 50.0),
    }
    found = interleave(timed_calls, Effort(rounds=12, turn=0.1, most=12.0))
    assert list(found["slow"]) == [0, 2, 4, 6, 8, 10]
    assert list(found["fast"]) == list(range(12))
    assert list(found["endless"]) == [0, 4, 8]


def test_what_goes_before_a_call_counts_for_how_many_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    calls = 0

    def once() -> float:  # three seconds go before a call that takes a tenth of one
        nonlocal now, calls
        now, calls = now + 3.1, calls + 1
        return 0.1

    monkeypatch.setattr("regionloss_suite.bench.rounds.perf_counter", lambda: now)
    assert interleave({"a": once}, Effort(rounds=10, turn=1.0, most=16.0)) == {"a": dict.fromkeys((0, 2, 4, 6, 8), 0.1)}
    assert calls == 2 + 5  # not ten to a turn, and no more rounds than sixteen seconds hold


# What is timed on.


def test_the_floor_of_a_small_batch_by_hand() -> None:
    # 4 x 4 cells in float32 are one line of 64 bytes for each channel; 5 anchors of 5 + 3 channels are 40 lines.
    setting = Setting(height=4, width=4, images=1, classes=3, truths=(1, 1))
    batch = setting.draw()
    read = (5 * 5 + 3) * 64
    assert roofline_of(setting, batch, 64) == Roofline(read, read + 2560, 2 * read + 2560, read)
    # With the channels innermost a predictor takes 32 bytes: its first five numbers 20 of them, its classes the rest.
    # Two predictors share a line of 64 bytes, so that every line is read; the classes of one are part of one line.
    last = dataclasses.replace(setting, layout="channels_last")
    read = (40 + 1) * 64
    assert roofline_of(last, batch, 64) == Roofline(read, read + 2560, 2 * read + 2560, read)


def test_two_truths_in_one_cell_count_once_in_the_floor() -> None:
    setting = Setting(height=4, width=4, images=1, classes=3, truths=(1, 1))
    batch = setting.draw()
    twice = dataclasses.replace(batch, truths=(np.repeat(batch.truths[0], 2, axis=0),))
    assert roofline_of(setting, twice, 64) == roofline_of(setting, batch, 64)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_batch_lies_in_the_domain_is_exact_in_its_format_and_the_same_each_time(dtype: str) -> None:
    setting = Setting(images=8, truths=(1, 8), dtype=dtype)
    batch = setting.draw()
    assert np.array_equal(batch.predictions, setting.draw().predictions)
    rounded = torch.tensor(batch.predictions).to(getattr(torch, dtype)).double().numpy()
    assert np.array_equal(rounded, batch.predictions)
    assert evaluate(batch, DARKNET).potential > 0
    counts = [len(table) for table in batch.truths]
    assert min(counts) >= 1
    assert max(counts) <= 8
    assert len(set(counts)) > 1


def test_every_truth_of_a_full_image_is_read() -> None:
    setting = Setting(images=2, truths=(50, 50))
    assert [len(table) for table in setting.draw().truths] == [50, 50]
    assert setting.profile(DARKNET).max_truths == 50
    assert SMALL.profile(DARKNET) is DARKNET


def test_a_setting_comes_back_from_json() -> None:
    setting = Setting(19, 26, 3, 80, (2, 40), "float16", "channels_last", 12800)
    assert Setting.from_json(json.loads(json.dumps(setting.to_json()))) == setting
    assert setting.name == "19x26-N3-C80-T2to40-float16-channels_last-t12800"


def test_plans_name_everyone_that_their_goals_name() -> None:
    for device in ("cpu", "cuda"):
        items = {item.setting: item for item in standard(device, ()).items}
        assert len(items) == len(standard(device, ()).items)
        for goal in goals_of(device):
            named = {word.strip(",") for word in goal.what.replace("times", "").split()}
            wanted = named & {"torch-analytic", "torch-compiled", "torch-triton", "materialised", "python-loop"}
            assert wanted <= set(items[goal.setting].candidates)


def test_sizes_are_crossed() -> None:
    plan = crossed("cpu", ("numpy",), grid=[(7, 8), (13, 13)], batch=[1, 2], truths=[(5, 5)], layout=["channels_last"])
    assert [item.setting.name for item in plan.items] == [
        f"{grid}-N{images}-C20-T5-float32-channels_last-t0" for grid in ("7x8", "13x13") for images in (1, 2)
    ]
    assert {item.candidates for item in plan.items} == {("numpy",)}


# The gate.


class Doubled(TorchAnalyticAdapter):
    """Right whenever it is asked, wrong where it is timed."""

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        timed = super().prepare(question, slots=slots, channels_last=channels_last)

        def answer() -> Answer:
            said = timed.answer()
            assert said.gradient is not None
            return dataclasses.replace(said, gradient=2 * said.gradient)

        return dataclasses.replace(timed, answer=answer)


class NoSmallBoxWeight(TorchAnalyticAdapter):
    """Wrong in one clause."""

    def answer(self, question: Question) -> Answer:
        return super().answer(dataclasses.replace(question, profile=question.profile.replace(small_box_exponent=0)))


class Breaks(TorchAnalyticAdapter):
    """Right when it is asked, and does not come so far as to be timed."""

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        raise ZeroDivisionError("float division by zero")


class CannotBeTimed(TorchAnalyticAdapter):
    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        raise CannotAnswerError("it only knows faces")


def admit(adapter: Any, setting: Setting = SMALL) -> tuple[Timed, bool, str]:
    batch = setting.draw()
    return Gate("cpu").admit(Candidate("mine", adapter), setting, batch, BatchCheck(setting, batch))


def test_a_loss_that_conforms_is_admitted() -> None:
    timed, conversions, passed = admit(TorchAnalyticAdapter())
    assert not conversions
    assert passed == "165 golden cases, 3 of 3 images of the batch"
    expected = evaluate(SMALL.draw(), DARKNET)
    assert timed.both().double().numpy() == pytest.approx(expected.gradient, rel=1e-4, abs=1e-6)
    assert timed.no_grad().item() == pytest.approx(expected.potential, rel=1e-5)
    assert not timed.no_grad().requires_grad


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (NoSmallBoxWeight(), "not conforming in float32 on cpu: coord.small-box-weight, case .* tx gradient"),
        (Doubled(), "on the timed batch, case 4x3-N3-C4-T1to3-float32-NCHW-t0, image 0.* gradient"),
        (Breaks(), "it crashed: ZeroDivisionError: float division by zero"),
        (CannotBeTimed(), "it only knows faces"),
        (load_adapter("numpy"), "its formats are float64, but float32 is timed"),
    ],
    ids=["golden", "batch", "breaks", "cannot", "format"],
)
def test_a_loss_that_does_not_conform_is_refused_with_the_verdict(adapter: Any, reason: str) -> None:
    with pytest.raises(NotTimedError, match=reason):
        admit(adapter)


def test_a_device_that_a_loss_does_not_compute_on_is_refused() -> None:
    with pytest.raises(NotTimedError, match="its devices are cpu, but cuda is timed"):
        Gate("cuda").pass_golden(Candidate("mine", load_adapter("numpy")), "float64")


@pytest.mark.slow
def test_an_adapter_without_steps_is_timed_with_its_conversions() -> None:
    setting = dataclasses.replace(SMALL, dtype="float64")
    timed, conversions, _ = admit(load_adapter("numpy"), setting)
    assert conversions
    assert np.array_equal(timed.both().gradient, evaluate(setting.draw(), DARKNET).gradient)


def test_of_a_large_batch_images_are_held_against_the_reference_that_lie_evenly() -> None:
    setting = Setting(height=26, width=26, images=64, classes=80)
    check = BatchCheck(setting, setting.draw())
    assert check.images == [0, 16, 32, 47, 63]  # five images of 287300 numbers are within a million and a half
    assert not check.whole


@pytest.mark.parametrize("image", [0, 5, 9])
def test_one_wrong_number_in_an_image_that_is_looked_at_is_found(image: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regionloss_suite.bench.gate._ELEMENTS", 3 * 5 * 9 * 12)
    setting = dataclasses.replace(SMALL, images=10)
    batch = setting.draw()
    check = BatchCheck(setting, batch)
    assert check.images == [0, 4, 9]
    gradient = evaluate(batch, DARKNET).gradient
    description = TorchAnalyticAdapter().describe()
    assert check.check(Answer(gradient=gradient), description, DARKNET) == "3 of 10 images of the batch"
    gradient[image, 4] += 0.01
    if image in check.images:
        with pytest.raises(NotTimedError, match=r"to gradient"):
            check.check(Answer(gradient=gradient), description, DARKNET)
    else:
        check.check(Answer(gradient=gradient), description, DARKNET)


def test_a_mean_is_multiplied_out_before_part_of_a_batch_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regionloss_suite.bench.gate._ELEMENTS", 3 * 5 * 9 * 12)
    setting = dataclasses.replace(SMALL, images=10)
    batch = setting.draw()
    result = evaluate(batch, DARKNET)
    paid = sum(match.pays_box for match in result.decisions.matches)
    check = BatchCheck(setting, batch)
    plain = TorchAnalyticAdapter().describe()
    for reduction, divisor in (("per-image", 10), ("per-object", paid)):
        description = dataclasses.replace(plain, reduction=reduction)  # type: ignore[arg-type]
        check.check(Answer(gradient=result.gradient / divisor), description, DARKNET)
        with pytest.raises(NotTimedError):
            check.check(Answer(gradient=result.gradient), description, DARKNET)
    of_images = load_profile("darknet").replace(reduction="per-image")
    check.check(Answer(gradient=evaluate(batch, of_images).gradient), plain, of_images)


def test_silence_is_no_pass() -> None:
    check = BatchCheck(SMALL, SMALL.draw())
    with pytest.raises(NotTimedError, match="nothing that can be compared"):
        check.check(Answer(), TorchAnalyticAdapter().describe(), DARKNET)


@pytest.mark.slow
def test_the_comparators_conform() -> None:
    for name in ("torch_materialised:materialised", "torch_loop:python_loop"):
        assert check_golden(load_adapter(f"regionloss_suite.bench.{name}"), "float32", "cpu") == "165 golden cases"


@pytest.mark.slow
def test_cases_are_read_where_no_validator_is_installed() -> None:
    """As on the machine of `make bench-gpu`, which has what the benchmarks need and nothing else."""
    code = (
        "import sys; sys.modules.update(jsonschema=None);"
        "from regionloss_spec import load_cases; import regionloss_suite.cli.main, regionloss_suite.bench.benchmark;"
        "print(len(load_cases()) > 200)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr


def test_a_candidate_that_nobody_named_may_be_missing() -> None:
    item = Item(SMALL, ("absent-loss",))
    found = measure(Plan("cpu", (item,), Effort(rounds=1, turn=0.0), named=False), lambda text: None)
    ((setting, name, reason),) = found.refused
    assert (setting, name) == (SMALL, "absent-loss")
    assert reason.startswith("no adapter 'absent-loss'")
    with pytest.raises(AdapterError, match="no adapter 'absent-loss'"):
        measure(Plan("cpu", (item,), Effort(rounds=1, turn=0.0)), lambda text: None)


def test_pages_are_counted_in_the_calls_that_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    so_far = iter([10, 910, 1000, 1003, 1003, 1006, 1006, 1009, 1009])  # the first call still looks for room
    monkeypatch.setattr("regionloss_suite.bench.torch_footprint._pages_so_far", lambda: next(so_far))
    paged = Paged(lambda: 0.25)
    assert [paged() for _ in range(4)] == [0.25] * 4
    assert paged.fresh_pages() == 3 * PAGESIZE
    monkeypatch.setattr("regionloss_suite.bench.torch_footprint._pages_so_far", lambda: 0)
    assert paged.fresh_pages() is None  # where none are counted, there might be any


@pytest.mark.slow
def test_the_pages_of_a_run_are_those_of_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    paged: list[str] = []

    class Seen(Paged):
        def fresh_pages(self) -> int | None:
            paged.append(f"{len(self._pages)} calls")
            return 4096

    monkeypatch.setattr("regionloss_suite.bench.measure.Paged", Seen)
    found = measure(Plan("cpu", (Item(SMALL, ("materialised",)),), Effort(rounds=3, turn=0.0)), lambda text: None)
    assert paged == ["5 calls"]  # two to see how long they take, and one in each round
    assert [entry.footprint.fresh_pages for entry in found.entries] == [4096]


# The steps of an adapter.


def half_mean(outputs: torch.Tensor, boxes: Any, question: Question) -> torch.Tensor:
    """A wrong loss, but one whose gradient is known: half of the outputs, squared, for each image."""
    del boxes, question
    return (outputs**2).sum(dim=(1, 2, 3)).mean()[None] / 4


def test_a_wrapped_loss_is_timed_in_its_own_layout() -> None:
    adapter = from_torch(half_mean, name="mine", layout=layouts.NHWC, answers=("gradient", "potential"))
    batch = SMALL.draw()
    question = Question(batch=batch, profile=DARKNET, upstream=3.0)
    timed = adapter.prepare(question)  # type: ignore[attr-defined]
    said, asked = timed.answer(), adapter.answer(question)
    assert said.gradient is not None
    assert asked.gradient is not None
    assert np.array_equal(said.gradient, asked.gradient)
    assert said.gradient == pytest.approx(3.0 * batch.predictions / 6, rel=1e-6)
    assert said.potential == asked.potential
    scalar = timed.forward()
    assert scalar.shape == (1,)
    assert timed.backward(scalar).shape == (3, 4, 3, 45)
    assert not timed.no_grad().requires_grad
    with pytest.raises(CannotAnswerError, match="a layout of its own, n h w"):
        adapter.prepare(question, channels_last=True)  # type: ignore[attr-defined]


def test_the_paths_are_given_their_truths_padded_and_their_predictions_as_they_lie() -> None:
    question = Question(batch=SMALL.draw(), profile=DARKNET)
    for name in ("torch", "torch-analytic", "torch-eager"):
        timed = load_adapter(name).prepare(question, slots=7, channels_last=True)  # type: ignore[attr-defined]
        if name != "torch-eager":  # whose gradient lies as autograd leaves it
            gradient = timed.both()
            assert gradient.is_contiguous(memory_format=torch.channels_last)
            assert not gradient.is_contiguous()
        assert timed.answer().gradient == pytest.approx(evaluate(SMALL.draw(), DARKNET).gradient, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["torch", "torch-eager"])
def test_lists_that_no_zero_ends_are_told_by_their_counts(name: str) -> None:
    profile = load_profile("formula")
    batch = SMALL.draw()
    batch = dataclasses.replace(batch, truths=(np.array([[0.0, 0.5, 0.3, 0.3, 1.0], [0.5, 0.5, 0.3, 0.3, 2.0]]),) * 3)
    timed = load_adapter(name).prepare(Question(batch=batch, profile=profile), slots=6)  # type: ignore[attr-defined]
    assert timed.answer().gradient == pytest.approx(evaluate(batch, profile).gradient, rel=1e-4, abs=1e-6)


def test_a_path_that_does_not_express_a_profile_is_not_timed_under_it() -> None:
    question = Question(batch=SMALL.draw(), profile=load_profile("yolo9000"))
    with pytest.raises(CannotAnswerError, match="path='eager' does"):
        TorchAnalyticAdapter().prepare(question)


# What is made of the times.

FEW = GOALS["cpu"][0]


def findings(
    times: dict[str, list[float]], *settings: Setting, memory: int = 1000, refused: tuple[str, ...] = ()
) -> Findings:
    """A run that was made up: the same times of everyone in each setting."""
    settings = settings or (FEW,)
    plan = Plan("cpu", tuple(Item(setting, tuple(times)) for setting in settings), Effort())
    found = Findings(plan, bandwidth=2e9)
    for setting in settings:
        found.floors[setting] = Roofline(1000, 2000, 3000, 1000)
        for name, seconds in times.items():
            found.series.append(Series(setting, name, "both", "wall", dict(enumerate(seconds))))
            if name not in ("zero_ (fresh)", "zero_", "copy_"):
                found.series.append(Series(setting, name, "forward", "wall", {0: seconds[0] / 2}))
                found.entries.append(
                    Entry(
                        setting, name, False, "165 golden cases", Footprint(memory, setting.gradient_bytes), ("a note",)
                    )
                )
        found.refused += [(setting, name, "it is wrong") for name in refused]
    return found


def results(times: dict[str, list[float]], *settings: Setting, **given: Any) -> Results:
    found = findings(times, *settings, **given)
    about = {
        "device": "cpu",
        "plan": "standard",
        "bandwidth": found.bandwidth,
        "load": [0.5, 1.5],
        "clocks": {},
        "memory kept": True,
        "versions": {"torch": "2"},
        "threads": 1,
        "vector instructions": "AVX2",
        "settings": [{"setting": one.to_json(), "floor": floor.to_json()} for one, floor in found.floors.items()],
        "refused": [{"setting": one.name, "contender": name, "reason": reason} for one, name, reason in found.refused],
    }
    return Results(export(found, about), "made up")


TIMES = {
    "torch-analytic": [1e-3, 2e-3, 1e-3],
    "materialised": [11e-3, 22e-3, 12e-3],
    "zero_ (fresh)": [1e-4, 1e-4, 1e-4],
    "zero_": [1e-4, 1e-4, 1e-4],
    "copy_": [2e-4, 2e-4, 2e-4],
}


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
    made = results(TIMES)
    path.write_text(to_text(made.data), encoding="utf-8")
    found = read_results(path)
    assert found.data == made.data
    assert found.candidates(FEW) == ["torch-analytic", "materialised"]
    assert found.ratio(FEW, "materialised", "torch-analytic") == spread([11.0, 11.0, 12.0])
    assert found.bandwidth(FEW) == 2 * FEW.gradient_bytes / 2e-4  # its own copy is better than the large one
    assert found.ratio(FEW, "materialised", "python-loop") is None


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
    said = diff.lines([change], old, worse)
    assert said[0].startswith("✗ torch-analytic, faster than materialised, 13×13 · N=16")
    assert said[1].startswith("1 ratio compared, 1 regressed")


def test_a_loss_that_has_become_wrong_is_a_regression_and_one_that_is_not_asked_is_none() -> None:
    old = results(TIMES)
    others = {name: seconds for name, seconds in TIMES.items() if name != "torch-analytic"}
    (change,) = diff.compare(old, results(others, refused=("torch-analytic",)))
    assert change.regressed()
    assert str(change).endswith("now not timed")
    assert diff.compare(old, results(others)) == []


def test_the_report_says_what_it_is_about() -> None:
    found = results(TIMES, refused=("python-loop",))
    page = markdown(found, {"Time": "charts/time.svg"})
    assert "| torch-analytic | 1.00 ms (1.00–1.60) | 500 µs | – | – |" in page
    assert (
        "| torch-analytic | 10.0× (10.0–16.0) | 5.00× (5.00–8.00) | 11.0× (11.0–11.6) | 1.00 kB (0.074 %) | fresh |"
        in page
    )
    assert "- python-loop is not timed in 1 setting: it is wrong" in page
    assert "![Time](charts/time.svg)" in page
    shown = terminal(found)
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


# The charts.

SVG = "{http://www.w3.org/2000/svg}"


def test_a_chart_is_well_formed_and_says_in_words_what_it_shows() -> None:
    settings = [dataclasses.replace(FEW, images=images) for images in (1, 4, 16)]
    settings += [dataclasses.replace(FEW, height=cells, width=cells) for cells in (7, 26)]
    settings += [dataclasses.replace(FEW, dtype="float16"), dataclasses.replace(FEW, height=7, width=13)]
    drawn = charts(results({**TIMES, 'a "loss" <b>': [0.5, 0.5, 0.5]}, *settings))
    assert [chart.name for chart in drawn] == ["time", "memory"]
    root = ElementTree.fromstring(drawn[0].svg)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "Time of forward and backward (wall)"
    told = root.findtext(f"{SVG}desc") or ""
    assert told == drawn[0].alternative
    assert "Against images in the batch, N: " in told
    assert "torch-analytic from 1.00 ms at 1 to 1.00 ms at 16; " in told
    assert "Against cells along the grid, H = W: " in told
    assert "classes" not in told
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == 2 * 4  # two panels; three losses and copy_
    assert [len(line.get("points", "").split()) for line in lines] == [3] * 8
    looks = {(line.get("class"), line.get("stroke-dasharray")) for line in lines}
    assert len({dashes for _, dashes in looks}) == 4  # told apart without colour


def test_no_chart_where_nothing_lies_along_an_axis() -> None:
    assert charts(results(TIMES, FEW, dataclasses.replace(FEW, images=4, classes=80))) == []


# What a loss takes besides time.


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its allocator is another")
def test_memory_that_was_freed_is_used_again() -> None:
    """In a process of its own: how glibc was told to work, it is never told to forget."""
    code = (
        "import torch, resource\n"
        "from regionloss_suite.bench.torch_machine import keep_memory\n"
        "assert keep_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def work(): return [torch.ones(1 << 20) for _ in range(30)]\n"  # 120 MB in pieces of 4
        "for _ in range(5): work()\n"  # until every piece has found its place
        "before = faults(); work(); print(faults() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300  # of 30720 pages


def test_an_allocator_that_cannot_be_set_has_its_default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_memory() is False
    found = results(TIMES)
    found.about["memory kept"] = False
    assert "  The allocator has its default settings." in terminal(found)


def test_the_peak_of_memory_by_hand() -> None:
    moves = [(3, -40), (1, 100), (2, 50), (4, 20)]  # in order: 100, 150, 110, 130
    events = [
        {"name": "[memory]", "ts": at, "args": {"Bytes": count, "Device Type": 0, "Device Id": -1}}
        for at, count in moves
    ]
    on_device = {"name": "[memory]", "ts": 2, "args": {"Bytes": 10**6, "Device Type": 1, "Device Id": 0}}
    assert peak_of([*events, on_device, {"name": "aten::add", "ts": 0}]) == 150


def test_kernels_copies_and_fills_are_launches() -> None:
    kinds = ["kernel", "kernel", "gpu_memcpy", "gpu_memset", "cuda_runtime", "cpu_op", "gpu_user_annotation"]
    assert launches_of([{"cat": kind, "name": "x"} for kind in kinds] + [{"name": "no kind"}]) == 4


def test_memory_above_the_gradient_is_what_is_held_besides() -> None:
    def both() -> torch.Tensor:
        held = torch.zeros(3000)
        return torch.zeros(1000) + held[:1000]

    found = footprint(both, 4000, "cpu")
    assert found.memory is not None
    assert 12000 + 4000 <= found.memory < 12000 + 4000 + 100  # a few bytes for numbers
    assert footprint(both, 4000, "cpu", heavy=True).memory is None


# Cold caches on the host.


def test_the_caches_are_filled_before_a_call_and_that_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Flush:
        def zero_(self) -> None:
            asked.append("flush")

    def reading() -> float:
        asked.append("clock")
        return float(len(asked))

    monkeypatch.setattr("regionloss_suite.bench.torch_clocks.perf_counter", reading)
    once = on_host(lambda _: asked.append("call"), lambda: asked.append("before"), flush=Flush())  # type: ignore[arg-type]
    assert once() == 2.0
    assert asked == ["before", "flush", "clock", "call", "clock"]


def test_times_with_cold_caches_stand_beside_the_goals_and_decide_none() -> None:
    found = findings(TIMES)
    found.series += [
        Series(FEW, name, "both", WALL_COLD, {0: seconds})
        for name, seconds in (("torch-analytic", 2e-3), ("materialised", 14e-3))
    ]
    made = Results(export(found, results(TIMES).about), "made up")
    table = goals_table(made)
    assert table is not None
    assert table.header[-1] == "with cold caches"
    assert table.rows[0][2:] == ("≥ 10.0×", "11.0×", "11.0×–11.6×", "✓ met", "7.00× (7.00–7.00)")
    assert table.rows[2][-1] == "–"
    page = markdown(made, {})
    assert "| faster than materialised | with cold caches |" in page
    assert "| 11.0× (11.0–11.6) | 7.00× (7.00–7.00) | 1.00 kB" in page
    assert "| torch-analytic | 1.00 ms (1.00–1.60) | 2.00 ms (2.00–2.00) |" in page


# The clocks of CUDA, played without one.


class FakeCuda:
    """Writes down what is asked of the device, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        for name in ("synchronize", "_sleep"):
            monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: self.asked.append(name), raising=False)
        outer = self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                outer.asked.append("record")

            def synchronize(self) -> None:
                outer.asked.append("wait for the event")

            def elapsed_time(self, other: object) -> float:
                return 2.5  # milliseconds

        monkeypatch.setattr(torch.cuda, "Event", Event)


def test_events_time_the_call_alone_with_the_cache_flushed_and_the_device_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch)

    class Flush:
        def zero_(self) -> None:
            fake.asked.append("flush")

    given: list[object] = []

    def call(one: object) -> None:
        given.append(one)
        fake.asked.append("call")

    def before() -> str:
        fake.asked.append("before")
        return "the scalar"

    cold = between_events(call, before, flush=Flush())  # type: ignore[arg-type]
    assert cold() == 0.0025
    assert fake.asked == ["before", "flush", "_sleep", "record", "call", "record", "wait for the event"]
    assert given == ["the scalar"]
    fake.asked.clear()
    assert between_events(call)() == 0.0025
    assert fake.asked == ["_sleep", "record", "call", "record", "wait for the event"]


def test_the_host_waits_once_for_ten_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch)
    readings = iter([5.0, 7.0])
    monkeypatch.setattr("regionloss_suite.bench.torch_clocks.perf_counter", lambda: next(readings))
    assert queued(lambda _: fake.asked.append("call"), lambda: fake.asked.append("before"))() == 0.2
    assert fake.asked == ["before"] * 10 + ["synchronize"] + ["call"] * 10 + ["synchronize"]


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


# The command.

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
    asked = ["bench", "torch-analytic", "--grid", "3x3", "--batch", "1", "2", "--truths", "2"]
    written = ["--json", str(times_file), "--markdown", str(page), "--svg", str(folder)]
    assert main([*asked, *written]) == 0
    shown = capsys.readouterr()
    assert "3×3 · N=2 · C=20 · 2 truths in 50 rows · float32 · NCHW" in shown.out
    assert not shown.err
    found = read_results(times_file)
    assert [setting.images for setting in found.settings] == [1, 2]
    for setting in found.settings:
        assert found.candidates(setting) == ["torch-analytic", "materialised"]
        for step in ("both", "forward", "backward", "no_grad"):
            timing = found.timing(setting, "torch-analytic", step)
            assert timing is not None
            assert len(timing.rounds) == 15
    assert sorted(path.name for path in folder.iterdir()) == ["memory.svg", "time.svg"]
    assert "](charts/time.svg)" in page.read_text()
    assert main([*asked, "--compare", str(times_file)]) in (0, 4)  # what a loaded machine makes of the ratios
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
    found = read_results(tmp_path / "times.json")
    assert found.names == ["materialised"]


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
            "PyTorch sees no CUDA device here",
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

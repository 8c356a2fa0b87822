"""No time without the right numbers: what the gate admits and refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from mmap import PAGESIZE
from typing import Any

import numpy as np
import pytest

from regionloss import evaluate
from regionloss_adapters import (
    AdapterError,
    Answer,
    CannotAnswerError,
    Question,
    Timed,
    load_adapter,
)
from regionloss_adapters.torch.fast import TorchAnalyticAdapter
from regionloss_spec import load_profile
from regionloss_suite.bench.candidates import Candidate
from regionloss_suite.bench.gate import BatchCheck, NotTimedError, check_golden
from regionloss_suite.bench.measure import Gate, measure
from regionloss_suite.bench.plan import Item, Plan
from regionloss_suite.bench.rounds import Effort
from regionloss_suite.bench.setting import Setting
from regionloss_suite.bench.torch_footprint import Paged
from unit.suite.bench.made_up import DARKNET, SMALL


class Doubled(TorchAnalyticAdapter):
    """Right whenever it is asked, wrong where it is timed."""

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        timed = super().prepare(question, slots=slots, channels_last=channels_last)

        def answer() -> Answer:
            right = timed.answer()
            assert right.gradient is not None
            return dataclasses.replace(right, gradient=2 * right.gradient)

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


class KeepsResults(TorchAnalyticAdapter):
    """Computes once for each shape."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[int, ...], Timed] = {}

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        shape = np.shape(question.batch.predictions)
        if shape not in self.kept:
            self.kept[shape] = super().prepare(question, slots=slots, channels_last=channels_last)
        return self.kept[shape]


class Overwrites(TorchAnalyticAdapter):
    """Multiplies what it answers next by a half with each step."""

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        timed = super().prepare(question, slots=slots, channels_last=channels_last)
        steps: list[Any] = []

        def forward() -> Any:
            steps.append(None)
            return timed.forward()

        def answer() -> Answer:
            right = timed.answer()
            assert right.gradient is not None
            return dataclasses.replace(right, gradient=right.gradient * 0.5 ** len(steps))

        return dataclasses.replace(timed, forward=forward, answer=answer)


def admit(adapter: Any, setting: Setting = SMALL) -> tuple[Timed, bool, str]:
    batch = setting.draw()
    return Gate("cpu").admit(Candidate("mine", adapter), setting, batch, BatchCheck(setting, batch))


def test_a_loss_that_conforms_is_admitted() -> None:
    timed, conversions, passed = admit(TorchAnalyticAdapter())
    assert not conversions
    assert passed == "174 golden cases, 3 of 3 images of the batch"
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
        (KeepsResults(), "it keeps something of an earlier call: on the timed batch, case .* gradient"),
        (Overwrites(), "it keeps something of an earlier call: on the timed batch, case .* gradient"),
        (CannotBeTimed(), "it only knows faces"),
        (load_adapter("numpy"), "its formats are float64, but float32 is timed"),
    ],
    ids=["golden", "batch", "breaks", "keeps", "overwrites", "cannot", "format"],
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
        assert check_golden(load_adapter(f"regionloss_suite.bench.{name}"), "float32", "cpu") == "174 golden cases"


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
    findings = measure(Plan("cpu", (item,), Effort(rounds=1, turn=0.0), named=False), lambda text: None)
    ((setting, name, reason),) = findings.refused
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
    findings = measure(Plan("cpu", (Item(SMALL, ("materialised",)),), Effort(rounds=3, turn=0.0)), lambda text: None)
    assert paged == ["5 calls"]  # two to see how long they take, and one in each round
    assert [entry.footprint.fresh_pages for entry in findings.entries] == [4096]

"""A loss is called on every device that it names. TF32 counts as a device, and changes no result of this project."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from regionloss import evaluate
from regionloss_adapters import Answer, Description, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import load_cases, load_clauses
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.report import Report
from regionloss_suite.oracle.coverage import holds
from regionloss_suite.properties.plan import planned_runs
from regionloss_suite.reports.failing import answered

CASES = [case for case in load_cases() if case.batch.predictions.size < 2000]


class OnTwoDevices:
    """The reference with a factor on each of its devices."""

    def __init__(self, **factors: float) -> None:
        self.factors = factors
        self.calls: list[tuple[str, str]] = []

    def describe(self) -> Description:
        return Description("it", ("*",), ("gradient",), ("float64", "float32"), tuple(self.factors))

    def answer(self, question: Question) -> Answer:
        self.calls.append((question.dtype, question.device))
        gradient = NumpyAdapter().answer(question).gradient
        assert gradient is not None
        return Answer(gradient=gradient * self.factors[question.device])


def test_a_case_runs_on_every_device_in_every_format() -> None:
    adapter = OnTwoDevices(near=1.0, far=1.0)
    judge = Judge(adapter, [case for case in CASES if case.id == "hand-statistics"])
    judge.verdict(load_clauses()["numerics.bound"])
    judge.verdict(load_clauses()["statistics.count"])
    assert adapter.calls == [("float64", "near"), ("float32", "near"), ("float64", "far"), ("float32", "far")]


@pytest.mark.parametrize("wrong", ["near", "far"])
def test_a_deviation_on_one_device_names_the_device(wrong: str) -> None:
    judge = Judge(OnTwoDevices(**{"near": 1.0, "far": 1.0, wrong: 1.01}), CASES)
    verdict = judge.verdict(load_clauses()["noobj.gradient"])
    assert verdict.verdict == "deviating"
    assert verdict.first is not None
    assert verdict.first.quantity == f"to gradient on {wrong}"


def test_a_deviation_of_a_loss_with_one_device_names_no_device() -> None:
    first = Judge(OnTwoDevices(near=1.01), CASES).verdict(load_clauses()["noobj.gradient"]).first
    assert first is not None
    assert first.quantity == "to gradient"


def test_the_picture_of_a_failing_case_shows_the_deviating_device() -> None:
    judge = Judge(OnTwoDevices(near=1.0, far=1.01), CASES)
    verdict = judge.verdict(load_clauses()["noobj.gradient"])
    ((case, gradient),) = answered(Report("it", "any", len(CASES), [verdict]), judge.observations).values()
    assert gradient is not None
    assert np.allclose(gradient, 1.01 * evaluate(case.batch, case.profile).gradient, rtol=1e-12, atol=0)


def test_properties_run_on_every_device() -> None:
    formats = {(run.dtype, run.device) for run in planned_runs(Judge(OnTwoDevices(near=1.0, far=1.0), CASES))}
    assert formats == {(dtype, device) for dtype in ("float64", "float32") for device in ("near", "far")}


@pytest.fixture
def precision() -> Iterator[Any]:
    """PyTorch, with its settings restored afterwards."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield torch
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(("device", "expected"), [("cpu", ("highest", False)), ("cpu tf32", ("high", True))])
@pytest.mark.parametrize("set_before", [("medium", True), ("highest", False)])
def test_tf32_is_enabled_only_for_the_device_that_asks_for_it(
    precision: Any, device: str, expected: tuple[str, bool], set_before: tuple[str, bool]
) -> None:
    from regionloss_adapters import from_torch

    def settings() -> tuple[str, bool]:
        return precision.get_float32_matmul_precision(), precision.backends.cudnn.allow_tf32

    calls = []

    def loss(predictions: Any, truths: Any, question: Question) -> Any:
        calls.append((settings(), predictions.device.type))
        if question.upstream == 0:
            raise ZeroDivisionError
        return predictions.sum()

    precision.set_float32_matmul_precision(set_before[0])
    precision.backends.cudnn.allow_tf32 = set_before[1]
    adapter = from_torch(loss, name="port", devices=(device,))
    inputs = Question(batch=CASES[0].batch, profile=CASES[0].profile, device=device)
    adapter.answer(inputs)
    with pytest.raises(ZeroDivisionError):
        adapter.answer(dataclasses.replace(inputs, upstream=0.0))
    assert calls == [(expected, "cpu")] * 2
    assert settings() == set_before


@pytest.mark.sample(every=4)
@pytest.mark.parametrize("first", range(4))
def test_float32_matmul_precision_does_not_change_the_result(precision: Any, first: int) -> None:
    """Bit for bit, on every fourth golden case that float32 represents exactly; the same through the adapter."""
    from regionloss.torch.eager import region_loss
    from regionloss_adapters.torch.eager import TorchEagerAdapter

    compared = 0
    for case in CASES[first::4]:
        if case.expected.error is not None or not holds("float32", case.batch.predictions):
            continue
        compared += 1
        batch = case.batch
        output: list[tuple[Any, Any]] = []
        for setting in ("highest", "high", "medium"):
            precision.set_float32_matmul_precision(setting)
            t = precision.tensor(batch.predictions, dtype=precision.float32, requires_grad=True)
            result = region_loss(
                t, batch.truths, batch.anchors, batch.classes,
                images_seen=batch.images_seen, profile=case.profile, tree=batch.tree,
            )  # fmt: skip
            (gradient,) = precision.autograd.grad(result.potential, t)
            output.append((result.potential.item(), gradient.numpy()))
        inputs = [
            TorchEagerAdapter().answer(Question(batch=batch, profile=case.profile, dtype="float32", device=device))
            for device in ("cpu", "cpu tf32")
        ]
        output += [(answer.potential, answer.gradient) for answer in inputs]
        for potential, gradient in output[1:]:
            assert potential == output[0][0], case.id
            assert np.array_equal(gradient, output[0][1], equal_nan=True), case.id
    assert compared > 25

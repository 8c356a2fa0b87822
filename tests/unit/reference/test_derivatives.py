"""What a loss in PyTorch promises of its derivatives, and how it is found out where it does not keep that."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from regionloss.torch.eager import region_loss  # noqa: E402  # after the skip
from regionloss_adapters import Adapter, Answer, Question, from_numpy, from_torch, layouts  # noqa: E402
from regionloss_adapters.layouts import Layout  # noqa: E402
from regionloss_adapters.torch.derivatives import derivatives  # noqa: E402
from regionloss_spec import Batch, load_case, load_profile  # noqa: E402
from regionloss_spec.case import CASES  # noqa: E402
from regionloss_suite.oracle.reduction import multiplied_out  # noqa: E402
from regionloss_suite.properties import PROPERTIES, PropertyResult, run_property  # noqa: E402

DARKNET = load_profile("darknet")
PROMISED = ("gradient", "repeated gradient", "second derivative")
AGAIN = "a gradient taken again from one evaluation adds up"
CURVED = "the gradient changes as that of the reference does"


def question(**asked: Any) -> Question:
    """About one predictor with one class."""
    batch = Batch(np.zeros((1, 6, 1, 1)), (np.zeros((0, 5)),), np.ones((1, 2)), 1, 0)
    return Question(batch=batch, profile=DARKNET, dtype="float64", **asked)


def cube(x: Any) -> Any:
    return (x**3).sum()


def test_the_derivatives_of_a_cube() -> None:
    x = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    gradient, none = derivatives(cube(x), x, question(times=3, upstream=0.5))
    assert none is None
    assert gradient.tolist() == [3 * 0.5 * 12, 3 * 0.5 * 3]
    gradient, curvature = derivatives(cube(x), x, question(upstream=0.5, direction=np.array([1.0, -4.0])))
    assert gradient.tolist() == [0.5 * 12, 0.5 * 3]
    assert curvature is not None
    assert curvature.tolist() == [0.5 * 12 * 1, 0.5 * -6 * -4]


def test_what_does_not_change_has_derivatives_of_zero() -> None:
    x = torch.ones(2, requires_grad=True)
    for scalar in (x.sum(), torch.ones((), requires_grad=True) * 1.0):
        _, curvature = derivatives(scalar, x, question(direction=np.ones(2)))
        assert curvature is not None
        assert curvature.tolist() == [0.0, 0.0]


def in_nhwc(predictions: Any, truths: Any, question: Question) -> Any:
    batch = question.batch
    t = predictions.permute(0, 3, 1, 2)
    profile = question.profile
    return region_loss(
        t, truths, batch.anchors, batch.classes, images_seen=batch.images_seen, profile=profile, tree=batch.tree
    ).potential


def tried(loss: Any, sentence: str, **declared: Any) -> PropertyResult:
    options = {"answers": PROMISED, "layout": layouts.NHWC, **declared}
    adapter: Adapter = from_torch(loss, name="port", dtypes=("float64",), profiles=("*",), **options)
    return run_property(PROPERTIES[sentence], adapter, DARKNET, "float64", examples=20, shrinking=0)


@pytest.mark.parametrize("sentence", [AGAIN, CURVED])
def test_a_promise_that_is_kept_conforms_in_any_order_of_the_channels(sentence: str) -> None:
    assert tried(in_nhwc, sentence).verdict == "conforming"
    outcome = tried(lambda *given: 0.25 * in_nhwc(*given), sentence, factor=0.25)
    assert outcome.verdict == "conforming"


@pytest.mark.parametrize("sentence", [AGAIN, CURVED])
def test_what_is_not_promised_is_not_asked(sentence: str) -> None:
    outcome = tried(in_nhwc, sentence, answers=("gradient",))
    assert outcome.verdict == "not-answerable"
    assert outcome.batches == 0
    assert "which port does not return" in outcome.reason


Function: Any = torch.autograd.Function


class ByHand(Function):  # type: ignore[misc]  # torch does not type it
    """A gradient that is computed in the forward pass, and a constant for whoever differentiates it."""

    @staticmethod
    def forward(context: Any, predictions: Any, asked: tuple[Any, Question]) -> Any:
        with torch.enable_grad():
            leaf = predictions.detach().requires_grad_()
            potential = in_nhwc(leaf, *asked)
            (context.gradient,) = torch.autograd.grad(potential, leaf)
        return potential.detach()

    @staticmethod
    def backward(context: Any, upstream: Any) -> Any:
        return context.gradient * upstream, None


class UsedUp(ByHand):
    """The same, which multiplies in place what it has kept by what arrives from above."""

    @staticmethod
    def backward(context: Any, upstream: Any) -> Any:
        return context.gradient.mul_(upstream), None


def test_a_gradient_that_is_used_up_does_not_add_up() -> None:
    outcome = tried(lambda t, *asked: UsedUp.apply(t, asked), AGAIN)
    assert outcome.first is not None
    assert outcome.first.quantity.endswith("gradient")


def test_a_backward_pass_by_hand_is_not_differentiated_twice() -> None:
    outcome = tried(lambda t, *asked: ByHand.apply(t, asked), CURVED)
    assert outcome.first is not None
    assert outcome.first.quantity.endswith("curvature")
    assert outcome.first.got == 0


def test_a_curvature_that_goes_through_the_target_is_found_out() -> None:
    """The gradient is right, its derivative is that of another loss: one whose target moves with the box."""

    def of_a_moving_target(predictions: Any, truths: Any, question: Question) -> Any:
        moving = dataclasses.replace(question, profile=DARKNET.replace(object_target_gradient="flows"))
        return in_nhwc(predictions, truths, moving if question.direction is not None else question)

    outcome = tried(of_a_moving_target, CURVED)
    assert outcome.first is not None
    assert outcome.first.quantity.endswith("curvature")


def test_what_is_decided_carries_no_graph_and_detached_predictions_have_no_gradient() -> None:
    batch = load_case(CASES / "hand-statistics.json").batch
    attached = torch.from_numpy(batch.predictions.copy()).requires_grad_()
    with_graph, without = (
        region_loss(t, batch.truths, batch.anchors, batch.classes, images_seen=batch.images_seen)
        for t in (attached, attached.detach())
    )
    with torch.no_grad():
        silent = region_loss(attached, batch.truths, batch.anchors, batch.classes, images_seen=batch.images_seen)
    assert with_graph.potential.requires_grad
    assert not with_graph.max_iou.requires_grad
    assert [result.potential.requires_grad for result in (without, silent)] == [False, False]
    assert [result.potential.item() for result in (without, silent)] == [with_graph.potential.item()] * 2


def test_a_reduction_is_multiplied_out_of_the_curvature_too() -> None:
    adapter = from_torch(lambda t, *_: cube(t), name="port", reduction="per-image", factor=2.0)
    answer = Answer(gradient=np.ones(1), curvature=np.array([4.0]))
    whole = multiplied_out(answer, adapter.describe(), images=3, paid=0)
    assert whole.curvature is not None
    assert whole.curvature.tolist() == [4.0 * 3 / 2]


def test_a_reduction_that_the_profile_has_too_stays_in() -> None:
    adapter = from_torch(lambda t, *_: cube(t), name="port", reduction="per-image", factor=2.0)
    answer = Answer(gradient=np.array([4.0]))
    stays = multiplied_out(answer, adapter.describe(), images=3, paid=0, divided="per-image").gradient
    goes = multiplied_out(answer, adapter.describe(), images=3, paid=0, divided="sum").gradient
    assert stays is not None
    assert goes is not None
    assert (stays.tolist(), goes.tolist()) == ([4.0 / 2], [4.0 * 3 / 2])


def test_promises_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="answers has 'second derivative'; known are gradient, potential, terms"):
        from_numpy(lambda *_: 0.0, name="arrays", answers=PROMISED[2:])
    with pytest.raises(ValueError, match="the layout has activated predictions"):
        from_torch(lambda *_: 0.0, name="port", answers=PROMISED, layout=Layout(o="sigmoid"))

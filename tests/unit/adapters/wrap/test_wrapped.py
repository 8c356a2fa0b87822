"""What a wrapper declares, and what it is therefore asked and answers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from regionloss import DomainError
from regionloss_adapters import CannotAnswerError, RefusedError, from_numpy, truths
from regionloss_adapters.layouts import Layout
from regionloss_spec import load_profile
from unit.adapters.wrap.losses import ALL, DARKNET, ask, check, numpy_loss


def test_what_is_not_declared_is_not_answered() -> None:
    answer = from_numpy(numpy_loss, name="modest").answer(ask())
    assert answer.gradient is not None
    assert (answer.potential, answer.terms) == (None, None)


@pytest.mark.parametrize(
    ("returned", "answers", "said"),
    [
        (0.5, ("gradient",), "returned no gradient"),
        (np.zeros((2, 16, 2, 4)), ("gradient", "potential"), "returned no scalar"),
        (np.zeros((2, 2, 4, 16)), ("gradient",), r"shape \[2, 2, 4, 16\], but the predictions had \[2, 16, 2, 4\]"),
        ((0.5, np.zeros((2, 16, 2, 4)), {"coord": 1.0}), ALL, "returned terms coord, expected no_object, prior"),
    ],
)
def test_an_answer_other_than_declared_is_an_error(returned: Any, answers: tuple[str, ...], said: str) -> None:
    adapter = from_numpy(lambda *_: returned, name="other", answers=answers)
    with pytest.raises(ValueError, match=said):
        adapter.answer(ask())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"answers": ("loss",)}, "answers has 'loss'; known are gradient, potential, terms"),
        ({"options": ("threshold",)}, "options has 'threshold'"),
        ({"dtypes": ("bfloat16",)}, "NumPy has no bfloat16"),
        ({"dtypes": ("float16",), "layout": Layout(o="sigmoid")}, "half formats"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_numpy(numpy_loss, name="wrong", **wrong)


def test_reduction_and_factor_are_declared_and_nothing_else() -> None:
    plain = from_numpy(numpy_loss, name="plain", answers=ALL)
    scaled = from_numpy(numpy_loss, name="scaled", answers=ALL, reduction="per-image", factor=0.5)
    assert (scaled.describe().reduction, scaled.describe().factor) == ("per-image", 0.5)
    one, other = plain.answer(ask()), scaled.answer(ask())
    assert np.array_equal(one.gradient, other.gradient)  # type: ignore[arg-type]  # a gradient was declared
    assert (one.potential, one.terms) == (other.potential, other.terms)


def test_a_case_with_options_that_the_port_lacks_is_not_asked() -> None:
    other = DARKNET.replace(thresh=0.5, collision="sum")
    for options, missing in (((), "thresh"), (("thresh",), "collision")):
        with pytest.raises(CannotAnswerError, match=f"it has no option {missing}"):
            from_numpy(numpy_loss, name="fixed", options=options).answer(ask(profile=other))
    for adapter in (
        from_numpy(numpy_loss, name="free", options=("thresh", "collision")),
        from_numpy(numpy_loss, name="any", profiles=("*",)),
    ):
        check(adapter.answer(ask("float64", profile=other)), ask("float64", profile=other))


def test_another_profile_as_such_is_asked_to_be_judged_as_that() -> None:
    for profile in (load_profile("marvis"), dataclasses.replace(load_profile("marvis"), name="of my own")):
        assert from_numpy(numpy_loss, name="mine").answer(ask(profile=profile)).gradient is not None


def test_supports_gives_the_reason_why_a_profile_is_not_asked() -> None:
    adapter = from_numpy(
        numpy_loss,
        name="without trees",
        profiles=("*",),
        supports=lambda profile: "it knows no tree" if profile.class_term == "tree" else None,
    )
    with pytest.raises(CannotAnswerError, match="it knows no tree"):
        adapter.answer(ask(profile=load_profile("yolo9000")))
    check(adapter.answer(ask("float64")), ask("float64"))


def test_declared_exceptions_are_refusals_with_their_place() -> None:
    question = ask()
    question.batch.truths[0][1, 2] = 2.0
    adapter = from_numpy(numpy_loss, name="strict", refuses=(DomainError,))
    try:
        assert adapter.describe().answers == ("gradient", "errors")
        with pytest.raises(RefusedError, match="w is 2") as refused:
            adapter.answer(question)
        assert (refused.value.image, refused.value.truth) == (0, 1)
        with pytest.raises(DomainError):
            from_numpy(numpy_loss, name="silent").answer(question)
    finally:
        question.batch.truths[0][1, 2] = 0.5


def test_the_report_says_what_the_adapter_activated() -> None:
    layout = Layout("n a e h w", xy="sigmoid", o="sigmoid", c="softmax")
    described = from_numpy(numpy_loss, name="activated", layout=layout, truths=truths.Dense()).describe()
    assert described.notes[0] == (
        "The adapter applied sigmoid of xy, sigmoid of o, softmax of c and their chain rule, in float64."
    )
    assert "assignment" in described.notes[1]

"""A loss in NumPy: through the reference, so that what is tried is the way there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regionloss import evaluate
from regionloss_adapters import Adapter, Question, from_numpy
from regionloss_spec.batch import Array
from unit.adapters.wrap.losses import ALL, DARKNET, ask, check, numpy_loss


@pytest.mark.parametrize("upstream", [1.0, -0.25, 0.0])
def test_a_numpy_loss_answers_what_it_returns(upstream: float) -> None:
    adapter = from_numpy(numpy_loss, name="mine", answers=ALL, dtypes=("float64",), notes=("By hand.",))
    assert isinstance(adapter, Adapter)
    described = adapter.describe()
    assert (described.name, described.answers, described.dtypes) == ("mine", ALL, ("float64",))
    assert described.notes == ("By hand.",)
    check(adapter.answer(ask("float64", upstream=upstream)), ask("float64", upstream=upstream))


def test_a_numpy_loss_may_return_only_its_gradient_or_only_its_value() -> None:
    question = ask("float64")
    result = evaluate(question.batch, DARKNET)
    alone = from_numpy(lambda *given: numpy_loss(*given)[1], name="gradient", dtypes=("float64",)).answer(question)
    assert alone.gradient is not None
    assert np.array_equal(alone.gradient, result.gradient)
    assert (alone.potential, alone.terms) == (None, None)
    value = from_numpy(lambda *given: numpy_loss(*given)[0], name="value", answers=("potential",)).answer(question)
    assert (value.gradient, value.potential) == (None, result.potential)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_numpy_loss_is_given_the_format_that_is_asked_for(dtype: str) -> None:
    formats: list[Any] = []

    def loss(predictions: Array, rows: Any, question: Question) -> Array:
        formats.append((predictions.dtype.name, predictions.flags.writeable, rows[0].dtype.name))
        return np.zeros_like(predictions)

    from_numpy(loss, name="spy", dtypes=(dtype,)).answer(ask(dtype))
    assert formats == [(dtype, True, "float32" if dtype == "float16" else dtype)]

"""What a loss is called with must be the same after the call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regionloss_adapters import Question, from_numpy, from_torch
from regionloss_adapters.wrap.loss_call import MutatedInputError
from regionloss_spec.batch import Array
from unit.adapters.wrap.losses import ask


def test_a_numpy_loss_that_changes_its_inputs_is_an_error_that_says_which() -> None:
    def activates(predictions: Array, rows: Any, question: Question) -> Array:
        predictions[1, 3, 0, 2] = 7.0
        return predictions

    def scales(predictions: Array, rows: Any, question: Question) -> Array:
        rows[0][1, :4] *= 4
        return predictions

    def drops(predictions: Array, rows: Any, question: Question) -> Array:
        rows.pop()
        return predictions

    for loss, message in (
        (activates, r"changed its predictions in place: at \[1, 3, 0, 2\], .* is 7.0 now"),
        (scales, r"changed its truths\[0\] in place: at \[1, 0\], 0.75 is 3.0 now"),
        (drops, "changed its truths in place: 2 parts are 1 now"),
    ):
        with pytest.raises(MutatedInputError, match=message):
            from_numpy(loss, name="rude").answer(ask())


def test_a_nan_that_stays_where_it_was_is_no_change() -> None:
    question = ask()
    question.batch.predictions[0, 0, 0, 0] = np.nan
    answer = from_numpy(lambda predictions, *_: np.ones_like(predictions), name="calm").answer(question)
    assert answer.gradient is not None


def test_a_torch_loss_that_changes_its_inputs_is_an_error_that_says_which() -> None:
    pytest.importorskip("torch")

    def activates(predictions: Any, rows: Any, question: Question) -> Any:
        return predictions.sigmoid_().sum()

    def scales(predictions: Any, rows: Any, question: Question) -> Any:
        rows[0][:, :4].mul_(4)
        return predictions.sum()

    with pytest.raises(MutatedInputError, match="predictions in place"):
        from_torch(activates, name="rude").answer(ask())
    with pytest.raises(MutatedInputError, match=r"truths\[0\] in place: at \[0, 0\], 0.5 is 2.0 now"):
        from_torch(scales, name="rude").answer(ask())

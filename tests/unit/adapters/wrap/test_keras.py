"""A loss in TensorFlow, whose decisions are those of the reference."""

from __future__ import annotations

from typing import Any

import pytest

from regionloss_adapters import Question, from_keras, layouts, truths
from unit.adapters.wrap.losses import ask, check, rounded_question, weights_and_targets


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("upstream", [1.0, -2.0])
def test_a_tensorflow_loss_is_within_bounds(dtype: str, upstream: float) -> None:
    tf = pytest.importorskip("tensorflow")

    def loss(predictions: Any, rows: Any, question: Question) -> Any:
        flat, counts = rows
        assert flat.shape == (2, 2, 5)
        assert counts.numpy().tolist() == [2, 0]
        assert predictions.dtype.name == dtype
        wide = "float64" if dtype == "float64" else "float32"
        weight, target, paid = (tf.constant(array, dtype=wide) for array in weights_and_targets(question))
        t = tf.transpose(tf.reshape(tf.cast(predictions, wide), (2, 2, 4, 2, 8)), (0, 3, 4, 1, 2))
        b = tf.concat([tf.sigmoid(t[:, :, :2]), t[:, :, 2:4], tf.sigmoid(t[:, :, 4:])], axis=2)
        squares = 0.5 * (weight * (b - target) ** 2)
        classes = paid * tf.nn.log_softmax(t[:, :, 5:], axis=2)
        return {"squares": tf.reduce_sum(squares[:, :, :5]), "class": -tf.reduce_sum(classes)}

    adapter = from_keras(
        loss,
        name="keras",
        layout=layouts.NHWC,
        truths=truths.Counted(unit="cells"),
        answers=("gradient", "potential"),
        dtypes=(dtype,),
    )
    question = rounded_question(ask(dtype, upstream=upstream))
    check(adapter.answer(question), question)


def test_a_tensorflow_loss_without_a_way_to_the_predictions_has_a_zero_gradient() -> None:
    tf = pytest.importorskip("tensorflow")
    answer = from_keras(lambda *_: tf.constant(1.0), name="deaf").answer(ask())
    assert answer.gradient is not None
    assert not answer.gradient.any()

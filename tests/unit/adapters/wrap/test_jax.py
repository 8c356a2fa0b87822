"""A loss in JAX, whose decisions are those of the reference."""

from __future__ import annotations

from typing import Any

import pytest

from regionloss_adapters import Question, from_jax, layouts, truths
from unit.adapters.wrap.losses import ask, check, rounded_question, weights_and_targets


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("upstream", [1.0, -2.0])
def test_a_jax_loss_is_within_bounds(dtype: str, upstream: float) -> None:
    jax = pytest.importorskip("jax")

    def loss(predictions: Any, rows: Any, question: Question) -> Any:
        assert isinstance(rows, jax.Array)
        assert rows.shape == (2, 4, 5)
        assert str(predictions.dtype) == dtype
        wide = predictions.dtype if dtype == "float64" else "float32"
        weight, target, paid = (jax.numpy.asarray(array, dtype=wide) for array in weights_and_targets(question))
        t = predictions.astype(wide).reshape(2, 2, 4, 2, 8).transpose(0, 3, 4, 1, 2)  # [N, A, 5+C, H, W]
        b = jax.numpy.concatenate([jax.nn.sigmoid(t[:, :, :2]), t[:, :, 2:4], jax.nn.sigmoid(t[:, :, 4:])], axis=2)
        squares = 0.5 * (weight * (b - target) ** 2)
        terms = {"squares": squares[:, :, :5].sum(), "class": -(paid * jax.nn.log_softmax(t[:, :, 5:], axis=2)).sum()}
        return terms["squares"] + terms["class"], terms

    question = rounded_question(ask(dtype, upstream=upstream))
    for either in (loss, jax.jit(loss, static_argnums=2)):
        adapter = from_jax(
            either,
            name="jax",
            layout=layouts.NHWC,
            truths=truths.Padded(capacity=4, fill=-1, columns="class x1 y1 x2 y2", unit="pixels"),
            answers=("gradient", "potential"),
            dtypes=(dtype,),
        )
        check(adapter.answer(question), question)

"""Put a question to a loss in JAX."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import numpy as np

from regionloss_adapters.protocol import Question
from regionloss_adapters.wrap.loss_call import Loss, Outcome, for_each_array, scalar_and_terms
from regionloss_spec.batch import Array


def ask(loss: Loss, given: Array, truths: Any, question: Question) -> Outcome:
    """Let JAX differentiate the scalar that a loss returns; arrays are immutable, so none can be changed in place."""
    jax: Any = importlib.import_module("jax")
    wide = [question.dtype == "float64"]
    for_each_array(lambda array: wide.append(array.dtype == np.float64), truths)
    # Without it, JAX silently converts float64 to float32.
    width = _enable_x64(jax)(True) if any(wide) else contextlib.nullcontext()
    with width, jax.default_device(jax.devices(question.device)[0]):
        predictions = jax.numpy.asarray(given, dtype=question.dtype)
        arrays = for_each_array(jax.numpy.asarray, truths)

        def scalar_of(predictions: Any) -> Any:
            return scalar_and_terms(loss(predictions, arrays, question))

        scalar, pull_back, terms = jax.vjp(scalar_of, predictions, has_aux=True)
        if scalar.size != 1:
            raise TypeError(f"the loss returned an array of shape {list(scalar.shape)}, expected a scalar")
        (gradient,) = pull_back(jax.numpy.full_like(scalar, question.upstream))
        return Outcome(
            gradient=np.asarray(gradient, dtype=np.float64),
            scalar=float(scalar.reshape(())),
            terms={name: float(term) for name, term in terms.items()},
        )


def _enable_x64(jax: Any) -> Any:
    """The context in which JAX computes in float64; its place depends on the version."""
    return jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64

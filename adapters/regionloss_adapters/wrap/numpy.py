"""Put a question to a loss that accepts and returns NumPy arrays."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from regionloss_adapters.protocol import Question
from regionloss_adapters.wrap.loss_call import Loss, Outcome, check_unchanged
from regionloss_spec.batch import Array


def ask(loss: Loss, given: Array, truths: Any, question: Question) -> Outcome:
    """Call a loss that returns its own gradient, and multiply it by the upstream gradient."""
    predictions = given.astype(question.dtype)
    kept = predictions.copy(), copy.deepcopy(truths)
    scalar, gradient, terms = _parts(loss(predictions, truths, question))
    check_unchanged("predictions", kept[0], predictions)
    check_unchanged("truths", kept[1], truths)
    return Outcome(
        gradient=None if gradient is None else question.upstream * np.asarray(gradient, dtype=np.float64),
        scalar=None if scalar is None else float(scalar),
        terms={name: float(term) for name, term in terms.items()},
    )


def _parts(returned: Any) -> tuple[Any, Any, Mapping[str, Any]]:
    """Scalar, gradient and terms from the result: (scalar, gradient) with or without terms, or one of the two alone."""
    if isinstance(returned, tuple) and len(returned) in (2, 3):
        return returned[0], returned[1], returned[2] if len(returned) == 3 else {}
    if np.ndim(returned):
        return None, returned, {}
    return returned, None, {}

"""Put a question to a loss in TensorFlow, with or without Keras."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from regionloss_adapters.protocol import Question
from regionloss_adapters.wrap.loss_call import Loss, Outcome, for_each_array, scalar_and_terms
from regionloss_spec.batch import Array


def ask(loss: Loss, given: Array, truths: Any, question: Question) -> Outcome:
    """Let a tape differentiate the scalar that a loss returns; tensors are immutable, so none is changed in place."""
    tf: Any = importlib.import_module("tensorflow")
    with tf.device(question.device):
        predictions = tf.cast(tf.constant(given), question.dtype)
        tensors = for_each_array(tf.constant, truths)
        with tf.GradientTape() as tape:
            tape.watch(predictions)
            scalar, terms = scalar_and_terms(loss(predictions, tensors, question))
        if tf.size(scalar) != 1:
            raise TypeError(f"the loss returned a tensor of shape {scalar.shape.as_list()}, expected a scalar")
        upstream = tf.fill(tf.shape(scalar), tf.cast(question.upstream, scalar.dtype))
        zero = tf.UnconnectedGradients.ZERO
        gradient = tape.gradient(scalar, predictions, output_gradients=upstream, unconnected_gradients=zero)
        return Outcome(
            gradient=np.asarray(tf.cast(tf.convert_to_tensor(gradient), tf.float64)),
            scalar=float(tf.reshape(scalar, ())),
            terms={name: float(term) for name, term in terms.items()},
        )

"""The formulas of the NumPy reference in float32: one more correct loss, which rounds at every step."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from regionloss.decisions import decide
from regionloss.domain import read_inputs
from regionloss.loss import Result, pay_terms
from regionloss_adapters import Answer, Description, Question
from regionloss_adapters.numpy_reference import indicators
from regionloss_adapters.protocol import ANSWERS
from regionloss_spec.batch import Array


class SingleAdapter:
    """It decides, pays and adds up in float32, one number after the other, and rounds a float16 gradient once more."""

    def describe(self) -> Description:
        """It answers everything but errors."""
        return Description("numpy in float32", ("*",), ANSWERS[: ANSWERS.index("errors")], ("float32", "float16"))

    def answer(self, question: Question) -> Answer:
        """Evaluate a batch inside the domain."""
        batch, profile = question.batch, question.profile
        t, truths, anchors = read_inputs(
            batch.predictions, batch.truths, batch.anchors, batch.classes, batch.images_seen, profile, batch.tree
        )
        tree = None if batch.tree is None else tuple(batch.tree)
        single = t.astype(np.float32), [rows.astype(np.float32) for rows in truths], anchors.astype(np.float32)
        decisions = decide(*single, batch.images_seen, profile, tree)
        terms = pay_terms(*single, decisions, profile, tree)
        result = Result(*single, profile, tree, decisions, terms)
        responsible, ignored = indicators(decisions)
        potential = _total(result, np.concatenate([term.value.ravel() for term in terms.values()]))
        return Answer(
            gradient=result.gradient.astype(np.float32).astype(question.dtype),
            potential=potential,
            terms={name: _total(result, term.value.ravel()) for name, term in terms.items()},
            responsible=responsible,
            ignored=ignored,
            printed_cost=potential if profile.printed_cost == "potential" else result.printed_cost,
            statistics={name: float(np.float32(value)) for name, value in asdict(result.statistics).items()},
        )


def _total(result: Result, values: Array) -> float:
    summed = np.cumsum(values.astype(np.float32), dtype=np.float32)
    return float(np.float32(result.scale) * summed[-1]) if summed.size else 0.0

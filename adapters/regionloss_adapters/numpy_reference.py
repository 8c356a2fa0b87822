"""The NumPy reference as an adapter."""

from __future__ import annotations

import dataclasses

from regionloss import DomainError, evaluate
from regionloss.decisions import Decisions
from regionloss_adapters.protocol import ANSWERS, Answer, Description, Question, RefusedError


class NumpyAdapter:
    """`regionloss.region_loss`, which always computes in float64."""

    def describe(self) -> Description:
        """It returns everything, under any profile."""
        return Description("numpy", profiles=("*",), answers=ANSWERS, dtypes=("float64",))

    def answer(self, question: Question) -> Answer:
        """Evaluate the reference."""
        try:
            result = evaluate(question.batch, question.profile)
        except DomainError as error:
            raise RefusedError(str(error), error.image, error.truth) from error
        responsible, ignored = indicators(result.decisions)
        return Answer(
            gradient=question.upstream * result.gradient,
            potential=result.potential,
            terms=result.term_values,
            responsible=responsible,
            ignored=ignored,
            printed_cost=result.printed_cost,
            statistics=dataclasses.asdict(result.statistics),
        )


def indicators(decisions: Decisions) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """`responsible` and `ignored` as an `Answer` states them."""
    responsible = tuple(
        (match.image, match.truth, match.anchor, match.row, match.column)
        for match in decisions.matches
        if match.pays_box
    )
    ignored = tuple(tuple(int(index) for index in place) for place in zip(*decisions.ignored.nonzero(), strict=True))
    return responsible, ignored

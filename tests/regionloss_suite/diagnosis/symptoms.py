"""How each departing case departs, stage by stage, in words that clauses are known by (`suspects`).

A wrong stage spoils the later ones, so that a case is described by the first stage at which it departs: refusal,
assignment, indicator, payments, sums.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from regionloss_spec.clause import View
from regionloss_suite.diagnosis.decision_symptoms import assignment_signs, indicator_signs
from regionloss_suite.diagnosis.term_symptoms import Payments, payments, signs_of
from regionloss_suite.diagnosis.totals import total_signs
from regionloss_suite.judging.judge import Observation, Refusal
from regionloss_suite.oracle.comparison import Comparison


@dataclass(frozen=True, eq=False)
class Symptom:
    """How one case departs.

    Attributes:
        seen: the case, and what came back.
        signs: what it looks like at the first stage at which it departs, at least one.
    """

    seen: Observation
    signs: frozenset[str]


def symptoms(departing: list[Observation]) -> list[Symptom]:
    """The symptoms of observations that depart, in their order."""
    found = [_before_payments(seen) or _payments(seen) for seen in departing]
    paid = iter(signs_of(signs for signs in found if isinstance(signs, Payments)))
    summed = iter(total_signs([signs for signs in found if isinstance(signs, Comparison)]))
    told = [
        next(paid) if isinstance(signs, Payments) else next(summed) if isinstance(signs, Comparison) else signs
        for signs in found
    ]
    return [Symptom(seen, frozenset(signs)) for seen, signs in zip(departing, told, strict=True)]


def looks_so(seen: Observation, signs: frozenset[str]) -> bool:
    """Whether a departing case looks like nothing but these signs."""
    return symptoms([seen])[0].signs <= signs


def _before_payments(seen: Observation) -> set[str]:
    asked = seen.asked
    if isinstance(asked, Refusal) and asked.kind == "crashed":
        return {"crashes"}
    if seen.case.expected.error is not None:
        wrong_place = isinstance(asked, Refusal) and asked.kind == "refused"
        return {"refuses at another place" if wrong_place else "accepts what is invalid"}
    if isinstance(asked, Refusal):
        return {"refuses what is valid"}
    if asked.answer.gradient is not None and np.shape(asked.answer.gradient) != asked.result.gradient.shape:
        return {"another shape"}
    return assignment_signs(asked) or indicator_signs(asked)


def _payments(seen: Observation) -> Payments | Comparison | set[str]:
    """What was paid otherwise, or which sum departs alone; the answer itself where it holds no more than sums."""
    asked = seen.asked
    assert isinstance(asked, Comparison)
    whole = asked.answer.gradient is None and asked.answer.terms is None
    if whole and asked.difference(View("potential")) is not None:
        return asked
    return payments(asked) or _sums(asked)


def _sums(asked: Comparison) -> set[str]:
    """The first sum that departs where everything that it is made of is right, as far as it is answered."""
    for quantity in ("potential", "printed cost"):
        if asked.difference(View(quantity)) is not None:
            return {f"{quantity} alone"}
    if not asked.result.decisions.matches:
        return {"statistics of nothing"}
    expected, said = asked.case.expected.statistics or asdict(asked.result.statistics), asked.answer.statistics or {}
    apart = [name for name, value in expected.items() if not np.isclose(said.get(name, np.inf), value, equal_nan=True)]
    return {f"statistics {name}" for name in apart} or {"statistics otherwise"}

"""What the suite says of a mistake that no catalogue lists, and whether that is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from meta.several import small_cases
from meta.unlisted.mistake import Mistake
from regionloss_suite.diagnosis.diagnosis import Diagnosis, diagnose
from regionloss_suite.judging.judge import Judge

Kind = Literal["right", "family", "false", "unexplained", "not caught"]


@dataclass(frozen=True)
class Outcome:
    """What a mistake was taken for.

    Attributes:
        kind: whether the first blame is `right`, in the `family` of the mistake, or `false`; `unexplained` if nothing
            is blamed, and `not caught` if nothing departs.
        first: the first clause that is blamed, or an empty string.
        blamed: all of them.
        diagnosis: with the evidence.
    """

    kind: Kind
    first: str
    blamed: frozenset[str]
    diagnosis: Diagnosis


def outcome_of(mistake: Mistake) -> Outcome:
    """Judge a mistake by the small golden cases, and diagnose it."""
    judge = Judge(mistake.adapter(), small_cases(), mistake.profile)
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    caught = any(verdict.verdict == "deviating" for verdict in verdicts)
    diagnosis = diagnose(judge, verdicts)
    blamed = frozenset(verdict.clause for verdict in diagnosis.verdicts if verdict.verdict == "deviating")
    first = next((one.clause for one in diagnosis.differences if one.clause in blamed), min(blamed, default=""))
    return Outcome(_kind(mistake, first, caught), first, blamed, diagnosis)


def _kind(mistake: Mistake, first: str, caught: bool) -> Kind:
    if not caught:
        return "not caught"
    if not first:
        return "unexplained"
    return "right" if first in mistake.right else "family" if first in mistake.family else "false"

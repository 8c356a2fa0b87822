"""Several known losses and mistakes at once, where no single one answers as a loss did.

Each must explain most of what those before it leave: an answer that is the same to the last digit in most of the cases
is no accident, while in a few small ones it may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regionloss_adapters import CannotAnswer, Question, Refused
from regionloss_spec import ProfileError
from regionloss_spec.clause import View
from regionloss_suite.diagnosis.known_causes import Likeness, answers_so, candidates, is_right_elsewhere
from regionloss_suite.diagnosis.ranking import Suspect
from regionloss_suite.judging.judge import Observation
from regionloss_suite.oracle.comparison import Comparison

#: Of the smallest cases so many are asked to choose.
_SAMPLE = 12
#: The share of what is left that the next one has to explain, and how many there are at most.
_SHARE, _MOST = 0.6, 3


@dataclass(frozen=True)
class Several:
    """What a loss looks like.

    Attributes:
        likenesses: the known losses and mistakes, at least one, that which explains most first.
        explained: by name of a case, the clause of that which explains it.
        left: what departs and none of them explains or even touches.
    """

    likenesses: tuple[Likeness, ...]
    explained: Mapping[str, str]
    left: tuple[Observation, ...]

    def explains(self, seen: Observation) -> bool:
        """Whether one of them answers as the loss did."""
        return any(answers_so(one, seen) for one in self.likenesses)


def several(observations: list[Observation], ranked: list[Suspect], without: str) -> Several | None:
    """The known losses and mistakes that explain together what departs, or `None`; arguments as for `likeness`."""
    smallest = sorted(observations, key=lambda observation: np.size(observation.case.batch.predictions))
    agreeing = [seen for seen in smallest if not seen.departs]
    left = [seen for seen in smallest if seen.departs]
    order = {suspect.clause: place for place, suspect in enumerate(ranked)}
    known = [one for one in candidates(left[0].case.profile, without) if one.clause in order] if left else []
    known.sort(key=lambda one: order[one.clause])
    found: list[Likeness] = []
    explained: dict[str, str] = {}
    while left and len(found) < _MOST:
        best = _best([one for one in known if one.clause not in explained.values()], left, agreeing)
        if best is None:
            break
        found.append(best)
        explained |= {seen.case.id: best.clause for seen in left if answers_so(best, seen)}
        left = [seen for seen in left if not answers_so(best, seen)]
    untouched = tuple(seen for seen in left if not any(_touches(one, seen) for one in found))
    return Several(tuple(found), explained, untouched) if found else None


def _best(known: list[Likeness], left: list[Observation], agreeing: list[Observation]) -> Likeness | None:
    """That which explains most of the smallest cases, if it explains enough of all."""
    sample = left[:_SAMPLE]
    counts = [(count, one) for one in known if (count := _explained(one, sample)) is not None]
    for _, one in sorted(counts, key=lambda pair: -pair[0]):
        of_all = sum(answers_so(one, seen) for seen in left)
        if of_all >= _SHARE * len(left) and is_right_elsewhere(one, agreeing):
            return one
    return None


def _explained(one: Likeness, sample: list[Observation]) -> int | None:
    """How many of some cases it explains, or `None` as soon as those are too few."""
    missed = 0
    for seen in sample:
        missed += not answers_so(one, seen)
        if len(sample) - missed < _SHARE * len(sample):
            return None
    return len(sample) - missed


def _touches(one: Likeness, seen: Observation) -> bool:
    """Whether it answers otherwise than a conforming loss: then it may hide another mistake, or be hidden by it."""
    if not isinstance(seen.asked, Comparison):
        return True
    case, dtype = seen.case, seen.asked.dtype
    try:
        answer = one.answer(Question(batch=case.batch, profile=case.profile, dtype=dtype))
    except (CannotAnswer, Refused, ProfileError, ArithmeticError, ValueError, IndexError):
        return True
    return Comparison(case, answer, dtype).difference(View("everything")) is not None

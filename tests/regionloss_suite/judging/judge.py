"""The verdict on one clause: its cases put to an adapter, its views held against the answers."""

from __future__ import annotations

import dataclasses
import traceback
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from regionloss import DomainError, evaluate
from regionloss.bounds import PRECISIONS
from regionloss_adapters import Adapter, AdapterError, CannotAnswer, Question, Refused
from regionloss_spec import Case, Clause, Profile, load_clauses, load_profile
from regionloss_spec.case import Expected
from regionloss_spec.clause import View
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Comparison, Difference, reference_of
from regionloss_suite.oracle.coverage import clauses_reached, holds
from regionloss_suite.oracle.reduction import multiplied_out


class NothingToJudgeError(ValueError):
    """The cases and the profile that were asked for leave no case."""


@dataclass(frozen=True)
class Refusal:
    """The adapter refused a case, or would not be asked it, or broke on it."""

    kind: str  # "refused", "cannot", "crashed", or "answered" where a refusal was wanted
    message: str
    image: int | None = None
    truth: int | None = None
    dtype: str = ""


@dataclass(frozen=True, eq=False)
class Observation:
    """What came back for one case in one format.

    Attributes:
        case: what was asked.
        asked: the answer, held against the reference, or the refusal.
        departs: whether it is not what a conforming loss answers.
    """

    case: Case
    asked: Comparison | Refusal
    departs: bool


class Judge:
    """Puts cases to an adapter, each one once, and judges clauses by the answers.

    Args:
        adapter: the implementation under test.
        cases: what it is asked.
        profile: judge it as this profile; every profile that it claims if left out.

    Raises:
        NothingToJudgeError: no case is left.
    """

    def __init__(self, adapter: Adapter, cases: list[Case], profile: str | None = None) -> None:
        self.adapter = adapter
        self.description = adapter.describe()
        self.profile = profile or ("any" if "*" in self.description.profiles else ", ".join(self.description.profiles))
        claimed = (profile,) if profile is not None else self.description.profiles
        self.cases = [_with_clauses(case) for case in _choose(cases, claimed)]
        if not self.cases:
            raise NothingToJudgeError(f"none of the {len(cases)} cases belongs to profile {self.profile}")
        self.crashes: dict[str, str] = {}
        #: An adapter's own mistake in the middle of a run, which says nothing about the loss.
        self.fault: AdapterError | None = None
        #: By case, what came back on which device; two profiles may be asked the case of one name.
        self._asked: dict[Case, list[tuple[str, Comparison | Refusal]]] = {}

    @cached_property
    def clauses(self) -> list[Clause]:
        """The clauses that bind the profiles of the cases, in the order of the spec."""
        profiles = [case.profile for case in self.cases]
        return [clause for clause in load_clauses().values() if any(clause.applies_to(profile) for profile in profiles)]

    @cached_property
    def observations(self) -> list[Observation]:
        """Everything that was asked, what came back, and whether it departs from the reference in anything."""
        return [
            Observation(case, asked, self._departs(case, asked)) for case in self.cases for asked in self._told(case)
        ]

    def observe(self, case: Case) -> list[Observation]:
        """Put a case to the adapter that decides no verdict, such as a drawn batch on which a property departs."""
        self._ask(case)
        return [Observation(case, asked, self._departs(case, asked)) for asked in self._told(case)]

    def _told(self, case: Case) -> list[Comparison | Refusal]:
        said = (asked for _, asked in self._asked.get(case, ()))
        return [asked for asked in said if isinstance(asked, Comparison) or asked.kind != "cannot"]

    def _departs(self, case: Case, asked: Comparison | Refusal) -> bool:
        if case.expected.error is not None:
            return self._judge_refusal(case, asked)[1] is not None
        return isinstance(asked, Refusal) or asked.difference(View("everything")) is not None

    def verdict(self, clause: Clause) -> Verdict:
        """Judge one clause by the cases that pin it."""
        pinned = [case for case in self.cases if clause.id in case.clauses]
        pinned.sort(key=lambda case: np.size(case.batch.predictions))  # the smallest that departs tells most
        if not pinned:
            reason = clause.untestable or "no case of this profile pins it"
            return Verdict(clause=clause.id, level=clause.level, verdict="not-answerable", cases=0, reason=reason)
        judged, why_not = 0, ""
        for case in pinned:
            answered, difference, reason = self._judge(clause, case)
            judged += answered
            why_not = why_not or reason
            if difference is not None:
                return Verdict(
                    clause=clause.id, level=clause.level, verdict="deviating", cases=judged, first=difference
                )
        if judged:
            return Verdict(clause=clause.id, level=clause.level, verdict="conforming", cases=judged)
        return Verdict(clause=clause.id, level=clause.level, verdict="not-answerable", cases=0, reason=why_not)

    def departures(self, clause: Clause) -> tuple[int, list[str]]:
        """How many of the cases that pin a clause were answered, and the ids of those that depart in it."""
        judged = {case.id: self._judge(clause, case) for case in self.cases if clause.id in case.clauses}
        answered = sum(bool(answered) for answered, _, _ in judged.values())
        return answered, [case for case, (_, difference, _) in judged.items() if difference is not None]

    def _judge(self, clause: Clause, case: Case) -> tuple[bool, Difference | None, str]:
        """Whether the case was answered, the first departure in the clause's views, and else the reason."""
        answered, reason = False, ""
        dtype = clause.id.removeprefix("numerics.")
        for device, asked in self._ask(case):
            if dtype in PRECISIONS and asked.dtype not in ("", dtype):  # another format says nothing about this one
                reason = reason or f"{self.description.name} was not asked in {dtype}"
                continue
            if case.expected.error is not None:
                verdict = self._judge_refusal(case, asked)
            elif isinstance(asked, Refusal):
                verdict = (asked.kind != "cannot", self._refusal(case, asked), asked.message)
            else:
                verdict = self._judge_views(clause, case, asked)
            answered, reason = answered or verdict[0], reason or verdict[2]
            if verdict[1] is not None:
                return True, self._placed(verdict[1], device), ""
        return answered, None, reason

    def _judge_views(self, clause: Clause, case: Case, comparison: Comparison) -> tuple[bool, Difference | None, str]:
        answered = [view for view in clause.seen if comparison.answers(view)]
        # Any departure shows in a broad view: it decides only where nothing narrower is answered or departs.
        views = [view for view in answered if not view.broad]
        if not views and not self._blamed_elsewhere(case, comparison):
            views = answered
        differences = (comparison.difference(view) for view in views)
        first = next((difference for difference in differences if difference is not None), None)
        said = ", ".join(dict.fromkeys(view.answer for view in clause.seen))
        return bool(answered), first, f"seen only in its {said}, which {self.description.name} does not answer"

    def _blamed_elsewhere(self, case: Case, comparison: Comparison) -> bool:
        """Whether a clause with a narrower view of the case departs."""
        clauses = load_clauses()
        narrow = {view for other in case.clauses for view in clauses[other].seen if not view.broad}
        return any(comparison.difference(view) is not None for view in narrow)

    def _judge_refusal(self, case: Case, asked: Comparison | Refusal) -> tuple[bool, Difference | None, str]:
        """Whether an input outside the domain was refused, and at the right place."""
        expected = _said_error(case)
        if isinstance(asked, Comparison) or asked.kind == "answered":
            return True, _plain(case, "error", "an answer", f"a refusal: {expected}"), ""
        if asked.kind != "refused":
            return asked.kind != "cannot", self._refusal(case, asked), asked.message
        wanted = case.expected.error or {}
        for name, got in (("image", asked.image), ("truth", asked.truth)):
            if got is not None and got != wanted.get(name):
                return True, _plain(case, "error", f"{name} {got}", expected), ""
        return True, None, ""

    def _refusal(self, case: Case, refusal: Refusal) -> Difference | None:
        if refusal.kind == "cannot":
            return None
        return _plain(case, "error", f"{refusal.kind}: {refusal.message}", "an answer")

    def _placed(self, difference: Difference, device: str) -> Difference:
        """A departure with its device, where there are several."""
        if len(self.description.devices) == 1 or not device:
            return difference
        return dataclasses.replace(difference, quantity=f"{difference.quantity} on {device}")

    def _ask(self, case: Case) -> list[tuple[str, Comparison | Refusal]]:
        """The adapter's answers to a case, on every device and in every format that holds the case exactly."""
        if case not in self._asked:
            described, ways = self.description, []
            if case.expected.error is not None and "errors" not in described.answers:
                why = f"{described.name} does not promise to refuse input outside the domain"
            else:
                why = f"no format of {described.name} holds case {case.id} exactly"
                formats = [dtype for dtype in described.dtypes if holds(dtype, case.batch.predictions)]
                ways = [(dtype, device) for device in described.devices for dtype in formats]
            asked = [(device, self._ask_in(case, dtype, device)) for dtype, device in ways]
            self._asked[case] = asked or [("", Refusal("cannot", why))]
        return self._asked[case]

    def _ask_in(self, case: Case, dtype: str, device: str) -> Comparison | Refusal:
        try:
            answer = self.adapter.answer(Question(batch=case.batch, profile=case.profile, dtype=dtype, device=device))
        except Refused as refused:
            return Refusal("refused", str(refused), refused.image, refused.truth, dtype=dtype)
        except CannotAnswer as error:
            return Refusal("cannot", str(error), dtype=dtype)
        except AdapterError as error:
            self.fault = self.fault or error
            return Refusal("cannot", str(error), dtype=dtype)
        except Exception as error:  # whatever a loss under test may raise is a finding about that loss
            self.crashes[case.id] = traceback.format_exc()
            return Refusal("crashed", f"{type(error).__name__}: {error}", dtype=dtype)
        if case.expected.error is not None:  # there is nothing to hold a number against
            return Refusal("answered", "an answer", dtype=dtype)
        paid = reference_of(case).decisions.matches
        pays, divided = sum(match.pays_box for match in paid), case.profile.reduction
        whole = multiplied_out(answer, self.description, len(case.batch.truths), pays, divided=divided)
        return Comparison(case, whole, dtype)


def _choose(cases: list[Case], claimed: tuple[str, ...]) -> list[Case]:
    """The cases of the claimed profiles; for a profile that has none, the inputs of darknet's under that profile."""
    if "*" in claimed:
        return cases
    chosen = [case for case in cases if case.base in claimed]
    for name in claimed:
        if not any(case.base == name for case in cases):
            profile = load_profile(name)
            chosen += [put for case in cases if case.base == "darknet" and (put := _put_to(case, profile)) is not None]
    return chosen


def _put_to(case: Case, profile: Profile) -> Case | None:
    """The input of a case under another profile, expected from the reference; `None` where that refuses it."""
    put = dataclasses.replace(
        case, base=profile.name, profile=profile, clauses=(), provenance={"kind": "derivation"}, expected=Expected()
    )
    try:
        evaluate(put.batch, profile)
    except DomainError:
        return None
    return put


def _with_clauses(case: Case) -> Case:
    """The case with the clauses that it pins; where it does not say, those that its input reaches."""
    if case.clauses:
        return case
    result = evaluate(case.batch, case.profile)
    return dataclasses.replace(case, clauses=clauses_reached(result, case.batch.images_seen))


def _plain(case: Case, quantity: str, got: str, expected: str) -> Difference:
    return Difference(case=case.id, dtype="", quantity=quantity, got=got, expected=expected)


def _said_error(case: Case) -> str:
    error = case.expected.error or {}
    place = [f"{name} {error[name]}" for name in ("image", "truth") if name in error]
    return ", ".join([str(error.get("clause", "")), *place])

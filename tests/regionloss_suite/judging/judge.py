"""The verdict on a clause: put the cases that pin it to an adapter, and compare the answers in the clause's views."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from regionloss import DomainError, evaluate
from regionloss.bounds import PRECISIONS
from regionloss_adapters import Adapter, AdapterError, Question
from regionloss_adapters.wrap.loss_call import MutatedInputError
from regionloss_spec import Case, Clause, Profile, load_clauses, load_profile
from regionloss_spec.case import Expected
from regionloss_spec.clause import View
from regionloss_suite.judging.exchange import Exchange, copied, put, written_to
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Comparison, Difference
from regionloss_suite.oracle.coverage import clauses_reached, holds


class NothingToJudgeError(ValueError):
    """No case fits the requested cases and profile."""


@dataclass(frozen=True, eq=False)
class Observation:
    """The outcome of one case in one format on one device.

    Attributes:
        exchange: the question and its outcome.
        departs: whether a conforming loss would have done something else.
    """

    exchange: Exchange
    departs: bool

    @property
    def case(self) -> Case:
        """The case that was put to the adapter."""
        return self.exchange.case


class Judge:
    """Puts each case to an adapter once, and judges clauses by the answers.

    Args:
        adapter: the implementation under test.
        cases: the cases to use.
        profile: judge it as this profile; by default every profile that it claims.

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
        #: A fault of the adapter during the run, which says nothing about the loss.
        self.fault: AdapterError | None = None
        #: The outcomes of each case; two profiles may have cases of the same name.
        self._exchanges: dict[Case, list[Exchange]] = {}
        #: Why a case was not put to the adapter at all.
        self._not_put: dict[Case, str] = {}

    @cached_property
    def clauses(self) -> list[Clause]:
        """The clauses that bind the profiles of the cases, in the order of the spec."""
        profiles = [case.profile for case in self.cases]
        return [clause for clause in load_clauses().values() if any(clause.applies_to(profile) for profile in profiles)]

    @cached_property
    def observations(self) -> list[Observation]:
        """Every answer, refusal and crash of the adapter, and whether it deviates from the reference."""
        return [observation for case in self.cases for observation in self._observed(case)]

    def observe(self, case: Case) -> list[Observation]:
        """Put a case to the adapter that decides no verdict, such as a random batch that violates a property."""
        self._put(case)
        return self._observed(case)

    def complete(self) -> None:
        """Put the cases that no verdict has needed so far: a clause is judged by its first deviation alone."""
        unasked = [case for case in self.cases if case not in self._exchanges]
        for case in unasked:
            self._put(case)
        if unasked:
            vars(self).pop("observations", None)

    def puts(self, case: Case) -> bool:
        """Whether a case is one that this judge puts, and not a random batch."""
        return case in self._exchanges

    def pins(self, clause: str) -> bool:
        """Whether a case of this judge pins a clause."""
        return any(clause in case.clauses for case in self.cases)

    def ask_again(self, exchange: Exchange) -> Exchange:
        """Put a question once more; the judge keeps the first outcome."""
        question = dataclasses.replace(exchange.question, batch=copied(exchange.case.batch))
        return put(self.adapter, question, case=exchange.case, description=self.description)

    def outcomes(self, case: Case) -> list[tuple[Exchange, Observation | None]]:
        """The outcomes of a case, each with its observation, or `None` if it says nothing about the loss."""
        return [
            (exchange, None if exchange.unanswerable else Observation(exchange, self._departs(exchange)))
            for exchange in self._exchanges.get(case, ())
        ]

    def only(self, cases: list[Case]) -> Judge:
        """A judge of some of the cases, with the outcomes that are known."""
        return self.beside({case: self._put(case) for case in cases}, {case: case for case in cases})

    def beside(self, exchanges: dict[Case, list[Exchange]], places: dict[Case, Case]) -> Judge:
        """A judge of the same outcomes beside other expectations.

        Args:
            exchanges: the outcomes of each case, with what is expected now.
            places: by case of this judge, the case that takes its place.
        """
        other = copy.copy(self)
        vars(other).pop("observations", None)
        other.cases = list(exchanges)
        other._exchanges = exchanges
        other._not_put = {places[case]: reason for case, reason in self._not_put.items() if case in places}
        return other

    def _observed(self, case: Case) -> list[Observation]:
        exchanges = (exchange for exchange in self._exchanges.get(case, ()) if not exchange.unanswerable)
        return [Observation(exchange, self._departs(exchange)) for exchange in exchanges]

    def _departs(self, exchange: Exchange) -> bool:
        if exchange.case.expected.error is not None:
            return self._judge_refusal(exchange)[1] is not None
        return exchange.comparison is None or exchange.comparison.difference(View("everything")) is not None

    def verdict(self, clause: Clause) -> Verdict:
        """Judge one clause by the cases that pin it."""
        pinned = [case for case in self.cases if clause.id in case.clauses]
        pinned.sort(key=lambda case: np.size(case.batch.predictions))  # the smallest deviating case is the clearest
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
        """How many of the cases that pin a clause were answered, and the ids of those that deviate in it."""
        judged = {case.id: self._judge(clause, case) for case in self.cases if clause.id in case.clauses}
        answered = sum(bool(answered) for answered, _, _ in judged.values())
        return answered, [case for case, (_, difference, _) in judged.items() if difference is not None]

    def _judge(self, clause: Clause, case: Case) -> tuple[bool, Difference | None, str]:
        """Whether the case was answered, the first deviation in the clause's views, or else the reason."""
        answered, reason = False, ""
        dtype = clause.id.removeprefix("numerics.")
        exchanges = self._put(case)
        if not exchanges:
            return False, None, self._not_put[case]
        for exchange in exchanges:
            if dtype in PRECISIONS and exchange.dtype != dtype:  # other formats say nothing about this clause
                reason = reason or f"{self.description.name} was not asked in {dtype}"
                continue
            if case.expected.error is not None:
                judged = self._judge_refusal(exchange)
            elif exchange.comparison is None:
                judged = (not exchange.unanswerable, self._no_answer(exchange), exchange.message)
            else:
                judged = self._judge_views(clause, case, exchange.comparison)
            answered, reason = answered or judged[0], reason or judged[2]
            if judged[1] is not None:
                return True, self._placed(judged[1], exchange.question.device), ""
        return answered, None, reason

    def _judge_views(self, clause: Clause, case: Case, comparison: Comparison) -> tuple[bool, Difference | None, str]:
        answered = [view for view in clause.seen if comparison.answers(view)]
        # A broad view shows any deviation, so it decides only if no narrower view is answered or deviates.
        views = [view for view in answered if not view.broad]
        if not views and not self._blamed_elsewhere(case, comparison):
            views = answered
        differences = (comparison.difference(view) for view in views)
        first = next((difference for difference in differences if difference is not None), None)
        shown_in = ", ".join(dict.fromkeys(view.answer for view in clause.seen))
        return bool(answered), first, f"seen only in its {shown_in}, which {self.description.name} does not return"

    def _blamed_elsewhere(self, case: Case, comparison: Comparison) -> bool:
        """Whether a clause with a narrower view of the case deviates."""
        clauses = load_clauses()
        narrow = {view for other in case.clauses for view in clauses[other].seen if not view.broad}
        return any(comparison.difference(view) is not None for view in narrow)

    def _judge_refusal(self, exchange: Exchange) -> tuple[bool, Difference | None, str]:
        """Whether an input outside the domain was refused, and at the right place."""
        case = exchange.case
        expected = _expected_error(case)
        if exchange.outcome == "answered":
            return True, _error(case, "an answer", f"a refusal: {expected}"), ""
        if exchange.outcome != "refused":
            return not exchange.unanswerable, self._no_answer(exchange), exchange.message
        places = case.expected.error or {}
        for name, got in (("image", exchange.image), ("truth", exchange.truth)):
            if got is not None and got != places.get(name):
                return True, _error(case, f"{name} {got}", expected), ""
        return True, None, ""

    def _no_answer(self, exchange: Exchange) -> Difference | None:
        if exchange.unanswerable:
            return None
        return _error(exchange.case, f"{exchange.outcome}: {exchange.message}", "an answer")

    def _placed(self, difference: Difference, device: str) -> Difference:
        """A deviation with its device, if there are several."""
        if len(self.description.devices) == 1 or not device:
            return difference
        return dataclasses.replace(difference, quantity=f"{difference.quantity} on {device}")

    def _put(self, case: Case) -> list[Exchange]:
        """Put a case to the adapter once, on every device and in every format that represents it exactly."""
        if case not in self._exchanges:
            described = self.description
            if case.expected.error is not None and "errors" not in described.answers:
                formats: list[str] = []
                self._not_put[case] = f"{described.name} does not declare that it refuses input outside the domain"
            else:
                formats = [dtype for dtype in described.dtypes if holds(dtype, case.batch.predictions)]
                self._not_put[case] = f"no format of {described.name} holds case {case.id} exactly"
            self._exchanges[case] = [
                self._exchange(case, dtype, device) for device in described.devices for dtype in formats
            ]
        return self._exchanges[case]

    def _exchange(self, case: Case, dtype: str, device: str) -> Exchange:
        """Put a case to the adapter, and record a crash or a broken promise."""
        # A copy, since a loss that writes to its inputs would change what its answer is compared with.
        question = Question(batch=copied(case.batch), profile=case.profile, dtype=dtype, device=device)
        exchange = put(self.adapter, question, case=case, description=self.description)
        if (written := written_to(case.batch, question.batch)) and exchange.outcome == "answered":
            error = MutatedInputError(f"it changed its {written} in place")
            exchange = dataclasses.replace(
                exchange, outcome="crashed", returned=None, error=error, message=f"MutatedInputError: {error}"
            )
        if isinstance(exchange.error, AdapterError):
            self.fault = self.fault or exchange.error
        elif exchange.outcome == "crashed":
            self.crashes[case.id] = exchange.traceback
        return exchange


def _choose(cases: list[Case], claimed: tuple[str, ...]) -> list[Case]:
    """The cases of the claimed profiles; for a profile without cases, darknet's inputs under that profile."""
    if "*" in claimed:
        return cases
    chosen = [case for case in cases if case.base in claimed]
    for name in claimed:
        if not any(case.base == name for case in cases):
            profile = load_profile(name)
            chosen += [put for case in cases if case.base == "darknet" and (put := _put_to(case, profile)) is not None]
    return chosen


def _put_to(case: Case, profile: Profile) -> Case | None:
    """The input of a case under another profile, with the reference's answer; `None` if the reference refuses it."""
    put = dataclasses.replace(
        case, base=profile.name, profile=profile, clauses=(), provenance={"kind": "derivation"}, expected=Expected()
    )
    try:
        evaluate(put.batch, profile)
    except DomainError:
        return None
    return put


def _with_clauses(case: Case) -> Case:
    """The case with the clauses that it pins; by default those that its input reaches."""
    if case.clauses:
        return case
    result = evaluate(case.batch, case.profile)
    return dataclasses.replace(case, clauses=clauses_reached(result, case.batch.images_seen))


def _error(case: Case, got: str, expected: str) -> Difference:
    return Difference(case=case.id, dtype="", quantity="error", got=got, expected=expected)


def _expected_error(case: Case) -> str:
    error = case.expected.error or {}
    place = [f"{name} {error[name]}" for name in ("image", "truth") if name in error]
    return ", ".join([str(error.get("clause", "")), *place])

"""From the deviations of a loss to the clauses that it breaks, by measuring.

A loss that deviates is measured (`measure`), and every departing observation is put to the reference again under the
measured loss. What agrees there is explained: each choice in which the measured loss differs from the profile is
blamed, with the isolating question as evidence and the cases that it changes as proof. What departs even there is the
rest: a known cause is named only if it explains all of it, to the last digit; else an isolating question that no
profile expresses is blamed for what it reaches; else the rest is unexplained, and nobody is accused of it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from regionloss.terms import T_O
from regionloss_spec import AXES, Profile, load_clauses
from regionloss_suite.diagnosis.blame import blame
from regionloss_suite.diagnosis.common_patterns import Blame, few_digits
from regionloss_suite.diagnosis.crashes import CrashKind, crash_kinds
from regionloss_suite.diagnosis.differences import Choice, choices, first_of, measured_loss, proven
from regionloss_suite.diagnosis.known_causes import KnownCause, matching_causes, resembling
from regionloss_suite.diagnosis.measured_judge import Explained, MeasuredLoss, explained, rebased, wrong_parts
from regionloss_suite.diagnosis.memory import another_answer, hidden_behind, writes_to_inputs
from regionloss_suite.diagnosis.ranking import rank_clauses, reached
from regionloss_suite.diagnosis.symptoms import stage_of
from regionloss_suite.judging.differences import MeasuredDifference, Unexplained
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.measure.black_box import NoAnswerError
from regionloss_suite.measure.experiments import Identified, identify
from regionloss_suite.oracle.comparison import Difference

#: The random batches on which properties fail, by name: the observations on each, put to the adapter alone.
Drawn = Mapping[str, list[Observation]]


@dataclass(frozen=True)
class Measuring:
    """How a deviating loss is measured.

    Attributes:
        budget: seconds after which no other question is put.
        progress: called with the name of each experiment, its number, and the number of experiments.
        without: id of a mutant to leave out of the known causes.
    """

    budget: float = 120.0
    progress: Callable[[str, int, int], None] | None = None
    without: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The verdicts on a loss, and what explains them.

    Attributes:
        verdicts: one for each clause, in the order given.
        differences: what the loss does differently, the one that changes most cases first.
        unexplained: what departs even from the measured loss, if anything does.
        identified: the measured formula, if the loss was measured.
        notes: what else is to be said, one sentence each.
    """

    verdicts: list[Verdict]
    differences: tuple[MeasuredDifference, ...] = ()
    unexplained: Unexplained | None = None
    identified: Identified | None = None
    notes: tuple[str, ...] = ()


#: The share of the departing cases up to which what remains is put down to one mistake.
_SMALL = 0.2
#: How many of the smallest departing cases vote on a measured value.
_VOTERS = 16


@dataclass
class _Evidence:
    """The observations of a loss, and what they are under the measured loss.

    Attributes:
        judge: has put every question.
        departing: the departing observations, golden cases before random batches, the smallest first.
        drawn: the observations on random batches, by name.
        loss: the measured loss, or `None` if it was not measured.
        under: each departing observation under the measured loss.
    """

    judge: Judge
    departing: list[Observation]
    drawn: Drawn
    loss: MeasuredLoss | None = None
    under: list[Observation] = field(default_factory=list)

    @property
    def explained(self) -> list[Explained]:
        """The observations of which the measured loss explains all or some."""
        pairs = zip(self.departing, self.under, strict=True)
        return [one for before, after in pairs if (one := explained(before, after)) is not None]

    @property
    def agreeing(self) -> list[Observation]:
        """What agrees with the profile, and what agrees with the measured loss, as that sees it."""
        known = [observation for observation in self.judge.observations if not observation.departs]
        return [*known, *(after for after in self.under if not after.departs)]

    @property
    def rest(self) -> list[Observation]:
        """What departs even from the measured loss, as the measured loss sees it."""
        return [after for after in self.under if after.departs]

    @property
    def cases(self) -> int:
        """Number of departing cases."""
        return len({observation.case.id for observation in self.departing})


def diagnose(
    judge: Judge,
    verdicts: list[Verdict],
    *,
    drawn: Drawn | None = None,
    tally: Mapping[str, float] | None = None,
    measuring: Measuring | None = None,
) -> Diagnosis:
    """Diagnose a loss by its verdicts and its answers.

    Args:
        judge: has put every question, and keeps every answer.
        verdicts: one for each clause.
        drawn: the observations on the random batches on which properties fail.
        tally: by clause, how well it explains which properties fail and which do not; it decides if every single answer
            is right and only several of them contradict each other.
        measuring: how to measure the loss; by default for two minutes at most.
    """
    with np.errstate(all="ignore"):  # what a loss answers may be infinite or no number
        return _diagnosed(judge, verdicts, drawn or {}, tally or {}, measuring or Measuring())


def _diagnosed(
    judge: Judge, verdicts: list[Verdict], drawn: Drawn, tally: Mapping[str, float], measuring: Measuring
) -> Diagnosis:
    if not any(verdict.verdict == "deviating" for verdict in verdicts):
        return Diagnosis(verdicts)
    judge.complete()
    everything = [*judge.observations, *(observation for some in drawn.values() for observation in some)]
    departing = [observation for observation in everything if observation.departs]
    written = writes_to_inputs(departing)
    if written is not None:
        return Diagnosis(hidden_behind(verdicts, written), (written,))
    crashed = [observation for observation in departing if observation.exchange.outcome == "crashed"]
    if crashed and len(crashed) == len(everything):
        return _crashes_alike(verdicts, crashed)
    if crashed:
        return _without_crashes(judge, verdicts, drawn, tally, measuring, crash_kinds(everything), crashed)
    remembered = another_answer(judge, departing)
    if remembered is not None:
        return Diagnosis(hidden_behind(verdicts, remembered), (remembered,))
    departing.sort(key=lambda one: (one.case.id in drawn, np.size(one.case.batch.predictions)))
    evidence = _Evidence(judge, departing, drawn, under=list(departing))
    if (few := few_digits(departing)) is not None and not matching_causes(
        departing, evidence.agreeing, without=measuring.without
    ):
        return _by_digits(evidence, verdicts, few)
    identified = _measured(judge, departing, measuring)
    if identified is not None:
        evidence.loss = measured_loss(identified, judge.description)
        evidence.under = [evidence.loss.rebased(observation) for observation in departing]
        refuted = _refuted(evidence, identified)
        if refuted:
            evidence.loss = measured_loss(identified, judge.description, refuted)
            evidence.under = [evidence.loss.rebased(observation) for observation in departing]
    return _settled(evidence, verdicts, identified, tally, measuring.without)


def _crashes_alike(verdicts: list[Verdict], crashed: list[Observation]) -> Diagnosis:
    """The diagnosis of a loss that crashes at every question: that says nothing about any clause."""
    message = crashed[0].exchange.message
    reason = f"it crashes at every question: {message}"
    settled = [
        dataclasses.replace(verdict, verdict="not-answerable", first=None, reason=reason)
        if verdict.verdict == "deviating"
        else verdict
        for verdict in verdicts
    ]
    return Diagnosis(settled, notes=(f"It crashes at every question, so no clause was judged: {message}",))


def _without_crashes(
    judge: Judge,
    verdicts: list[Verdict],
    drawn: Drawn,
    tally: Mapping[str, float],
    measuring: Measuring,
    kinds: tuple[CrashKind, ...],
    crashed: list[Observation],
) -> Diagnosis:
    """The diagnosis of a loss that crashes on some inputs: it is judged on all others, and the kinds are said."""
    cases = {id(observation.case) for observation in crashed}
    rest = judge.only([case for case in judge.cases if id(case) not in cases])
    answered = {name: some for name, some in drawn.items() if not any(id(one.case) in cases for one in some)}
    names = set(drawn) - set(answered)
    judged = []
    for verdict in verdicts:
        if verdict.verdict == "deviating":
            again = rest.verdict(load_clauses()[verdict.clause])
            by_property = verdict.first is not None and verdict.first.case in answered
            if again.verdict != "deviating" and not by_property:
                reason = again.reason
                own = [one for one in crashed if verdict.clause in one.case.clauses]
                if again.verdict == "not-answerable" and own and not rest.pins(verdict.clause):
                    reason = f"it crashes where this shows: {own[0].exchange.message}"
                verdict = dataclasses.replace(again, properties=verdict.properties, reason=reason)
            elif again.verdict == "deviating" and verdict.first is not None and verdict.first.case in names:
                verdict = dataclasses.replace(verdict, first=again.first)
        judged.append(verdict)
    diagnosis = diagnose(rest, judged, drawn=answered, tally=tally, measuring=measuring)
    by_clause = {kind.clause: kind for kind in reversed(kinds)}
    settled = [
        _crashing(verdict, by_clause[verdict.clause], crashed) if verdict.clause in by_clause else verdict
        for verdict in diagnosis.verdicts
    ]
    number = len({observation.case.id for observation in crashed})
    where = (
        f"on {' and on '.join(kind.words for kind in kinds)} ({number} cases in all)" if kinds else f"in {number} cases"
    )
    note = f"It crashes {where}; the rest was judged without them."
    return dataclasses.replace(diagnosis, verdicts=settled, notes=(*diagnosis.notes, note))


def _crashing(verdict: Verdict, kind: CrashKind, crashed: list[Observation]) -> Verdict:
    """The verdict on the clause that asks for an answer to a kind of input on which the loss crashes."""
    own = next((one for one in crashed if verdict.clause in one.case.clauses), crashed[0])
    first = Difference(
        case=own.case.id, dtype="", quantity="error", got=f"crashed: {own.exchange.message}", expected="an answer"
    )
    return dataclasses.replace(verdict, verdict="deviating", first=first, looks_like=f"it crashes on {kind.words}")


#: The measured formulas of each judge's loss, by profile: a failing property is diagnosed beside the golden cases.
_MEASURED: WeakKeyDictionary[Judge, dict[Profile, Identified | None]] = WeakKeyDictionary()


def _measured(judge: Judge, departing: list[Observation], measuring: Measuring) -> Identified | None:
    """The measured formula; `None` if nothing departs, or for a loss that cannot be measured."""
    answered = [observation for observation in departing if observation.exchange.outcome == "answered"]
    if not {"gradient", "potential", "terms"} & set(judge.description.answers) or not answered:
        return None
    known, asked = _MEASURED.setdefault(judge, {}), _asked(answered)
    if asked not in known:
        try:
            known[asked] = identify(judge.adapter, asked, measuring.progress, measuring.budget)
        except NoAnswerError:
            known[asked] = None
    return known[asked]


def _asked(departing: list[Observation]) -> Profile:
    """The profile to ask under: that of most departing cases, preferably without options."""
    counts = Counter(observation.case.profile for observation in departing)
    return max(counts, key=lambda profile: counts[profile])


def _settled(
    evidence: _Evidence,
    verdicts: list[Verdict],
    identified: Identified | None,
    tally: Mapping[str, float],
    without: str,
) -> Diagnosis:
    """The verdicts by the measured loss, and by what is left beside it."""
    if identified is not None and not evidence.departing:
        return Diagnosis(verdicts)
    causes: tuple[KnownCause, ...] = ()
    measured = None if identified is None else identified.findings
    agreeing = [observation for observation in evidence.judge.observations if not observation.departs]
    if evidence.rest or not evidence.departing:
        causes = matching_causes(evidence.departing, agreeing, without=without, measured=measured)
        if causes:  # they explain everything from the claimed profile, so that no measurement is needed
            return _by_causes(evidence, verdicts, causes, identified, [])
    found = _differences(evidence, identified)
    if not found:  # nothing that was measured explains anything: what departs is best seen beside the profile
        evidence.loss, evidence.under = None, list(evidence.departing)
    if evidence.rest and found:
        causes = matching_causes(evidence.rest, evidence.agreeing, without=without, measured=measured)
        if causes:
            return _by_causes(evidence, verdicts, causes, identified, found)
    return _by_rest(evidence, verdicts, identified, found, tally, without)


def _refuted(evidence: _Evidence, identified: Identified) -> list[str]:
    """The axes whose measured value the departing cases refute: without it, more of the loss's answers are explained.

    One case that is explained altogether is enough; of cases that are explained in part, most have to say so.
    """
    if evidence.loss is None or not evidence.rest:
        return []
    pairs = [(before, after) for before, after in zip(evidence.departing, evidence.under, strict=True) if after.departs]
    return [
        choice.name
        for choice in choices(evidence.loss, identified, evidence.judge.description.reduction)
        if choice.name in AXES
        and choice.without is not None
        and (
            _speaks_against(choice.without, pairs)
            or ((choice.name, choice.measured) == ("ignore", "none") and _silent_after_all(pairs))
        )
    ]


def _silent_after_all(pairs: list[tuple[Observation, Observation]]) -> bool:
    """Whether an objectness that is paid for every overlap, by what was measured, is not paid in some answer."""
    for _, after in pairs:
        comparison = after.exchange.comparison
        if comparison is None or comparison.answer.gradient is None:
            continue
        got, result = np.asarray(comparison.answer.gradient), comparison.result
        if got.shape == result.gradient.shape:
            free = ~result.decisions.responsible
            pays = result.gradient.reshape(result.t.shape)[:, :, T_O] != 0
            if (free & pays & (got.reshape(result.t.shape)[:, :, T_O] == 0)).any():
                return True
    return False


def _speaks_against(without: MeasuredLoss, pairs: list[tuple[Observation, Observation]]) -> bool:
    """Whether departing cases are explained better by a loss without a choice than by the measured loss."""
    votes = 0.0
    for place, (before, after) in enumerate(pairs):
        one = without.rebased(before)
        if not one.departs:
            return True
        wrong = wrong_parts(one), wrong_parts(after)
        if place < _VOTERS and wrong[0] is not None and wrong[1] is not None:
            votes += np.sign(int(wrong[1].sum()) - int(wrong[0].sum()))
    return votes > 0


def _differences(evidence: _Evidence, identified: Identified | None) -> list[MeasuredDifference]:
    """The measured differences that change departing cases, those that change most first."""
    if identified is None or evidence.loss is None:
        return []
    all_choices: list[Choice] = list(choices(evidence.loss, identified, evidence.judge.description.reduction))
    known = [proven(choice, evidence.loss, evidence.explained, evidence.drawn) for choice in all_choices]
    kept = [dataclasses.replace(one, departing=evidence.cases) for one in known if one.changes]
    return sorted(kept, key=lambda one: (-one.changes, one.choice != "squared_factor"))


def _by_causes(
    evidence: _Evidence,
    verdicts: list[Verdict],
    causes: tuple[KnownCause, ...],
    identified: Identified | None,
    found: list[MeasuredDifference],
) -> Diagnosis:
    """The diagnosis of a loss whose rest known causes explain to the last digit."""
    rest = evidence.rest if found else evidence.departing
    differences = list(found)
    for cause in causes:
        own = [observation for observation in rest if cause.explains(observation)]
        differences.append(
            MeasuredDifference(
                choice=cause.words,
                measured=None,
                expected=None,
                clause=cause.clause,
                evidence="a loss with this mistake gives the same answers, to the last digit",
                changes=len({observation.case.id for observation in own}),
                departing=evidence.cases,
                case=own[0].case.id,
                alone=not found,
                first=first_of(own[0], cause.clause),
            )
        )
    blamed = {one.clause: one for one in reversed(differences)}
    return Diagnosis([_accounted(verdict, blamed) for verdict in verdicts], tuple(differences), None, identified)


def _accounted(verdict: Verdict, blamed: Mapping[str, MeasuredDifference]) -> Verdict:
    """A verdict where everything is explained: a clause that is not blamed conforms."""
    if verdict.clause in blamed:
        one = blamed[verdict.clause]
        return dataclasses.replace(
            verdict, verdict="deviating", first=one.first or verdict.first, looks_like=one.words, reason=""
        )
    if verdict.verdict != "deviating":
        return verdict
    names = ", ".join(dict.fromkeys(one.clause for one in blamed.values()))
    reason = f"its cases agree once {names} {'is' if len(blamed) == 1 else 'are'} taken into account"
    return dataclasses.replace(verdict, verdict="conforming", first=None, reason=reason)


def _by_digits(evidence: _Evidence, verdicts: list[Verdict], few: Blame) -> Diagnosis:
    """The diagnosis of a loss that is off a little everywhere: measuring would take its rounding for choices."""
    difference = _of_the_rest(evidence, few, alone=True)
    left = {verdict.clause: verdict for verdict in verdicts if verdict.verdict == "deviating"}
    blamed = {few.clause: difference}
    return Diagnosis([_behind(verdict, blamed, left, few.clause) for verdict in verdicts], (difference,))


def _by_rest(
    evidence: _Evidence,
    verdicts: list[Verdict],
    identified: Identified | None,
    found: list[MeasuredDifference],
    tally: Mapping[str, float],
    without: str,
) -> Diagnosis:
    """The diagnosis of a loss of which measured differences explain all or some, and nothing known the rest."""
    blamed = {one.clause: one for one in reversed(found)}
    left = _left(evidence, verdicts)
    if not left and not found:  # nothing that departed conforms before something is blamed for it
        left = {verdict.clause: verdict for verdict in verdicts if verdict.verdict == "deviating"}
    if not left:
        return Diagnosis([_accounted(verdict, blamed) for verdict in verdicts], tuple(found), None, identified)
    rest = evidence.rest
    if not rest:  # every single answer is right, and only several of them contradict each other
        broken = max(left, key=lambda clause: (tally.get(clause, 0.0), -list(left).index(clause)))
        settled = [_behind(verdict, blamed, left, broken) for verdict in verdicts]
        return Diagnosis(settled, tuple(found), None, identified)
    ranked = rank_clauses([*evidence.agreeing, *rest])
    departing = {observation.case.id for observation in rest}
    alone = not found or len(departing) <= _SMALL * evidence.cases
    several = blame(identified, ranked, rest, left, alone=alone)
    if several:
        found = [*found, *(_of_the_rest(evidence, one, alone=not found) for one in several)]
        blamed = {one.clause: one for one in reversed(found)}
        first = several[0].clause
        settled = [_behind(verdict, blamed, left, first) for verdict in verdicts]
        return Diagnosis(settled, tuple(found), None, identified)
    settled = [_behind(verdict, blamed, left, "") for verdict in verdicts]
    return Diagnosis(settled, tuple(found), _unexplained(evidence, identified, without), identified)


def _of_the_rest(evidence: _Evidence, one: Blame, *, alone: bool) -> MeasuredDifference:
    """The difference of a clause that is blamed for the rest, or for the part of it that reaches the clause."""
    rest = evidence.rest
    own = [observation for observation in rest if one.clause in reached(observation.case)] or rest
    return MeasuredDifference(
        choice=one.words, measured=None, expected=None, clause=one.clause, evidence=one.evidence,
        changes=len({observation.case.id for observation in own}), departing=evidence.cases,
        case=own[0].case.id, alone=alone, first=first_of(own[0], one.clause),
    )  # fmt: skip


def _left(evidence: _Evidence, verdicts: list[Verdict]) -> dict[str, Verdict]:
    """The deviating clauses that the measured loss does not explain, by id."""
    deviating = [verdict for verdict in verdicts if verdict.verdict == "deviating"]
    if evidence.loss is None:
        return {verdict.clause: verdict for verdict in deviating}
    under = rebased(evidence.judge, evidence.loss)
    golden = {clause.id: under.verdict(clause) for clause in under.clauses}
    after = dict(zip(map(id, evidence.departing), evidence.under, strict=True))
    open_runs = {
        name
        for name, some in evidence.drawn.items()
        if not any(one.departs for one in some) or any(after[id(one)].departs for one in some if one.departs)
    }
    left = {}
    for verdict in deviating:
        before = evidence.judge.verdict(load_clauses()[verdict.clause])
        by_property = verdict.first is not None and verdict.first.case in open_runs and before.verdict != "deviating"
        if golden[verdict.clause].verdict == "deviating" or by_property:
            left[verdict.clause] = golden[verdict.clause] if golden[verdict.clause].first else verdict
    return left


def _behind(
    verdict: Verdict,
    blamed: Mapping[str, MeasuredDifference],
    left: Mapping[str, Verdict],
    first: str,
) -> Verdict:
    """A verdict where a rest remains: `hidden` behind the first clause of the rest, or `unexplained` without one."""
    if verdict.clause in blamed or (verdict.clause not in left and verdict.clause != first):
        return _accounted(verdict, blamed)
    if verdict.clause == first:
        return dataclasses.replace(verdict, verdict="deviating", first=left.get(first, verdict).first or verdict.first)
    if first:
        return dataclasses.replace(verdict, verdict="hidden", follows=first, reason=f"cannot be told behind {first}")
    return dataclasses.replace(
        verdict, verdict="unexplained", first=left[verdict.clause].first,
        reason="its cases depart, and no measurement and no known mistake tells why",
    )  # fmt: skip


def _unexplained(evidence: _Evidence, identified: Identified | None, without: str) -> Unexplained:
    """What departs and is not explained, and what it resembles."""
    rest = evidence.rest
    findings = () if identified is None else tuple(f"{one.axis}: {one.evidence}" for one in identified.odd)
    return Unexplained(
        cases=len({observation.case.id for observation in rest}),
        departing=evidence.cases,
        stage=stage_of(rest[0]),
        case=rest[0].case.id,
        first=first_of(rest[0], ""),
        resembles=resembling(rest, without=without),
        findings=findings,
    )

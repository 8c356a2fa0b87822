"""From the deviations of a loss to the clauses that it breaks, by measuring.

A loss that deviates is measured (`measure`), and every departing observation is put to the reference again under the
measured loss. What agrees there is explained: each choice in which the measured loss differs from the profile is
blamed, with the isolating question as evidence and the cases that it changes as proof. What departs even there is the
rest: a known cause is named only if it explains all of it, to the last digit; else an isolating question that no
profile expresses is blamed for what it reaches; else the rest is unexplained, and nobody is accused of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regionloss_spec import load_clauses
from regionloss_suite.diagnosis.blame import blame
from regionloss_suite.diagnosis.common_patterns import Blame, few_digits
from regionloss_suite.diagnosis.crashes import CrashKind, crash_kinds
from regionloss_suite.diagnosis.differences import Choice, choices, first_of, proven
from regionloss_suite.diagnosis.evidence import Drawn, Evidence, Measuring
from regionloss_suite.diagnosis.known_causes import KnownCause, matching_causes, resembling
from regionloss_suite.diagnosis.measured_judge import rebased
from regionloss_suite.diagnosis.memory import another_answer, hidden_behind, writes_to_inputs
from regionloss_suite.diagnosis.ranking import rank_clauses, reached
from regionloss_suite.diagnosis.settled_verdicts import accounted, behind, crashing
from regionloss_suite.diagnosis.symptoms import stage_of
from regionloss_suite.judging.differences import MeasuredDifference, Unexplained
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.measure.experiments import Identified


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
    evidence = Evidence(judge, departing, drawn, under=list(departing))
    if (few := few_digits(departing)) is not None and not matching_causes(
        departing, evidence.agreeing, without=measuring.without
    ):
        return _by_digits(evidence, verdicts, few)
    identified = evidence.measure(measuring)
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
        crashing(verdict, by_clause[verdict.clause], crashed) if verdict.clause in by_clause else verdict
        for verdict in diagnosis.verdicts
    ]
    number = len({observation.case.id for observation in crashed})
    where = (
        f"on {' and on '.join(kind.words for kind in kinds)} ({number} cases in all)" if kinds else f"in {number} cases"
    )
    note = f"It crashes {where}; the rest was judged without them."
    return dataclasses.replace(diagnosis, verdicts=settled, notes=(*diagnosis.notes, note))


def _settled(
    evidence: Evidence,
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


def _differences(evidence: Evidence, identified: Identified | None) -> list[MeasuredDifference]:
    """The measured differences that change departing cases, those that change most first."""
    if identified is None or evidence.loss is None:
        return []
    all_choices: list[Choice] = list(choices(evidence.loss, identified, evidence.judge.description.reduction))
    known = [proven(choice, evidence.loss, evidence.explained, evidence.drawn) for choice in all_choices]
    kept = [dataclasses.replace(one, departing=evidence.cases) for one in known if one.changes]
    return sorted(kept, key=lambda one: (-one.changes, one.choice != "squared_factor"))


def _by_causes(
    evidence: Evidence,
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
    return Diagnosis([accounted(verdict, blamed) for verdict in verdicts], tuple(differences), None, identified)


def _by_digits(evidence: Evidence, verdicts: list[Verdict], few: Blame) -> Diagnosis:
    """The diagnosis of a loss that is off a little everywhere: measuring would take its rounding for choices."""
    difference = _of_the_rest(evidence, few, alone=True)
    left = {verdict.clause: verdict for verdict in verdicts if verdict.verdict == "deviating"}
    blamed = {few.clause: difference}
    return Diagnosis([behind(verdict, blamed, left, few.clause) for verdict in verdicts], (difference,))


def _by_rest(
    evidence: Evidence,
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
        return Diagnosis([accounted(verdict, blamed) for verdict in verdicts], tuple(found), None, identified)
    rest = evidence.rest
    if not rest:  # every single answer is right, and only several of them contradict each other
        broken = max(left, key=lambda clause: (tally.get(clause, 0.0), -list(left).index(clause)))
        settled = [behind(verdict, blamed, left, broken) for verdict in verdicts]
        return Diagnosis(settled, tuple(found), None, identified)
    ranked = rank_clauses([*evidence.agreeing, *rest])
    departing = {observation.case.id for observation in rest}
    alone = not found or len(departing) <= _SMALL * evidence.cases
    several = blame(identified, ranked, rest, left, alone=alone)
    if several:
        found = [*found, *(_of_the_rest(evidence, one, alone=not found) for one in several)]
        blamed = {one.clause: one for one in reversed(found)}
        first = several[0].clause
        settled = [behind(verdict, blamed, left, first) for verdict in verdicts]
        return Diagnosis(settled, tuple(found), None, identified)
    settled = [behind(verdict, blamed, left, "") for verdict in verdicts]
    return Diagnosis(settled, tuple(found), _unexplained(evidence, identified, without), identified)


def _of_the_rest(evidence: Evidence, one: Blame, *, alone: bool) -> MeasuredDifference:
    """The difference of a clause that is blamed for the rest, or for the part of it that reaches the clause."""
    rest = evidence.rest
    own = [observation for observation in rest if one.clause in reached(observation.case)] or rest
    return MeasuredDifference(
        choice=one.words, measured=None, expected=None, clause=one.clause, evidence=one.evidence,
        changes=len({observation.case.id for observation in own}), departing=evidence.cases,
        case=own[0].case.id, alone=alone, first=first_of(own[0], one.clause),
    )  # fmt: skip


def _left(evidence: Evidence, verdicts: list[Verdict]) -> dict[str, Verdict]:
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


def _unexplained(evidence: Evidence, identified: Identified | None, without: str) -> Unexplained:
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

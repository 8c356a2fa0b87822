"""One run: every setting of a plan, and every candidate that passes the correctness check, timed in rounds."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from regionloss_adapters import AdapterError, CannotAnswerError, Description, Question, Timed
from regionloss_spec import Batch
from regionloss_suite.bench import torch_clocks
from regionloss_suite.bench.candidates import Candidate, candidate
from regionloss_suite.bench.gate import BatchCheck, NotTimedError, check_golden, profile_of
from regionloss_suite.bench.plan import Item, Plan
from regionloss_suite.bench.results import FIRST
from regionloss_suite.bench.roofline import LINE, Roofline, roofline_of
from regionloss_suite.bench.rounds import Once, interleave
from regionloss_suite.bench.setting import Setting
from regionloss_suite.bench.torch_footprint import Footprint, Paged, footprint
from regionloss_suite.oracle.comparison import forget

#: A loss with a slower forward and backward is neither timed step by step nor profiled.
HEAVY = 0.25

Say = Callable[[str], None]


@dataclass(frozen=True)
class Series:
    """The times of one candidate in one step by one clock: seconds per call, one for each round."""

    setting: Setting
    candidate: str
    step: str
    clock: str
    rounds: dict[int, float]


@dataclass(frozen=True)
class Entry:
    """A candidate that passed the correctness check in a setting.

    Attributes:
        conversions: whether the conversion of its inputs is timed with it.
        gate: the check that it passed.
        footprint: its resources other than time.
        notes: reasons why something was not timed, one sentence each.
    """

    setting: Setting
    candidate: str
    conversions: bool
    gate: str
    footprint: Footprint
    notes: tuple[str, ...] = ()


@dataclass
class Findings:
    """All results of a run.

    Attributes:
        refused: setting, candidate and reason, for each one that was not timed.
    """

    plan: Plan
    bandwidth: float = 0.0
    series: list[Series] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    rooflines: dict[Setting, Roofline] = field(default_factory=dict)
    refused: list[tuple[Setting, str, str]] = field(default_factory=list)


class Gate:
    """The golden cases, run on each candidate once in each format."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._said: dict[tuple[str, str], str | NotTimedError] = {}

    def pass_golden(self, one: Candidate, dtype: str) -> str:
        """Return what the candidate passed. Raises `NotTimedError`."""
        key = (one.name, dtype)
        if key not in self._said:
            try:
                _check_claims(one.adapter.describe(), dtype, self.device)
                self._said[key] = check_golden(one.adapter, dtype, self.device, few=one.compiles)
            except NotTimedError as refused:
                self._said[key] = refused
        said = self._said[key]
        if isinstance(said, NotTimedError):
            raise said
        return said

    def admit(self, one: Candidate, setting: Setting, batch: Batch, check: BatchCheck) -> tuple[Timed, bool, str]:
        """The steps of a candidate, whether they include conversions, and what it passed.

        Raises:
            NotTimedError: it does not pass, does not support this setting, or crashes.
        """
        golden = self.pass_golden(one, setting.dtype)
        description = one.adapter.describe()
        try:
            profile = setting.profile(profile_of(description))
            question = Question(batch=batch, profile=profile, dtype=setting.dtype, device=self.device)
            timed, conversions = one.prepare(
                question, slots=setting.slots, channels_last=setting.layout == "channels_last"
            )
            held = check.check(timed.answer(), description, profile)
            _check_memory(one, question, setting, timed, check)
        except (NotTimedError, CannotAnswerError) as error:
            raise NotTimedError(str(error)) from error
        except Exception as error:  # any exception of a loss under test is a finding about that loss
            raise NotTimedError(f"it crashed: {type(error).__name__}: {error}") from error
        return timed, conversions, f"{golden}, {held}"


def _check_memory(one: Candidate, question: Question, setting: Setting, timed: Timed, check: BatchCheck) -> None:
    """Ask for another batch of the same shape, and for the first one again after a step.

    A result that is kept instead of computed, and predictions that a step overwrites, would make the times those of
    another computation.

    Raises:
        NotTimedError: an answer is wrong.
    """
    description, other = (
        one.adapter.describe(),
        dataclasses.replace(question.batch, predictions=-question.batch.predictions),
    )
    another, _ = one.prepare(
        dataclasses.replace(question, batch=other), slots=setting.slots, channels_last=setting.layout == "channels_last"
    )
    try:
        BatchCheck(setting, other).check(another.answer(), description, question.profile)
        timed.both()
        check.check(timed.answer(), description, question.profile)
    except NotTimedError as wrong:
        raise NotTimedError(f"it keeps something of an earlier call: {wrong}") from wrong


def _check_claims(description: Description, dtype: str, device: str) -> None:
    for what, wanted, claimed in (("formats", dtype, description.dtypes), ("devices", device, description.devices)):
        if wanted not in claimed:
            raise NotTimedError(f"its {what} are {', '.join(claimed)}, but {wanted} is timed")


def measure(plan: Plan, say: Say) -> Findings:
    """Time everything in a plan.

    Args:
        plan: the plan.
        say: called with one line of progress for each step.

    Raises:
        AdapterError: a candidate does not exist.
    """
    findings = Findings(plan)
    candidates = _load(findings)
    gate = Gate(plan.device)
    findings.bandwidth = torch_clocks.bandwidth(plan.device)
    for number, item in enumerate(plan.items, start=1):
        title = f"[{number}/{len(plan.items)}] {item.setting.title}"
        _measure_item(findings, item, candidates, gate, lambda text, title=title: say(f"{title}: {text}"))  # type: ignore[misc]
        forget()
        gc.collect()
    return findings


def _load(findings: Findings) -> dict[str, Candidate]:
    """The candidates by name; a missing one that the user did not name is recorded as not timed."""
    candidates: dict[str, Candidate] = {}
    for name in dict.fromkeys(name for item in findings.plan.items for name in item.candidates):
        try:
            candidates[name] = candidate(name)
        except AdapterError as error:
            if findings.plan.named:
                raise
            settings = [item.setting for item in findings.plan.items if name in item.candidates]
            findings.refused += [(setting, name, str(error)) for setting in settings]
    return candidates


def _measure_item(findings: Findings, item: Item, candidates: dict[str, Candidate], gate: Gate, say: Say) -> None:
    setting, device = item.setting, findings.plan.device
    batch = setting.draw()
    findings.rooflines[setting] = roofline_of(setting, batch, LINE[device])
    check = BatchCheck(setting, batch)
    timed_calls: dict[tuple[str, str, str], Once] = dict(torch_clocks.of_calibration(setting, device, cold=item.steps))
    there = [name for name in item.candidates if name in candidates]
    for name in there:
        say(f"golden cases on {name}")
        with contextlib.suppress(NotTimedError):  # the second run raises it again
            gate.pass_golden(candidates[name], setting.dtype)
    torch_clocks.forget_compiled()
    admitted: list[tuple[Timed, bool, Entry]] = []
    pages: dict[str, Paged] = {}
    for name in there:
        say(f"the batch on {name}")
        try:
            timed, conversions, passed = gate.admit(candidates[name], setting, batch, check)
        except NotTimedError as refused:
            findings.refused.append((setting, name, str(refused)))
            continue
        heavy = torch_clocks.seconds(timed.both, device) > HEAVY
        steps = item.steps and not heavy and not conversions
        own, notes = torch_clocks.of_loss(timed, device, steps=steps)
        if device == "cpu":
            own["both", FIRST["cpu"]] = pages[name] = Paged(own["both", FIRST["cpu"]])
        timed_calls |= {(name, step, clock): once for (step, clock), once in own.items()}
        admitted.append((timed, heavy, Entry(setting, name, conversions, passed, Footprint(), notes)))
    say("timing")
    times = interleave(timed_calls, findings.plan.effort)
    findings.series += [Series(setting, *key, rounds) for key, rounds in times.items()]
    for timed, heavy, entry in admitted:
        usage = footprint(timed.both, setting.gradient_bytes, device, heavy=heavy)
        if entry.candidate in pages:
            usage = replace(usage, fresh_pages=pages[entry.candidate].fresh_pages())
        findings.entries.append(replace(entry, footprint=usage))

"""No time without the right numbers: what an adapter must pass, in the process that times it.

It is asked golden cases of its profile in the format and on the device that are timed, and then the very batch that is
timed, by the very steps that are timed. Of a large batch some images are held against the reference.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from regionloss import evaluate
from regionloss_adapters import Adapter, Answer, Description, Question
from regionloss_spec import Batch, Case, Profile, load_cases, load_profile
from regionloss_spec.case import Expected
from regionloss_spec.clause import View
from regionloss_suite.bench.setting import Setting
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.report import CONFORMING, Report
from regionloss_suite.oracle.comparison import Comparison
from regionloss_suite.oracle.reduction import multiplied_out
from regionloss_suite.run import diagnosed

#: Numbers of a gradient that are held against the reference; of a larger batch, as many images as have so many.
_ELEMENTS = 1_500_000

#: Golden cases that are put to a loss that compiles anew for every shape: those that reach most clauses.
_FEW = 6


class NotTimedError(Exception):
    """The loss is not timed; the message says why."""


def profile_of(description: Description) -> Profile:
    """The profile that an adapter is timed under: darknet if it claims that, else the first that it claims."""
    claimed = description.profiles
    return load_profile("darknet" if {"*", "darknet"} & set(claimed) else claimed[0])


@dataclass(frozen=True)
class _There:
    """An adapter that is asked in one format on one device."""

    adapter: Adapter
    dtype: str
    device: str

    def describe(self) -> Description:
        return dataclasses.replace(self.adapter.describe(), dtypes=(self.dtype,), devices=(self.device,))

    def answer(self, question: Question) -> Answer:
        return self.adapter.answer(question)


def check_golden(adapter: Adapter, dtype: str, device: str, *, few: bool = False) -> str:
    """Put golden cases to an adapter, and say how many.

    Args:
        adapter: what is to be timed.
        dtype: format that it is to be timed in.
        device: where it is to be timed.
        few: whether a few cases will do, since each is compiled for.

    Raises:
        NotTimedError: it does not conform; with the first clause that it breaks.
    """
    profile = profile_of(adapter.describe())
    there = _There(adapter, dtype, device)
    judge = Judge(there, load_cases(), profile.name)
    if few:
        judge = Judge(there, _most_clauses(judge.cases, _FEW), profile.name)
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    if judge.fault is not None:
        raise NotTimedError(f"the adapter itself failed: {judge.fault}")
    report = Report(adapter.describe().name, judge.profile, len(judge.cases), verdicts, judge.crashes)
    if report.exit_code != CONFORMING:
        # What only follows from another clause is folded under it, so that the first says what is wrong.
        report.verdicts = diagnosed(judge, verdicts)
        broken = [verdict for verdict, _ in report.folded() if verdict in report.deviating and verdict.level == "MUST"]
        first = f": {broken[0].clause}, {broken[0].first}" if broken else ": no clause could be asked"
        raise NotTimedError(f"{report.outcome} in {dtype} on {device}{first}")
    return f"{len(judge.cases)} golden cases"


def _most_clauses(cases: list[Case], count: int) -> list[Case]:
    """Cases that together reach many clauses: each is the one that adds most to those before it."""
    chosen: list[Case] = []
    reached: set[str] = set()
    answered = [case for case in cases if case.expected.error is None]
    while answered and len(chosen) < count:
        best = max(answered, key=lambda case: len(set(case.clauses) - reached))
        answered.remove(best)
        chosen.append(best)
        reached |= set(best.clauses)
    return chosen


class BatchCheck:
    """The batch of a setting with what the reference answers, for every candidate to be held against.

    Args:
        setting: what is timed.
        batch: of `setting.draw`.
    """

    def __init__(self, setting: Setting, batch: Batch) -> None:
        self.setting = setting
        self.batch = batch
        each = setting.elements // max(setting.images, 1)
        count = min(setting.images, max(_ELEMENTS // max(each, 1), 2))
        #: The images that are held against the reference: all, or some that lie evenly between first and last.
        self.images = sorted({round(place) for place in np.linspace(0, setting.images - 1, count)})
        self._cases: dict[Profile, Case] = {}

    @property
    def whole(self) -> bool:
        """Whether all images are held against the reference."""
        return len(self.images) == self.setting.images

    def check(self, answer: Answer, description: Description, profile: Profile) -> str:
        """Hold the answer to the whole batch against the reference, and say on how many images.

        Raises:
            NotTimedError: it departs, or says nothing that can be compared against the reference.
        """
        if answer.gradient is None and not self.whole:
            raise NotTimedError("it answers no gradient, and the batch is too large to judge it by its value alone")
        paid = self._paid(profile) if description.reduction == "per-object" else 0
        answer = multiplied_out(answer, description, self.setting.images, paid, divided=profile.reduction)
        view, case = View("everything"), self._case(profile)
        comparison = Comparison(case, self._part_of(answer, profile), self.setting.dtype)
        if not comparison.answers(view):
            raise NotTimedError("it answers nothing that can be compared with the reference")
        difference = comparison.difference(view)
        if difference is not None:
            raise NotTimedError(f"on the batch that is timed, {difference}")
        return f"{len(self.images)} of {self.setting.images} images of the batch"

    def _case(self, profile: Profile) -> Case:
        if profile not in self._cases:
            part = dataclasses.replace(
                self.batch,
                predictions=self.batch.predictions[self.images],
                truths=tuple(self.batch.truths[image] for image in self.images),
            )
            self._cases[profile] = Case(
                id=self.setting.name,
                title="The batch of a benchmark.",
                provenance={"kind": "derivation"},
                base=profile.name,
                profile=profile,
                batch=part,
                expected=Expected(),
            )
        return self._cases[profile]

    def _part_of(self, answer: Answer, profile: Profile) -> Answer:
        """What was said of the images that are looked at: all of it, or their gradient alone."""
        if self.whole or answer.gradient is None:
            return answer
        gradient = np.asarray(answer.gradient)
        if gradient.shape != np.shape(self.batch.predictions):
            return Answer(gradient=gradient)  # whose shape the comparison will name
        share = self.setting.images / len(self.images) if profile.reduction == "per-image" else 1.0
        return Answer(gradient=gradient[self.images] * share)

    def _paid(self, profile: Profile) -> int:
        """Truths of the batch whose box is paid, counted in parts that fit into memory."""
        count = 0
        for image in range(self.setting.images):
            one = slice(image, image + 1)
            part = dataclasses.replace(
                self.batch, predictions=self.batch.predictions[one], truths=self.batch.truths[one]
            )
            count += sum(match.pays_box for match in evaluate(part, profile).decisions.matches)
        return count

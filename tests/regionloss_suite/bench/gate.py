"""The correctness check that an adapter must pass, in the process that times it.

It runs golden cases of its profile in the timed dtype and on the timed device, and then the timed batch through the
timed steps. Of a large batch, some images are compared with the reference.
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
from regionloss_suite.diagnosis.diagnosis import diagnose
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.report import CONFORMING, Report
from regionloss_suite.oracle.comparison import Comparison
from regionloss_suite.oracle.reduction import multiplied_out

#: Number of gradient elements to compare with the reference; of a larger batch, as many images as contain that many.
_ELEMENTS = 1_500_000

#: Number of golden cases for a loss that compiles for every shape: those that reach most clauses.
_FEW = 6


class NotTimedError(Exception):
    """The loss is not timed; the message states why."""


def profile_of(description: Description) -> Profile:
    """The profile that an adapter is timed under: darknet if it claims that, else the first one that it claims."""
    claimed = description.profiles
    return load_profile("darknet" if {"*", "darknet"} & set(claimed) else claimed[0])


@dataclass(frozen=True)
class _There:
    """An adapter restricted to one format and one device."""

    adapter: Adapter
    dtype: str
    device: str

    def describe(self) -> Description:
        return dataclasses.replace(self.adapter.describe(), dtypes=(self.dtype,), devices=(self.device,))

    def answer(self, question: Question) -> Answer:
        return self.adapter.answer(question)


def check_golden(adapter: Adapter, dtype: str, device: str, *, few: bool = False) -> str:
    """Run golden cases on an adapter, and return a phrase with their number.

    Args:
        adapter: the adapter to be timed.
        dtype: the format of the timing.
        device: the device of the timing.
        few: whether a few cases are enough, because the loss compiles for each of them.

    Raises:
        NotTimedError: it does not conform; the message names the first clause that it breaks.
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
        # What is hidden behind another clause is grouped under it, so the first one names the cause.
        report.verdicts = diagnose(judge, verdicts).verdicts
        broken = [verdict for verdict, _ in report.folded() if verdict in report.deviating and verdict.level == "MUST"]
        first = f": {broken[0].clause}, {broken[0].first}" if broken else ": no clause could be judged"
        raise NotTimedError(f"{report.outcome} in {dtype} on {device}{first}")
    return f"{len(judge.cases)} golden cases"


def _most_clauses(cases: list[Case], count: int) -> list[Case]:
    """Cases that together reach many clauses; each one adds the most clauses to those before it."""
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
    """The batch of a setting with the reference's answer, to compare every candidate with.

    Args:
        setting: the timed setting.
        batch: from `setting.draw`.
    """

    def __init__(self, setting: Setting, batch: Batch) -> None:
        self.setting = setting
        self.batch = batch
        each = setting.elements // max(setting.images, 1)
        count = min(setting.images, max(_ELEMENTS // max(each, 1), 2))
        #: The images that are compared with the reference: all, or a sample spaced evenly from the first to the last.
        self.images = sorted({round(place) for place in np.linspace(0, setting.images - 1, count)})
        self._cases: dict[Profile, Case] = {}

    @property
    def whole(self) -> bool:
        """Whether all images are compared with the reference."""
        return len(self.images) == self.setting.images

    def check(self, answer: Answer, description: Description, profile: Profile) -> str:
        """Compare the answer to the whole batch with the reference, and return a phrase with the number of images.

        Raises:
            NotTimedError: it deviates, or has nothing that can be compared with the reference.
        """
        if answer.gradient is None and not self.whole:
            raise NotTimedError("it returns no gradient, and the batch is too large to check its value alone")
        paid = self._paid(profile) if description.reduction == "per-object" else 0
        answer = multiplied_out(answer, description, self.setting.images, paid, divided=profile.reduction)
        view, case = View("everything"), self._case(profile)
        comparison = Comparison(case, self._part_of(answer, profile), self.setting.dtype)
        if not comparison.answers(view):
            raise NotTimedError("it returns nothing that can be compared with the reference")
        difference = comparison.difference(view)
        if difference is not None:
            raise NotTimedError(f"on the timed batch, {difference}")
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
        """The answer for the compared images: all of it, or their gradient alone."""
        if self.whole or answer.gradient is None:
            return answer
        gradient = np.asarray(answer.gradient)
        if gradient.shape != np.shape(self.batch.predictions):
            return Answer(gradient=gradient)  # the comparison reports its shape
        share = self.setting.images / len(self.images) if profile.reduction == "per-image" else 1.0
        return Answer(gradient=gradient[self.images] * share)

    def _paid(self, profile: Profile) -> int:
        """The number of truths of the batch whose box is paid, counted in chunks that fit into memory."""
        count = 0
        for image in range(self.setting.images):
            one = slice(image, image + 1)
            part = dataclasses.replace(
                self.batch, predictions=self.batch.predictions[one], truths=self.batch.truths[one]
            )
            count += sum(match.pays_box for match in evaluate(part, profile).decisions.matches)
        return count

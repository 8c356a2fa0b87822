"""Input outside the domain, for a loss that declares that it refuses it, and a batch without images."""

from __future__ import annotations

from functools import cache

from regionloss import DomainError, evaluate
from regionloss_adapters import CannotAnswerError, RefusedError
from regionloss_spec import Case, load_cases
from regionloss_suite.measure.black_box import NoAnswerError, scene
from regionloss_suite.measure.findings import Findings
from regionloss_suite.measure.profile import profile_of


@cache
def _faulty(profile: str) -> tuple[Case, ...]:
    """The cases of the spec outside the domain of a profile."""
    return tuple(case for case in load_cases() if case.expected.error is not None and case.profile.name == profile)


def refusals(findings: Findings) -> None:
    """Whether it refuses what it declares; no other loss is tried, because a fault may end its process."""
    if "errors" not in findings.box.description.answers:
        return
    profile = profile_of(findings, "so far")
    questions, answered, crashed = 0, [], []
    for case in _faulty("yolo9000" if profile.class_term == "tree" else "darknet"):
        try:
            evaluate(case.batch, profile)
            continue
        except DomainError:
            pass
        try:
            findings.box.put(case.batch)
            answered.append(case.id)
        except NoAnswerError as error:
            if isinstance(error.__cause__, CannotAnswerError):
                continue
            if not isinstance(error.__cause__, RefusedError):
                crashed.append(case.id)
        questions += 1
    evidence = (
        f"{questions} inputs outside the domain, which it declares to refuse: answered {', '.join(answered) or 'none'}"
    )
    evidence += f"; crashed on {', '.join(crashed)}" if crashed else ""
    findings.note("outside the domain", None if answered else "refused", evidence, odd=bool(answered))


def no_images(findings: Findings) -> None:
    """A batch without images: a crash is reported, and a number other than 0 is odd."""
    try:
        total = findings.box.scalar(scene(images_seen=findings.late))
    except NoAnswerError as error:
        findings.note("no images", "no answer", f"a batch without images: {error}", odd="finite" in str(error))
        return
    findings.note("no images", total, f"a batch without images: the scalar is {total:.6g}", odd=total != 0)

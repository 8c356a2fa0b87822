"""Input outside the domain, put to a loss that promises to refuse it, and a batch without images."""

from __future__ import annotations

from functools import cache

from regionloss import DomainError, evaluate
from regionloss_adapters import CannotAnswerError, RefusedError
from regionloss_spec import Case, load_cases
from regionloss_suite.measure.black_box import NoAnswerError, scene
from regionloss_suite.measure.findings import Notebook
from regionloss_suite.measure.profile import profile_of


@cache
def _faulty(profile: str) -> tuple[Case, ...]:
    """The cases of the spec that lie outside the domain of a profile."""
    return tuple(case for case in load_cases() if case.expected.error is not None and case.profile.name == profile)


def refusals(book: Notebook) -> None:
    """Whether it refuses what it promises to refuse; no other loss is asked, since a fault may end its process."""
    if "errors" not in book.box.description.answers:
        return
    profile = profile_of(book, "so far")
    asked, answered, crashed = 0, [], []
    for case in _faulty("yolo9000" if profile.class_term == "tree" else "darknet"):
        try:
            evaluate(case.batch, profile)
            continue
        except DomainError:
            pass
        try:
            book.box.put(case.batch)
            answered.append(case.id)
        except NoAnswerError as broke:
            if isinstance(broke.__cause__, CannotAnswerError):
                continue
            if not isinstance(broke.__cause__, RefusedError):
                crashed.append(case.id)
        asked += 1
    said = f"{asked} inputs outside the domain, which it promises to refuse: answered {', '.join(answered) or 'none'}"
    said += f"; crashed on {', '.join(crashed)}" if crashed else ""
    book.note("outside the domain", None if answered else "refused", said, odd=bool(answered))


def no_images(book: Notebook) -> None:
    """A batch without images: a crash is told, a number other than 0 is odd."""
    try:
        total = book.box.scalar(scene(seen=book.late))
    except NoAnswerError as broke:
        book.note("no images", "no answer", f"a batch without images: {broke}", odd="finite" in str(broke))
        return
    book.note("no images", total, f"a batch without images: the scalar is {total:.6g}", odd=total != 0)

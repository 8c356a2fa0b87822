"""The mistakes that no catalogue lists are told apart from it, and each is a mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest

from meta.unlisted import Mistake, mistakes
from meta.unlisted.outcome import outcome_of
from regionloss_adapters import Adapter, Answer, CannotAnswerError, Question
from regionloss_spec import Batch, Case, load_cases, load_clauses, load_profile
from regionloss_suite.judging.judge import Judge
from regionloss_suite.mutants import catalogue
from regionloss_suite.mutants.mutant import right

MISTAKES = mistakes()
KINDS = {"iou", "memory", "max-iou", "everywhere", "framework", "term"}


def every(step: int) -> pytest.MarkDecorator:
    """Some of the mistakes; what becomes of all of them is printed by `make confusion`."""
    return pytest.mark.parametrize("mistake", MISTAKES[::step], ids=lambda mistake: mistake.id)


@pytest.fixture(autouse=True)
def framework(request: pytest.FixtureRequest) -> None:
    mistake = request.node.callspec.params.get("mistake") if hasattr(request.node, "callspec") else None
    if mistake is not None and mistake.kind == "framework":
        pytest.importorskip("torch", reason="PyTorch is not installed")


def cases_of(mistake: Mistake) -> list[Case]:
    """The golden cases that such a loss can answer, in their order."""
    return [case for case in Judge(mistake.adapter(), load_cases()).cases if case.expected.error is None]


def bits(answer: Answer) -> tuple[bytes, str]:
    gradient = b"" if answer.gradient is None else np.asarray(answer.gradient).tobytes()
    return gradient, repr((answer.potential, answer.terms, answer.responsible, answer.ignored))


def answers(adapter: Adapter, cases: Iterable[Case], dtype: str) -> dict[Case, tuple[bytes, str]]:
    said = {}
    for case in cases:
        try:
            said[case] = bits(adapter.answer(Question(batch=case.batch, profile=case.profile, dtype=dtype)))
        except CannotAnswerError:
            continue
    return said


def test_none_is_in_the_list_twice_or_in_the_catalogue() -> None:
    ids = Counter(mistake.id for mistake in MISTAKES)
    assert [id for id, count in ids.items() if count > 1 or id in catalogue()] == []
    titles = Counter(mistake.title for mistake in MISTAKES)
    listed = {mutant.title for mutant in catalogue().values()}
    assert [title for title, count in titles.items() if count > 1 or title in listed] == []


def test_there_are_ten_of_each_kind_and_a_third_returns_little() -> None:
    assert Counter(mistake.kind for mistake in MISTAKES).keys() == KINDS
    assert min(Counter(mistake.kind for mistake in MISTAKES).values()) >= 10
    returned = Counter(mistake.answers for mistake in MISTAKES)
    assert returned["gradient", "potential"] >= len(MISTAKES) / 3
    assert returned["potential",] >= 5


def test_their_clauses_bind_a_case_of_their_profile() -> None:
    clauses, cases = load_clauses(), load_cases()
    for mistake in MISTAKES:
        assert mistake.right, mistake.id
        named = [*mistake.right, *mistake.family]
        assert len(set(named)) == len(named), mistake.id
        profiles = [load_profile(mistake.profile), *(case.profile for case in cases if case.base == mistake.profile)]
        for id in named:
            assert any(clauses[id].applies_to(profile) for profile in profiles), (mistake.id, id)


@every(13)
def test_the_golden_cases_show_it_where_it_says_so(mistake: Mistake) -> None:
    judge = Judge(mistake.adapter(), load_cases())
    departing = (observation for case in judge.cases for observation in judge.observe(case) if observation.departs)
    first = next(departing, None)
    assert (first is not None) is mistake.shown
    assert first is None or first.exchange.outcome == "answered", first.exchange.message


@every(49)
def test_it_remembers_earlier_questions_only_if_that_is_the_mistake(mistake: Mistake) -> None:
    small = [case for case in cases_of(mistake) if case.batch.predictions.size < 300]
    if mistake.kind == "framework":
        small = small[:20]
    adapter = mistake.adapter()
    first, again = answers(adapter, small, mistake.dtype), answers(adapter, small, mistake.dtype)
    backwards = answers(mistake.adapter(), reversed(small), mistake.dtype)
    remembers = first != again or first != backwards
    assert remembers is ("numerics.repeatability" in mistake.right)


@pytest.mark.slow
@pytest.mark.sample(every=4)
@every(20)
def test_what_is_blamed_first_is_broken(mistake: Mistake) -> None:
    outcome = outcome_of(mistake)
    assert outcome.kind != "false", (outcome.first, outcome.diagnosis.differences)


def test_rows_after_the_end_silence_a_predictor_where_no_golden_case_has_one() -> None:
    (mistake,) = (mistake for mistake in MISTAKES if mistake.id == "max-iou-behind-the-end")
    rows = np.array([[0.25, 0.5, 0.5, 1, 0], [0, 0, 0, 0, 0], [0.75, 0.5, 0.5, 1, 0]])
    batch = Batch(np.zeros((1, 6, 1, 2)), (rows,), np.array([[1.0, 1.0]]), classes=1, images_seen=12800)
    question = Question(batch=batch, profile=load_profile("darknet"), dtype="float64")
    assert right(question).ignored == ()
    assert mistake.adapter().answer(question).ignored == ((0, 0, 0, 1),)

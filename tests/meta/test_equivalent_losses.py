"""Losses that compute the same in another way, and must pass in full."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from regionloss import evaluate
from regionloss_adapters import Adapter, Answer, CannotAnswerError, Description, Question, RefusedError
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_adapters.protocol import ANSWERS
from regionloss_spec import Batch, Case, load_cases
from regionloss_suite.judging.judge import Judge
from regionloss_suite.oracle.coverage import clauses_reached

EVERYTHING = Description("variant", ("*",), ANSWERS, ("float64",))


@dataclass(frozen=True)
class Variant:
    """The reference, asked or told otherwise."""

    id: str
    answer: Callable[[Question], Answer]
    description: Description = EVERYTHING

    def describe(self) -> Description:
        return self.description


def right(question: Question) -> Answer:
    return NumpyAdapter().answer(question)


def told(change: Callable[[Answer, Question], dict[str, Any]]) -> Callable[[Question], Answer]:
    """The right answer in another form."""

    def answer(question: Question) -> Answer:
        said = right(question)
        return dataclasses.replace(said, **change(said, question))

    return answer


def given(change: Callable[[Batch, Question], dict[str, Any]]) -> Callable[[Question], Answer]:
    """The right answer to the same batch in another form."""

    def answer(question: Question) -> Answer:
        batch = dataclasses.replace(question.batch, **change(question.batch, question))
        return right(dataclasses.replace(question, batch=batch))

    return answer


def answering(*answers: str) -> Description:
    return Description("variant", ("*",), answers, ("float64",))


def only(*names: str) -> Callable[[Question], Answer]:
    """Nothing but these answers."""

    def answer(question: Question) -> Answer:
        said = right(question)
        return Answer(**{name: getattr(said, name) for name in names})

    return answer


def summed(total: Callable[[np.ndarray], float]) -> Callable[[Answer, Question], dict[str, Any]]:
    """The terms added up in another order."""

    def change(answer: Answer, question: Question) -> dict[str, Any]:
        result = evaluate(question.batch, question.profile)
        terms = {name: result.scale * total(term.value.ravel()) for name, term in result.terms.items()}
        return {"terms": terms, "potential": sum(reversed(terms.values()))}

    return change


def one_by_one(values: np.ndarray) -> float:
    total = 0.0
    for value in values[::-1]:
        total += float(value)
    return total


def rectangular(batch: Batch) -> bool:
    """Whether the truths are lists of rows of five numbers."""
    tables = [np.asarray(rows) for rows in batch.truths]
    return all(not table.size or (table.dtype != object and table.shape[1:] == (5,)) for table in tables)


def padded(length: int) -> Callable[[Batch, Question], dict[str, Any]]:
    """Rows of zeros at the end of each list, where such a row ends it."""

    def change(batch: Batch, question: Question) -> dict[str, Any]:
        if question.profile.truth_end != "x-zero" or not rectangular(batch):
            return {}
        tables = [np.asarray(rows, dtype=np.float64).reshape(-1, 5) for rows in batch.truths]
        return {"truths": tuple(np.pad(table, ((0, max(length - len(table), 1)), (0, 0))) for table in tables)}

    return change


def stacked(batch: Batch, question: Question) -> dict[str, Any]:
    """One array [N, T, 5]."""
    change = padded(max((len(rows) for rows in batch.truths), default=0) + 1)(batch, question)
    return {"truths": np.array(change["truths"])} if change and batch.truths else {}


def strided(batch: Batch, question: Question) -> dict[str, Any]:
    predictions = np.asarray(batch.predictions)
    if predictions.ndim != 4:
        return {}
    return {"predictions": np.ascontiguousarray(predictions.transpose(3, 1, 0, 2)).transpose(2, 1, 3, 0)}


def every_other(batch: Batch, question: Question) -> dict[str, Any]:
    return {"predictions": np.repeat(np.asarray(batch.predictions), 2, axis=-1)[..., ::2]}


def read_only(batch: Batch, question: Question) -> dict[str, Any]:
    predictions = np.array(batch.predictions)
    predictions.setflags(write=False)
    return {"predictions": predictions}


def as_lists(batch: Batch, question: Question) -> dict[str, Any]:
    predictions = np.asarray(batch.predictions)
    # An array without elements loses its shape as a list.
    lists = {"predictions": predictions.tolist()} if predictions.size else {}
    return {**lists, "truths": tuple(rows.tolist() for rows in batch.truths), "anchors": batch.anchors.tolist()}


def image_by_image(question: Question) -> Answer:
    """Every image as a batch of its own; the reduction is made up for afterwards."""
    batch, profile = question.batch, question.profile
    if not len(batch.predictions) or len(batch.predictions) != len(batch.truths) or np.ndim(batch.predictions) != 4:
        return right(question)
    answers: list[Answer] = []
    for image, rows in enumerate(batch.truths):
        one = dataclasses.replace(batch, predictions=batch.predictions[image : image + 1], truths=(rows,))
        try:
            answers.append(right(dataclasses.replace(question, batch=one)))
        except RefusedError as error:
            raise RefusedError(str(error), None if error.image is None else image, error.truth) from error
    share = 1.0 / len(answers) if profile.reduction == "per-image" else 1.0
    return Answer(
        gradient=share * np.concatenate([answer.gradient for answer in answers if answer.gradient is not None]),
        potential=share * sum(answer.potential or 0.0 for answer in answers),
        terms={name: share * sum((answer.terms or {})[name] for answer in answers) for name in answers[0].terms or {}},
        responsible=tuple(
            (image, *place[1:]) for image, answer in enumerate(answers) for place in answer.responsible or ()
        ),
        ignored=tuple((image, *place[1:]) for image, answer in enumerate(answers) for place in answer.ignored or ()),
    )


def images_permuted(question: Question) -> Answer:
    """The images of the batch from last to first, and the answer put back in order."""
    batch = question.batch
    if np.ndim(batch.predictions) != 4:
        return right(question)
    turned = dataclasses.replace(batch, predictions=batch.predictions[::-1], truths=batch.truths[::-1])
    last = len(batch.truths) - 1
    try:
        answer = right(dataclasses.replace(question, batch=turned))
    except RefusedError as error:
        raise RefusedError(str(error), None if error.image is None else last - error.image, error.truth) from error
    assert answer.gradient is not None
    return dataclasses.replace(
        answer,
        gradient=answer.gradient[::-1],
        responsible=tuple((last - image, *place) for image, *place in answer.responsible or ()),
        ignored=tuple((last - image, *place) for image, *place in answer.ignored or ()),
    )


def classes_permuted(question: Question) -> Answer:
    """The classes numbered from the last to the first, in the predictions and in the truths."""
    batch = question.batch
    channels = len(batch.anchors) * (5 + batch.classes)
    if question.profile.class_term == "tree" or np.shape(batch.predictions)[1:2] != (channels,):
        return right(question)
    if batch.classes < 1 or not len(batch.anchors) or np.ndim(batch.predictions) != 4 or not rectangular(batch):
        return right(question)
    order = np.concatenate([np.arange(5), np.arange(4 + batch.classes, 4, -1)])
    order = np.concatenate([k * (5 + batch.classes) + order for k in range(len(batch.anchors))])
    truths = []
    for rows in batch.truths:
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        table[:, 4] = batch.classes - 1 - table[:, 4]
        truths.append(table)
    turned = dataclasses.replace(batch, predictions=batch.predictions[:, order], truths=tuple(truths))
    answer = right(dataclasses.replace(question, batch=turned))
    assert answer.gradient is not None
    return dataclasses.replace(answer, gradient=answer.gradient[:, np.argsort(order)])


def rounded(answer: Answer, question: Question) -> dict[str, Any]:
    """Every number as the format of the question holds it; an infinity where it is beyond that."""
    dtype = np.dtype(question.dtype)
    with np.errstate(over="ignore"):
        single = np.float32 if dtype == np.float16 else dtype.type
        return {
            "gradient": np.asarray(answer.gradient).astype(dtype),
            "potential": float(single(answer.potential)),
            "terms": {name: float(single(value)) for name, value in (answer.terms or {}).items()},
            "statistics": None,
        }


def next_number(answer: Answer, question: Question) -> dict[str, Any]:
    """The last bit of every element that is not zero."""
    gradient = np.asarray(answer.gradient)
    return {"gradient": np.where(gradient == 0, gradient, np.nextafter(gradient, np.inf))}


def negative_zeros(answer: Answer, question: Question) -> dict[str, Any]:
    gradient = np.asarray(answer.gradient)
    return {"gradient": np.where(gradient == 0, -0.0, gradient)}


def flushed(answer: Answer, question: Question) -> dict[str, Any]:
    gradient = np.asarray(answer.gradient)
    return {"gradient": np.where(np.abs(gradient) < 2.0**-1022, 0.0, gradient)}


def listed(answer: Answer, question: Question) -> dict[str, Any]:
    """Nested lists, unless nothing of the shape would be left."""
    gradient = np.asarray(answer.gradient)
    return {"gradient": gradient.tolist() if gradient.size else gradient}


def divided(answer: Answer, question: Question) -> dict[str, Any]:
    """A mean over the images, as declared; under a profile that is one already, just that."""
    images = 1 if question.profile.reduction == "per-image" else max(len(question.batch.truths), 1)
    return times(1 / images)(answer, question)


def times(factor: float) -> Callable[[Answer, Question], dict[str, Any]]:
    return lambda answer, question: {
        "gradient": factor * np.asarray(answer.gradient),
        "potential": factor * (answer.potential or 0.0),
        "terms": {name: factor * value for name, value in (answer.terms or {}).items()},
    }


VARIANTS = [
    Variant("summed one by one from the end", told(summed(one_by_one))),
    Variant("summed exactly", told(summed(math.fsum))),
    Variant("summed in order of size", told(summed(lambda values: float(np.sort(values).sum())))),
    Variant(
        "rounded to float32", told(rounded), Description("variant", ("*",), (*ANSWERS[:4], "errors"), ("float32",))
    ),
    Variant(
        "rounded to float16", told(rounded), Description("variant", ("*",), (*ANSWERS[:4], "errors"), ("float16",))
    ),
    Variant("off by the last bit", told(next_number)),
    Variant("zeros are negative", told(negative_zeros)),
    Variant("subnormal numbers flushed to zero", told(flushed)),
    Variant("gradient in Fortran order", told(lambda answer, _: {"gradient": np.asfortranarray(answer.gradient)})),
    Variant("gradient as Python lists", told(listed)),
    Variant(
        "indicators from the end",
        told(lambda said, _: {"responsible": (said.responsible or ())[::-1], "ignored": (said.ignored or ())[::-1]}),
    ),
    Variant("predictions of other strides", given(strided)),
    Variant("predictions every other element", given(every_other)),
    Variant("predictions read-only", given(read_only)),
    Variant("inputs as Python lists", given(as_lists)),
    Variant("truths padded to 100 rows", given(padded(100))),
    Variant("truths in one array", given(stacked)),
    Variant("image by image", image_by_image, answering("potential", "terms", "gradient", "indicators", "errors")),
    Variant("images in another order", images_permuted),
    Variant("classes in another order", classes_permuted),
    Variant("gradient only", only("gradient"), answering("gradient")),
    Variant("scalar only", only("potential"), answering("potential")),
    Variant("terms only", only("terms"), answering("terms")),
    Variant("indicators only", only("responsible", "ignored"), answering("indicators")),
    Variant("ignored predictors only", only("ignored"), answering("indicators")),
    Variant(
        "declared mean over images",
        told(divided),
        dataclasses.replace(answering(*ANSWERS), reduction="per-image"),
    ),
    Variant("declared factor", told(times(2.0)), dataclasses.replace(answering(*ANSWERS), factor=2.0)),
]


@cache
def cases() -> list[Case]:
    """Every golden case with the clauses that it pins, found once."""
    return [
        case
        if case.clauses
        else dataclasses.replace(
            case, clauses=clauses_reached(evaluate(case.batch, case.profile), case.batch.images_seen)
        )
        for case in load_cases()
    ]


def some(every: int) -> list[Case]:
    """Every so-many-th case, large ones left out; with 1, every case."""
    return cases() if every == 1 else [case for case in cases() if case.batch.predictions.size < 1000][::every]


def deviations(adapter: Adapter, every: int = 1) -> list[str]:
    judge = Judge(adapter, some(every))
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    assert any(verdict.verdict == "conforming" for verdict in verdicts)
    assert judge.crashes == {}
    return [f"{verdict.clause}: {verdict.first}" for verdict in verdicts if verdict.verdict == "deviating"]


def test_there_are_enough_variants() -> None:
    assert len({variant.id for variant in VARIANTS}) == len(VARIANTS) >= 15


@pytest.mark.parametrize("every", [pytest.param(1, id="all", marks=pytest.mark.sweep), pytest.param(4, id="a-fourth")])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.id.replace(" ", "-"))
def test_no_clause_deviates(variant: Variant, every: int) -> None:
    assert deviations(variant, every) == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.sweep)])
def test_the_eager_loss_passes_in_each_precision_alone(dtype: str) -> None:
    pytest.importorskip("torch")
    from regionloss_adapters.torch.eager import TorchEagerAdapter

    adapter = TorchEagerAdapter()
    description = dataclasses.replace(adapter.describe(), dtypes=(dtype,), devices=("cpu",))
    assert deviations(Variant("torch", adapter.answer, description)) == []


def test_a_variant_that_cannot_answer_some_questions_is_judged_by_the_others() -> None:
    def answer(question: Question) -> Answer:
        if question.profile.class_term != "cross-entropy":
            raise CannotAnswerError("only cross-entropy")
        return right(question)

    assert deviations(Variant("cross-entropy only", answer), every=2) == []

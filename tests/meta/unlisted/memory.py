"""A loss with a memory: its answer depends on the calls before."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from meta.unlisted.mistake import BOTH, EVERYTHING, SCALAR, Mistake
from regionloss.boxes import decode, sigmoid
from regionloss.decisions import Decisions
from regionloss.terms import T_O
from regionloss_adapters import Answer, Question, RefusedError
from regionloss_spec import Batch, Profile
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import patched, right
from regionloss_suite.mutants.tools import (
    Answering,
    Given,
    Terms,
    as_if,
    decided,
    multiplied,
    paid,
    read,
    redecided,
    with_decode,
)


def _gradient_kept() -> Answering:
    kept: dict[tuple[int, ...], Array] = {}

    def answer(question: Question) -> Answer:
        said = right(question)
        assert said.gradient is not None
        total = said.gradient + kept.get(said.gradient.shape, 0.0)
        kept[said.gradient.shape] = total
        return dataclasses.replace(said, gradient=total)

    return answer


def _scalar_averaged() -> Answering:
    before: list[float] = []

    def answer(question: Question) -> Answer:
        said = right(question)
        assert said.potential is not None
        potential = 0.9 * before[-1] + 0.1 * said.potential if before else said.potential
        before.append(potential)
        return dataclasses.replace(said, potential=potential)

    return answer


def _remembered(key: Callable[[Batch], Hashable], what: str) -> Answering:
    """One field of the first batch that has a key is used for all that have it."""
    kept: dict[Hashable, Any] = {}

    def answer(question: Question) -> Answer:
        read(question)
        batch = question.batch
        old = {what: kept.setdefault(key(batch), getattr(batch, what))}
        try:
            return right(dataclasses.replace(question, batch=dataclasses.replace(batch, **old)))
        except RefusedError:  # not valid for this batch, so it is made anew
            kept[key(batch)] = getattr(batch, what)
            return right(question)

    return answer


def _truths_of_last_call() -> Answering:
    kept: list[Batch] = []

    def answer(question: Question) -> Answer:
        read(question)
        batch, last = question.batch, kept[-1] if kept else question.batch
        kept.append(batch)
        if (len(last.truths), last.classes) != (len(batch.truths), batch.classes):
            return right(question)
        try:
            return right(dataclasses.replace(question, batch=dataclasses.replace(batch, truths=last.truths)))
        except RefusedError:
            return right(question)

    return answer


def _weight_warms_up() -> Answering:
    calls = itertools.count(1)

    def weight(profile: Profile) -> float:
        return profile.no_object_weight * min(next(calls) / 100, 1.0)

    return as_if(no_object_weight=weight)


def _one_in_fifty() -> Answering:
    calls = itertools.count(1)

    def answer(question: Question) -> Answer:
        said = right(question)
        return multiplied(said, 2.0) if next(calls) % 50 == 0 else said

    return answer


def _every_third_without_objects() -> Answering:
    """Every third call, as from a queue of truths that runs empty."""
    calls = itertools.count(1)

    def answer(question: Question) -> Answer:
        read(question)
        if next(calls) % 3:
            return right(question)
        batch = dataclasses.replace(question.batch, truths=tuple(np.zeros((0, 5)) for _ in question.batch.truths))
        return right(dataclasses.replace(question, batch=batch))

    return answer


def _activated_in_place() -> Answering:
    """The objectness of a kept copy is activated in place, so the second answer to a batch has it activated twice."""
    kept: dict[tuple[Hashable, ...], Array] = {}

    def answer(question: Question) -> Answer:
        read(question)
        given = np.asarray(question.batch.predictions, dtype=np.float64)
        copy = kept.setdefault((given.shape, given.tobytes()), given.copy())
        said = right(dataclasses.replace(question, batch=dataclasses.replace(question.batch, predictions=copy.copy())))
        channels = 5 + question.batch.classes
        copy[:, T_O::channels] = sigmoid(copy[:, T_O::channels])
        return said

    return answer


def _answers_kept() -> Answering:
    """The first answer to a question is exact, later ones come from a cache in single precision."""
    kept: dict[Hashable, Answer] = {}

    def answer(question: Question) -> Answer:
        said, batch = right(question), question.batch
        assert said.gradient is not None
        arrays = [np.asarray(array, dtype=np.float64) for array in (batch.predictions, batch.anchors, *batch.truths)]
        whole = (*((array.shape, array.tobytes()) for array in arrays), batch.images_seen, batch.tree, question.profile)
        if whole in kept:
            return kept[whole]
        kept[whole] = dataclasses.replace(said, gradient=said.gradient.astype(np.float32).astype(np.float64))
        return said

    return answer


def _mask_kept() -> Answering:
    kept: dict[tuple[int, ...], Array] = {}

    def change(decisions: Decisions, given: Given) -> Decisions:
        shape = decisions.ignored.shape
        mask = decisions.ignored | kept.get(shape, np.zeros(shape, dtype=bool))
        kept[shape] = mask
        return redecided(decisions, given, silenced=mask)

    return decided(change)


def _max_iou_kept() -> Answering:
    kept: dict[tuple[int, ...], Array] = {}

    def change(decisions: Decisions, given: Given) -> Decisions:
        largest = np.maximum(decisions.max_iou, kept.get(decisions.max_iou.shape, 0.0))
        kept[largest.shape] = largest
        return redecided(decisions, given, max_iou=largest)

    return decided(change)


def _offsets_kept() -> Answering:
    """The offsets of cells are kept by the number of cells."""
    kept: dict[int, tuple[int, int]] = {}

    def decode_wrongly(t: Array, anchors: Array) -> Array:
        boxes = decode(t, anchors)
        _, _, height, width = t.shape
        _, other = kept.setdefault(height * width, (height, width))
        cells = np.arange(height * width).reshape(height, width)
        boxes[0] += (cells % other - cells % width) / width
        boxes[1] += (cells // other - cells // width) / height
        return boxes

    return patched(**with_decode(decode_wrongly))


def _sampled() -> Answering:
    """Half of the no-object predictors, drawn by a generator that goes on from call to call."""
    draw = np.random.default_rng(0)

    def change(terms: Terms, given: Given, decisions: Decisions) -> None:
        drawn = draw.random(decisions.no_object.shape) < 0.5
        term = terms["no_object"]
        term.value[drawn] = 0.0
        np.moveaxis(term.gradient, 2, -1)[drawn] = 0.0

    return paid(change)


def _running_divisor() -> Answering:
    """Divided by a running mean of the number of truths."""
    means: list[float] = [1.0]

    def answer(question: Question) -> Answer:
        said = right(question)
        means.append(0.9 * means[-1] + 0.1 * max(len(said.responsible or ()), 1))
        return multiplied(said, 1 / means[-1])

    return answer


def _rare_classes_first() -> Answering:
    """A class weighs less the more often it has been seen."""
    seen: dict[int, int] = {}

    def change(terms: Terms, given: Given, decisions: Decisions) -> None:
        term = terms["class"]
        labels = {match.predictor: int(given.row(match)[4]) for match in decisions.matches if match.pays_class}
        for (n, k, j, i), label in labels.items():
            weight = 1 / np.sqrt(1 + seen.get(label, 0))
            term.value[n, k, j, i] *= weight
            term.gradient[n, k, :, j, i] *= weight
            seen[label] = seen.get(label, 0) + 1

    return paid(change)


def _unordered_sum() -> Answering:
    """The last bit of the gradient depends on the order in which threads finish."""
    draw = np.random.default_rng(0)

    def answer(question: Question) -> Answer:
        said = right(question)
        assert said.gradient is not None
        late = draw.random(said.gradient.shape) < 0.5
        nudged = np.where((said.gradient != 0) & late, np.nextafter(said.gradient, 0.0), said.gradient)
        return dataclasses.replace(said, gradient=nudged)

    return answer


def _lagging_gradient() -> Answering:
    """The gradient of the last call of that shape, as from a buffer that is read before it is filled."""
    kept: dict[tuple[int, ...], Array] = {}

    def answer(question: Question) -> Answer:
        said = right(question)
        assert said.gradient is not None
        last = kept.get(said.gradient.shape, said.gradient)
        kept[said.gradient.shape] = said.gradient
        return dataclasses.replace(said, gradient=last)

    return answer


def _mistake(
    id: str,
    title: str,
    begin: Callable[[], Answering],
    answers: tuple[str, ...] = EVERYTHING,
    family: tuple[str, ...] = (),
    shown: bool = True,
    profile: str = "darknet",
) -> Mistake:
    return Mistake(
        id=id,
        kind="memory",
        title=title,
        right=("numerics.repeatability",),
        family=family,
        profile=profile,
        answers=answers,
        shown=shown,
        begin=begin,
    )


MISTAKES = [
    _mistake("gradient-buffer-kept", "the gradient is added to that of the last call of this shape", _gradient_kept),
    _mistake(
        "scalar-averaged",
        "the returned scalar is a running mean of the calls",
        _scalar_averaged,
        BOTH,
        ("scale.potential",),
    ),
    _mistake(
        "truths-kept-by-shape",
        "targets are made once for each shape of predictions and then kept",
        lambda: _remembered(lambda batch: (batch.predictions.shape, batch.classes), "truths"),
    ),
    _mistake(
        "truths-kept-by-count",
        "targets are kept by the number of truths of each image",
        lambda: _remembered(lambda batch: (batch.classes, *map(len, batch.truths)), "truths"),
        BOTH,
    ),
    _mistake(
        "anchors-kept",
        "the anchors of the first call with as many anchors are kept",
        lambda: _remembered(lambda batch: len(batch.anchors), "anchors"),
    ),
    _mistake("truths-of-the-last-call", "the truths are those of the call before", _truths_of_last_call, BOTH),
    _mistake(
        "no-object-warms-up",
        "the weight of the no-object term grows during the first 100 calls",
        _weight_warms_up,
        family=("scale.no-object-weight",),
    ),
    _mistake("one-in-fifty", "every fiftieth answer is doubled", _one_in_fifty, BOTH),
    _mistake("every-third-without-objects", "every third call reads no truths", _every_third_without_objects, SCALAR),
    _mistake(
        "activated-in-place",
        "a kept copy of the predictions is activated in place, which shows when a batch comes again",
        _activated_in_place,
    ),
    _mistake(
        "second-answer-from-a-cache",
        "answers are kept in single precision, which shows when the very same question comes again",
        _answers_kept,
    ),
    _mistake("ignore-mask-kept", "a predictor once ignored stays ignored in later calls of that shape", _mask_kept),
    _mistake("max-iou-kept", "MaxIOU is not set to 0 before a call", _max_iou_kept, BOTH, profile="marvis"),
    _mistake("offsets-kept-by-cells", "the offsets of cells are kept by the number of cells", _offsets_kept),
    _mistake(
        "background-sampled",
        "every no-object predictor is left out with probability one half",
        _sampled,
        BOTH,
        ("noobj.value",),
    ),
    _mistake(
        "running-divisor",
        "the loss is divided by a running mean of the number of truths",
        _running_divisor,
        family=("scale.sum",),
        profile="darknet-2016",
    ),
    _mistake("rare-classes-first", "a class weighs less the more often it has been seen", _rare_classes_first),
    _mistake(
        "unordered-sum",
        "the last bit of the gradient depends on the order of threads",
        _unordered_sum,
        shown=False,
    ),
    _mistake("lagging-gradient", "the gradient is that of the last call of this shape", _lagging_gradient, BOTH),
]

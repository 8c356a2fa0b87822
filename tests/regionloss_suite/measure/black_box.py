"""A loss as a black box: questions through its adapter, its answers unchanged, and a check of its side effects."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regionloss import DomainError, evaluate
from regionloss_adapters import Adapter, Answer, CannotAnswerError, Question
from regionloss_spec import Batch, Profile
from regionloss_spec.batch import Array
from regionloss_suite.judging.exchange import copied, drawn_case, put, quantised, written_to
from regionloss_suite.measure.reduction import count, multiplied_by
from regionloss_suite.measure.scalar_gradient import ScalarGradient

#: Channels of a predictor.
T_X, T_Y, T_W, T_H, T_O, CLASSES = 0, 1, 2, 3, 4, 5


#: A truth in the last cell of an enlarged grid, far from every cell that an experiment measures.
_FAR = 0.0625


class NoAnswerError(Exception):
    """The loss refused the question, does not support it, crashed on it, or answered without numbers."""

    @property
    def declined(self) -> bool:
        """Whether the adapter says that its loss does not take the question, which is no mistake of the loss."""
        return isinstance(self.__cause__, CannotAnswerError)


def scene(
    *truths: Sequence[Sequence[float] | Array] | Array,
    anchors: Any = ((1.0, 1.0),),
    grid: tuple[int, int] = (1, 1),
    classes: int = 3,
    images_seen: int,
    raw: Mapping[Any, float] | None = None,
    tree: tuple[int, ...] | None = None,
) -> Batch:
    """A batch whose predictions are 0 except for `raw`.

    Args:
        truths: for each image its rows x, y, w, h, class.
        anchors: widths and heights in cells.
        grid: rows and columns.
        classes: C.
        images_seen: t.
        raw: predictions by (image, anchor, channel, row, column).
        tree: parents of the classes.
    """
    t = np.zeros((len(truths), len(anchors), 5 + classes, *grid))
    for place, value in (raw or {}).items():
        t[place] = value
    return Batch(
        predictions=t.reshape(len(truths), len(anchors) * (5 + classes), *grid),
        truths=tuple(np.array(rows, dtype=np.float64).reshape(len(rows), 5) for rows in truths),
        anchors=np.array(anchors, dtype=np.float64),
        classes=classes,
        images_seen=images_seen,
        tree=tree,
    )


class BlackBox:
    """Puts batches to an adapter; its declared reduction is not undone, a measured divisor is.

    Args:
        adapter: the loss to be identified.
        profile: the profile of every question; the loss may or may not read it.
    """

    def __init__(self, adapter: Adapter, profile: Profile) -> None:
        self.adapter = adapter
        self.profile = profile
        self.description = adapter.describe()
        self.dtype = "float64" if "float64" in self.description.dtypes else "float32"
        #: Number of questions so far.
        self.questions = 0
        #: How it changed its inputs, in words, or an empty string.
        self.spoilt = ""
        #: A tree in which all classes are siblings, for a loss that needs one; otherwise `None`.
        self.tree: tuple[int, ...] | None = None
        self.wants_tree = False
        #: Whether it supports only square grids.
        self.square = False
        #: The number of anchors that it takes, if it takes no other; 0 for any number.
        self.anchors = 0
        #: Whether it crashes on an image without truths; then each image gets one in a cell that is cut off again.
        self.wants_truth = False

        #: The reduction by a count that is taken out of every answer, a key of `COUNTS`; none at first.
        self.divisor = ""
        #: Whether it returns no gradient, so that slopes are differences of its scalar.
        self.scalar_only = False

    @property
    def tolerance(self) -> float:
        """The relative error that a measured constant may have."""
        if self.scalar_only:
            return 1e-7 if self.dtype == "float64" else 1e-2
        return 1e-9 if self.dtype == "float64" else 2e-5

    @property
    def silence(self) -> float:
        """The largest slope that counts as zero."""
        if self.scalar_only:
            return 1e-8 if self.dtype == "float64" else 1e-3
        return 1e-12

    def answer(self, batch: Batch) -> Answer:
        """The answer to a batch. Raises `NoAnswerError` without one."""
        if batch.tree is None and self.wants_tree:
            batch = dataclasses.replace(batch, tree=(-1,) * batch.classes)
        if self.wants_truth and not any(map(len, batch.truths)):
            answer = self.put(_beside_a_truth(batch))
            return dataclasses.replace(answer, gradient=_cut(answer.gradient, batch))
        return self.put(batch)

    def put(self, batch: Batch) -> Answer:
        """The answer to exactly this batch, with more anchors if it takes no other number. Raises `NoAnswerError`."""
        asked = self.padded(batch)
        if asked is not batch:
            answer = self.put(asked)
            channels = len(batch.anchors) * (5 + batch.classes)
            gradient = None if answer.gradient is None else np.asarray(answer.gradient)[:, :channels]
            return dataclasses.replace(answer, gradient=gradient)
        batch = dataclasses.replace(batch, predictions=quantised(batch.predictions, self.dtype))
        given = copied(batch)  # because a loss may change its inputs
        self.questions += 1
        question = Question(batch=given, profile=self.profile, dtype=self.dtype)
        case = drawn_case("question", "A measuring question.", batch, self.profile)
        exchange = put(self.adapter, question, case=case, description=self.description)
        if exchange.outcome in ("refused", "cannot"):
            raise NoAnswerError(f"refused: {exchange.message}") from exchange.error
        if exchange.returned is None:
            raise NoAnswerError(f"{exchange.outcome}: {exchange.message}") from exchange.error
        answer = exchange.returned
        if self.divisor:
            try:
                answer = multiplied_by(answer, count(self.divisor, batch, evaluate(batch, self.profile)))
            except DomainError as error:
                raise NoAnswerError(f"{error}, so that nothing is counted in it") from error
        if written := written_to(batch, given):
            self.spoilt = f"its {written.partition(' of ')[0]} were changed in place"  # of whatever image
        return answer

    def padded(self, batch: Batch) -> Batch:
        """The batch with the number of anchors that the loss takes: those that are missing are tiny and fit nothing."""
        missing = self.anchors - len(batch.anchors)
        if not self.anchors or missing <= 0:
            return batch
        tiny = np.array([(2.0**-9 * (2 + k), 2.0**-9) for k in range(missing)])
        images, _, height, width = np.shape(batch.predictions)
        rest = np.zeros((images, missing * (5 + batch.classes), height, width))
        return dataclasses.replace(
            batch,
            predictions=np.concatenate([batch.predictions, rest], axis=1),
            anchors=np.concatenate([batch.anchors, tiny]),
        )

    def gradient(self, batch: Batch) -> Array | ScalarGradient:
        """The gradient at a batch, `[N, A, 5+C, H, W]`, float64; measured on indexing if only a scalar is returned.

        Raises:
            NoAnswerError: here, or on indexing.
        """
        shape = (len(batch.truths), len(batch.anchors), 5 + batch.classes, *batch.predictions.shape[2:])
        if not self.scalar_only:
            answer = self.answer(batch)
            self.scalar_only = answer.gradient is None and _total(answer) is not None
        if self.scalar_only:
            step = 2.0**-8 if self.dtype == "float64" else 2.0**-3
            at = lambda point: self.scalar(dataclasses.replace(batch, predictions=point))  # noqa: E731
            return ScalarGradient(at, batch.predictions, shape, step, self.silence)
        return self.gradient_of(answer, batch)

    def gradient_of(self, answer: Answer, batch: Batch) -> Array:
        """The gradient in an answer to a batch, `[N, A, 5+C, H, W]`, float64. Raises `NoAnswerError`."""
        shape = (len(batch.truths), len(batch.anchors), 5 + batch.classes, *batch.predictions.shape[2:])
        if answer.gradient is None or np.size(answer.gradient) != np.prod(shape):
            raise NoAnswerError("answered without a gradient in the shape of its predictions")
        gradient = np.asarray(answer.gradient, dtype=np.float64)
        if not np.isfinite(gradient).all():
            raise NoAnswerError("answered with a gradient that is not finite")
        return gradient.reshape(shape)

    def scalar(self, batch: Batch) -> float:
        """The scalar at a batch. Raises `NoAnswerError`."""
        return self.scalar_of(self.answer(batch))

    def scalar_of(self, answer: Answer) -> float:
        """The scalar in an answer: its potential, or the sum of its terms. Raises `NoAnswerError`."""
        scalar = _total(answer)
        if scalar is None:
            raise NoAnswerError("answered without a scalar")
        if not math.isfinite(scalar):
            raise NoAnswerError("answered with a scalar that is not finite")
        return scalar


def _total(answer: Answer) -> float | None:
    """The scalar of an answer: its potential, or the sum of its terms."""
    if answer.potential is not None:
        return float(answer.potential)
    return None if answer.terms is None else float(sum(answer.terms.values()))


def _enlarged(cells: int) -> int:
    """The next power of two, so that the sizes of the truth are exact in every format, as corners too."""
    return int(1 << cells.bit_length())


def _beside_a_truth(batch: Batch) -> Batch:
    """The batch on a larger grid, with a small truth in the last cell of each image."""
    images, channels, height, width = np.shape(batch.predictions)
    down, across = _enlarged(height), _enlarged(width)
    predictions = np.zeros((images, channels, down, across))
    predictions[..., :height, :width] = batch.predictions
    row = [1 - _FAR / across, 1 - _FAR / down, _FAR / across, _FAR / down, 0.0]
    return dataclasses.replace(batch, predictions=predictions, truths=(np.array([row]),) * images)


def _cut(gradient: Array | None, batch: Batch) -> Array | None:
    """The gradient at the cells of the original batch."""
    if gradient is None:
        return None
    images, channels, height, width = np.shape(batch.predictions)
    whole = np.reshape(gradient, (images, channels, _enlarged(height), _enlarged(width)))
    return np.asarray(whole[..., :height, :width])

"""What the suite asks of an adapter. Expected values never reach one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from regionloss_spec import Batch, Profile

#: What an adapter can say that it answers.
ANSWERS = ("potential", "terms", "gradient", "indicators", "printed cost", "statistics", "errors")
#: What it can promise besides of how its loss is differentiated, see `Question.times` and `Question.direction`.
DERIVATIVES = ("repeated gradient", "second derivative")


@dataclass(frozen=True)
class Description:
    """Who is asked, and what it can answer.

    Attributes:
        name: of the implementation, as reports show it.
        profiles: names of the profiles it claims; `*` for any profile that it is given.
        answers: what it answers, out of `ANSWERS` and `DERIVATIVES`; `errors` promises that it refuses input outside
            the domain.
        dtypes: floating-point formats that it takes predictions in, out of float64, float32, float16, bfloat16.
        devices: where it can be asked, in the words of its framework; each is asked in every format.
        reduction: what it divides its answers by, declared so that the suite can multiply it out in the open:
            `sum` for nothing, `per-image` for the number of images, `per-object` for that of the truths that are paid.
            Where a profile divides so too, nothing is multiplied out.
        factor: a constant that its answers are multiplied by on top of that.
        notes: what a reader of the report should know, one sentence each: version, licence, what was worked around.
    """

    name: str
    profiles: tuple[str, ...] = ("darknet",)
    answers: tuple[str, ...] = ("gradient",)
    dtypes: tuple[str, ...] = ("float32",)
    devices: tuple[str, ...] = ("cpu",)
    reduction: Literal["sum", "per-image", "per-object"] = "sum"
    factor: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Question:
    """What an adapter is asked: one batch, under one profile, in one format, on one device.

    Attributes:
        batch: predictions (exact in `dtype`, held in float64), truths, anchors, classes, images seen, tree.
        profile: the choices that the answer is held against.
        dtype: format in which the implementation is to be given the predictions.
        device: where it is to compute.
        upstream: the gradient that arrives at the scalar from above; the answered gradient is multiplied by it.
        times: how often the gradient is taken from one evaluation, and added up; more than once only where the adapter
            promises a `repeated gradient`.
        direction: along which the gradient is differentiated once more, in the shape of the predictions; given only
            where the adapter promises a `second derivative`.
    """

    batch: Batch
    profile: Profile
    dtype: str = "float32"
    device: str = "cpu"
    upstream: float = 1.0
    times: int = 1
    direction: NDArray[np.floating] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """What an implementation says about one batch; `None` for what it does not say.

    Attributes:
        gradient: of its scalar with respect to the raw predictions, `[N, A*(5+C), H, W]`.
        potential: the scalar itself, where it is the potential of that gradient.
        terms: no_object, prior, coord, object and class, by name.
        responsible: (image, truth, anchor, row, column) of every truth whose box is paid.
        ignored: (image, anchor, row, column) of every predictor that MaxIOU silences.
        printed_cost: what darknet would print as the loss.
        statistics: darknet's statistics line, by the names of `regionloss.statistics.Statistics`.
        curvature: derivative of the gradient along the direction of the question, in the shape of the predictions.
    """

    gradient: NDArray[np.floating] | None = None
    potential: float | None = None
    terms: dict[str, float] | None = None
    responsible: tuple[tuple[int, ...], ...] | None = None
    ignored: tuple[tuple[int, ...], ...] | None = None
    printed_cost: float | None = None
    statistics: dict[str, float] | None = None
    curvature: NDArray[np.floating] | None = None


class AdapterError(ValueError):
    """The adapter cannot be found, is none, or broke its own contract: nothing is said about the loss behind it."""


class RefusedError(Exception):
    """The implementation refused the input as outside its domain; the place where it says that it does."""

    def __init__(self, message: str, image: int | None = None, truth: int | None = None) -> None:
        super().__init__(message)
        self.image = image
        self.truth = truth


class CannotAnswerError(Exception):
    """The implementation has no way to be asked this, for example an option that it does not have."""


#: The former names, which adapters out there raise.
Refused = RefusedError
CannotAnswer = CannotAnswerError


@runtime_checkable
class Adapter(Protocol):
    """One implementation, wrapped for the suite."""

    def describe(self) -> Description:
        """Who it is and what it can answer."""
        ...

    def answer(self, question: Question) -> Answer:
        """Answer one batch.

        Raises:
            RefusedError: the input lies outside the domain.
            CannotAnswerError: this implementation cannot be asked this.
        """
        ...

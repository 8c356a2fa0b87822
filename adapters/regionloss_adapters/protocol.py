"""The interface of an adapter. An adapter never gets the expected values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from regionloss_spec import Batch, Profile, ProfileError, load_profile

#: What an adapter can return.
ANSWERS = ("potential", "terms", "gradient", "indicators", "printed cost", "statistics", "errors")
#: What it can declare in addition about its derivatives, see `Question.times` and `Question.direction`.
DERIVATIVES = ("repeated gradient", "second derivative")


@dataclass(frozen=True)
class Description:
    """An implementation and what it can return.

    Attributes:
        name: its name in reports.
        profiles: names of the profiles that it claims; `*` for any profile.
        answers: what it returns, out of `ANSWERS` and `DERIVATIVES`; `errors` declares that it refuses input outside
            the domain.
        dtypes: the formats in which it accepts predictions, out of float64, float32, float16, bfloat16.
        devices: the devices that it runs on, by the names of its framework; each is used in every format.
        reduction: what its loss is divided by, declared so that the suite can undo it visibly: `sum` for nothing,
            `per-image` for the number of images, `per-object` for the number of truths that are paid.
            If the profile has the same reduction, nothing is undone.
        factor: a constant that also multiplies its loss.
        notes: facts for a reader of the report, one sentence each: version, licence, workarounds.
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
    """A question to an adapter: one batch, under one profile, in one format, on one device.

    Attributes:
        batch: predictions (exact in `dtype`, stored in float64), truths, anchors, classes, images seen, tree.
        profile: the choices that the answer is compared with.
        dtype: the format in which to pass the predictions to the implementation.
        device: where to compute.
        upstream: the upstream gradient of the scalar, which multiplies the returned gradient.
        times: how many backward passes of one evaluation to add up; more than one only if the adapter declares a
            `repeated gradient`.
        direction: the direction in which to differentiate the gradient again, in the shape of the predictions; given
            only if the adapter declares a `second derivative`.
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
    """What an implementation returns for one batch; `None` for what it does not return.

    Attributes:
        gradient: gradient of its scalar with respect to the raw predictions, `[N, A*(5+C), H, W]`.
        potential: the scalar itself, if it is the potential of that gradient.
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
    """The adapter cannot be found, is not one, or broke its own contract; this says nothing about its loss."""


class RefusedError(Exception):
    """The implementation refused the input as outside its domain; with the place, if it names one."""

    def __init__(self, message: str, image: int | None = None, truth: int | None = None) -> None:
        super().__init__(message)
        self.image = image
        self.truth = truth


class CannotAnswerError(Exception):
    """The implementation does not support the question, for example an option."""


#: The former names, which existing adapters raise.
Refused = RefusedError
CannotAnswer = CannotAnswerError


@runtime_checkable
class Adapter(Protocol):
    """One implementation, wrapped for the suite."""

    def describe(self) -> Description:
        """Return its name and what it can answer."""
        ...

    def answer(self, question: Question) -> Answer:
        """Answer one batch.

        Raises:
            RefusedError: the input lies outside the domain.
            CannotAnswerError: the implementation does not support the question.
        """
        ...


def missing_option(profile: Profile, profiles: Collection[str], options: Collection[str]) -> str | None:
    """The first axis that a case sets and an implementation does not read, or `None` if it can run the case.

    Args:
        profile: of the question; a case may change an axis of the shipped profile of that name.
        profiles: the profiles that the implementation claims; one that claims `*` reads every axis.
        options: the axes that it reads from the profile of a question.
    """
    if "*" in profiles:
        return None
    try:
        changed = load_profile(profile.name).differences(profile)
    except ProfileError:  # a user's own profile, the only one to compare with
        return None
    return next((axis for axis in changed if axis not in options), None)

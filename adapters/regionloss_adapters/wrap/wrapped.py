"""Common parts of the helpers of `wrap`: convert a question to a port's inputs, and its result to an answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal, TypedDict

from regionloss_adapters.layouts import NCHW, Layout
from regionloss_adapters.limits import Limits
from regionloss_adapters.protocol import Answer, CannotAnswerError, Description, Question, RefusedError, missing_option
from regionloss_adapters.truths import Ragged, TruthFormat
from regionloss_adapters.wrap.loss_call import Ask, Loss
from regionloss_spec import AXES, Profile
from regionloss_spec.batch import Array
from regionloss_spec.clause import TERMS


class Options(TypedDict, total=False):
    """What a port supports and how to call it; passed to a helper by keyword.

    Attributes:
        layout: of the predictions; by default NCHW, darknet's.
        truths: their format; by default for each image an array `[T, 5]` of x, y, w, h (fractions) and class.
        reduction: what its loss is divided by, see `Description`.
        factor: a constant that also multiplies its loss.
        profiles: names of the profiles that it claims.
        options: the axes of a profile that it reads from `question.profile`. Cases that change another axis of
            their profile are left out: a port with a fixed configuration cannot follow them.
        supports: for what `options` cannot express: returns why it does not support a profile, or None.
        limits: the batches that it accepts, such as exactly five anchors; by default any.
        answers: which of gradient, potential and terms it returns. Declare the potential only if the gradient is that
            of the scalar, which is rarely so if the scalar is only printed.
            A loss in PyTorch may also declare a `repeated gradient` and a `second derivative`.
        refuses: exceptions by which it refuses input outside the domain; with any of them it declares that it refuses
            all such input. Attributes `image` and `truth` of the exception, if any, are the place.
        dtypes: formats of the predictions.
        devices: by the names of its framework.
        notes: facts for a reader of the report.
    """

    layout: Layout
    truths: TruthFormat
    reduction: Literal["sum", "per-image", "per-object"]
    factor: float
    profiles: tuple[str, ...]
    options: tuple[str, ...]
    supports: Callable[[Profile], str | None] | None
    limits: Limits
    answers: tuple[str, ...]
    refuses: tuple[type[Exception], ...]
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]
    notes: tuple[str, ...]


class Wrapped:
    """A loss of some framework as an adapter; made by the helpers of `wrap`."""

    def __init__(
        self,
        loss: Loss,
        ask: Ask,
        name: str,
        *,
        promises: tuple[str, ...] = (),
        layout: Layout = NCHW,
        truths: TruthFormat | None = None,
        reduction: Literal["sum", "per-image", "per-object"] = "sum",
        factor: float = 1.0,
        profiles: tuple[str, ...] = ("darknet",),
        options: tuple[str, ...] = (),
        supports: Callable[[Profile], str | None] | None = None,
        limits: Limits | None = None,
        answers: tuple[str, ...] = ("gradient",),
        refuses: tuple[type[Exception], ...] = (),
        dtypes: tuple[str, ...] = ("float32",),
        devices: tuple[str, ...] = ("cpu",),
        notes: tuple[str, ...] = (),
    ) -> None:
        _check_known("answers", answers, ("gradient", "potential", "terms", *promises))
        _check_known("options", options, AXES)
        if layout.activated and not set(dtypes) <= {"float64", "float32"}:
            raise ValueError(
                f"dtypes are {dtypes}: half formats represent activated predictions less exactly than raw ones"
            )
        if layout.activated and "second derivative" in answers:
            raise ValueError("answers has 'second derivative', but the layout has activated predictions")
        self.loss, self.ask = loss, ask
        self.layout, self.truths = layout, truths or Ragged()
        self.options, self.supports, self.refuses = options, supports, refuses
        self.limits = limits or Limits()
        if layout.activated:
            done = ", ".join(f"{kind} of {channel}" for channel, kind in layout.activated.items())
            notes = (*notes, f"The adapter applied {done} and their chain rule, in float64.")
        self.description = Description(
            name,
            profiles=profiles,
            answers=(*answers, "errors") if refuses else answers,
            dtypes=dtypes,
            devices=devices,
            reduction=reduction,
            factor=factor,
            notes=(*notes, *getattr(truths, "notes", ())),
        )

    def describe(self) -> Description:
        """The declared description."""
        return self.description

    def answer(self, question: Question) -> Answer:
        """Put one batch to the loss in its own layout and format."""
        self.check_asked(question)
        given = self.layout.forward(question.batch, question.dtype)
        truths = self.truths(question)
        if question.direction is not None:  # raw, like the predictions; only its layout changes
            along = dataclasses.replace(question.batch, predictions=question.direction)
            question = dataclasses.replace(question, direction=self.layout.forward(along))
        try:
            outcome = self.ask(self.loss, given, truths, question)
        except self.refuses as error:
            raise RefusedError(str(error), getattr(error, "image", None), getattr(error, "truth", None)) from error
        return Answer(
            gradient=self.gradient(outcome.gradient, given.shape, question),
            curvature=None if outcome.curvature is None else self.layout.backward(outcome.curvature, question.batch),
            potential=self.potential(outcome.scalar),
            terms=self._terms(outcome.terms),
        )

    def check_asked(self, question: Question) -> None:
        """Raise `CannotAnswerError` if it does not support the profile or accept the batch."""
        if reason := self._beyond(question.profile) or self.limits.beyond(question.batch):
            raise CannotAnswerError(reason)

    def _beyond(self, profile: Profile) -> str | None:
        """Why it does not support a profile."""
        missing = missing_option(profile, self.description.profiles, self.options)
        if missing is not None:
            return f"it has no option {missing}"
        return self.supports(profile) if self.supports else None

    def gradient(self, gradient: Array | None, given: tuple[int, ...], question: Question) -> Array | None:
        """A gradient in the port's layout as an answer's; `given` is the shape of its predictions."""
        if "gradient" not in self.description.answers:
            return None
        if gradient is None:
            raise ValueError("the loss returned no gradient; declare what it returns, such as answers=('potential',)")
        if gradient.shape != given:
            raise ValueError(f"the gradient has shape {list(gradient.shape)}, but the predictions had {list(given)}")
        return self.layout.backward(gradient, question.batch)

    def potential(self, scalar: float | None) -> float | None:
        """The scalar as an answer's: only if it was declared to be the potential."""
        if "potential" not in self.description.answers:
            return None
        if scalar is None:
            raise ValueError("the loss returned no scalar, which answers=('potential', …) declares")
        return scalar

    def _terms(self, terms: Mapping[str, float]) -> dict[str, float] | None:
        if "terms" not in self.description.answers:
            return None
        if set(terms) != set(TERMS):
            raise ValueError(f"the loss returned terms {', '.join(terms) or 'none'}, expected {', '.join(TERMS)}")
        return dict(terms)


def _check_known(what: str, came: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in came:
        if name not in known:
            raise ValueError(f"{what} has {name!r}; known are {', '.join(known)}")

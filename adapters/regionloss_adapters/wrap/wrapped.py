"""What the helpers of `wrap` share: from a question to a port's own inputs, and back from what it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal, TypedDict

from regionloss_adapters.layouts import NCHW, Layout
from regionloss_adapters.protocol import Answer, CannotAnswerError, Description, Question, RefusedError, missing_option
from regionloss_adapters.truths import Ragged, TruthFormat
from regionloss_adapters.wrap.loss_call import Ask, Loss
from regionloss_spec import AXES, Profile
from regionloss_spec.batch import Array
from regionloss_spec.clause import TERMS


class Options(TypedDict, total=False):
    """What a port is and how it wants to be asked; given to a helper by keyword.

    Attributes:
        layout: of the predictions; NCHW as darknet has it if left out.
        truths: their format; for each image an array `[T, 5]` of x, y, w, h (fractions) and class if left out.
        reduction: what its answers are divided by, see `Description`.
        factor: what its answers are multiplied by on top of that.
        profiles: names of the profiles it claims.
        options: the axes of a profile that it reads from `question.profile`. Cases that set another axis than the
            profile they belong to are not asked: a port of fixed configuration has no way to follow.
        supports: for what `options` cannot say: gives the reason why it cannot be asked under a profile, or None.
        answers: which of gradient, potential and terms it answers. Declare the potential where the scalar is the one
            that the gradient belongs to: it rarely is where the loss is printed rather than differentiated.
            A loss in PyTorch may promise a `repeated gradient` and a `second derivative` besides.
        refuses: exceptions by which it refuses input outside the domain; declaring any promises that it refuses all.
            Attributes `image` and `truth` of the exception, where there, are taken as the place.
        dtypes: formats of the predictions.
        devices: in the words of its framework.
        notes: what a reader of the report should know.
    """

    layout: Layout
    truths: TruthFormat
    reduction: Literal["sum", "per-image", "per-object"]
    factor: float
    profiles: tuple[str, ...]
    options: tuple[str, ...]
    supports: Callable[[Profile], str | None] | None
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
                f"dtypes are {dtypes}: half formats do not hold activated predictions as exactly as raw ones"
            )
        if layout.activated and "second derivative" in answers:
            raise ValueError("answers has 'second derivative', and the layout has activated predictions")
        self.loss, self.ask = loss, ask
        self.layout, self.truths = layout, truths or Ragged()
        self.options, self.supports, self.refuses = options, supports, refuses
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
        """As it was declared."""
        return self.description

    def answer(self, question: Question) -> Answer:
        """Put one batch to the loss in its own layout and format."""
        self.check_asked(question)
        given = self.layout.forward(question.batch, question.dtype)
        truths = self.truths(question)
        if question.direction is not None:  # raw, like the predictions, and only moved to another place as they are
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
        """Raise `CannotAnswerError` where it cannot be asked under the profile."""
        if reason := self._beyond(question.profile):
            raise CannotAnswerError(reason)

    def _beyond(self, profile: Profile) -> str | None:
        """Why it cannot be asked under a profile."""
        missing = missing_option(profile, self.description.profiles, self.options)
        if missing is not None:
            return f"it has no option {missing}"
        return self.supports(profile) if self.supports else None

    def gradient(self, gradient: Array | None, given: tuple[int, ...], question: Question) -> Array | None:
        """A gradient of the port's own layout as it is answered; `given` is the shape that its predictions had."""
        if "gradient" not in self.description.answers:
            return None
        if gradient is None:
            raise ValueError("the loss returned no gradient; declare what it answers, such as answers=('potential',)")
        if gradient.shape != given:
            raise ValueError(f"the gradient has shape {list(gradient.shape)}, the predictions had {list(given)}")
        return self.layout.backward(gradient, question.batch)

    def potential(self, scalar: float | None) -> float | None:
        """The scalar as it is answered: only where it was declared to be the potential."""
        if "potential" not in self.description.answers:
            return None
        if scalar is None:
            raise ValueError("the loss returned no scalar, which answers=('potential', …) promises")
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

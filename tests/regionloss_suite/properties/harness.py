"""Puts batches to an adapter and holds what comes back against the reference on the very same bits.

Nothing is compared by a tolerance of its own: an answer with the reference through `Comparison`, two answers of one
adapter with each other by the sum of the bounds of both.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss import evaluate
from regionloss.bounds import PRECISIONS, adding
from regionloss_adapters import Adapter, AdapterError, Answer, CannotAnswer, Question, Refused
from regionloss_spec import Batch, Case, Profile, profile_names
from regionloss_spec.case import Expected
from regionloss_suite.oracle.comparison import Difference
from regionloss_suite.oracle.coverage import clauses_reached
from regionloss_suite.oracle.reduction import multiplied_out
from regionloss_suite.properties.asked import Array, Asked, Departs, Unanswered, both
from regionloss_suite.properties.strategies import batches

Carry = Callable[[Array], Array]


def quantised(values: Array, dtype: str) -> Array:
    """Numbers rounded to a format, held in float64."""
    if dtype == "bfloat16":  # float32 without the lower half of its bits, rounded to even
        bits = np.asarray(values, dtype=np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return bits.view(np.float32).astype(np.float64)
    return np.asarray(values).astype(dtype).astype(np.float64)


class Asker:
    """Asks one adapter about batches of one profile, in one format, on one device.

    Args:
        adapter: the loss under test.
        profile: the choices it is judged by.
        dtype: format of the predictions.
        device: where it is to compute.
        case: id under which the batches appear in what is reported.
        clauses: what is asked about.
        needs: what an answer has to hold to be of use, out of `ANSWERS` and `DERIVATIVES`.
        notes: whether to note which clauses the batches show.
    """

    def __init__(
        self,
        adapter: Adapter,
        profile: Profile,
        dtype: str,
        device: str = "cpu",
        *,
        case: str = "drawn",
        clauses: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
        notes: bool = True,
    ) -> None:
        self.adapter = adapter
        self.description = adapter.describe()
        self.profile = profile
        self.dtype = dtype
        self.device = device
        self.case = case
        self.clauses = clauses
        self.needs = needs
        self.notes = notes
        #: The clauses that the batches asked about have shown so far.
        self.shown: set[str] = set()
        #: How many batches were answered.
        self.answered = 0
        #: The adapter's own mistake, if it made one.
        self.fault: AdapterError | None = None
        #: The traceback of the last crash of the loss under test.
        self.crash = ""

    def draw(self, data: st.DataObject, **options: Any) -> Batch:
        """Draw a batch that is exact in the format; the options are those of `strategies.batches`."""
        batch = data.draw(batches(self.profile, **options))
        predictions = quantised(batch.predictions, self.dtype)
        if self.profile.size_space != "log" and self.dtype != "float64":
            # An exponential enters the gradient there, and what overflows has no bound to be compared by.
            sizes = predictions.reshape(len(predictions), len(batch.anchors), 5 + batch.classes, *predictions.shape[2:])
            sizes[:, :, 2:4] = np.minimum(sizes[:, :, 2:4], 16.0)
        return dataclasses.replace(batch, predictions=predictions)

    def ask(
        self,
        batch: Batch,
        profile: Profile | None = None,
        *,
        upstream: float = 1.0,
        times: int = 1,
        direction: Array | None = None,
    ) -> Asked:
        """Put a batch inside the domain to the adapter; what is differentiated is said as in a `Question`.

        Raises:
            Departs: it refuses the batch, or breaks on it.
            Unanswered: it cannot be asked this.
        """
        case = self._case(batch, profile or self.profile)
        question = Question(
            batch=batch,
            profile=case.profile,
            dtype=self.dtype,
            device=self.device,
            upstream=upstream,
            times=times,
            direction=direction,
        )
        raw = self._put(question, case)
        if isinstance(raw, Refused):
            raise self._departs(case, f"refused: {raw}", "an answer")
        self._expect(raw)
        self.answered += 1
        paid = 0
        if self.description.reduction == "per-object":
            paid = sum(match.pays_box for match in evaluate(batch, case.profile).decisions.matches)
        divided = case.profile.reduction
        whole = multiplied_out(raw, self.description, len(batch.truths), paid, divided=divided)
        asked = Asked(case, self.dtype, whole, raw, self.clauses)
        if self.notes:
            self.note(asked)
        return asked

    def note(self, asked: Asked) -> None:
        """Count the clauses that a batch shows."""
        reached = clauses_reached(asked.result, asked.case.batch.images_seen)
        self.shown.update(clause for clause in reached if not clause.startswith("numerics.float"))
        self.shown.add(f"numerics.{self.dtype}")

    def refusal(self, batch: Batch) -> Refused:
        """Put a batch outside the domain to the adapter, and return how it refuses.

        Raises:
            Departs: it answers, or breaks.
            Unanswered: it cannot be asked this.
        """
        case = self._case(batch, self.profile)
        said = self._put(Question(batch=batch, profile=self.profile, dtype=self.dtype, device=self.device), case)
        if not isinstance(said, Refused):
            raise self._departs(case, "an answer", "a refusal")
        self.answered += 1
        return said

    def agree(
        self,
        one: Asked,
        other: Asked,
        *,
        carry: Carry = lambda array: array,
        channels: Carry = lambda array: array,
        where: Array | None = None,
        totals: bool = True,
    ) -> None:
        """Raise `Departs` where two answers that should say the same do not, by the sum of their bounds.

        Args:
            one: the answer that gives what is expected.
            other: the answer that is held against it.
            carry: moves predictors `[N, A, E, H, W]`, of any E, from the places of `one` to those of `other`.
            channels: moves or turns the channels of a gradient, as they are after `carry`.
            where: what is looked at, bool, broadcast to `[N, A, 5+C, H, W]`; everything if left out.
            totals: whether terms and potential are the same too.
        """
        assume(not one.edges and not other.edges)
        places = None if where is None else np.broadcast_to(where, other.result.t.shape)
        states = None if places is None else places.any(axis=2, keepdims=True)
        expected, got = carry(one.states), other.states
        said = (expected >= 0) & (got >= 0)
        for at, name in enumerate(("truths that the predictor is responsible for", "ignored")):
            part = slice(at, at + 1)
            here = said[:, :, part] if states is None else said[:, :, part] & states
            other.hold(name, got[:, :, part], expected[:, :, part], np.zeros(1), here)
        if one.answer.gradient is not None and other.answer.gradient is not None:
            expected, got = channels(carry(one.gradient)), other.gradient
            bound = np.abs(channels(carry(one.gradient_bound))) + other.gradient_bound
            other.hold("gradient", got, expected, bound + self.rounding(expected, got), places)
        if totals and where is None:
            for name, (first, second, limit) in both(one, other).items():
                other.hold_number(name, second, first, limit + self.rounding_of_sum(other, first, second))

    def rounding(self, *answers: Array) -> Array:
        """What numbers as large as these may owe to rounding, whatever they should be (`numerics.bound`, K·u·|g|).

        Where an answer is wrong, so is the bound of the right one: a number where there should be none has the bound 0.
        That is another clause's matter than a relation between two answers.
        """
        precision = PRECISIONS[self.dtype]
        relative = precision.rounding + precision.output
        return np.asarray(relative * sum(np.abs(answer) for answer in answers))

    def rounding_of_sum(self, asked: Asked, *numbers: float) -> float:
        """The same for terms and potentials, which are sums over the elements of a batch."""
        return adding(asked.result.t.size, sum(abs(number) for number in numbers), PRECISIONS[self.dtype])

    def _expect(self, answer: Answer) -> None:
        """Raise `Unanswered` where an answer lacks what is needed, or everything."""
        said = {
            "potential": answer.potential is not None,
            "terms": answer.terms is not None,
            "gradient": answer.gradient is not None,
            "indicators": answer.responsible is not None or answer.ignored is not None,
            "printed cost": answer.printed_cost is not None,
            "statistics": answer.statistics is not None,
            "second derivative": answer.curvature is not None,
        }
        lacking = [name for name in self.needs if not said.get(name, True)]
        if lacking or not any(said.values()):
            name = self.description.name
            raise Unanswered(f"{name} promises {' and '.join(lacking) or 'an answer'} and does not give it")

    def _put(self, question: Question, case: Case) -> Answer | Refused:
        try:
            return self.adapter.answer(question)
        except Refused as refused:
            return refused
        except CannotAnswer as error:
            raise Unanswered(str(error)) from error
        except AdapterError as error:  # the adapter's own mistake says nothing about the loss
            self.fault = self.fault or error
            raise Unanswered(str(error)) from error
        except Exception as error:  # whatever a loss under test may raise is a finding about that loss
            self.crash = traceback.format_exc()
            raise self._departs(case, f"crashed: {type(error).__name__}: {error}", "an answer") from error

    def _departs(self, case: Case, got: str, expected: str) -> Departs:
        difference = Difference(case=case.id, dtype=self.dtype, quantity="error", got=got, expected=expected)
        return Departs(difference, case.batch, case.profile)

    def _case(self, batch: Batch, profile: Profile) -> Case:
        return case_of(self.case, self.case.replace("-", " "), batch, profile)


def case_of(name: str, title: str, batch: Batch, profile: Profile) -> Case:
    """A drawn batch as a case that expects what the reference answers."""
    base = profile.name if profile.name in profile_names() else "darknet"
    return Case(
        id=name,
        title=title,
        provenance={"kind": "derivation"},
        base=base,
        profile=profile,
        batch=batch,
        expected=Expected(),
    )

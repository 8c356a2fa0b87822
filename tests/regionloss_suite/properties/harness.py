"""Puts drawn batches to an adapter and compares its answers with the reference on the very same bits.

No property has a tolerance of its own: an answer is compared with the reference through `Comparison`, and two answers
of one adapter with each other within the sum of both bounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss.bounds import PRECISIONS, adding
from regionloss_adapters import Adapter, AdapterError, Answer, Question
from regionloss_spec import Batch, Case, Profile
from regionloss_spec.batch import Array
from regionloss_suite.judging.exchange import Exchange, drawn_case, put, quantised
from regionloss_suite.oracle.comparison import Difference
from regionloss_suite.oracle.coverage import clauses_reached
from regionloss_suite.properties.response import DeviationError, NotAnswerableError, Response, both
from regionloss_suite.properties.strategies import batches

Carry = Callable[[Array], Array]


class PropertyHarness:
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
    ) -> Response:
        """Put a batch inside the domain to the adapter; what is differentiated is said as in a `Question`.

        Raises:
            DeviationError: it refuses the batch, or breaks on it.
            NotAnswerableError: it cannot be asked this.
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
        exchange = self._put(question, case)
        if exchange.outcome == "refused":
            raise self._deviation(case, f"refused: {exchange.message}", "an answer")
        assert exchange.returned is not None
        self._check_promises(exchange.returned)
        self.answered += 1
        response = Response(exchange, self.clauses)
        if self.notes:
            self.note(response)
        return response

    def note(self, response: Response) -> None:
        """Count the clauses that a batch shows."""
        reached = clauses_reached(response.result, response.case.batch.images_seen)
        self.shown.update(clause for clause in reached if not clause.startswith("numerics.float"))
        self.shown.add(f"numerics.{self.dtype}")

    def refusal(self, batch: Batch) -> Exchange:
        """Put a batch outside the domain to the adapter, and return its refusal.

        Raises:
            DeviationError: it answers, or breaks.
            NotAnswerableError: it cannot be asked this.
        """
        case = self._case(batch, self.profile)
        question = Question(batch=batch, profile=self.profile, dtype=self.dtype, device=self.device)
        exchange = self._put(question, case)
        if exchange.outcome != "refused":
            raise self._deviation(case, "an answer", "a refusal")
        self.answered += 1
        return exchange

    def agree(
        self,
        one: Response,
        other: Response,
        *,
        carry: Carry = lambda array: array,
        channels: Carry = lambda array: array,
        where: Array | None = None,
        totals: bool = True,
    ) -> None:
        """Raise `DeviationError` where two answers that should be equal differ by more than the sum of their bounds.

        Args:
            one: the answer that gives what is expected.
            other: the answer that is compared with it.
            carry: moves predictors `[N, A, E, H, W]`, of any E, from the places of `one` to those of `other`.
            channels: moves or turns the channels of a gradient, as they are after `carry`.
            where: what is looked at, bool, broadcast to `[N, A, 5+C, H, W]`; everything if left out.
            totals: whether terms and potential are the same too.
        """
        assume(not one.edges and not other.edges)
        places = None if where is None else np.broadcast_to(where, other.result.t.shape)
        states = None if places is None else places.any(axis=2, keepdims=True)
        expected, got = carry(one.states), other.states
        known = (expected >= 0) & (got >= 0)
        for at, name in enumerate(("truths that the predictor is responsible for", "ignored")):
            part = slice(at, at + 1)
            compared = known[:, :, part] if states is None else known[:, :, part] & states
            other.hold(name, got[:, :, part], expected[:, :, part], np.zeros(1), compared)
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

    def rounding_of_sum(self, response: Response, *numbers: float) -> float:
        """The same for terms and potentials, which are sums over the elements of a batch."""
        return adding(response.result.t.size, sum(abs(number) for number in numbers), PRECISIONS[self.dtype])

    def _check_promises(self, answer: Answer) -> None:
        """Raise `NotAnswerableError` where an answer lacks what is needed, or everything."""
        given = {
            "potential": answer.potential is not None,
            "terms": answer.terms is not None,
            "gradient": answer.gradient is not None,
            "indicators": answer.responsible is not None or answer.ignored is not None,
            "printed cost": answer.printed_cost is not None,
            "statistics": answer.statistics is not None,
            "second derivative": answer.curvature is not None,
        }
        lacking = [name for name in self.needs if not given.get(name, True)]
        if lacking or not any(given.values()):
            name = self.description.name
            raise NotAnswerableError(f"{name} declares {' and '.join(lacking) or 'an answer'} but did not return it")

    def _put(self, question: Question, case: Case) -> Exchange:
        """Put a question to the adapter: answered or refused.

        Raises:
            DeviationError: the loss crashes.
            NotAnswerableError: it cannot be asked this, or the adapter breaks its promise.
        """
        exchange = put(self.adapter, question, case=case, description=self.description)
        if exchange.unanswerable:
            if isinstance(exchange.error, AdapterError):  # which says nothing about the loss
                self.fault = self.fault or exchange.error
            raise NotAnswerableError(exchange.message) from exchange.error
        if exchange.outcome == "crashed":
            self.crash = exchange.traceback
            raise self._deviation(case, f"crashed: {exchange.message}", "an answer") from exchange.error
        return exchange

    def _deviation(self, case: Case, got: str, expected: str) -> DeviationError:
        difference = Difference(case=case.id, dtype=self.dtype, quantity="error", got=got, expected=expected)
        return DeviationError(difference, case.batch, case.profile)

    def _case(self, batch: Batch, profile: Profile) -> Case:
        return drawn_case(self.case, self.case.replace("-", " "), batch, profile)

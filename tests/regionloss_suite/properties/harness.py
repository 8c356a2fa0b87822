"""Puts random batches to an adapter and compares its answers with the reference on the very same bits.

No property has a tolerance of its own: `Comparison` compares an answer with the reference, and two answers of one
adapter are compared within the sum of both bounds.
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
from regionloss_suite.oracle.strategies import batches
from regionloss_suite.properties.response import DeviationError, NotAnswerableError, Response, both

Carry = Callable[[Array], Array]


class PropertyHarness:
    """Puts batches to one adapter under one profile, in one format, on one device.

    Args:
        adapter: the loss under test.
        profile: the profile to judge it by.
        dtype: format of the predictions.
        device: the device of the loss.
        case: id of the batches in reports.
        clauses: the clauses under test.
        needs: what an answer must contain, out of `ANSWERS` and `DERIVATIVES`.
        notes: whether to record which clauses the batches show.
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
        #: The clauses that the batches have shown so far.
        self.shown: set[str] = set()
        #: Number of answered batches.
        self.answered = 0
        #: A fault of the adapter itself, if there was one.
        self.fault: AdapterError | None = None
        #: The traceback of the last crash of the loss under test.
        self.crash = ""

    def draw(self, data: st.DataObject, **options: Any) -> Batch:
        """Draw a batch that is exact in the format; the options are those of `strategies.batches`."""
        batch = data.draw(batches(self.profile, **options))
        predictions = quantised(batch.predictions, self.dtype)
        if self.profile.size_space != "log" and self.dtype != "float64":
            # With these profiles the gradient contains an exponential, and an overflow has no bound to compare with.
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
        """Put a batch inside the domain to the adapter; keywords for derivatives are those of a `Question`.

        Raises:
            DeviationError: it refuses the batch, or crashes on it.
            NotAnswerableError: it does not support the question.
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
        """Record the clauses that a batch shows."""
        reached = clauses_reached(response.result, response.case.batch.images_seen)
        self.shown.update(clause for clause in reached if not clause.startswith("numerics.float"))
        self.shown.add(f"numerics.{self.dtype}")

    def refusal(self, batch: Batch) -> Exchange:
        """Put a batch outside the domain to the adapter, and return its refusal.

        Raises:
            DeviationError: it answers, or crashes.
            NotAnswerableError: it does not support the question.
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
        """Raise `DeviationError` if two answers that should be equal differ by more than the sum of their bounds.

        Args:
            one: the answer with the expected numbers.
            other: the answer to compare with it.
            carry: moves predictors `[N, A, E, H, W]`, of any E, from the places of `one` to those of `other`.
            channels: permutes the channels of a gradient, or changes their sign, after `carry`.
            where: the elements to compare, bool, broadcast to `[N, A, 5+C, H, W]`; by default all.
            totals: whether terms and potential must be equal too.
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
        """The rounding error that numbers of this size may have, whatever they should be (`numerics.bound`, K·u·|g|).

        If an answer is wrong, so is the bound of the right one: a structural zero has the bound 0. That is a matter of
        another clause, not of a relation between two answers.
        """
        precision = PRECISIONS[self.dtype]
        relative = precision.rounding + precision.output
        return np.asarray(relative * sum(np.abs(answer) for answer in answers))

    def rounding_of_sum(self, response: Response, *numbers: float) -> float:
        """The same for terms and potentials, which are sums over a batch."""
        return adding(response.result.t.size, sum(abs(number) for number in numbers), PRECISIONS[self.dtype])

    def _check_promises(self, answer: Answer) -> None:
        """Raise `NotAnswerableError` if an answer lacks something that is needed, or contains nothing."""
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
        """Put a question to the adapter; the exchange is answered or refused.

        Raises:
            DeviationError: the loss crashes.
            NotAnswerableError: it does not support the question, or the adapter breaks its promise.
        """
        exchange = put(self.adapter, question, case=case, description=self.description)
        if exchange.unanswerable:
            if isinstance(exchange.error, AdapterError):  # a fault of the adapter, not of the loss
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

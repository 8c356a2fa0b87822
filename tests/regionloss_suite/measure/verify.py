"""An identified profile compared with the loss on random batches and on the edge cases of the spec."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from regionloss import DomainError, evaluate
from regionloss_adapters import Adapter, Answer, CannotAnswerError
from regionloss_spec import Batch, Case, load_cases
from regionloss_spec.clause import TERMS, View
from regionloss_suite.judging.exchange import drawn_case, quantised
from regionloss_suite.measure.black_box import BlackBox, NoAnswerError
from regionloss_suite.measure.experiments import Identified, question_profile
from regionloss_suite.oracle.comparison import Comparison
from regionloss_suite.oracle.strategies import batches

#: The largest edge case, as the number of its predictions.
_EDGE_SIZE = 3000


@dataclass
class Verified:
    """How far a profile explains a loss.

    Attributes:
        batches: number of batches put to the loss.
        explained: number of answers that agree with the profile, within the rounding of float32.
        beyond: number of other batches that the adapter does not support.
        left: the deviations of the others, with the number of batches: an output and the state of its predictor, or how
            the loss failed.
        beside: deviations in other results (scalar, terms, indicators, statistics), with the number of batches; they do
            not affect `explained`, which is about the gradient, or a scalar alone.
        first: the first deviation in full, or an empty string.
        edges: number of edge cases that were tried: hand-made batches with ties, vanishing or overflowing numbers, list
            ends and padding rows, which are rare in random batches.
        edges_left: the deviations on edge cases, by the id of the case.
    """

    batches: int = 0
    explained: int = 0
    beyond: int = 0
    left: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    first: str = ""
    edges: int = 0
    edges_left: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether every batch is explained, out of at least one."""
        return self.batches > 0 and self.explained == self.batches

    def __str__(self) -> str:
        # Rounded down, so that 499 of 500 never count as all of them.
        percent = math.floor(1000 * self.explained / max(self.batches, 1)) / 10
        more = f"; {self.beyond} more are not supported" if self.beyond else ""
        return f"explains {percent:g} % of {self.batches} random batches within float32{more}{self._on_edges()}"

    def _on_edges(self) -> str:
        if not self.edges:
            return ""
        return f", and {self.edges - len(self.edges_left)} of {self.edges} edge cases of the spec"


def verify(
    adapter: Adapter,
    identified: Identified,
    *,
    profile: str | None = None,
    number: int = 500,
    begin: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verified:
    """Compare an identified profile with the loss on random batches and edge cases.

    Args:
        adapter: the loss.
        identified: what `identify` returned.
        profile: the profile of the questions, the same as for `identify`.
        number: number of random batches.
        begin: seed of the random batches.
        progress: called with the number of finished batches.
    """
    box = BlackBox(adapter, question_profile(adapter, profile))
    box.wants_tree, box.scalar_only = identified.wants_tree, identified.scalar_only
    box.anchors, box.divisor = identified.anchors, identified.factors.divisor
    verified = Verified()

    @seed(begin)
    @settings(max_examples=number, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.one_of(batches(identified.profile), batches(identified.profile, lattice=True)))
    def compare(batch: Batch) -> None:
        if progress is not None and verified.batches % 20 == 0:
            progress("random batches", verified.batches, number)
        compared = _compare(box, identified, batch, f"batch {verified.batches + verified.beyond + 1}")
        if compared is None:
            verified.beyond += 1
            return
        verified.batches += 1
        verified.explained += not compared.left
        verified.left.update(compared.left)
        verified.beside.update(compared.beside.keys())
        verified.first = verified.first or compared.first

    compare()
    for case in _edge_cases(identified):
        compared = _compare(box, identified, case.batch, case.id)
        if compared is not None:
            verified.edges += 1
            if compared.first:
                verified.edges_left[case.id] = compared.first
    return verified


def _edge_cases(identified: Identified) -> Iterator[Case]:
    """Hand-made cases whose batch is in the domain of the identified profile, whatever their own profile is."""
    for case in load_cases():
        if case.recorded or not case.batch.truths or (case.batch.tree is not None) != identified.wants_tree:
            continue
        if case.expected.error is None and np.size(case.batch.predictions) <= _EDGE_SIZE:
            try:
                evaluate(case.batch, identified.profile)
            except DomainError:
                continue
            yield case


@dataclass
class _Compared:
    """The deviations on one batch, by the attributes of `Verified`, and the first deviation in full."""

    left: set[str] = field(default_factory=set)
    beside: dict[str, str] = field(default_factory=dict)
    first: str = ""


def _beside(comparison: Comparison) -> dict[str, str]:
    """Deviations outside the gradient, and how large they are."""
    views = {f"the term {name}": View("term", term=name) for name in TERMS}
    views |= {"who is responsible or ignored": View("indicator"), "the scalar": View("potential")}
    views |= {"the printed cost": View("printed cost"), "the statistics": View("statistics")}
    departures = {}
    for name, view in views.items():
        difference = comparison.difference(view)
        if difference is not None:
            departures[name] = str(difference)
    return departures


def _compare(box: BlackBox, identified: Identified, batch: Batch, name: str) -> _Compared | None:
    """The answer to a batch compared with what was identified; `None` if the adapter does not support it."""
    profile = identified.profile
    predictions = np.array(quantised(batch.predictions, "float32")).reshape(
        len(batch.truths), len(batch.anchors), -1, *batch.predictions.shape[2:]
    )
    if profile.size_space != "log":  # then the gradient contains an exponential, and an overflow has no bound
        predictions[:, :, 2:4] = np.minimum(predictions[:, :, 2:4], 16.0)
    batch = Batch(
        predictions.reshape(batch.predictions.shape), batch.truths, batch.anchors, batch.classes, batch.images_seen,
        batch.tree,
    )  # fmt: skip
    batch = box.padded(batch)
    case = drawn_case(name, "drawn", batch, profile)
    try:
        answer = box.answer(batch)
        if box.scalar_only:
            gradient = None
            answer = Answer(potential=box.scalar_of(answer))
        else:
            gradient = box.gradient_of(answer, batch)
            answer = dataclasses.replace(answer, gradient=gradient.reshape(batch.predictions.shape))
    except NoAnswerError as error:
        if isinstance(error.__cause__, CannotAnswerError):
            return None
        return _Compared({f"it {str(error).split(':')[0]}"}, first=f"{name}: {error}")
    comparison = Comparison(case, answer, "float32", identified.factors.applied)
    beside = _beside(comparison)
    first = next(iter(beside.values()), "")
    if gradient is None:
        return _Compared(set(beside), first=first)
    wrong = comparison.wrong
    if not wrong.any():
        return _Compared(beside=beside, first=first)
    decisions = comparison.result.decisions
    parts = set()
    for n, k, channel, j, i in np.argwhere(wrong):
        where = (n, k, j, i)
        state = (
            "responsible" if decisions.responsible[where] else "ignored" if decisions.ignored[where] else "no-object"
        )
        early = " early" if batch.images_seen < profile.prior_until else ""
        output = ("t_x, t_y", "t_x, t_y", "t_w, t_h", "t_w, t_h", "t_o")[channel] if channel < 5 else "class outputs"
        parts.add(f"{output} of {state} predictors{early}")
    n, k, channel, j, i = place = tuple(map(int, np.argwhere(wrong)[0]))
    want = comparison.result.gradient.reshape(gradient.shape)[place]
    first = (
        f"{name}, image {n}, cell ({j}, {i}), anchor {k}, channel {channel}: {gradient[place]:.9g}, "
        f"the profile gives {want:.9g}"
    )
    return _Compared(parts, beside, first)

"""The profile that was identified, held against the loss on random batches."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from regionloss_adapters import Adapter, Answer, CannotAnswer
from regionloss_spec import Batch, Profile
from regionloss_spec.clause import TERMS, View
from regionloss_suite.asker import case_of, quantised
from regionloss_suite.compare import Comparison
from regionloss_suite.identify.black_box import BlackBox, Broke
from regionloss_suite.identify.run import Identified, asked_as
from regionloss_suite.strategies import batches


@dataclass
class Verified:
    """How far a profile explains a loss.

    Attributes:
        asked: number of batches.
        explained: how many were answered as the profile says, within the rounding of float32.
        beyond: how many more were drawn that its adapter has no way to ask, which say nothing.
        left: what the others depart in, with the number of batches: an output and the state of its predictor, or how
            the loss broke.
        beside: what else it answers (scalar, terms, indicators, statistics) and the profile says otherwise, with the
            number of batches; it takes nothing from what is explained, which is the gradient, or a scalar alone.
        first: the first departure in full, or an empty text.
    """

    asked: int = 0
    explained: int = 0
    beyond: int = 0
    left: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    first: str = ""

    @property
    def whole(self) -> bool:
        """Whether every batch is explained, out of at least one."""
        return self.asked > 0 and self.explained == self.asked

    def __str__(self) -> str:
        # Rounded down, so that 499 of 500 are never called all of them.
        percent = math.floor(1000 * self.explained / max(self.asked, 1)) / 10
        more = f"; {self.beyond} more cannot be put to it" if self.beyond else ""
        return f"explains {percent:g} % of {self.asked} random batches within float32{more}"


def verify(
    adapter: Adapter,
    found: Identified,
    *,
    profile: str | None = None,
    number: int = 500,
    begin: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verified:
    """Hold an identified profile against the loss on random batches.

    Args:
        adapter: the loss.
        found: what was identified.
        profile: what the questions say, as when it was identified.
        number: how many batches are drawn.
        begin: seed of the drawing.
        progress: told how many batches are done.
    """
    box = BlackBox(adapter, asked_as(adapter, profile))
    box.wants_tree, box.scalar_only = found.wants_tree, found.scalar_only
    verified = Verified()

    @seed(begin)
    @settings(max_examples=number, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.one_of(batches(found.profile), batches(found.profile, lattice=True)))
    def hold(batch: Batch) -> None:
        if progress is not None and verified.asked % 20 == 0:
            progress("random batches", verified.asked, number)
        _hold(box, found.profile, batch, verified)

    hold()
    return verified


def _beside(comparison: Comparison) -> dict[str, str]:
    """What departs beside the gradient, and how."""
    views = {f"the term {name}": View("term", term=name) for name in TERMS}
    views |= {"who is responsible or ignored": View("indicator"), "the scalar": View("potential")}
    views |= {"the printed cost": View("printed cost"), "the statistics": View("statistics")}
    found = {}
    for name, view in views.items():
        difference = comparison.difference(view)
        if difference is not None:
            found[name] = str(difference)
    return found


def _hold(box: BlackBox, profile: Profile, batch: Batch, verified: Verified) -> None:
    predictions = np.array(quantised(batch.predictions, "float32")).reshape(
        len(batch.truths), len(batch.anchors), -1, *batch.predictions.shape[2:]
    )
    if profile.size_space != "log":  # an exponential enters the gradient there, and what overflows has no bound
        predictions[:, :, 2:4] = np.minimum(predictions[:, :, 2:4], 16.0)
    batch = Batch(
        predictions.reshape(batch.predictions.shape), batch.truths, batch.anchors, batch.classes, batch.images_seen,
        batch.tree,
    )  # fmt: skip
    verified.asked += 1
    case = case_of(f"batch {verified.asked + verified.beyond}", "drawn", batch, profile)
    try:
        answer = box.answer(batch)
        if box.scalar_only:
            gradient = None
            answer = Answer(potential=box.scalar_of(answer))
        else:
            gradient = box.gradient_of(answer, batch)
            answer = dataclasses.replace(answer, gradient=gradient.reshape(batch.predictions.shape))
    except Broke as broke:
        if isinstance(broke.__cause__, CannotAnswer):
            verified.asked -= 1
            verified.beyond += 1
            return
        verified.left[f"it {str(broke).split(':')[0]}"] += 1
        verified.first = verified.first or f"{case.id}: {broke}"
        return
    comparison = Comparison(case, answer, "float32")
    departures = _beside(comparison)
    if gradient is None:
        verified.explained += not departures
        verified.left.update(departures.keys())
        verified.first = verified.first or next(iter(departures.values()), "")
        return
    verified.beside.update(departures.keys())
    wrong = comparison.wrong
    if not wrong.any():
        verified.explained += 1
        verified.first = verified.first or next(iter(departures.values()), "")
        return
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
    verified.left.update(parts)
    if not verified.first:
        n, k, channel, j, i = place = tuple(map(int, np.argwhere(wrong)[0]))
        want = comparison.result.gradient.reshape(gradient.shape)[place]
        verified.first = (
            f"{case.id}, image {n}, cell ({j}, {i}), anchor {k}, channel {channel}: {gradient[place]:.9g}, "
            f"the profile says {want:.9g}"
        )

"""The prior, and when it ends (spec chapter 6)."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins


@pins("prior.limit", "prior.not-responsible", "prior.every-predictor", "prior.ignored-too", "prior.coordinates-only")
def the_prior_ends_exactly_at_its_limit(harness: PropertyHarness, data: st.DataObject) -> None:
    """All counts below the limit give one answer and all others another; only free boxes differ."""
    batch = harness.draw(data)
    until = harness.profile.prior_until
    counts = ([0, until - 1] if until else []) + [until, until + 1, 10 * until + 7]
    below = data.draw(st.sampled_from([count for count in counts if count < until] or [until]))
    above = data.draw(st.sampled_from([count for count in counts if count > until]))
    at, last, late = (
        harness.ask(dataclasses.replace(batch, images_seen=count)) for count in (until, max(until - 1, 0), above)
    )
    at.conforms()
    last.conforms()
    harness.agree(at, late)
    if until:
        harness.agree(last, harness.ask(dataclasses.replace(batch, images_seen=below)))
    where = np.ones(at.result.t.shape, dtype=bool)
    who = np.broadcast_to(last.result.decisions.prior[:, :, None], where[:, :, :4].shape)
    where[:, :, :4] = ~who
    harness.agree(at, last, where=where)

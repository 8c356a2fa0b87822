"""The two losses under comparison, and the exchange of a batch with each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regionloss import DomainError, Result, evaluate
from regionloss.bounds import PRECISIONS, Bounds, bounds
from regionloss_adapters import Adapter, AdapterError, Question, load_adapter
from regionloss_adapters.protocol import Description
from regionloss_spec import Batch, Profile, load_profile, profile_names
from regionloss_suite.judging.exchange import Exchange, drawn_case, put, quantised
from regionloss_suite.oracle.alternatives import unsettled


@dataclass(frozen=True, eq=False)
class Subject:
    """One of the two losses.

    Attributes:
        name: the name given by the user, with its profile.
        adapter: the adapter that answers.
        description: its description of itself.
        profile: the profile of its questions.
    """

    name: str
    adapter: Adapter
    description: Description
    profile: Profile


def subject_of(text: str, profile: str | None = None) -> Subject:
    """A loss by the name of an adapter; `@PROFILE` appended selects another profile.

    Args:
        text: such as `torch`, `mine:adapter` or `numpy@formula`; the part after the last @ is a profile if a profile
            has that name or it ends in `.toml`.
        profile: the profile of a name without one; by default the first that the adapter claims.

    Raises:
        AdapterError: there is no such adapter.
        ProfileError: no such profile.
    """
    name, at, behind = text.rpartition("@")
    if not (at and name and (behind in profile_names() or behind.endswith(".toml"))):
        name, behind = text, profile or ""
    adapter = load_adapter(name)
    description = adapter.describe()
    claimed = next((one for one in description.profiles if one != "*"), "darknet")
    chosen = load_profile(behind or claimed)
    return Subject(f"{name}@{chosen.name}", adapter, description, chosen)


def common_format(one: Subject, other: Subject) -> str:
    """The most precise format that both accept. Raises `AdapterError` if there is none."""
    for dtype in PRECISIONS:
        if dtype in one.description.dtypes and dtype in other.description.dtypes:
            return dtype
    raise AdapterError(f"{one.name} and {other.name} have no format in common")


def ask(subject: Subject, batch: Batch, dtype: str) -> Exchange:
    """Put a copy of a batch to a loss; any exception that it raises becomes an observation.

    Raises:
        AdapterError: the adapter broke its own contract.
    """
    copy = Batch(
        quantised(batch.predictions, dtype).copy(),
        tuple(rows.copy() for rows in batch.truths),
        batch.anchors.copy(),
        batch.classes,
        batch.images_seen,
        batch.tree,
    )
    question = Question(batch=copy, profile=subject.profile, dtype=dtype)
    case = drawn_case("drawn", "drawn", batch, subject.profile)
    exchange = put(subject.adapter, question, case=case, description=subject.description)
    if isinstance(exchange.error, AdapterError):
        raise exchange.error
    return exchange


def reference_of(subject: Subject, batch: Batch) -> Result | None:
    """The reference's answer under the profile of a subject; `None` if it refuses the batch."""
    try:
        with np.errstate(all="ignore"):
            return evaluate(batch, subject.profile)
    except DomainError:
        return None


def limits_of(subject: Subject, batch: Batch, dtype: str) -> tuple[Bounds | None, bool]:
    """How far a conforming answer may be from the reference, and whether rounding may affect a decision."""
    result = reference_of(subject, batch)
    if result is None:
        return None, False
    with np.errstate(all="ignore"):
        limits = bounds(result, PRECISIONS[dtype])
        return limits, bool(unsettled(result, limits, PRECISIONS[dtype]))

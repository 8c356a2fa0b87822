"""The two losses that are compared, and what comes of putting a batch to each."""

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
        name: by which it was asked for, with its profile.
        adapter: what answers.
        description: what it says of itself.
        profile: what it is asked as.
    """

    name: str
    adapter: Adapter
    description: Description
    profile: Profile


def subject_of(text: str, profile: str | None = None) -> Subject:
    """A loss by the name of an adapter, with `@PROFILE` behind it if it is to be asked as another profile.

    Args:
        text: such as `torch`, `mine:adapter` or `numpy@formula`; what stands behind the last @ is a profile if there is
            one of that name or it ends in `.toml`.
        profile: what it is asked as where the name does not say; else the first that it claims.

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
    """The most precise format that both take. Raises `AdapterError` where there is none."""
    for dtype in PRECISIONS:
        if dtype in one.description.dtypes and dtype in other.description.dtypes:
            return dtype
    raise AdapterError(f"{one.name} and {other.name} take no format in common")


def ask(subject: Subject, batch: Batch, dtype: str) -> Exchange:
    """Put a batch to a loss; it is given copies, and whatever it raises is an observation.

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
    """What the reference answers under the profile of a subject; `None` where it refuses the batch."""
    try:
        with np.errstate(all="ignore"):
            return evaluate(batch, subject.profile)
    except DomainError:
        return None


def limits_of(subject: Subject, batch: Batch, dtype: str) -> tuple[Bounds | None, bool]:
    """How far a conforming answer may be from the reference, and whether rounding may decide something in the batch."""
    result = reference_of(subject, batch)
    if result is None:
        return None, False
    with np.errstate(all="ignore"):
        limits = bounds(result, PRECISIONS[dtype])
        return limits, bool(unsettled(result, limits, PRECISIONS[dtype]))

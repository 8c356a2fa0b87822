"""The two losses that are held against each other, and what they say to a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from regionloss import DomainError, Result, evaluate
from regionloss.bounds import PRECISIONS, Bounds, bounds
from regionloss_adapters import Adapter, AdapterError, Answer, CannotAnswer, Question, Refused, load_adapter
from regionloss_adapters.protocol import Description
from regionloss_spec import Batch, Profile, load_profile, profile_names
from regionloss_suite.oracle.alternatives import unsettled
from regionloss_suite.oracle.reduction import multiplied_out
from regionloss_suite.properties.harness import quantised


@dataclass(frozen=True, eq=False)
class Side:
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


@dataclass(frozen=True, eq=False)
class Said:
    """What a loss said to a batch.

    Attributes:
        kind: whether it answered, refused the input, has no way to be asked, or broke.
        answer: with its declared reduction taken out, or `None`.
        words: why there is none.
    """

    kind: Literal["answered", "refused", "cannot", "crashed"]
    answer: Answer | None = None
    words: str = ""


def side_of(text: str, profile: str | None = None) -> Side:
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
    return Side(f"{name}@{chosen.name}", adapter, description, chosen)


def common_format(one: Side, other: Side) -> str:
    """The most precise format that both take. Raises `AdapterError` where there is none."""
    for dtype in PRECISIONS:
        if dtype in one.description.dtypes and dtype in other.description.dtypes:
            return dtype
    raise AdapterError(f"{one.name} and {other.name} take no format in common")


def ask(side: Side, batch: Batch, dtype: str) -> Said:
    """What a loss says to a batch; it is given copies, and whatever it raises is an observation.

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
    try:
        answer = side.adapter.answer(Question(batch=copy, profile=side.profile, dtype=dtype))
    except Refused as refused:
        return Said("refused", words=str(refused))
    except CannotAnswer as reason:
        return Said("cannot", words=str(reason))
    except AdapterError:
        raise
    except Exception as error:  # whatever a loss may raise is a finding
        return Said("crashed", words=f"{type(error).__name__}: {error}")
    reference = reference_of(side, batch)
    paid = sum(match.pays_box for match in reference.decisions.matches) if reference is not None else 0
    whole = multiplied_out(answer, side.description, len(batch.truths), paid, divided=side.profile.reduction)
    return Said("answered", whole)


def reference_of(side: Side, batch: Batch) -> Result | None:
    """What the reference answers under the profile of a side; `None` where it refuses the batch."""
    try:
        with np.errstate(all="ignore"):
            return evaluate(batch, side.profile)
    except DomainError:
        return None


def limits_of(side: Side, batch: Batch, dtype: str) -> tuple[Bounds | None, bool]:
    """How far a conforming answer may be from the reference, and whether rounding may decide something in the batch."""
    result = reference_of(side, batch)
    if result is None:
        return None, False
    with np.errstate(all="ignore"):
        limits = bounds(result, PRECISIONS[dtype])
        return limits, bool(unsettled(result, limits, PRECISIONS[dtype]))

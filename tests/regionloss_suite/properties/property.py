"""What a property is, and how one is tried on an adapter: with batches drawn by Hypothesis, down to the smallest."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException, Unsatisfiable

from regionloss_adapters import Adapter, AdapterError
from regionloss_spec import Batch, Profile, load_clauses
from regionloss_suite.oracle.comparison import Difference
from regionloss_suite.properties.asked import Departs, Unanswered
from regionloss_suite.properties.harness import Asker

#: The property that ordinary batches are tried by.
EVERYTHING = "everything that decides the loss agrees with the reference"

#: Questions without an answer before a property is given up.
_PATIENCE = 8

Function = Callable[[Asker, st.DataObject], None]


@dataclass(frozen=True)
class Property:
    """Something that holds for every batch, as a sentence.

    Attributes:
        name: the sentence.
        clauses: ids of the clauses that it pins.
        function: raises `Departs` where it does not hold for what it draws and asks.
        needs: what an adapter has to answer for it, out of `ANSWERS` and `DERIVATIVES` of its protocol.
        when: for which profiles it says anything.
        by_feature: it pins a clause only where a drawn batch shows it.
        every_format: whether it is worth trying in every format and on every device.
        share: how much of the usual number of batches it is worth.
    """

    name: str
    clauses: tuple[str, ...]
    function: Function
    needs: tuple[str, ...] = ()
    when: Callable[[Profile], bool] = lambda profile: True
    by_feature: bool = False
    every_format: bool = False
    share: float = 1.0

    @property
    def id(self) -> str:
        """The name as a word for files and tests."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.name.lower()).split())

    def binds(self, profile: Profile) -> tuple[str, ...]:
        """The clauses that it pins under a profile."""
        clauses = load_clauses()
        return tuple(clause for clause in self.clauses if clauses[clause].applies_to(profile))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of trying a property.

    Attributes:
        tried: which property.
        clauses: the clauses that something was found out about.
        departed: the departure on the smallest batch that was found, if there is one.
        batches: how many batches were answered.
        reason: why there is nothing to say, or an empty text.
        crash: the traceback, if the loss under test broke.
        fault: the adapter's own mistake, if it made one.
    """

    tried: Property
    clauses: tuple[str, ...]
    departed: Departs | None
    batches: int
    reason: str = ""
    crash: str = ""
    fault: AdapterError | None = None

    @property
    def verdict(self) -> str:
        """`conforming`, `deviating` or `not-answerable`."""
        return "deviating" if self.departed is not None else "not-answerable" if self.reason else "conforming"

    @property
    def first(self) -> Difference | None:
        """Where it first departs."""
        return None if self.departed is None else self.departed.difference


class _Enough(BaseException):
    """Stops Hypothesis at once: as no `Exception`, it is not taken for a finding."""


def attempt(
    prop: Property,
    adapter: Adapter,
    profile: Profile,
    dtype: str,
    device: str = "cpu",
    *,
    examples: int,
    start: int = 0,
    shrinking: int = 250,
) -> Outcome:
    """Try a property on batches that are drawn anew, the same ones each time.

    Args:
        prop: the property.
        adapter: the loss under test.
        profile: what it is asked as.
        dtype: the format of the predictions.
        device: where it is to compute.
        examples: how many batches to draw.
        start: another number draws other batches.
        shrinking: how many smaller batches to try after the first departure.
    """
    clauses = prop.binds(profile)
    asker = Asker(
        adapter, profile, dtype, device, case=prop.id, clauses=clauses, needs=prop.needs, notes=prop.by_feature
    )
    reason = _hindrance(prop, asker)
    if reason:
        return Outcome(prop, clauses, None, 0, reason)
    found: list[Departs] = []
    silent: list[str] = []
    calls = held = 0

    @seed(zlib.crc32(f"{prop.id} {start}".encode()))
    @settings(
        max_examples=max(1, round(examples * prop.share)),
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        nonlocal calls, held
        calls += bool(found)
        if calls > shrinking or (len(silent) >= _PATIENCE and not asker.answered):
            raise _Enough
        try:
            prop.function(asker, data)
        except Unanswered as error:
            silent.append(str(error))
        except Departs as departs:
            found.append(departs)
            raise
        else:
            held += 1

    try:
        run()
    except Unsatisfiable:
        silent.append("no batch that was drawn could settle it")
    except (_Enough, Departs, HypothesisException):
        pass
    if found:
        smallest = min(found, key=_size)
        clauses = tuple(clause for clause in clauses if clause in smallest.clauses) or clauses
        if smallest.broad and prop.name != EVERYTHING and _departs_anyway(adapter, profile, dtype, device):
            clauses = tuple(clause for clause in clauses if clause not in smallest.broad)
            if not clauses:
                reason = "the loss departs on ordinary batches too, and this would show no more than that"
                return Outcome(prop, prop.binds(profile), None, asker.answered, reason, asker.crash, asker.fault)
        return Outcome(prop, clauses, smallest, asker.answered, crash=asker.crash)
    if not held:
        reason = silent[0] if silent else "no batch could be asked about"
        return Outcome(prop, clauses, None, asker.answered, reason, fault=asker.fault)
    if prop.by_feature:
        clauses = tuple(clause for clause in clauses if clause in asker.shown)
    return Outcome(prop, clauses, None, asker.answered, fault=asker.fault)


def _departs_anyway(adapter: Adapter, profile: Profile, dtype: str, device: str) -> bool:
    """Whether a loss departs from the reference on batches that are nothing special."""
    from regionloss_suite.properties.registry import PROPERTIES  # which is filled by what imports this module

    ordinary = PROPERTIES[EVERYTHING]
    return attempt(ordinary, adapter, profile, dtype, device, examples=40, shrinking=0).departed is not None


def _hindrance(prop: Property, asker: Asker) -> str:
    """Why a property cannot be tried, or an empty text."""
    lacking = [answer for answer in prop.needs if answer not in asker.description.answers]
    if lacking:
        return f"needs {' and '.join(lacking)}, which {asker.description.name} does not answer"
    return ""


def _size(departs: Departs) -> tuple[int, int, int]:
    batch: Batch = departs.batch
    return batch.predictions.size, sum(len(rows) for rows in batch.truths), int((batch.predictions != 0).sum())

"""Run one property on an adapter, on random batches that Hypothesis shrinks to the smallest that deviates."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException, Unsatisfiable

from regionloss_adapters import Adapter, AdapterError
from regionloss_spec import Batch, Profile
from regionloss_suite.oracle.comparison import Difference
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.property import EVERYTHING, Property
from regionloss_suite.properties.registry import PROPERTIES
from regionloss_suite.properties.response import DeviationError, NotAnswerableError

#: Unanswered questions before a property is given up.
_PATIENCE = 8


@dataclass(frozen=True, eq=False)
class PropertyResult:
    """The result of a property run.

    Attributes:
        prop: the property.
        clauses: the clauses that the run judges.
        deviation: on the smallest batch that violates the property, if there is one.
        batches: number of answered batches.
        reason: why there is no result, or an empty string.
        crash: the traceback, if the loss under test crashed.
        fault: a fault of the adapter itself, if there was one.
    """

    prop: Property
    clauses: tuple[str, ...]
    deviation: DeviationError | None
    batches: int
    reason: str = ""
    crash: str = ""
    fault: AdapterError | None = None

    @property
    def verdict(self) -> str:
        """`conforming`, `deviating` or `not-answerable`."""
        return "deviating" if self.deviation is not None else "not-answerable" if self.reason else "conforming"

    @property
    def first(self) -> Difference | None:
        """The first deviation."""
        return None if self.deviation is None else self.deviation.difference


class _EnoughError(BaseException):
    """Stops Hypothesis at once; it is not an `Exception`, so Hypothesis does not take it for a failure."""


def run_property(
    prop: Property,
    adapter: Adapter,
    profile: Profile,
    dtype: str,
    device: str = "cpu",
    *,
    examples: int,
    start: int = 0,
    shrinking: int = 250,
) -> PropertyResult:
    """Run a property on random batches, the same ones each time.

    Args:
        prop: the property.
        adapter: the loss under test.
        profile: the profile of the questions.
        dtype: the format of the predictions.
        device: the device of the loss.
        examples: how many batches to draw.
        start: another number gives other batches.
        shrinking: how many smaller batches to try after the first deviation.
    """
    clauses = prop.binds(profile)
    harness = PropertyHarness(
        adapter, profile, dtype, device, case=prop.id, clauses=clauses, needs=prop.needs, notes=prop.by_feature
    )
    reason = _hindrance(prop, harness)
    if reason:
        return PropertyResult(prop, clauses, None, 0, reason)
    deviations: list[DeviationError] = []
    unanswered: list[str] = []
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
        calls += bool(deviations)
        if calls > shrinking or (len(unanswered) >= _PATIENCE and not harness.answered):
            raise _EnoughError
        try:
            prop.function(harness, data)
        except NotAnswerableError as error:
            unanswered.append(str(error))
        except DeviationError as deviation:
            deviations.append(deviation)
            raise
        else:
            held += 1

    try:
        run()
    except Unsatisfiable:
        unanswered.append("no random batch could decide it")
    except (_EnoughError, DeviationError, HypothesisException):
        pass
    if deviations:
        smallest = min(deviations, key=_size)
        clauses = tuple(clause for clause in clauses if clause in smallest.clauses) or clauses
        if smallest.broad and prop.name != EVERYTHING and _departs_anyway(adapter, profile, dtype, device):
            clauses = tuple(clause for clause in clauses if clause not in smallest.broad)
            if not clauses:
                reason = "the loss deviates on ordinary batches too, and this property would show nothing more"
                return PropertyResult(
                    prop, prop.binds(profile), None, harness.answered, reason, harness.crash, harness.fault
                )
        return PropertyResult(prop, clauses, smallest, harness.answered, crash=harness.crash)
    if not held:
        reason = unanswered[0] if unanswered else "no batch could be tried"
        return PropertyResult(prop, clauses, None, harness.answered, reason, fault=harness.fault)
    if prop.by_feature:
        clauses = tuple(clause for clause in clauses if clause in harness.shown)
    return PropertyResult(prop, clauses, None, harness.answered, fault=harness.fault)


def _departs_anyway(adapter: Adapter, profile: Profile, dtype: str, device: str) -> bool:
    """Whether a loss deviates from the reference on ordinary batches."""
    ordinary = PROPERTIES[EVERYTHING]
    return run_property(ordinary, adapter, profile, dtype, device, examples=40, shrinking=0).deviation is not None


def _hindrance(prop: Property, harness: PropertyHarness) -> str:
    """Why a property cannot run, or an empty string."""
    lacking = [answer for answer in prop.needs if answer not in harness.description.answers]
    if lacking:
        return f"needs {' and '.join(lacking)}, which {harness.description.name} does not return"
    return ""


def _size(deviation: DeviationError) -> tuple[int, int, int]:
    batch: Batch = deviation.batch
    return batch.predictions.size, sum(len(rows) for rows in batch.truths), int((batch.predictions != 0).sum())

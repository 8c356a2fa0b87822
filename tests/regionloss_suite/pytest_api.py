"""The whole suite inside a user's own test file: a decorator that creates one test per clause and per property."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from regionloss_adapters import Adapter, load_adapter
from regionloss_spec import Case, Clause, load_clauses
from regionloss_suite.diagnosis.diagnosis import diagnose
from regionloss_suite.judging.expectations import Expectation, apply
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.report import FAILING, Report
from regionloss_suite.judging.verdict import Verdict, merged
from regionloss_suite.properties.plan import JudgedRun, PropertyRun, judge_run, planned_runs
from regionloss_suite.run import judge_for


def conforms(
    adapter: Adapter | str,
    *,
    profile: str | None = None,
    cases: Path | str | Sequence[Case] | None = None,
    golden: bool = False,
    expected: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., object]], Callable[..., None]]:
    """Turn a test into one test for each clause of the spec that binds the loss, and one for each property.

    ```python
    @conforms("mine:MyLoss", expected={"coord.small-box-weight": "trained without it"})
    def test_my_loss() -> None: ...
    ```

    The golden cases judge the clauses; the properties run on random batches, the same ones in every run.
    A MUST that is not met fails.
    A SHOULD or MAY that is not met is an xfail, and so is what is expected to deviate or hidden behind that.
    A clause that the loss does not answer is skipped, and so is a property that it does not support.
    An expected clause that is met or not answered fails, and so does a loss that answers no clause at all.
    The body of the test runs once a clause is met; it may use fixtures, and `clause`, the clause that was judged.
    For a property it does not run.

    Args:
        adapter: an adapter, or the name of one: `numpy`, `torch` or `module:object`.
        profile: judge it as this profile, a name or a `.toml` file; by default every profile that it claims.
        cases: use only these cases and no properties: a folder of cases or of darknet recordings, a file, or the id
            of a bundled case; by default all bundled cases.
        golden: leave out the properties, which take about half a minute in one process.
        expected: for each clause that is expected to deviate, the reason.

    Raises:
        ValueError: an expected clause that does not exist or does not bind the loss, or one without a reason.
        AdapterError, NothingToJudgeError, CaseError, ProfileError: as `check_loss`.
    """
    suite = _Suite(judge_for(load_adapter(adapter) if isinstance(adapter, str) else adapter, profile, cases), expected)

    def decorate(test: Callable[..., object]) -> Callable[..., None]:
        wanted = inspect.signature(test).parameters

        def judged_test(judged: Clause | PropertyRun, request: pytest.FixtureRequest, **fixtures: Any) -> None:
            if isinstance(judged, PropertyRun):
                request.node.user_properties += [("property", judged.prop.name)]
                suite.settle_property(judged)
                return
            request.node.user_properties += [("clause", judged.id), ("level", judged.level)]
            suite.settle(judged)
            given = {"clause": judged, "request": request, **fixtures}
            test(**{name: given[name] for name in wanted})

        judged_test.__name__, judged_test.__qualname__, judged_test.__doc__ = (
            test.__name__,
            test.__qualname__,
            test.__doc__,
        )
        judged_test.__module__ = test.__module__
        # The signature from which pytest reads the fixtures.
        names = dict.fromkeys(["judged", "request", *(name for name in wanted if name != "clause")])
        judged_test.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        )
        items: list[Clause | PropertyRun] = [*suite.judge.clauses]
        items += [] if golden or cases is not None else planned_runs(suite.judge)
        marked: Callable[..., None] = pytest.mark.parametrize("judged", items, ids=[item.id for item in items])(
            judged_test
        )
        return marked

    return decorate


class _Suite:
    """The clauses and properties that one decorator judges, and the deviations that it expects."""

    def __init__(self, judge: Judge, expected: Mapping[str, str] | None) -> None:
        self.judge = judge
        self.reasons = _checked(expected or {}, judge)

    @cached_property
    def _golden(self) -> list[Verdict]:
        return [self.judge.verdict(clause) for clause in self.judge.clauses]

    @cached_property
    def _verdicts(self) -> dict[str, Verdict]:
        """Every verdict of the golden cases, as diagnosed."""
        return self._settled(diagnose(self.judge, self._golden).verdicts)

    def _settled(self, verdicts: list[Verdict]) -> dict[str, Verdict]:
        """The verdicts by clause, with the expected deviations marked."""
        expectations = {clause: Expectation(clause=clause, reason=reason) for clause, reason in self.reasons.items()}
        report = Report(self.judge.description.name, self.judge.profile, len(self.judge.cases), verdicts)
        return {verdict.clause: verdict for verdict in apply(report, expectations, date.today()).verdicts}

    @cached_property
    def _answers_something(self) -> bool:
        return any(self.judge.verdict(clause).verdict != "not-answerable" for clause in self.judge.clauses)

    def settle(self, clause: Clause) -> None:
        """Report a verdict to pytest; return only if the clause is met."""
        verdict = self.judge.verdict(clause)
        self._blame_the_adapter()
        if verdict.verdict == "deviating":
            verdict = self._verdicts[clause.id]
            if verdict.verdict != "conforming":
                self._deviates([verdict])
        if clause.id in self.reasons:
            outcome = "was not answerable" if verdict.verdict == "not-answerable" else "no longer deviates"
            pytest.fail(f"{clause.id} is expected to deviate ({self.reasons[clause.id]}), but {outcome}", pytrace=False)
        if verdict.verdict == "not-answerable":
            if not self._answers_something:
                pytest.fail(f"the loss answers no clause at all: {verdict.reason}", pytrace=False)
            pytest.skip(verdict.reason)

    def settle_property(self, run: PropertyRun) -> None:
        """Run a property and report the result to pytest; return only if it holds."""
        judged = judge_run(run, self.judge)
        self._blame_the_adapter()
        if judged.case is not None:
            drawn = {run.id: self.judge.observe(judged.case)}
            verdicts = self._settled(
                diagnose(self.judge, merged([*self._golden, *judged.verdicts]), drawn=drawn).verdicts
            )
            self._deviates([verdicts[verdict.clause] for verdict in judged.verdicts], judged)
        if judged.result.reason:
            pytest.skip(judged.result.reason)

    def _blame_the_adapter(self) -> None:
        if self.judge.fault is not None:
            message = f"the adapter itself failed, which says nothing about the loss: {self.judge.fault}"
            pytest.fail(message, pytrace=False)

    def _deviates(self, verdicts: Iterable[Verdict], judged: JudgedRun | None = None) -> None:
        """Fail for a MUST that is not expected to deviate; xfail for other deviations."""
        sentences = {verdict.clause: _sentence(verdict) for verdict in verdicts}
        more = [] if judged is None else judged.lines()
        failing = [verdict for verdict in verdicts if verdict.verdict in FAILING and verdict.level == "MUST"]
        if failing:
            pytest.fail("\n".join([sentences[failing[0].clause], *more]), pytrace=False)
        pytest.xfail("; ".join(sentences.values()))


def _sentence(verdict: Verdict) -> str:
    sentence = verdict.sentence + (f" · hidden behind {verdict.follows}" if verdict.follows else "")
    if verdict.verdict == "expected":
        return f"{verdict.reason} · {sentence}"
    return sentence if verdict.level == "MUST" else f"{verdict.level}: {sentence}"


def _checked(expected: Mapping[str, str], judge: Judge) -> Mapping[str, str]:
    binding = {clause.id for clause in judge.clauses}
    for clause, reason in expected.items():
        if clause not in load_clauses():
            raise ValueError(f"expected: no clause {clause!r}")
        if clause not in binding:
            raise ValueError(f"expected: {clause} does not bind profile {judge.profile}, so it cannot deviate")
        if not reason.strip():
            raise ValueError(f"expected: {clause}: expected a reason, got {reason!r}")
    return expected

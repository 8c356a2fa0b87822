"""The golden suite inside a user's own test file: a decorator that makes one test for each clause."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pytest

from regionloss_adapters import Adapter, load_adapter
from regionloss_spec import Case, Clause, load_clauses
from regionloss_suite.expectations import Expectation, apply
from regionloss_suite.judge import Judge
from regionloss_suite.report import Report
from regionloss_suite.running import diagnosed, judge_for
from regionloss_suite.verdict import Verdict


def conforms(
    adapter: Adapter | str,
    *,
    profile: str | None = None,
    cases: Path | str | Sequence[Case] | None = None,
    expected: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., object]], Callable[..., None]]:
    """Turn a test into one test for each clause of the spec that binds the loss.

    ```python
    @conforms("mine:MyLoss", expected={"coord.small-box-weight": "trained without it"})
    def test_my_loss() -> None: ...
    ```

    A MUST that is not met fails.
    A SHOULD or MAY that is not met is an xfail, and so is a deviation that is expected or follows from an expected one.
    A clause that the loss does not answer is skipped.
    An expected clause that is met or not answered fails, and so does a loss that answers no clause at all.
    The body of the test runs once a clause is met; it may take fixtures, and `clause`, the clause that was judged.

    Args:
        adapter: an adapter, or the name of one: `numpy`, `torch` or `module:object`.
        profile: judge it as this profile, a name or a `.toml` file; as all that it claims if left out.
        cases: the cases to put to it, or a folder of cases or of darknet recordings; the bundled cases if left out.
        expected: for each clause that is expected to deviate, the reason.

    Raises:
        ValueError: an expected clause that does not exist or does not bind the loss, or one without a reason.
        AdapterError, NothingToJudgeError, CaseError, ProfileError: as `check_loss`.
    """
    suite = _Suite(judge_for(load_adapter(adapter) if isinstance(adapter, str) else adapter, profile, cases), expected)

    def decorate(test: Callable[..., object]) -> Callable[..., None]:
        wanted = inspect.signature(test).parameters

        def judged(clause: Clause, request: pytest.FixtureRequest, **fixtures: Any) -> None:
            request.node.user_properties += [("clause", clause.id), ("level", clause.level)]
            suite.settle(clause)
            given = {"clause": clause, "request": request, **fixtures}
            test(**{name: given[name] for name in wanted})

        judged.__name__, judged.__qualname__, judged.__doc__ = test.__name__, test.__qualname__, test.__doc__
        judged.__module__ = test.__module__
        # What pytest reads fixtures from.
        names = dict.fromkeys(["clause", "request", *wanted])
        judged.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        )
        clauses = suite.judge.clauses
        marked: Callable[..., None] = pytest.mark.parametrize("clause", clauses, ids=[one.id for one in clauses])(
            judged
        )
        return marked

    return decorate


class _Suite:
    """The clauses that one decorator judges, and the deviations that it expects."""

    def __init__(self, judge: Judge, expected: Mapping[str, str] | None) -> None:
        self.judge = judge
        self.reasons = _checked(expected or {}, judge)

    @cached_property
    def _verdicts(self) -> dict[str, Verdict]:
        """Every verdict, knowing of all others what follows from what; only a loss that deviates needs it."""
        verdicts = diagnosed(self.judge, [self.judge.verdict(clause) for clause in self.judge.clauses])
        expectations = {clause: Expectation(clause=clause, reason=reason) for clause, reason in self.reasons.items()}
        report = Report(self.judge.description.name, self.judge.profile, len(self.judge.cases), verdicts)
        return {verdict.clause: verdict for verdict in apply(report, expectations, date.today()).verdicts}

    @cached_property
    def _answers_something(self) -> bool:
        return any(self.judge.verdict(clause).verdict != "not-answerable" for clause in self.judge.clauses)

    def settle(self, clause: Clause) -> None:
        """Say to pytest what the verdict is worth; return where the clause is met."""
        verdict = self.judge.verdict(clause)
        if self.judge.fault is not None:
            said = f"the adapter itself failed, which says nothing about the loss: {self.judge.fault}"
            pytest.fail(said, pytrace=False)
        if verdict.verdict == "deviating":
            self._deviates(self._verdicts[clause.id])
        if clause.id in self.reasons:
            found = "was not answerable" if verdict.verdict == "not-answerable" else "no longer deviates"
            pytest.fail(f"{clause.id} is expected to deviate ({self.reasons[clause.id]}), but {found}", pytrace=False)
        if verdict.verdict == "not-answerable":
            if not self._answers_something:
                pytest.fail(f"the loss answers no clause at all: {verdict.reason}", pytrace=False)
            pytest.skip(verdict.reason)

    def _deviates(self, verdict: Verdict) -> NoReturn:
        said = f"{verdict.clause} deviates · {verdict.first}"
        said += f" · looks like {verdict.looks_like}" if verdict.looks_like else ""
        said += f" · follows from {verdict.follows}" if verdict.follows else ""
        if verdict.verdict == "expected":
            pytest.xfail(f"{verdict.reason} · {said}")
        if verdict.level != "MUST":
            pytest.xfail(f"{verdict.level}: {said}")
        pytest.fail(said, pytrace=False)


def _checked(expected: Mapping[str, str], judge: Judge) -> Mapping[str, str]:
    binding = {clause.id for clause in judge.clauses}
    for clause, reason in expected.items():
        if clause not in load_clauses():
            raise ValueError(f"expected: no clause {clause!r}")
        if clause not in binding:
            raise ValueError(f"expected: {clause} does not bind profile {judge.profile}, so it cannot deviate")
        if not reason.strip():
            raise ValueError(f"expected: {clause}: a reason was expected, and {reason!r} came")
    return expected

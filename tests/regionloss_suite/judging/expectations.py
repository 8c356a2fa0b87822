"""Deviations that the user expects: a TOML file with a table for each clause.

```toml
["coord.small-box-weight"]
reason = "trained without it since 2021"
issue = "https://example.org/issues/7"  # optional
until = 2027-01-31                      # optional: from the day after, the clause deviates again
```
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regionloss_spec import load_clauses
from regionloss_suite.judging.report import Report, chain
from regionloss_suite.judging.verdict import Verdict

_KEYS = ("reason", "issue", "until")


class ExpectationError(ValueError):
    """A file of expected deviations that cannot be read: the message names the file, the clause and the field."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One known and accepted deviation.

    Attributes:
        clause: id of the deviating clause.
        reason: why the deviation is accepted.
        issue: link to its issue, or an empty string.
        until: the last day on which it is accepted; `None` for no limit.
    """

    clause: str
    reason: str
    issue: str = ""
    until: datetime.date | None = None

    def __str__(self) -> str:
        return f"{self.reason} ({self.issue})" if self.issue else self.reason


def load_expectations(path: Path) -> dict[str, Expectation]:
    """The expected deviations in a TOML file, by clause.

    Raises:
        ExpectationError: the file cannot be read, a clause or key is unknown, a reason is missing or a date invalid.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExpectationError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ExpectationError(f"{path}: not TOML: {error}") from error
    return {clause: _expectation(path, clause, table) for clause, table in tables.items()}


def _expectation(path: Path, clause: str, table: Any) -> Expectation:
    if clause not in load_clauses():
        inner = next(iter(table), "") if isinstance(table, dict) else ""
        unquoted = (
            f'; write a clause in quotes, as in ["{clause}.{inner}"]' if f"{clause}.{inner}" in load_clauses() else ""
        )
        raise ExpectationError(f"{path}: {clause}: no such clause{unquoted}")
    if not isinstance(table, dict):
        raise ExpectationError(f"{path}: {clause}: expected a table with a reason, got {table!r}")
    for key in table:
        if key not in _KEYS:
            raise ExpectationError(f"{path}: {clause}: {key}: unknown key; known are {', '.join(_KEYS)}")
    reason, issue, until = (table.get(key) for key in _KEYS)
    if not isinstance(reason, str) or not reason.strip():
        raise ExpectationError(f"{path}: {clause}: reason: expected a sentence, got {reason!r}")
    if issue is not None and not (isinstance(issue, str) and issue.startswith(("https://", "http://"))):
        raise ExpectationError(f"{path}: {clause}: issue: expected a link (https://…), got {issue!r}")
    if until is not None and type(until) is not datetime.date:  # isinstance accepts a datetime as a date
        raise ExpectationError(
            f"{path}: {clause}: until: expected a date without quotes, such as 2027-01-31, got {str(until)!r}"
        )
    return Expectation(clause=clause, reason=reason.strip(), issue=issue or "", until=until)


def apply(report: Report, expectations: Mapping[str, Expectation], today: datetime.date) -> Report:
    """The report with expected deviations marked as expected, and stale expectations as findings.

    A verdict that is hidden behind an expected one is expected too.
    An entry that has expired, no longer deviates or matches nothing goes to `Report.stale` and fails the run.

    Args:
        report: the report, which is not changed.
        expectations: by clause, as `load_expectations` reads them.
        today: an entry is valid up to and including its `until`.
    """
    by_clause = {verdict.clause: verdict for verdict in report.verdicts}
    stale = {
        clause: sentence
        for clause, expectation in expectations.items()
        if (sentence := _stale(expectation, by_clause.get(clause), today))
    }
    valid = {clause: expectation for clause, expectation in expectations.items() if clause not in stale}
    verdicts = [_expected(verdict, by_clause, valid) for verdict in report.verdicts]
    return replace(report, verdicts=verdicts, stale=(*report.stale, *stale.values()))


def _stale(expectation: Expectation, verdict: Verdict | None, today: datetime.date) -> str:
    """Why an expectation is stale, or an empty string."""
    clause = expectation.clause
    if verdict is None:
        return f"{clause} matches nothing: no clause of this run has that id"
    if verdict.verdict == "not-answerable":
        return f"{clause} matches nothing: the clause was not answerable ({verdict.reason})"
    if verdict.verdict == "conforming":
        return f"{clause} no longer deviates: remove its entry ({expectation})"
    if expectation.until is not None and today > expectation.until:
        return f"{clause} was expected until {expectation.until} and still deviates ({expectation})"
    return ""


def _expected(verdict: Verdict, by_clause: dict[str, Verdict], valid: Mapping[str, Expectation]) -> Verdict:
    if verdict.verdict not in ("deviating", "hidden", "unexplained"):
        return verdict
    for above in chain(verdict, by_clause):
        if above.clause in valid:
            reason = str(valid[above.clause])
            behind = "" if above is verdict else f"hidden behind {above.clause}: "
            return replace(verdict, verdict="expected", reason=behind + reason)
    return verdict

"""The shared suite that judges any YOLOv2 loss through an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regionloss_adapters import Adapter
    from regionloss_spec import Case
    from regionloss_suite.judging.report import Report

__all__ = ["check_loss"]


def check_loss(
    adapter: Adapter | str,
    *,
    profile: str | None = None,
    cases: Path | str | Sequence[Case] | None = None,
    golden: bool = False,
    failures: Path | None = None,
) -> Report:
    """Check a loss clause by clause, with the golden cases and with properties of random batches; print nothing.

    Args:
        adapter: an adapter, or the name of one: `numpy`, `torch` or `module:object`.
        profile: check it against this profile, a name or a `.toml` file; by default every profile that it claims.
        cases: use only these cases and no properties: a folder of cases or darknet recordings, a file, or the id of a
            bundled case; by default all bundled cases.
        golden: skip the properties, which take about half a minute.
        failures: the folder for the smallest batches that fail a property; by default they are not written.

    Returns:
        The verdict on each clause, with the first difference of each that deviates, and an exit code.

    Raises:
        regionloss_adapters.AdapterError: there is no such adapter.
        regionloss_suite.judging.judge.NothingToJudgeError: no case belongs to the profile.
        regionloss_spec.CaseError, regionloss_spec.ProfileError: a file that cannot be read.

    Example:
        >>> report = check_loss("numpy", cases="hand-one-class")
        >>> report.outcome, report.exit_code
        ('conforming', 0)
        >>> [verdict.clause for verdict in report.verdicts if verdict.verdict == "deviating"]
        []
    """
    # Every pytest run in an environment with this package imports this module, so it imports nothing by itself.
    from regionloss_suite.run import run

    return run(adapter, profile=profile, cases=cases, golden=golden, failures=failures).report

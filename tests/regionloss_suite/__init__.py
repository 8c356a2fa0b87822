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
    """Judge a loss clause by clause, by the golden cases and by properties of drawn batches; nothing is printed.

    Args:
        adapter: an adapter, or the name of one: `numpy`, `torch` or `module:object`.
        profile: judge it as this profile, a name or a `.toml` file; as all that it claims if left out.
        cases: the cases to put to it and no properties: a folder of cases or of darknet recordings, a file, or the id
            of a bundled case; all bundled cases if left out.
        golden: leave out the properties, which take about half a minute.
        failures: the folder for the smallest batches on which properties depart; they are not written if left out.

    Raises:
        regionloss_adapters.AdapterError: there is no such adapter.
        regionloss_suite.judging.judge.NothingToJudgeError: no case belongs to the profile.
        regionloss_spec.CaseError, regionloss_spec.ProfileError: a file that cannot be read.
    """
    # Every pytest run in an environment with this package imports this module, so it imports nothing by itself.
    from regionloss_suite.run import run

    return run(adapter, profile=profile, cases=cases, golden=golden, failures=failures).report

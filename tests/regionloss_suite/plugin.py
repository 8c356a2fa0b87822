"""The pytest side of the suite: its options, the judge of a session, and the collected report.

Every pytest run in an environment with this package imports this module, so it imports nothing heavy by itself.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from regionloss_suite.judge import Judge
    from regionloss_suite.verdict import Verdict

_JUDGE = pytest.StashKey["Judge"]()
_VERDICTS = pytest.StashKey["list[Verdict]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--regionloss-adapter`, `--regionloss-profile`, `--regionloss-cases`, and how hard the properties are tried."""
    group = parser.getgroup("regionloss", "conformance of a YOLOv2 loss")
    group.addoption("--regionloss-adapter", default="numpy", metavar="NAME", help="numpy, torch or module:object")
    group.addoption("--regionloss-profile", default=None, metavar="NAME", help="judge it as this profile")
    group.addoption(
        "--regionloss-cases", default=None, metavar="DIR", help="cases or recordings instead of the bundled cases"
    )
    group.addoption(
        "--regionloss-examples", default=16, type=int, metavar="N", help="draw about N batches for each property"
    )
    group.addoption(
        "--regionloss-failures", default=None, metavar="DIR", help="write the smallest failing batches as cases"
    )


def judge_of(config: pytest.Config) -> Judge:
    """The judge of a session, made from its options when it is first wanted."""
    if _JUDGE not in config.stash:
        from regionloss_adapters import load_adapter
        from regionloss_spec.case import CASES
        from regionloss_spec.recording import load_folder
        from regionloss_suite.judge import Judge

        folder = Path(config.getoption("--regionloss-cases") or CASES)
        adapter = load_adapter(config.getoption("--regionloss-adapter"))
        config.stash[_JUDGE] = Judge(adapter, load_folder(folder), config.getoption("--regionloss-profile"))
    return config.stash[_JUDGE]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each clause that binds the profile under test."""
    if "regionloss_clause" in metafunc.fixturenames:
        clauses = judge_of(metafunc.config).clauses
        metafunc.parametrize("regionloss_clause", clauses, ids=[clause.id for clause in clauses])


@pytest.fixture(scope="session")
def regionloss_judge(request: pytest.FixtureRequest) -> Judge:
    """The judge of the adapter under test."""
    return judge_of(request.config)


class Collector:
    """Collects the verdicts of a judge into a report and shows how far the run has come.

    Args:
        judge: who judges in this run, whatever the options of pytest say.
        show: whether to write progress on standard error.
    """

    def __init__(self, judge: Judge, *, show: bool) -> None:
        self.judge = judge
        self.verdicts: list[Verdict] = []
        self.failed_otherwise = ""
        self._show = show and sys.stderr.isatty()
        self._start = time.monotonic()
        self._total = 0
        self._done = 0

    def pytest_configure(self, config: pytest.Config) -> None:
        """Seat the judge, and collect what it says."""
        config.stash[_JUDGE] = self.judge
        config.stash[_VERDICTS] = self.verdicts

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn how much there is to do."""
        self._total = len(session.items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep any failure that is not a verdict, and show progress once a run takes longer than a second."""
        if report.failed and not dict(report.user_properties).get("regionloss verdict"):
            self.failed_otherwise = str(report.longrepr)
        self._done += report.when == "teardown"
        if self._show and time.monotonic() - self._start > 1:
            sys.stderr.write(f"\r\x1b[K{self._done} of {self._total} tests judged")
            sys.stderr.flush()

    def pytest_sessionfinish(self) -> None:
        """Wipe the progress line."""
        if self._show:
            sys.stderr.write("\r\x1b[K")


def record_verdict(request: pytest.FixtureRequest, verdict: Verdict) -> None:
    """Hand a verdict to whoever collects them in this run."""
    properties: list[tuple[str, Any]] = request.node.user_properties
    properties.append(("regionloss verdict", verdict.verdict))
    if _VERDICTS in request.config.stash:
        request.config.stash[_VERDICTS].append(verdict)

"""The pytest plugin of the suite: its options, the judge of a session, and the collected results.

Every pytest run in an environment with this package imports this module, so it imports nothing heavy by itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from regionloss_suite.judging.judge import Judge
    from regionloss_suite.judging.verdict import Verdict

_JUDGE = pytest.StashKey["Judge"]()
#: The result of a test in plain values only, so that pytest-xdist workers can send it to the main process.
_RESULT = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--regionloss-adapter`, `--regionloss-profile`, `--regionloss-cases`, and the effort for the properties."""
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
    """The judge of a session, created from its options on first use."""
    if _JUDGE not in config.stash:
        from regionloss_adapters import load_adapter
        from regionloss_spec.case import CASES
        from regionloss_suite.judging.find_cases import find_cases
        from regionloss_suite.judging.judge import Judge

        cases = find_cases(config.getoption("--regionloss-cases") or CASES)
        adapter = load_adapter(config.getoption("--regionloss-adapter"))
        config.stash[_JUDGE] = Judge(adapter, cases, config.getoption("--regionloss-profile"))
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Attach the result of a test to its report."""
    report = yield
    if report.when == "call":
        report.regionloss = item.stash.get(_RESULT, {})
    return report


def record(request: pytest.FixtureRequest, verdicts: list[Verdict], **details: str) -> None:
    """Hand the result of a test to the collector of this run.

    Args:
        request: of the test.
        verdicts: one for each clause that the test judges.
        details: `run`, the id of a property run; `file`, its smallest batch; `crash`, a traceback; `fault`, a mistake
            of the adapter itself.
    """
    properties: list[tuple[str, Any]] = request.node.user_properties
    properties += [("regionloss verdict", kind) for kind in sorted({verdict.verdict for verdict in verdicts})]
    request.node.stash[_RESULT] = {"verdicts": [verdict.to_json() for verdict in verdicts], **details}


class Collector:
    """Collects the results of one stage and shows progress.

    Args:
        judge: the judge to use in this process, regardless of pytest's options.
        stage: its name in the progress line.
        show: whether to write progress on standard error, if that is a terminal.
    """

    def __init__(self, judge: Judge, stage: str, *, show: bool) -> None:
        self.judge = judge
        self.results: list[dict[str, Any]] = []
        self.suite_failure = ""
        self._stage = stage
        self._show = show and sys.stderr.isatty()
        self._start = time.monotonic()
        self._total = 0
        self._done = 0

    def pytest_configure(self, config: pytest.Config) -> None:
        """Install the judge."""
        config.stash[_JUDGE] = self.judge

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record how many tests were collected."""
        self._total = len(session.items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the result, or a failure without one, and show progress."""
        result: dict[str, Any] = getattr(report, "regionloss", {})
        if result:
            self.results.append(result)
        elif report.failed and "crashed while running" in str(report.longrepr):  # pytest-xdist's message for a process
            self.judge.crashes[report.nodeid.rpartition("[")[2].rstrip("]")] = str(report.longrepr)
        elif report.failed:
            self.suite_failure = str(report.longrepr)
        self._done += report.when == "teardown"
        self._write(f"{self._done} of {self._total or '?'}", end="")

    def pytest_sessionfinish(self) -> None:
        """Show the duration."""
        self._write(f"{self._done} tried, {time.monotonic() - self._start:.0f} s", end="\n")

    def _write(self, text: str, *, end: str) -> None:
        if self._show:
            sys.stderr.write(f"\r\x1b[K{self._stage}: {text}{end}")
            sys.stderr.flush()

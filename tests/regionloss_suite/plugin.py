"""The pytest side of the suite: its options, the judge of a session, and the collected findings.

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
#: What a test found, in nothing but plain values, which reach the main process from wherever the test ran.
_FOUND = pytest.StashKey[dict[str, Any]]()


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
    """Send what a test found along with its report."""
    report = yield
    if report.when == "call":
        report.regionloss = item.stash.get(_FOUND, {})
    return report


def record(request: pytest.FixtureRequest, verdicts: list[Verdict], **said: str) -> None:
    """Hand what a test found to whoever collects it in this run.

    Args:
        request: of the test.
        verdicts: one for each clause that something was found out about.
        said: `case`, the name of a drawn batch; `crash`, a traceback on it; `fault`, the adapter's own mistake.
    """
    properties: list[tuple[str, Any]] = request.node.user_properties
    properties += [("regionloss verdict", found) for found in sorted({verdict.verdict for verdict in verdicts})]
    request.node.stash[_FOUND] = {"verdicts": [verdict.to_json() for verdict in verdicts], **said}


class Collector:
    """Collects what the tests of one stage found, and shows how far it has come.

    Args:
        judge: who judges in this process, whatever the options of pytest say.
        stage: what is going on, as it is shown.
        show: whether to write progress on standard error, if that is a terminal.
    """

    def __init__(self, judge: Judge, stage: str, *, show: bool) -> None:
        self.judge = judge
        self.found: list[dict[str, Any]] = []
        self.failed_otherwise = ""
        self._stage = stage
        self._show = show and sys.stderr.isatty()
        self._start = time.monotonic()
        self._total = 0
        self._done = 0

    def pytest_configure(self, config: pytest.Config) -> None:
        """Seat the judge."""
        config.stash[_JUDGE] = self.judge

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn how much there is to do."""
        self._total = len(session.items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what was found and any failure that is no finding, and show progress."""
        found: dict[str, Any] = getattr(report, "regionloss", {})
        if found:
            self.found.append(found)
        elif report.failed and "crashed while running" in str(report.longrepr):  # what pytest-xdist says of a process
            self.judge.crashes[report.nodeid.rpartition("[")[2].rstrip("]")] = str(report.longrepr)
        elif report.failed:
            self.failed_otherwise = str(report.longrepr)
        self._done += report.when == "teardown"
        self._write(f"{self._done} of {self._total or '?'}", end="")

    def pytest_sessionfinish(self) -> None:
        """Say how long it took."""
        self._write(f"{self._done} tried, {time.monotonic() - self._start:.0f} s", end="\n")

    def _write(self, said: str, *, end: str) -> None:
        if self._show:
            sys.stderr.write(f"\r\x1b[K{self._stage}: {said}{end}")
            sys.stderr.flush()

"""How the project's own tests run: one thread each, the slow ones first, and a sample in place of a sweep.

`regionloss check` runs pytest on the suite, beside which this file lies in a checkout; such a run is left alone.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from regionloss_adapters import Adapter
    from regionloss_spec import Case

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Give each process one thread: xdist starts a worker for each core, and more threads only get in each other's way.

    This comes before any test imports NumPy or PyTorch, and every process that a test starts inherits it.
    """
    if config.rootpath == ROOT:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(variable, "1")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all but every k-th test of `sample(every=k)` to the sweep, and start the slow tests first."""
    counts: Counter[str] = Counter()
    for item in items:
        sample = item.get_closest_marker("sample")
        if sample is not None:
            name = item.nodeid.partition("[")[0]
            if counts[name] % sample.kwargs["every"]:
                item.add_marker("sweep")
            counts[name] += 1
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def suite_options(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Add options of pytest to the run of the properties that `regionloss check` starts in this process.

    A test of the command needs few properties or few batches. `-n 0` keeps the run out of processes of its own.
    """
    run = pytest.main

    def add(*options: str) -> None:
        def main(arguments: list[str], plugins: Any = None) -> Any:
            properties = "regionloss_suite.test_properties" in arguments
            return run([*arguments, *(options if properties else ())], plugins)

        monkeypatch.setattr(pytest, "main", main)

    return add


@pytest.fixture
def small_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every judge in this process leave out the six golden cases of more than 1000 numbers, half of its work."""
    from regionloss_suite.judging.judge import Judge  # not above: a nested run imports this file too

    judge = Judge.__init__

    def smaller(self: Judge, adapter: Adapter, cases: Sequence[Case], profile: str | None = None) -> None:
        judge(self, adapter, [case for case in cases if case.batch.predictions.size < 1000], profile)

    monkeypatch.setattr(Judge, "__init__", smaller)


@pytest.fixture
def quick_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the search path, whose `regionloss` is the one under test and tries only a few properties."""
    program = tmp_path_factory.mktemp("bin") / "regionloss"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys, pytest\n"
        "run = pytest.main\n"
        "def main(arguments, plugins):\n"
        "    few = ['-k', 'the-gradient-of', '-n', '0'] if 'regionloss_suite.test_properties' in arguments else []\n"
        "    return run([*arguments, *few], plugins)\n"
        "pytest.main = main\n"
        "from regionloss_suite.cli import main as cli\n"
        "sys.exit(cli.main())\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program.parent

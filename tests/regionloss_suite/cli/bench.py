"""`regionloss bench`: time the requested losses, print the results and write the files."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from regionloss_suite.cli.usage import UsageError, write
from regionloss_suite.judging.report import CONFORMING, DEVIATING, REGRESSED, write_text

if TYPE_CHECKING:
    from regionloss_suite.bench.plan import Plan
    from regionloss_suite.bench.results import Results


def add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss bench`."""
    bench = commands.add_parser(
        "bench",
        help="time a conforming loss beside others",
        description="Time losses side by side. A loss that does not conform is not timed.",
        epilog="Without sizes, the standard plan is timed: the settings of the goals and of the charts. "
        "Exit codes: 0 timed, 1 a named loss was not timed, 2 wrong usage, "
        "4 a ratio regressed relative to --compare.",
    )
    bench.add_argument(
        "adapters",
        metavar="ADAPTER",
        nargs="*",
        help="as for check, or materialised, materialised-compiled, python-loop (default: all bundled ones)",
    )
    sizes = bench.add_argument_group("sizes, one or more values each")
    sizes.add_argument("--grid", metavar="HxW", nargs="+", type=_grid, help="grid in cells (default: 13x13)")
    sizes.add_argument("--batch", metavar="N", nargs="+", type=_positive, help="number of images (default: 16)")
    sizes.add_argument("--classes", metavar="C", nargs="+", type=_positive, help="number of classes (default: 20)")
    sizes.add_argument(
        "--truths", metavar="T", nargs="+", type=_range, help="truths per image, 50 or 1-8 (default: 1-8)"
    )
    sizes.add_argument(
        "--dtype", nargs="+", choices=("float64", "float32", "float16", "bfloat16"), help="(default: float32)"
    )
    sizes.add_argument(
        "--layout", nargs="+", choices=("NCHW", "channels_last"), help="of the predictions (default: NCHW)"
    )
    sizes.add_argument(
        "--images-seen", metavar="t", nargs="+", type=_count, help="below 12800 the prior is on (default: 0)"
    )
    bench.add_argument("--quick", action="store_true", help="one small batch, to see that everything works")
    bench.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of the losses (default: cpu)")
    bench.add_argument(
        "--threads", metavar="K", type=_positive, default=1, help="PyTorch threads on the host (default: 1)"
    )
    bench.add_argument("--json", metavar="FILE", type=Path, help="write the times in the format of pytest-benchmark")
    bench.add_argument("--markdown", metavar="FILE", type=Path, help="write the report in Markdown")
    bench.add_argument("--svg", metavar="DIR", type=Path, help="write charts of time and memory into this folder")
    bench.add_argument(
        "--compare", metavar="OLD", type=Path, help="compare the ratios with an earlier run, written by --json"
    )
    bench.set_defaults(run=_bench)


def _bench(options: argparse.Namespace, colour: bool) -> int:
    del colour  # a table of numbers needs none
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # without it, PyTorch's profiler writes to standard error
    _check_installed(options.device)
    from regionloss_adapters import AdapterError
    from regionloss_suite.bench import diff
    from regionloss_suite.bench.benchmark import run
    from regionloss_suite.bench.export import NotExportedError
    from regionloss_suite.bench.results import ResultsError, read_results
    from regionloss_suite.bench.summary import terminal

    try:
        old = None if options.compare is None else read_results(options.compare)
        plan, kind = _plan(options)
        with _Progress() as progress:
            results = run(plan, threads=options.threads, kind=kind, say=progress.say)
    except (AdapterError, NotExportedError, ResultsError) as error:
        raise UsageError(str(error)) from error
    _write(options, results)
    print("\n".join(terminal(results)))
    refused = {one["contender"] for one in results.about["refused"]}
    code = DEVIATING if refused & set(options.adapters) else CONFORMING
    if old is not None:
        changes = diff.compare(old, results)
        print("\n" + "\n".join(diff.lines(changes, old, results)))
        if any(change.regressed() for change in changes):
            code = REGRESSED
    return code


def _check_installed(device: str) -> None:
    """Refuse early what would otherwise fail only after minutes."""
    for module in ("torch", "pytest_benchmark"):
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"the benchmarks need {module}: pip install 'regionloss[torch,bench]'")
    if device == "cuda":
        from regionloss_suite.bench.torch_machine import has_cuda

        if not has_cuda():
            raise UsageError("--device cuda: PyTorch finds no CUDA device")


def _plan(options: argparse.Namespace) -> tuple[Plan, str]:
    """The plan, and its kind in one word."""
    from regionloss_suite.bench import plan

    names = list(dict.fromkeys([*options.adapters, plan.COMPARATOR])) if options.adapters else []
    sizes = {
        name: getattr(options, name)
        for name in ("grid", "batch", "classes", "truths", "dtype", "layout", "images_seen")
        if getattr(options, name) is not None
    }
    if options.quick and sizes:
        raise UsageError(f"--quick fixes the sizes; remove --{next(iter(sizes)).replace('_', '-')}")
    if options.quick:
        return plan.quick(options.device, names), "quick"
    if sizes:
        return plan.crossed(options.device, names, **sizes), "asked"
    return plan.standard(options.device, names), "standard"


def _write(options: argparse.Namespace, results: Results) -> None:
    from regionloss_suite.bench import chart
    from regionloss_suite.bench.results import to_text
    from regionloss_suite.bench.summary import markdown

    if options.json is not None:
        write(options.json, lambda: write_text(options.json, to_text(results.data)))
    charts: dict[str, str] = {}
    if options.svg is not None:
        write(options.svg, lambda: options.svg.mkdir(parents=True, exist_ok=True))
        for drawn in chart.charts(results):
            path: Path = options.svg / f"{drawn.name}.svg"
            write(path, lambda path=path, drawn=drawn: write_text(path, drawn.svg))  # type: ignore[misc]
            charts[drawn.alternative] = str(path)
    if options.markdown is not None:
        near = {text: _from(options.markdown.parent, Path(path)) for text, path in charts.items()}
        write(options.markdown, lambda: write_text(options.markdown, markdown(results, near)))


def _from(folder: Path, path: Path) -> str:
    """The path as a relative link from a page in a folder."""
    return Path(os.path.relpath(path, folder)).as_posix()


class _Progress:
    """Writes the current step to standard error, on one line, on terminals only."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._put("")

    def say(self, text: str) -> None:
        """Show the current step in place of the last one."""
        self._put(text[: shutil.get_terminal_size().columns - 1])

    def _put(self, text: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


def _grid(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return _positive(height), _positive(width)


def _range(text: str) -> tuple[int, int]:
    """Fewest and most truths: `50`, or `1-8`."""
    low, dash, high = text.partition("-")
    bounds = (_count(low), _count(high)) if dash else (_count(low), _count(low))
    if bounds[0] > bounds[1]:
        raise argparse.ArgumentTypeError(f"{text!r} goes from {bounds[0]} down to {bounds[1]}")
    return bounds


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    count = _count(text)
    if not count:
        raise argparse.ArgumentTypeError("0 is too small")
    return count

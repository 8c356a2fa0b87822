"""Change the reference, the C++ kernels or the JavaScript loss mechanically, in one place: `make machine-mutants`.

Each change is judged by the golden cases; what it should have answered comes from the unchanged reference. A change
that no case notices is either the sign of a missing case, or changes nothing that can be seen: these are listed, each
with the reason, in machine_equivalents.toml. Exits with 1 if a change is neither noticed nor listed, or if the list
names a change that is noticed or does not exist.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import functools
import importlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

from regionloss import c_compiler
from regionloss_adapters import Adapter, AdapterError, load_adapter
from regionloss_adapters.process.adapter import ProcessAdapter
from regionloss_spec import Case, load_cases
from regionloss_suite.judging.judge import Judge
from regionloss_suite.run import run
from tools.machine_changes import Change, changes

ROOT = Path(__file__).parents[2]
EQUIVALENTS = Path(__file__).with_name("machine_equivalents.toml")
REFERENCE = ROOT / "reference/regionloss"
CPP = REFERENCE / "torch/cpp"
JAVASCRIPT = ROOT / "adapters/examples/javascript"

#: An endless loop may also fill the memory.
_MEMORY = 6 * 2**30

#: What came of a change. Only the first three say something about the cases.
FOUND, MISSED, LISTED, SAME, BROKEN = "caught", "missed", "equivalent", "same program", "does not compile"


class BrokenError(Exception):
    """The changed program does not compile."""


class SameError(Exception):
    """The compiler makes the same program of the changed source."""


@dataclass(frozen=True)
class Part:
    """A loss whose source is changed.

    Attributes:
        files: its sources.
        changed: makes an adapter of the loss with one changed file.
        seconds: how long the golden cases may take, building included.
    """

    files: tuple[Path, ...]
    changed: Callable[[Change], AbstractContextManager[Adapter]]
    seconds: int

    def changes(self) -> list[Change]:
        """Every change of every file."""
        return [change for file in self.files for change in changes(file.name, file.read_text(encoding="utf-8"))]


# The changed losses.

_PACKAGE = re.compile(r"(?<=^from )regionloss(?=[. ])", re.MULTILINE)
_COPY = "regionloss_changed"
_MODULES = ("boxes", "classes", "domain", "decisions", "terms", "statistics", "loss", "__init__", "numpy_reference")


@functools.cache
def _sources() -> dict[str, str]:
    """The reference and its adapter, by module, in an order in which they can be imported."""
    files = [REFERENCE / f"{name}.py" for name in _MODULES[:-1]] + [
        ROOT / "adapters/regionloss_adapters/numpy_reference.py"
    ]
    return {name: file.read_text(encoding="utf-8") for name, file in zip(_MODULES, files, strict=True)}


@functools.cache
def _compiled(name: str) -> types.CodeType:
    return _code(name, _sources()[name])


def _code(name: str, source: str) -> types.CodeType:
    return compile(_PACKAGE.sub(_COPY, source), f"{name}.py, changed", "exec")


@contextmanager
def changed_reference(change: Change) -> Iterator[Adapter]:
    """A copy of the reference under another name, with one module changed, so that the oracle keeps its own."""
    package = types.ModuleType(_COPY)
    package.__path__ = []
    sys.modules[_COPY] = package
    for name in _MODULES:
        code = _code(name, change.source) if f"{name}.py" == change.file else _compiled(name)
        module = package if name == "__init__" else types.ModuleType(f"{_COPY}.{name}")
        sys.modules[module.__name__] = module
        exec(code, module.__dict__)  # the code is this project's own
    yield sys.modules[f"{_COPY}.numpy_reference"].NumpyAdapter()


@contextmanager
def _copied(folder: Path, change: Change) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(shutil.copytree(folder, Path(temporary) / "copy", ignore=shutil.ignore_patterns("__pycache__")))
        (copy / change.file).write_text(change.source, encoding="utf-8")
        yield copy


#: Prints how regionloss.torch.cpp.operators would compile its source: the arguments and the text.
_ASK = """
import contextlib, json
from unittest import mock
from regionloss import c_compiler
build = c_compiler.build
def asked(name, arguments, **others):
    if name != "region-loss":
        return build(name, arguments, **others)
    print(json.dumps([list(arguments), others["source"]]))
    raise c_compiler.CompilerError("asked")
with mock.patch.object(c_compiler, "build", asked), contextlib.suppress(ValueError):
    import regionloss.torch.cpp.operators
"""
#: What operators.cpp calls of the kernels.
_CALLED = tuple((function, real) for function in ("pay", "write_gradient") for real in ("float", "double"))
_CALLS = "".join(f"Status {name}(const Batch<{real}> *b, const Settings *s);\n" for name, real in _CALLED)
_BODIES = "".join(
    f"Status {name}(const Batch<{real}> *b, const Settings *s) {{ return {name}<{real}>(b, s); }}\n"
    for name, real in _CALLED
)
_KERNELS = '#include "backward.h"\n#include "forward.h"\n'


@dataclass(frozen=True)
class Compiler:
    """Compiles changed kernels as the path `compiled` does, but for operators.cpp, which takes long and never changes.

    Attributes:
        folder: where compiled files go.
        flags: of the compiler, up to the source.
        libraries: of the linker.
        settings: the declaration that the headers need.
    """

    folder: Path
    flags: list[str]
    libraries: list[str]
    settings: str

    def kernels(self, sources: Path, name: str) -> Path:
        """The kernels of a folder, compiled."""
        flags = [str(sources) if flag == str(CPP) else flag for flag in self.flags]
        text = f"#include <string.h>\n{self.settings}{_KERNELS}{_BODIES}"
        return self._run([*flags, "-c", "-x", "c++", "-"], text, f"{name}.o")

    def glue(self, source: str) -> Path:
        """operators.cpp, compiled, without the kernels that it includes."""
        text = source.replace(_KERNELS, f'#include <string.h>\n#include "batch.h"\n{_CALLS}')
        return self._run([*self.flags, "-c", "-x", "c++", "-"], text, "glue.o")

    def library(self, name: str) -> Path:
        """Kernels and glue together, as PyTorch loads them."""
        objects = [str(self.folder / f"{name}.o"), str(self.folder / "glue.o")]
        return self._run([*self.flags, "-shared", *objects, *self.libraries], "", f"{name}.so")

    def _run(self, arguments: list[str], text: str, output: str) -> Path:
        command = ["c++", *arguments, "-o", str(self.folder / output)]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        if done.returncode:
            raise BrokenError(done.stderr[-2000:])
        return self.folder / output


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def compiler() -> Compiler:
    """The compiler, with the unchanged kernels and the rest compiled."""
    asked = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True)
    arguments, source = json.loads(asked.stdout)
    stdin = arguments.index("-x")
    flags = [flag for flag in arguments[:stdin] if flag != "-shared"]
    settings = source.partition("#line")[0]
    made = Compiler(Path(_temporary().name), flags, arguments[stdin + 3 :], settings)
    made.glue(source)
    made.kernels(CPP, "unchanged")
    return made


@contextmanager
def changed_kernels(change: Change) -> Iterator[Adapter]:
    """The path `compiled` with one header changed; the process must not have loaded it yet."""
    name = f"changed-{os.getpid()}"
    with _copied(CPP, change) as folder:
        made = compiler().kernels(folder, name)
    if change.kind and made.read_bytes() == made.with_name("unchanged.o").read_bytes():
        raise SameError
    library = compiler().library(name)
    with mock.patch.object(c_compiler, "build", return_value=library):
        importlib.import_module("regionloss.torch.cpp.operators")
        adapter = load_adapter("torch-compiled")
    made.unlink()
    library.unlink()
    yield adapter


@contextmanager
def changed_javascript(change: Change) -> Iterator[Adapter]:
    """The JavaScript example with one module changed, in a process of Node."""
    with _copied(JAVASCRIPT, change) as folder:
        if subprocess.run(["node", "--check", folder / change.file], capture_output=True, check=False).returncode:
            raise BrokenError
        with ProcessAdapter(["node", str(folder / "region_loss.mjs")], answer_timeout=10) as adapter:
            yield adapter


def parts() -> dict[str, Part]:
    """The losses that are changed, by name."""
    return {
        "numpy": Part(tuple(REFERENCE / f"{name}.py" for name in _MODULES[:-2]), changed_reference, 60),
        "cpp": Part(tuple(sorted(CPP.glob("*.h"))), changed_kernels, 600),
        "javascript": Part(tuple(sorted(JAVASCRIPT.glob("region_loss_*.mjs"))), changed_javascript, 120),
    }


# Judging.


def observed(adapter: Adapter, cases: list[Case]) -> Iterator[tuple[str, bool | None]]:
    """Each case with whether the loss is wrong there; `None` where it does not answer."""
    try:
        claimed = adapter.describe().profiles
        profiles = [None] if "*" in claimed else sorted({case.base for case in cases} & {*claimed})
        for profile in profiles:
            judge = Judge(adapter, cases, profile)
            for case in judge.cases:
                seen = judge.observe(case)
                broken = judge.fault is not None or any(one.departs for one in seen)
                yield case.id, broken if seen or broken else None
    except AdapterError as error:
        yield f"adapter: {error}", True


def noticed_by(adapter: Adapter, cases: list[Case], silent: frozenset[str]) -> str:
    """The first case that notices that a loss is wrong, or that it answers other cases than before; or nothing."""
    seen = observed(adapter, cases)
    return next((case for case, wrong in seen if wrong or (wrong is None) != (case in silent)), "")


def property_noticing(adapter: Adapter) -> str:
    """The first clause that the whole suite, properties included, blames a loss for, or an empty string."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        report = run(adapter).report
    return next((f"property of {one.clause}" for one in report.verdicts if one.verdict == "deviating"), "")


def judged(part: Part, cases: list[Case], silent: frozenset[str], properties: bool, change: Change) -> tuple[str, str]:
    """What came of a change, and what noticed it."""
    try:
        with part.changed(change) as adapter:
            by = noticed_by(adapter, cases, silent) or (property_noticing(adapter) if properties else "")
    except BrokenError:
        return BROKEN, ""
    except SameError:
        return SAME, ""
    except Exception as error:  # a changed module that cannot even be imported
        return FOUND, f"{type(error).__name__}: {error}"
    return (FOUND, by) if by else (MISSED, "")


def unchanged(part: Part, cases: list[Case], change: Change) -> tuple[str, str]:
    """Whether a loss is right as it is, and the cases that it does not answer, by lines."""
    with part.changed(change) as adapter:
        seen = dict(observed(adapter, cases))
    wrong = [case for case, departs in seen.items() if departs]
    return (FOUND, ", ".join(wrong)) if wrong else (MISSED, "\n".join(case for case in seen if seen[case] is None))


def outcomes(
    tasks: Iterable[Change], work: Callable[[Change], tuple[str, str]], jobs: int, seconds: int
) -> Iterator[tuple[Change, str, str]]:
    """Each change with what came of it, judged in a process of its own that may hang or die."""
    context = multiprocessing.get_context("fork")
    waiting = deque(tasks)
    running: dict[Connection, tuple[Change, BaseProcess, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            receiver, sender = context.Pipe(duplex=False)
            started = context.Process(target=_child, args=(sender, work, waiting[0]))
            started.start()
            sender.close()
            running[receiver] = waiting.popleft(), started, time.monotonic() + seconds
        patience = min(until for _, _, until in running.values()) - time.monotonic()
        ready = wait(list(running), max(0.0, patience))
        for receiver, (change, process, until) in list(running.items()):
            if receiver in ready:
                try:
                    outcome, by = receiver.recv()
                except EOFError:
                    outcome, by = FOUND, "it crashes"
            elif time.monotonic() >= until:
                process.kill()
                outcome, by = FOUND, f"it takes longer than {seconds} s"
            else:
                continue
            process.join()
            receiver.close()
            del running[receiver]
            yield change, outcome, by


def _child(sender: Connection, work: Callable[[Change], tuple[str, str]], change: Change) -> None:
    import resource

    if "torch" not in sys.modules:  # which reserves more memory than it uses
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the warnings of a wrong loss
    sender.send(work(change))


# The list of changes that cannot be seen.


@functools.cache
def equivalents() -> dict[tuple[str, str, str], str]:
    """Why a change cannot be seen, by file, function and name."""
    tables: dict[str, list[dict[str, Any]]] = tomllib.loads(EQUIVALENTS.read_text(encoding="utf-8"))
    return {
        (file, table["in"], name): table["why"]
        for file, entries in tables.items()
        for table in entries
        for name in table["changes"]
    }


def key(change: Change) -> tuple[str, str, str]:
    """How the list calls a change."""
    return change.file, change.function, change.name


@dataclass(frozen=True)
class Outcome:
    """What came of one change: the change without its source, the outcome, and what noticed it or why nothing can."""

    file: str
    function: str
    change: str
    outcome: str
    by: str


def sampled(made: list[Change], every: int, seed: int, only: str) -> list[Change]:
    """Each k-th change, beginning with one that the seed names, of the files whose name holds a text."""
    return [change for change in made if only in change.file][seed % every :: every]


def survey(part: Part, chosen: list[Change], jobs: int, *, properties: bool) -> Iterator[Outcome]:
    """What came of each change. The list decides nothing: a listed change that is noticed comes out as such."""
    oracle = Judge(load_adapter("numpy"), load_cases())
    cases = sorted(oracle.cases, key=lambda case: (case.batch.predictions.size, case.id))
    for case in cases:
        oracle.observe(case)  # keeps what is expected, for every child
    if part.changed is changed_kernels:
        compiler()
    file = part.files[0]
    same = Change(file.name, "", "", "", "", file.read_text(encoding="utf-8"))
    ((_, outcome, silent),) = outcomes([same], functools.partial(unchanged, part, cases), 1, part.seconds)
    if outcome != MISSED:
        raise SystemExit(f"nothing can be learnt from changes of a loss that is wrong: {silent}")
    known = equivalents()
    work = functools.partial(judged, part, cases, frozenset(silent.splitlines()), properties)
    for change, outcome, by in outcomes(chosen, work, jobs, 1200 if properties else part.seconds):
        if outcome == MISSED and key(change) in known:
            outcome, by = LISTED, known[key(change)]
        yield Outcome(change.file, change.function, change.name, outcome, by)


# What is printed and written.


def table(found: list[Outcome]) -> str:
    """The score of each file, Markdown."""
    lines = ["| file | changes | caught | equivalent | missed | score |", "| --- | --: | --: | --: | --: | --: |"]
    for file in [*dict.fromkeys(one.file for one in found), "all"]:
        kinds = [one.outcome for one in found if file in (one.file, "all")]
        caught, listed, missed = (kinds.count(kind) for kind in (FOUND, LISTED, MISSED))
        same = kinds.count(SAME)
        score = 100 * caught / (caught + missed) if caught + missed else 100.0
        made = caught + listed + missed + same
        lines.append(f"| {file} | {made} | {caught} | {listed + same} | {missed} | {score:.1f} % |")
    return "\n".join(lines) + "\n"


def faults(part: Part, found: list[Outcome]) -> list[str]:
    """Every change that is neither caught nor listed, and every entry of the list that is wrong."""
    made = {key(change) for change in part.changes()}
    files = {file.name for file in part.files}
    return [
        *(f"missed: {one.file}, {one.function}: {one.change}" for one in found if one.outcome == MISSED),
        *(
            f"listed as equivalent, but caught by {one.by}: {one.file}, {one.function}: {one.change}"
            for one in found
            if one.outcome == FOUND and (one.file, one.function, one.change) in equivalents()
        ),
        *(
            f"listed as equivalent, but there is no such change: {', '.join(entry)}"
            for entry in equivalents()
            if entry[0] in files and entry not in made
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Judge the changes that the arguments select, and print the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=["numpy", "cpp", "javascript"], default="numpy", help="what is changed")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only each K-th change")
    parser.add_argument("--seed", type=int, default=0, help="with which of the first K changes the sample begins")
    parser.add_argument("--only", default="", metavar="TEXT", help="only files whose name holds this")
    parser.add_argument("--listed", action="store_true", help="only changes that the list calls equivalent")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument("--properties", action="store_true", help="judge what no case notices by the properties too")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/machine-mutants", help="where the results go")
    given = parser.parse_args(arguments)
    part = parts()[given.part]
    made = [change for change in part.changes() if not given.listed or key(change) in equivalents()]
    chosen = sampled(made, given.every, given.seed, given.only)
    found: list[Outcome] = []
    with contextlib.suppress(KeyboardInterrupt):  # which is a way to stop early: what was judged till then counts
        for one in survey(part, chosen, given.jobs, properties=given.properties):
            found.append(one)
            if one.outcome == MISSED:
                print(f"missed: {one.file}, {one.function}: {one.change}", flush=True)
    wrong = faults(part, found)
    print(table(found), *wrong, sep="\n", flush=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    sample = {"judged": len(found), "part": given.part, "every": given.every, "seed": given.seed, "only": given.only}
    entries = {"date": date, **sample, "faults": wrong, "changes": [dataclasses.asdict(one) for one in found]}
    (given.folder / f"{given.part}.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (given.folder / f"{given.part}.md").write_text(
        f"{table(found)}\n" + "".join(f"- {line}\n" for line in wrong), "utf-8"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

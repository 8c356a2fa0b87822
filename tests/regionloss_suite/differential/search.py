"""The search: golden cases first, then batches drawn by Hypothesis, in rounds that can be resumed.

A folder holds the finds, each of them a case, and the progress of the search. Everything is written at once, and each
file is replaced as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from regionloss_spec import Batch, load_cases
from regionloss_spec.case_writer import write_case
from regionloss_suite.differential.clauses import reason
from regionloss_suite.differential.disagreement import SUMS, Disagreement, disagreement
from regionloss_suite.differential.shrink import smaller
from regionloss_suite.differential.subjects import Subject, common_format, subject_of
from regionloss_suite.judging.exchange import drawn_case
from regionloss_suite.oracle.strategies import batches

#: Larger golden cases take long to shrink, and show nothing that a smaller one does not.
_LARGEST = 3000

#: Batches per round.
_DRAWN = 60

_STATE = "search.json"


class SearchError(ValueError):
    """A folder that holds another search, or files that cannot be read."""


@dataclass(frozen=True)
class Find:
    """One way in which two losses disagree.

    Attributes:
        case: id of the case, and its file without `.json`.
        words: the first difference.
        symptoms: everything that differs, coarsely.
        clause: the clause that separates the two, or an empty string.
        why: the axes, or the known cause that the deviating loss looks like.
        crashed: whether one of the two crashed.
        size: the batch in words.
    """

    case: str
    words: str
    symptoms: tuple[str, ...]
    clause: str = ""
    why: str = ""
    crashed: bool = False
    size: str = ""


@dataclass
class Progress:
    """The progress of a search, stored after each round.

    Attributes:
        one, other: names of the two losses with their profiles.
        dtype: the format of the predictions.
        rounds: numbers of the finished rounds.
        finds: the disagreements found so far.
    """

    one: str
    other: str
    dtype: str
    rounds: list[int] = field(default_factory=list)
    finds: list[Find] = field(default_factory=list)


class Search:
    """A search for inputs on which two losses disagree.

    Args:
        one, other: names as `subject_of` accepts them.
        folder: the folder for finds; those of an earlier search there are known from the start.
        profile: the profile of both, unless their names contain one.

    Raises:
        AdapterError: there is no such adapter, or the two have no format in common.
        ProfileError: no such profile.
        SearchError: the folder holds another search.
    """

    def __init__(self, one: str, other: str, folder: Path, profile: str | None = None) -> None:
        self.names = (one, other, profile)
        self.one, self.other = subject_of(one, profile), subject_of(other, profile)
        self.dtype = common_format(self.one, self.other)
        self.folder = folder
        self.progress = self._resumed()

    def run(self, seconds: float, jobs: int = 1, tell: Callable[[str], None] = lambda text: None) -> Progress:
        """Search for a given time, at least one round; earlier finds count as known.

        Args:
            seconds: no new round starts after this time.
            jobs: number of worker processes.
            tell: called with each find and each round.
        """
        end = time.monotonic() + seconds
        todo = (number for number in _numbers() if number not in set(self.progress.rounds))
        if jobs == 1:
            for number in todo:
                self._note(number, round_of(self.one, self.other, self.dtype, number, self._known()), tell)
                if time.monotonic() >= end:
                    break
            return self.progress
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            running: dict[Future[list[tuple[Batch, Disagreement]]], int] = {}
            try:
                while running or time.monotonic() < end:
                    while len(running) < jobs and (time.monotonic() < end or not self.progress.rounds):
                        number = next(todo)
                        running[pool.submit(_in_process, *self.names, number, self._known())] = number
                    done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._note(running.pop(future), future.result(), tell)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return self.progress

    def _known(self) -> frozenset[str]:
        return frozenset(symptom for find in self.progress.finds for symptom in find.symptoms)

    def _note(self, number: int, disagreements: list[tuple[Batch, Disagreement]], tell: Callable[[str], None]) -> None:
        for batch, difference in disagreements:
            if difference.symptoms <= self._known():  # another process found it in the meantime
                continue
            named = {find.clause for find in self.progress.finds}
            why = reason(self.one, self.other, batch, self.dtype, named)
            name = f"find-{len(self.progress.finds) + 1}"
            find = Find(
                name,
                difference.words,
                tuple(sorted(difference.symptoms)),
                why.clause,
                why.words,
                difference.crashed,
                _size(batch),
            )
            title = f"{self.one.name} and {self.other.name} disagree: {difference.words}"
            case = drawn_case(name, title, batch, self.one.profile)
            self._keep(dataclasses.replace(case, clauses=(why.clause,) if why.clause else ()))
            self.progress.finds.append(find)
            self._store()
            tell(f"{name}: {find.clause or 'no clause known'} · {find.words}")
        self.progress.rounds.append(number)
        self._store()
        tell("")

    def _keep(self, case: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as fresh:
            write_case(case, Path(fresh))
            for path in sorted(Path(fresh).iterdir(), reverse=True):  # the tensors before the JSON that names them
                path.replace(self.folder / path.name)

    def _store(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self.progress), indent=1, ensure_ascii=False) + "\n"
        descriptor, fresh = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(fresh).replace(self.folder / _STATE)

    def _resumed(self) -> Progress:
        begun = Progress(self.one.name, self.other.name, self.dtype)
        path = self.folder / _STATE
        if not path.exists():
            return begun
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            finds = [_find(entry) for entry in data.pop("finds")]
            stored = Progress(**data, finds=finds)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SearchError(f"{path} cannot be read: {error}") from error
        if (stored.one, stored.other, stored.dtype) != (begun.one, begun.other, begun.dtype):
            raise SearchError(
                f"{self.folder} holds a search of {stored.one} and {stored.other} in {stored.dtype}, "
                f"not of {begun.one} and {begun.other} in {begun.dtype}: name another folder"
            )
        return stored


def round_of(
    one: Subject, other: Subject, dtype: str, number: int, known: frozenset[str]
) -> list[tuple[Batch, Disagreement]]:
    """The new finds of a round, as small as they could be made.

    The first rounds are golden cases, one each; the others draw batches from the domain of one of the two profiles.
    """

    def new(batch: Batch) -> Disagreement | None:
        difference = disagreement(one, other, batch, dtype)
        return difference if difference is not None and not difference.symptoms <= known else None

    golden = _golden()
    batch = golden[number] if number < len(golden) else _drawn(one, other, number - len(golden), new)
    first = None if batch is None else new(batch)
    if batch is None or first is None:
        return []
    wanted = min(first.symptoms - known, key=lambda symptom: (symptom in SUMS or symptom.startswith("term "), symptom))

    def holds(candidate: Batch) -> bool:
        difference = new(candidate)
        return difference is not None and wanted in difference.symptoms

    batch = smaller(batch, holds)
    difference = new(batch)
    assert difference is not None
    return [(batch, difference)]


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


@cache
def _golden() -> list[Batch]:
    """The inputs of the golden cases inside the domain, the smallest first, each once."""
    inputs: dict[bytes, Batch] = {}
    for case in load_cases():
        if case.expected.error is None and 0 < np.size(case.batch.predictions) <= _LARGEST:
            truths = tuple(np.reshape(rows, (len(rows), 5)) for rows in case.batch.truths)
            batch = dataclasses.replace(case.batch, truths=truths)
            parts = [batch.predictions, batch.anchors, *batch.truths]
            rest = repr((batch.predictions.shape, batch.images_seen, batch.tree, [len(rows) for rows in batch.truths]))
            inputs.setdefault(b"".join(part.tobytes() for part in parts) + rest.encode(), batch)
    return sorted(inputs.values(), key=lambda batch: np.size(batch.predictions))


def _drawn(one: Subject, other: Subject, number: int, new: Callable[[Batch], Disagreement | None]) -> Batch | None:
    """The smallest batch drawn by Hypothesis on which the two disagree in a way that is not known."""
    profile = (one, other)[number % 2].profile
    drawn: list[Batch] = []

    @seed(number)
    @settings(
        max_examples=_DRAWN, database=None, deadline=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False, verbosity=Verbosity.quiet,
        print_blob=False,
    )  # fmt: skip
    @given(batches(profile))
    def search(batch: Batch) -> None:
        if new(batch) is not None:
            drawn.append(batch)
            raise _FoundError

    try:
        search()
    except _FoundError:
        return drawn[-1]  # Hypothesis ends with the smallest
    return None


class _FoundError(Exception):
    pass


def _find(entry: dict[str, Any]) -> Find:
    """A find as it was stored; older searches stored its symptoms as `signs`."""
    symptoms = entry.pop("symptoms", None) or entry.pop("signs")
    return Find(**entry, symptoms=tuple(symptoms))


def _in_process(
    one: str, other: str, profile: str | None, number: int, known: frozenset[str]
) -> list[tuple[Batch, Disagreement]]:
    first, second = _subjects(one, other, profile)
    return round_of(first, second, common_format(first, second), number, known)


_LOADED: dict[tuple[str, str, str | None], tuple[Subject, Subject]] = {}


def _subjects(one: str, other: str, profile: str | None) -> tuple[Subject, Subject]:
    """The two losses in a worker process, loaded once."""
    key = (one, other, profile)
    if key not in _LOADED:
        _LOADED[key] = subject_of(one, profile), subject_of(other, profile)
    return _LOADED[key]


def _size(batch: Batch) -> str:
    n, _, height, width = batch.predictions.shape
    anchors, truths = len(batch.anchors), sum(map(len, batch.truths))
    pairs = ((n, "image"), (anchors, "anchor"), (truths, "truth"))
    counts = [f"{count} {name}{'s' * (count != 1)}" for count, name in pairs]
    return f"{', '.join(counts)}, {height}×{width} cells, {np.count_nonzero(batch.predictions)} nonzero outputs"

"""The commands at the end of a failure: one that reproduces the deviation, one that explains its case."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from regionloss_adapters.ports.source import VARIABLES
from regionloss_suite.judging.find_cases import place_of
from regionloss_suite.judging.verdict import Verdict


@dataclass(frozen=True)
class Commands:
    """The arguments of a run that its commands repeat.

    Attributes:
        adapter: the adapter's name as the user gave it, or `None` if it has none.
        profile: the profile of the run, or `None` for all that it claims.
        cases: the folder or file of cases, or `None` for the bundled cases.
        drawn: the files of random batches, by name.
        alone: the names of those random batches that deviate when put to the adapter alone.
        source: the source given for the adapter, or `None`.
    """

    adapter: str | None
    profile: str | None = None
    cases: Path | None = None
    drawn: Mapping[str, Path] = field(default_factory=dict)
    alone: Collection[str] = ()
    source: Path | None = None

    def added(self, verdict: Verdict) -> Verdict:
        """A verdict that stands for itself, with its commands; any other verdict unchanged."""
        if verdict.first is None or verdict.verdict not in ("deviating", "expected"):
            return verdict
        reproduce, explain = self.of(verdict.first.case)
        return dataclasses.replace(verdict, reproduce=reproduce, explain=explain)

    def of(self, case: str) -> tuple[str, str]:
        """The commands that show what a case shows again, and that explain the case; empty if there is none."""
        file = self._file(case)
        explain = "" if file is None else shlex.join(["regionloss", "explain", str(file), *self._option("--profile")])
        return self._reproduce(case, file), explain

    def crashed(self, crashes: Iterable[str], verdicts: Iterable[Verdict]) -> tuple[str, ...]:
        """The report's note on the first crash that no command of its verdicts reproduces."""
        shown = {verdict.first.case for verdict in verdicts if verdict.first is not None and verdict.reproduce}
        name = next((case for case in crashes if case not in shown), None)
        command = "" if name is None else self._reproduce(name, self._file(name))
        return (f"`{command}` shows the crash on {name} again.",) if command else ()

    def _file(self, case: str) -> Path | str | None:
        """The argument of `--cases` and `explain`: the file of a case, or the id of a bundled one."""
        if case in self.drawn:
            return self.drawn[case]
        if self.cases is None:
            return case if place_of(case) is not None else None
        file = self.cases / f"{case}.json" if self.cases.is_dir() else self.cases
        return file if file.is_file() else None

    def _reproduce(self, case: str, file: Path | str | None) -> str:
        if self.adapter is None or file is None:
            return ""
        if case not in self.drawn or case in self.alone:
            source = [] if self.source is None else ["--source", str(self.source)]
            arguments = [self.adapter, *source, *self._option("--profile")]
            return shlex.join(["regionloss", "check", *arguments, "--cases", str(file)])
        # The deviation takes several batches to show, so the whole property is run again.
        suite = ["python", "-m", "pytest", "--pyargs", "regionloss_suite.test_properties", "-k", case]
        command = shlex.join([*suite, "--regionloss-adapter", self.adapter, *self._option("--regionloss-profile")])
        return (
            command if self.source is None else f"{VARIABLES[self.adapter]}={shlex.quote(str(self.source))} {command}"
        )

    def _option(self, name: str) -> list[str]:
        return [] if self.profile is None else [name, self.profile]

"""What a command of the project prints, run in this process in a copy of the folder of the site's examples."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import tempfile
from pathlib import Path

from regionloss_suite.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"
#: An entry of a report and what stands under it are told apart by their indentation.
_UNDER = re.compile(r"^ {4}")


def output(command: str) -> str:
    """What `regionloss …` prints. Raises `ValueError` for another program, or one that was used wrongly."""
    program, *arguments = shlex.split(command)
    if program != "regionloss":
        raise ValueError(f"{command!r}: only regionloss is run for the site")
    printed, errors = io.StringIO(), io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
        contextlib.chdir(shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)),
    ):
        code = main(arguments)
    if code == 2:
        raise ValueError(f"{command!r}: {errors.getvalue().strip()}")
    return printed.getvalue().rstrip()


def lines(command: str, pattern: str, most: int = 6) -> str:
    """The lines of what a command prints that hold a pattern, with what is left out marked by an ellipsis.

    An entry is kept with the lines under it, of which only the first ones are shown.
    """
    kept: list[str] = []
    under, whole = 0, False
    for line in output(command).splitlines():
        if _UNDER.match(line):
            under += 1
            shown = whole and under <= most
        else:
            under, whole = 0, re.search(pattern, line) is not None
            shown = whole
        if shown:
            kept.append(line)
        elif kept and kept[-1].strip() != "…":
            kept.append("    …" if whole else "…")
    return "\n".join(kept)

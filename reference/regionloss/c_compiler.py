"""C and C++ compiled when it is first needed, by the user's own compiler, and kept in a folder of the user."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from filelock import FileLock

#: The variables of the environment that name the compiler and what it is handed, and the compiler without them.
_COMPILERS = {"C": ("CC", "CFLAGS", "cc"), "C++": ("CXX", "CXXFLAGS", "c++")}


class CompilerError(RuntimeError):
    """There is no compiler, it did not finish, or it refused, which the message says in its words."""


def build(
    name: str,
    arguments: Sequence[str],
    *,
    language: Literal["C", "C++"] = "C",
    source: str = "",
    made_of: Sequence[str] = (),
) -> Path:
    """The file that the compiler makes, from the folder if it made the same before.

    Of several processes that want the same file, one makes it and the others wait for it. The compiler is what the
    environment variable CC names, `cc` if it names none; CFLAGS are handed to it. For C++ they are CXX, `c++` and
    CXXFLAGS.

    Args:
        name: what the file's name begins with.
        arguments: for the compiler, without the output.
        language: which compiler.
        source: what it is given on its standard input.
        made_of: what else the file depends on: whatever changes, makes another file.

    Raises:
        CompilerError: it was not made.
    """
    variable, flags, usual = _COMPILERS[language]
    compiler = shlex.split(os.environ.get(variable) or usual)
    command = [*compiler, *arguments, *shlex.split(os.environ.get(flags, ""))]
    key = hashlib.sha256("\0".join([source, *made_of, *command]).encode()).hexdigest()[:24]
    folder = _folder()
    kept = folder / f"{name}-{key}"
    if not kept.is_file():
        with FileLock(f"{kept}.lock"):  # the processes of a distributed training want it all at once
            if not kept.is_file():
                _compile(kept, command, source, language)
    return kept


def _compile(kept: Path, command: Sequence[str], source: str, language: str) -> None:
    """Make the file, which is there as a whole or not at all."""
    with tempfile.TemporaryDirectory(dir=kept.parent) as here:
        fresh = Path(here) / kept.name
        try:
            made = subprocess.run(
                [*command, "-o", str(fresh)], input=source.encode(), capture_output=True, timeout=600, check=False
            )
        except FileNotFoundError:
            raise CompilerError(
                f"there is no {language} compiler {command[0]!r}: install one, or name it in the environment variable "
                f"{_COMPILERS[language][0]}"
            ) from None
        except subprocess.TimeoutExpired:
            raise CompilerError(f"{command[0]} did not finish within 600 s") from None
        if made.returncode:
            said = made.stderr.decode(errors="replace")[-2000:]
            raise CompilerError(f"this failed: {shlex.join(command)}\n{said}")
        fresh.replace(kept)


def processor() -> str:
    """What tells processors apart, for code that only runs on those like the one that it was compiled for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return " ".join(os.uname())
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _folder() -> Path:
    """A folder of the user's own for what is compiled."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "regionloss"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="regionloss-"))
    return cache if os.access(cache, os.W_OK) else Path(tempfile.mkdtemp(prefix="regionloss-"))

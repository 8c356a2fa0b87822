"""C and C++ that the user's own compiler compiles on first use, cached in a folder of the user."""

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

#: The environment variables for the compiler and its options, and the default compiler.
_COMPILERS = {"C": ("CC", "CFLAGS", "cc"), "C++": ("CXX", "CXXFLAGS", "c++")}


class CompilerError(RuntimeError):
    """There is no compiler, it did not finish, or it failed; then the message quotes it."""


def build(
    name: str,
    arguments: Sequence[str],
    *,
    language: Literal["C", "C++"] = "C",
    source: str = "",
    made_of: Sequence[str] = (),
) -> Path:
    """Compile a file, or return it from the cache.

    If several processes need the same file, one compiles it and the others wait. The compiler for C is that of the
    environment variable CC, by default `cc`, with the options in CFLAGS; for C++ it is CXX, `c++` and CXXFLAGS.

    Args:
        name: prefix of the file name.
        arguments: of the compiler, without the output.
        language: which compiler.
        source: its standard input.
        made_of: what else the file depends on; a change compiles a new file.

    Raises:
        CompilerError: the file cannot be compiled.
    """
    variable, flags, usual = _COMPILERS[language]
    compiler = shlex.split(os.environ.get(variable) or usual)
    command = [*compiler, *arguments, *shlex.split(os.environ.get(flags, ""))]
    key = hashlib.sha256("\0".join([source, *made_of, *command]).encode()).hexdigest()[:24]
    folder = _folder()
    kept = folder / f"{name}-{key}"
    if not kept.is_file():
        with FileLock(f"{kept}.lock"):  # all processes of a distributed training need it at once
            if not kept.is_file():
                _compile(kept, command, source, language)
    return kept


def _compile(kept: Path, command: Sequence[str], source: str, language: str) -> None:
    """Compile the file and move it into place, so that it never exists in part."""
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        fresh = Path(folder) / kept.name
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
            message = made.stderr.decode(errors="replace")[-2000:]
            raise CompilerError(f"this failed: {shlex.join(command)}\n{message}")
        fresh.replace(kept)


def processor() -> str:
    """Model and features of the processor, since compiled code only runs on one like that it was compiled for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return " ".join(os.uname())
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _folder() -> Path:
    """The cache folder of the user, or a temporary one if that cannot be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "regionloss"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="regionloss-"))
    return cache if os.access(cache, os.W_OK) else Path(tempfile.mkdtemp(prefix="regionloss-"))

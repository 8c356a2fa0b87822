"""Helpers that commands share: wrong usage, the source of a port, and files that cannot be written."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


class UsageError(Exception):
    """Wrong usage, such as a file or a name that does not exist; exit code 2."""


def add_source(parser: argparse.ArgumentParser) -> None:
    """Define `--source`, which `use_source` reads."""
    parser.add_argument(
        "--source",
        metavar="PATH",
        type=Path,
        help="your checkout of darknet or of a port (default: the environment variable of that port, such as "
        "REGIONLOSS_LIGHTNET)",
    )


def use_source(options: argparse.Namespace) -> None:
    """Set the adapter's source for this process and its children. Raises `UsageError` if the adapter has none."""
    from regionloss_adapters import AdapterError
    from regionloss_adapters.ports.source import name_source

    if options.source is not None:
        try:
            name_source(options.adapter, options.source)
        except AdapterError as error:
            raise UsageError(str(error)) from error


def write(path: Path, writing: Callable[[], object]) -> None:
    """Write a file by calling `writing`. Raises `UsageError` if that fails."""
    try:
        writing()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error

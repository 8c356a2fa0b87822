"""`regionloss identify`: determine the formula of a loss from its answers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from regionloss_spec import load_profile
from regionloss_suite.cli.usage import UsageError, add_source, use_source, write

_EXPLAINED, _PARTLY, _CRASHED = 0, 1, 3


def add_identify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss identify`."""
    parser = commands.add_parser(
        "identify",
        help="determine the formula of a loss, with every constant",
        description="Put designed questions to a loss, write down the formula that it computes, and verify it.",
        epilog="Exit codes: 0 the formula explains every random batch, 1 it explains only some of them, or something "
        "else deviates, 2 wrong usage, 3 the loss returns nothing.",
    )
    parser.add_argument(
        "adapter", help="numpy, torch, a port such as lightnet, your own as module:object or cmd:command"
    )
    add_source(parser)
    parser.add_argument("--profile", metavar="P", help="profile of the questions (default: the first that it claims)")
    parser.add_argument("--batches", metavar="N", type=_count, default=500, help="random batches (default: 500)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of the random batches (default: 0)")
    for name, form in (
        ("json", "every finding with its evidence, for a machine"),
        ("markdown", "a page with every finding and its evidence"),
        ("toml", "the profile that reproduces the loss"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write {form}")
    parser.set_defaults(run=_identify)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} batches, expected at least 1")
    return number


def _identify(options: argparse.Namespace, colour: bool) -> int:
    from regionloss_adapters import AdapterError, load_adapter
    from regionloss_suite.measure import formula, identify
    from regionloss_suite.measure.black_box import NoAnswerError
    from regionloss_suite.measure.verify import verify

    if options.profile is not None:
        load_profile(options.profile)
    use_source(options)
    try:
        adapter = load_adapter(options.adapter)
        identified = identify(adapter, options.profile, _progress)
        verified = verify(adapter, identified, profile=options.profile, number=options.batches, begin=options.seed,
                          progress=_progress)  # fmt: skip
    except AdapterError as error:
        raise UsageError(str(error)) from error
    except NoAnswerError as error:
        print(f"regionloss: {options.adapter} returns nothing: it {error}", file=sys.stderr)
        return _CRASHED
    finally:
        _progress("", 0, 0)
    if options.json is not None:
        _write(options.json, json.dumps(formula.as_json(identified, verified), indent=1, ensure_ascii=False) + "\n")
    if options.markdown is not None:
        _write(options.markdown, formula.markdown(identified, verified))
    if options.toml is not None:
        _write(options.toml, formula.toml(identified, verified))
    print("\n".join(formula.lines(identified, verified)))
    departs = identified.odd or verified.beside or verified.edges_left
    return _PARTLY if departs or not verified.whole else _EXPLAINED


def _write(path: Path, text: str) -> None:
    write(path, lambda: path.write_text(text, encoding="utf-8"))


def _progress(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{f'{what} {done}/{total}' if total else ''}", end="", file=sys.stderr, flush=True)

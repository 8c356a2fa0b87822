"""Where things stand on the site: the address of a clause, a case, a property, a mutant, a line of the reference."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from functools import cache
from html import escape

from regionloss_spec import load_cases, load_clauses
from regionloss_suite.mutants import catalogue
from regionloss_suite.properties import PROPERTIES


def chapter_url(chapter: str) -> str:
    """The page of a chapter, given its file name."""
    return f"spec/{chapter.removesuffix('.md')}.html"


def clause_url(clause: str) -> str:
    """The heading of a clause in its chapter."""
    return f"{chapter_url(load_clauses()[clause].chapter)}#{clause}"


def case_url(case: str) -> str:
    """The page of a case."""
    return f"cases/{case}.html"


def property_url(name: str) -> str:
    """The row of a property."""
    return f"properties.html#{PROPERTIES[name].id}"


def mutant_url(mutant: str) -> str:
    """The row of a mutant."""
    return f"mutants.html#{mutant}"


def profile_url(profile: str) -> str:
    """The row of a profile."""
    return f"profiles.html#{profile}"


def source_url(module: str, line: int) -> str:
    """A line of the reference, given the file name of its module."""
    return f"reference/{module.removesuffix('.py')}.html#__codelineno-0-{line}"


def relative(url: str, page: str) -> str:
    """An address as a link of a page; both are relative to the root of the site."""
    path, _, anchor = url.partition("#")
    way = posixpath.relpath(path, posixpath.dirname(page) or ".")
    return f"{way}#{anchor}" if anchor else way


def link(text: str, url: str, page: str, *, code: bool = True) -> str:
    """A link of a page as HTML."""
    shown = f"<code>{escape(text)}</code>" if code else escape(text)
    return f'<a href="{escape(relative(url, page))}">{shown}</a>'


@cache
def names() -> dict[str, str]:
    """The address of every word that is linked wherever it stands as code: clauses, cases and mutants, in this order.

    Profiles are left out: `formula` and `darknet` are words of the spec too.
    """
    addresses: dict[str, str] = {}
    known: tuple[tuple[list[str], Callable[[str], str]], ...] = (
        (list(load_clauses()), clause_url),
        ([case.id for case in load_cases()], case_url),
        (list(catalogue()), mutant_url),
    )
    for ids, url in known:
        for name in ids:
            addresses.setdefault(name, url(name))
    return addresses


def folded(links: list[str], shown: int, separator: str = ", ") -> str:
    """Links as HTML, the first of them open and the others on demand."""
    if len(links) <= shown + 2:
        return separator.join(links)
    rest = f"{f'and {len(links) - shown} more' if shown else len(links)}"
    more = f'<details class="more"><summary>{rest}</summary>{separator.join(links[shown:])}</details>'
    return f"{separator.join(links[:shown])} {more}" if shown else more

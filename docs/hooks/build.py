"""Hooks of the site: pages that are made rather than written, and what is done to every page."""

from __future__ import annotations

import logging
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from regionloss_docs import (
    cases,
    chapters,
    citations,
    explorer,
    implementations,
    measured,
    moved,
    pictures,
    quotes,
    tables,
    vendor,
)
from regionloss_docs.commands import lines
from regionloss_docs.markup import Formulas, linked
from regionloss_spec import load_cases, load_clauses, lock

ROOT = Path(__file__).parents[2]
NODE_MODULES = ROOT / "build/docs/node_modules"
_INSERT = re.compile(r"^( *)<!-- (insert|lines|file): (.+) -->$", re.MULTILINE)
_PARTS: dict[str, Callable[[], str]] = {
    "chapters": chapters.contents,
    "cases": cases.table,
    "counts": tables.counts,
    "explorer": explorer.skeleton,
    "five anchors": pictures.five_anchors,
    "formula": quotes.formula,
    "implementations": implementations.summary,
    "implementations by axis": implementations.axes,
    "implementations by clause": implementations.clauses,
    "implementations in formulas": implementations.formulas,
    "matrix": tables.matrix,
    "measured": measured.measured,
    "modules": quotes.modules,
    "mutants": tables.mutants,
    "profiles": tables.profiles,
    "properties": tables.properties,
    "sources of profiles": tables.sources,
    "truth table": quotes.truth_table,
}

log = logging.getLogger("mkdocs.hooks")
formulas = Formulas()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the chapters and the modules of the reference into the navigation, in their own order."""
    assert config.nav is not None
    config.theme.static_templates.discard("404.html")  # its links are absolute, and only a server would show it
    _extend(config.nav, "spec/index.md", [{chapters.numbered(name): f"spec/{name}"} for name in chapters.titles()])
    _extend(config.nav, "reference/index.md", [{name: _module_page(name)} for name in citations.modules()])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and what is taken from npm packages."""
    pages = {f"spec/{name}": chapters.page(name) for name in chapters.titles()}
    pages |= {_module_page(name): quotes.module(name) for name in citations.modules()}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    pages["contributing.md"] = contributing.replace("](docs/", "](")  # a page of the site lies in docs itself
    for path, text in (pages | measured.files()).items():
        files.append(File.generated(config, path, content=text))
    unlisted = {f"cases/{case.id}.md": cases.page(case) for case in load_cases()} | moved.pages(chapters.titles())
    for path, text in unlisted.items():
        page = File.generated(config, path, content=text)
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    files.append(File.generated(config, "assets/explorer.js", content=explorer.script()))
    for place, source in vendor.files(NODE_MODULES).items():
        files.append(File.generated(config, f"assets/vendor/{place}", abs_src_path=str(source)))
    sheet = ROOT / "tests/regionloss_suite/reports/pictures.css"
    files.append(File.generated(config, f"assets/{sheet.name}", abs_src_path=str(sheet)))
    for clause in lock.unlocked(load_clauses(), lock.LOCK.read_text(encoding="utf-8")):
        log.warning("%s has changed since its cases were last looked at: see `make lock`", clause)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace what stands in a page as a comment of its own line.

    - `<!-- insert: part -->` by a part that is made,
    - `<!-- file: path as name -->` by a file of the repository,
    - `<!-- lines: pattern of command -->` by the lines of what a command prints that hold a pattern.
    """

    def replace(match: re.Match[str]) -> str:
        try:
            return textwrap.indent(_inserted(match[2], match[3]), match[1])
        except (OSError, ValueError) as error:
            raise PluginError(f"{page.file.src_uri}: {match[0].strip()}: {error}") from error

    return _INSERT.sub(replace, markdown)


def _inserted(kind: str, what: str) -> str:
    if kind == "lines":
        pattern, _, command = what.partition(" of ")
        return f'```text title="{command}"\n{lines(command, pattern)}\n```'
    if kind == "file":
        path, _, name = what.partition(" as ")
        text = (ROOT / path).read_text(encoding="utf-8").rstrip()
        language = {".mjs": "javascript", ".py": "python", ".sh": "bash"}.get(Path(path).suffix, Path(path).suffix[1:])
        return f'```{language} title="{name or path}"\n{text}\n```'
    if what not in _PARTS:
        raise ValueError(f"there is no such part; there are {', '.join(_PARTS)}")
    return _PARTS[what]()


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link what has a place, and take the formulas out."""
    return formulas.take_out(linked(html, page.file.url))


def on_env(env: Any, config: MkDocsConfig, files: Files) -> None:
    """Draw the formulas of all pages."""
    try:
        formulas.draw(Path(__file__).with_name("katex.mjs"), NODE_MODULES / "katex/dist/katex.mjs")
    except ValueError as error:
        raise PluginError(str(error)) from error


def on_post_page(html: str, page: Page, config: MkDocsConfig) -> str:
    """Put the formulas in."""
    return formulas.put_in(html)


def _module_page(module: str) -> str:
    return f"reference/{module.removesuffix('.py')}.md"


def _extend(nav: list[Any], after: str, entries: list[dict[str, str]]) -> None:
    """Put entries behind the page that stands somewhere in the navigation."""
    for item in nav:
        below = next(iter(item.values())) if isinstance(item, dict) else None
        if isinstance(below, list):
            at = next((n for n, entry in enumerate(below) if after in (entry, *_values(entry))), None)
            if at is not None:
                below[at + 1 : at + 1] = entries
                return
    raise PluginError(f"mkdocs.yml: {after} is nowhere in the navigation")


def _values(entry: Any) -> tuple[Any, ...]:
    return tuple(entry.values()) if isinstance(entry, dict) else ()

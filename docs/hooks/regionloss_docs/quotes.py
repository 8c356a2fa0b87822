"""What pages quote: the tutorial formula and the truth table of the chapters, and the modules of the reference."""

from __future__ import annotations

import ast
import re

from regionloss_docs.citations import implementations, source
from regionloss_docs.citations import modules as reference_modules
from regionloss_docs.places import clause_url, folded, link
from regionloss_spec.clause import chapters


def formula() -> str:
    """The tutorial formula, as the first chapter has it."""
    return _found("00-the-loss.md", r"^\$\$.+?\$\$$")


def truth_table() -> str:
    """The truth table of the first chapter."""
    return _found("00-the-loss.md", r"^\| some truth .+?(?=\n\n)")


def module(name: str) -> str:
    """The page of a module of the reference: the clauses that it implements, and its text with numbered lines."""
    clauses = [clause for clause, excerpts in implementations().items() if any(one.module == name for one in excerpts)]
    here = f"reference/{name.removesuffix('.py')}.html"
    named = folded([link(clause, clause_url(clause), here) for clause in clauses], 12)
    return "\n".join(
        [
            "---",
            "hide: [toc]",
            "---",
            "",
            f"# {name}",
            "",
            f'<div class="named-list">Implements {named}</div>',
            "",
            '<div data-search-exclude markdown="1">',
            "",
            '```python linenums="1"',
            source(name).rstrip(),
            "```",
            "",
            "</div>",
            "",
        ]
    )


def modules() -> str:
    """The list of the modules of the reference, Markdown."""
    lines = ["| module | what it holds |", "| --- | --- |"]
    for name in reference_modules():
        summary = (ast.get_docstring(ast.parse(source(name))) or "").partition("\n\n")[0].replace("\n", " ")
        lines.append(f"| [`{name}`]({name.removesuffix('.py')}.md) | {summary} |")
    return "\n".join(lines) + "\n"


def _found(chapter: str, pattern: str) -> str:
    (path,) = [path for path in chapters() if path.name == chapter]
    match = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if match is None:
        raise ValueError(f"{chapter}: nothing looks like {pattern}")
    return match[0] + "\n"

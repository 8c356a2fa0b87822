"""What is done to the HTML of every page: words that have a place become links, formulas are taken out and put in."""

from __future__ import annotations

import json
import re
import subprocess
from html import escape, unescape
from pathlib import Path

from regionloss_docs.places import names, relative

_TAG = re.compile(r"(<[^>]+>)")
_ISSUE = re.compile(r"\b([A-Za-z0-9][\w.-]*/[\w.-]+)#(\d+)\b")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_TAKEN_OUT = re.compile(r'<(span|div) class="arithmatex" data-formula="(\d+)"[^>]*>.*?</\1>', re.DOTALL)
#: In these a link would be out of place.
_CLOSED = ("a", "pre", "h1", "h2", "h3", "script", "style", "svg", "summary")
_WORDS = {
    r"\\(?:mathrm|text|texttt|mathtt|operatorname)\{([^{}]*)\}": r"\1",
    r"\\(?:d|t)?frac\{?([^{}])\}?\{?([^{}])\}?": r"\1/\2",
    r"\\([{}%_])": r"\1",
    r"\\sigma": "σ",
    r"\\lambda": "λ",
    r"\\partial": "∂",
    r"\\sum": "Σ",
    r"\\le(?:q)?\b": "≤",
    r"\\ge(?:q)?\b": "≥",
    r"\\ne\b": "≠",
    r"\\times|\\cdot": "·",
    r"\\infty": "∞",
    r"\\hat\s*\{?(\w)\}?": r"\1",
    r"\\[,;!: ]|\\q?quad": " ",
    r"\\([a-zA-Z]+)": r"\1",
    r"[{}]": "",
}


def linked(html: str, here: str) -> str:
    """A page in which the ids of clauses, cases and mutants that stand as code, and issues on GitHub, are links."""
    parts = _TAG.split(html)
    open_tags: list[str] = []
    for at, part in enumerate(parts):
        if at % 2:
            name = re.match(r"</?([a-zA-Z0-9]+)", part)
            if name and name[1] in _CLOSED:
                if part.startswith("</"):
                    if name[1] in open_tags:
                        open_tags.remove(name[1])
                elif not part.endswith("/>"):
                    open_tags.append(name[1])
        elif open_tags:
            continue
        elif parts[at - 1 : at] == ["<code>"]:
            if (url := names().get(unescape(part))) is not None:
                parts[at - 1] = f'<a class="named" href="{escape(relative(url, here))}"><code>'
                parts[at + 1] = "</code></a>"
        else:
            parts[at] = _ISSUE.sub(r'<a href="https://github.com/\1/issues/\2">\1#\2</a>', part)
    return "".join(parts)


class Formulas:
    """The formulas of all pages: taken out for the search index, drawn at once, and put in again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bool], int] = {}
        self._drawn: list[str] = []

    def take_out(self, html: str) -> str:
        """A page in which each formula is a number and a few readable words."""

        def replace(match: re.Match[str]) -> str:
            tag, kind, tex = match[1], match[2], unescape(match[3]).strip()
            number = self._known.setdefault((tex, kind == "["), len(self._known))
            left_out = " data-search-exclude" if kind == "[" else ""
            return f'<{tag} class="arithmatex" data-formula="{number}"{left_out}>{escape(spoken(tex))}</{tag}>'

        return _FORMULA.sub(replace, html)

    def draw(self, script: Path, katex: Path) -> None:
        """Let KaTeX draw what was taken out. Raises `ValueError` with the formula that it cannot draw."""
        given = [{"tex": tex, "display": display} for tex, display in self._known]
        done = subprocess.run(
            ["node", str(script), str(katex)], input=json.dumps(given), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(f"KaTeX cannot draw a formula: {done.stderr.strip()}")
        self._drawn = json.loads(done.stdout)

    def put_in(self, html: str) -> str:
        """The page with its formulas drawn."""
        return _TAKEN_OUT.sub(
            lambda match: f'<{match[1]} class="formula">{self._drawn[int(match[2])]}</{match[1]}>', html
        )


def spoken(tex: str) -> str:
    """A formula in readable characters, as the search index has it."""
    for pattern, words in _WORDS.items():
        tex = re.sub(pattern, words, tex)
    return re.sub(r"\s+", " ", tex).strip()

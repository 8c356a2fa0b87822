"""The clauses, read out of the chapters: the Markdown is the only list there is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from regionloss_spec.profile import AXES, Profile, axis_values

_FOLDER = Path(__file__).with_name("chapters")
_HEADING = re.compile(r"^### `([a-z0-9.-]+)`$")
_KEY = re.compile(r"^- (level|axis|source|seen in|untestable): (.+)$")
_GRADIENT = re.compile(
    r"^gradient ((?:any|xy|wh|o|c)(?: (?:xy|wh|o|c))*)"
    r" at ((?:any|responsible|ignored|no-object)(?: (?:responsible|ignored|no-object))*)$"
)
_ANSWERS = ("structural zeros", "indicator", "potential", "printed cost", "statistics", "error", "everything")

BLOCKS = ("xy", "wh", "o", "c")
STATES = ("responsible", "ignored", "no-object")
TERMS = ("no_object", "prior", "coord", "object", "class")


class ClauseError(ValueError):
    """A chapter that cannot be read: the message names the file, the clause and the line at fault."""


@dataclass(frozen=True)
class View:
    """One answer in which a clause is visible.

    `answer` is `gradient`, `structural zeros`, `term`, `indicator`, `potential`, `printed cost`, `statistics`, `error`
    or `everything`; a gradient view names channel blocks and predictor states, a term view the term.
    """

    answer: str
    blocks: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    term: str = ""

    @property
    def broad(self) -> bool:
        """Whether any departure at all shows in it, so that it cannot tell one clause from another."""
        return self.answer == "everything" or (self.blocks == BLOCKS and self.states == STATES)


@dataclass(frozen=True)
class Clause:
    """One requirement of the spec.

    Attributes:
        id: stable readable slug, never renumbered and never reused.
        level: `MUST`, `SHOULD` or `MAY`.
        axis: the profile axis it belongs to, or `None` for what every profile shares.
        values: the values of that axis for which it speaks; empty for a numeric axis, which it defines as a whole.
        source: where darknet, the paper or a port decides it.
        seen: the answers of an implementation in which it is visible.
        text: the requirement and its explanation, Markdown.
        formula: its first displayed formula, LaTeX, or an empty text.
        chapter: file name of its chapter.
        untestable: why nothing can test it, or an empty text.
    """

    id: str
    level: str
    axis: str | None
    values: tuple[object, ...]
    source: str
    seen: tuple[View, ...]
    text: str
    formula: str
    chapter: str
    untestable: str = ""

    def applies_to(self, profile: Profile) -> bool:
        """Whether this clause binds a loss that claims the profile."""
        return self.axis is None or not self.values or getattr(profile, self.axis) in self.values


@cache
def load_clauses() -> dict[str, Clause]:
    """All clauses in the order of the chapters, by id. Raises `ClauseError` for a chapter that cannot be read."""
    clauses: dict[str, Clause] = {}
    for path in chapters():
        for clause in read_chapter(path.name, path.read_text(encoding="utf-8")):
            if clause.id in clauses:
                raise ClauseError(f"{path.name}: {clause.id} already stands in {clauses[clause.id].chapter}")
            clauses[clause.id] = clause
    return clauses


def chapters() -> list[Path]:
    """The Markdown files of the spec, in reading order."""
    return sorted(_FOLDER.glob("*.md"))


def read_chapter(name: str, text: str) -> list[Clause]:
    """The clauses of one chapter, given its file name and its Markdown text."""
    found: list[tuple[str, list[str]]] = []
    body: list[str] | None = None
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            body = []
            found.append((heading[1], body))
        elif re.match(r"^#{1,3} ", line):
            body = None
        elif body is not None:
            body.append(line)
    return [_clause(name, slug, lines) for slug, lines in found]


def _clause(chapter: str, slug: str, lines: list[str]) -> Clause:
    where = f"{chapter}: {slug}"
    keys: dict[str, str] = {}
    rest = [*lines]
    while rest and (not rest[0].strip() or rest[0].startswith("- ")):
        line = rest.pop(0)
        match = _KEY.match(line)
        if match:
            keys[match[1]] = match[2].strip()
        elif line.strip():
            raise ClauseError(f"{where}: unknown line {line!r} before the text")
    for key in ("level", "axis", "source"):
        if key not in keys:
            raise ClauseError(f"{where}: no '- {key}:' line")
    text = "\n".join(rest).strip()
    if keys["level"] not in ("MUST", "SHOULD", "MAY") or keys["level"] not in text:
        raise ClauseError(f"{where}: level {keys['level']!r} is not MUST, SHOULD or MAY, or its text lacks the word")
    untestable = keys.get("untestable", "")
    if ("seen in" in keys) == bool(untestable):
        raise ClauseError(f"{where}: needs either '- seen in:' or '- untestable:'")
    axis, values = _axis(where, keys["axis"])
    formula = re.search(r"\$\$(.+?)\$\$", text, re.DOTALL)
    views = tuple(_view(where, item) for item in keys["seen in"].split("; ")) if "seen in" in keys else ()
    return Clause(
        id=slug,
        level=keys["level"],
        axis=axis,
        values=values,
        source=keys["source"],
        seen=views,
        text=text,
        formula=formula[1].strip() if formula else "",
        chapter=chapter,
        untestable=untestable,
    )


def _axis(where: str, text: str) -> tuple[str | None, tuple[object, ...]]:
    if text == "none":
        return None, ()
    axis, _, listed = text.partition(" = ")
    if axis not in AXES:
        raise ClauseError(f"{where}: unknown axis {axis!r}")
    known = {str(value): value for value in axis_values(axis)}
    named = [value.strip() for value in listed.split("|")] if listed else []
    for value in named:
        if value not in known:
            raise ClauseError(f"{where}: axis {axis} has no value {value!r}")
    return axis, tuple(known[value] for value in named)


def _view(where: str, item: str) -> View:
    gradient = _GRADIENT.match(item)
    if gradient:
        blocks = BLOCKS if gradient[1] == "any" else tuple(gradient[1].split())
        states = STATES if gradient[2] == "any" else tuple(gradient[2].split())
        return View("gradient", blocks, states)
    if item.startswith("term ") and item[5:] in TERMS:
        return View("term", term=item[5:])
    if item in _ANSWERS:
        return View(item)
    raise ClauseError(f"{where}: cannot read {item!r} of 'seen in'")

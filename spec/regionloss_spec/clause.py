"""The clauses, read out of the chapters: the Markdown is the only list there is.

A clause is laid out in this order, its parts separated by blank lines:

    ### `id`
    the normative sentences, in which its level stands exactly once
    $$formulas$$
    > **Note:** what explains it and requires nothing
    - level: MUST, and the other keys
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from regionloss_spec.profile import AXES, Profile, axis_values

_FOLDER = Path(__file__).with_name("chapters")
_HEADING = re.compile(r"^### `([a-z0-9.-]+)`$")
_KEY = re.compile(r"^- (level|axis|source|seen in|untestable|follows from): (.+)$")
_KEYWORD = re.compile(r"\b(?:MUST|SHOULD|MAY)\b")
_FORMULA = re.compile(r"^\$\$(.+?)\$\$$", re.DOTALL | re.MULTILINE)
_NOTE = "**Note:** "
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
    """One part of an answer in which a clause shows.

    `answer` is `gradient`, `structural zeros`, `term`, `indicator`, `potential`, `printed cost`, `statistics`, `error`
    or `everything`; a gradient view names channel blocks and predictor states, a term view the term.
    """

    answer: str
    blocks: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    term: str = ""

    @property
    def broad(self) -> bool:
        """Whether every deviation shows in it, so that it cannot tell one clause from another."""
        return self.answer == "everything" or (self.blocks == BLOCKS and self.states == STATES)

    def __str__(self) -> str:
        if self.answer == "term":
            return f"term {self.term}"
        if self.answer != "gradient":
            return self.answer
        blocks, states = (
            "any" if named == known else " ".join(named)
            for named, known in ((self.blocks, BLOCKS), (self.states, STATES))
        )
        return f"gradient {blocks} at {states}"


@dataclass(frozen=True)
class Clause:
    """One clause of the spec: a requirement, or a consequence of others that deserves a name.

    Attributes:
        id: stable readable slug, never renumbered and never reused.
        level: `MUST`, `SHOULD` or `MAY`.
        axis: the profile axis it belongs to, or `None` for what every profile shares.
        values: the values of that axis for which it speaks; empty for a numeric axis, which it defines as a whole.
        source: where darknet, the paper or a port decides it.
        seen: the parts of an answer that show whether an implementation follows it.
        text: norm, formulas and note as they stand in the chapter, Markdown.
        norm: the normative sentences, Markdown; its level stands in them exactly once.
        formulas: its displayed formulas, LaTeX; they are normative too.
        note: what explains it and requires nothing, Markdown, or an empty text.
        chapter: file name of its chapter.
        follows_from: the ids of the clauses whose consequence it is; empty for a requirement of its own.
        untestable: why nothing can test it, or an empty text.
    """

    id: str
    level: str
    axis: str | None
    values: tuple[object, ...]
    source: str
    seen: tuple[View, ...]
    text: str
    norm: str
    formulas: tuple[str, ...]
    note: str
    chapter: str
    follows_from: tuple[str, ...] = ()
    untestable: str = ""

    @property
    def formula(self) -> str:
        """Its first displayed formula, LaTeX, or an empty text."""
        return self.formulas[0] if self.formulas else ""

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
                raise ClauseError(f"{path.name}: {clause.id} is already in {clauses[clause.id].chapter}")
            clauses[clause.id] = clause
    check_consequences(clauses)
    return clauses


def check_consequences(clauses: dict[str, Clause]) -> None:
    """Refuse a clause that follows from one that does not exist, or from itself over however many others."""
    for clause in clauses.values():
        where = f"{clause.chapter}: {clause.id}"
        reached, left = set[str](), [*clause.follows_from]
        while left:
            origin = left.pop()
            if origin not in clauses:
                raise ClauseError(f"{where}: follows from {origin!r}, which is no clause")
            if origin == clause.id:
                raise ClauseError(f"{where}: follows from itself")
            if origin not in reached:
                reached.add(origin)
                left += clauses[origin].follows_from


def chapters() -> list[Path]:
    """The Markdown files of the spec, in reading order."""
    return sorted(_FOLDER.glob("*.md"))


def read_chapter(name: str, text: str) -> list[Clause]:
    """The clauses of one chapter, given its file name and its Markdown text."""
    sections: list[tuple[str, list[str]]] = []
    body: list[str] | None = None
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            body = []
            sections.append((heading[1], body))
        elif re.match(r"^#{1,3} ", line):
            body = None
        elif body is not None:
            body.append(line)
    return [_clause(name, slug, lines) for slug, lines in sections]


def _clause(chapter: str, slug: str, lines: list[str]) -> Clause:
    where = f"{chapter}: {slug}"
    keys, body = _keys(where, lines)
    for key in ("level", "axis", "source"):
        if key not in keys:
            raise ClauseError(f"{where}: no '- {key}:' line")
    norm, formulas, note = _parts(where, body)
    if keys["level"] not in ("MUST", "SHOULD", "MAY") or _KEYWORD.findall(norm) != [keys["level"]]:
        raise ClauseError(f"{where}: level {keys['level']!r} is not MUST, SHOULD or MAY, or not once in its sentences")
    if _KEYWORD.search(note):
        raise ClauseError(f"{where}: its note requires something")
    untestable = keys.get("untestable", "")
    if ("seen in" in keys) == bool(untestable):
        raise ClauseError(f"{where}: needs either '- seen in:' or '- untestable:'")
    axis, values = _axis(where, keys["axis"])
    views = tuple(_view(where, item) for item in keys["seen in"].split("; ")) if "seen in" in keys else ()
    return Clause(
        id=slug,
        level=keys["level"],
        axis=axis,
        values=values,
        source=keys["source"],
        seen=views,
        text=body,
        norm=norm,
        formulas=formulas,
        note=note,
        chapter=chapter,
        follows_from=tuple(re.findall(r"`([^`]+)`", keys.get("follows from", ""))),
        untestable=untestable,
    )


def _keys(where: str, lines: list[str]) -> tuple[dict[str, str], str]:
    """The keys of a clause and the text before them; what stands behind the keys belongs to the chapter."""
    first = next((at for at, line in enumerate(lines) if _KEY.match(line)), len(lines))
    keys: dict[str, str] = {}
    for line in itertools.takewhile(str.strip, lines[first:]):
        match = _KEY.match(line)
        if match is None:
            raise ClauseError(f"{where}: unknown line {line!r} among its keys")
        keys[match[1]] = match[2].strip()
    return keys, "\n".join(lines[:first]).strip()


def _parts(where: str, body: str) -> tuple[str, tuple[str, ...], str]:
    """The normative sentences, the formulas and the note of the text of a clause."""
    before, marked, note = body.partition(f"> {_NOTE}")
    quoted = f"{marked}{note}".splitlines()
    if any(not line.startswith(">") for line in quoted):
        raise ClauseError(f"{where}: its note is followed by something else than its keys")
    formulas = tuple(formula.strip() for formula in _FORMULA.findall(before))
    norm = re.sub(r"\n{3,}", "\n\n", _FORMULA.sub("", before)).strip()
    note = "\n".join(line.removeprefix(">").removeprefix(" ") for line in quoted)
    return norm, formulas, note.removeprefix(_NOTE)


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

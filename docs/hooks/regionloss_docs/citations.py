"""The lines of the reference that implement a clause: those that cite it, in a docstring, a comment or an error."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import regionloss
from regionloss_spec import load_clauses

REFERENCE = Path(regionloss.__file__).parent
_CITED = re.compile(r"`([a-z0-9]+\.[a-z0-9-]+)`")


@dataclass(frozen=True, order=True)
class Excerpt:
    """Consecutive lines of a module of the reference, the first and the last counted from 1."""

    module: str
    first: int
    last: int

    @property
    def lines(self) -> list[str]:
        """The lines themselves."""
        return source(self.module).splitlines()[self.first - 1 : self.last]

    def holds(self, other: Excerpt) -> bool:
        """Whether the other one is a part of this one."""
        return self.module == other.module and self.first <= other.first and other.last <= self.last


def modules() -> list[str]:
    """The modules of the NumPy reference, by their paths in its package; the losses of PyTorch are not of it."""
    paths = [path.relative_to(REFERENCE) for path in REFERENCE.rglob("*.py")]
    return sorted(path.as_posix() for path in paths if path.parts[0] not in ("torch", "__init__.py"))


@cache
def source(module: str) -> str:
    """The text of a module of the reference."""
    return (REFERENCE / module).read_text(encoding="utf-8")


@cache
def implementations() -> dict[str, list[Excerpt]]:
    """For each clause the excerpts that cite it; an excerpt inside another one is left out."""
    excerpts: dict[str, list[Excerpt]] = {clause: [] for clause in load_clauses()}
    for module in modules():
        for clause, first, last in cited(source(module)):
            if clause in excerpts:
                excerpts[clause].append(Excerpt(module, first, last))
    return {clause: _outermost(listed) for clause, listed in excerpts.items()}


def cited(text: str) -> Iterator[tuple[str, int, int]]:
    """Every citation of a clause in a module, with the first and the last line of what it stands for.

    - A docstring that cites in its first paragraph stands for the whole function or class, one of a module for itself.
    - An entry of a docstring, such as that of an argument, stands for itself.
    - A comment stands for the statement that it is written beside or above.
    - A text that is nothing but the id of a clause, as an error names it, stands for the statement that decides on it.
    """
    tree = ast.parse(text)
    lines = text.splitlines()
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield from _in_docstring(node, lines)
        elif isinstance(node, ast.Constant) and node.value in load_clauses():
            statement = _statement(node, parents)
            yield str(node.value), statement.lineno, _last(statement)
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            for clause in _CITED.findall(token.string):
                yield clause, *_beside(token.start[0], lines, statements)


def _in_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef, lines: list[str]
) -> Iterator[tuple[str, int, int]]:
    if ast.get_docstring(node) is None:
        return
    docstring = node.body[0]
    first, last = docstring.lineno, _last(docstring)
    paragraph = next((n for n in range(first, last) if not lines[n].strip()), last)
    for number in range(first, last + 1):
        for clause in _CITED.findall(lines[number - 1]):
            if isinstance(node, ast.Module):
                yield clause, first, last
            elif number <= paragraph:
                yield clause, node.lineno, _last(node)
            else:
                yield clause, *_entry(number, last, lines, docstring.col_offset + 4)


def _entry(number: int, last: int, lines: list[str], indent: int) -> tuple[int, int]:
    """The entry of a docstring that a line belongs to; the lines that continue it are indented further."""
    first = end = number
    while _indent(lines[first - 1]) > indent:
        first -= 1
    while end < last and _indent(lines[end]) > indent:
        end += 1
    return first, end


def _beside(number: int, lines: list[str], statements: list[ast.stmt]) -> tuple[int, int]:
    """The lines of the statement that a comment is written beside or, standing alone, above."""
    first = number
    if lines[number - 1].lstrip().startswith("#"):
        while lines[number - 1].lstrip().startswith("#"):
            number += 1
        statement = min((one for one in statements if one.lineno >= number), key=lambda one: one.lineno)
        return first, _last(statement)
    around = [one for one in statements if one.lineno <= number <= _last(one)]
    statement = max(around, key=lambda one: one.lineno)
    return statement.lineno, _last(statement)


def _statement(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> ast.stmt:
    while not isinstance(node, ast.stmt) or isinstance(node, ast.Raise):
        node = parents[node]
    return node


def _last(node: ast.stmt | ast.Module) -> int:
    assert not isinstance(node, ast.Module)
    assert node.end_lineno is not None
    return node.end_lineno


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 0


def _outermost(excerpts: list[Excerpt]) -> list[Excerpt]:
    different = sorted(set(excerpts))
    return [one for one in different if not any(other != one and other.holds(one) for other in different)]

"""The site shows each clause with the lines that implement it, and no clause changes behind the back of its cases."""

from __future__ import annotations

import dataclasses

import pytest

from regionloss_docs import moved
from regionloss_docs.chapters import titles
from regionloss_docs.citations import Excerpt, cited, implementations, source
from regionloss_docs.places import clause_url
from regionloss_spec import load_clauses
from regionloss_spec.lock import LOCK, digest, unlocked

CLAUSES = load_clauses()
CLAUSE = CLAUSES["noobj.equality"]

#: What no line does: the one permits a division that the reference does not make, the other is about running twice.
NOWHERE = {"scale.framework-mean", "numerics.repeatability"}


def test_every_clause_is_implemented_by_lines_that_name_it() -> None:
    missing = {clause for clause, excerpts in implementations().items() if not excerpts}
    assert missing == NOWHERE


def test_an_excerpt_names_its_clause() -> None:
    for clause, excerpts in implementations().items():
        for excerpt in excerpts:
            assert clause in "\n".join(excerpt.lines), (clause, excerpt)


def test_an_excerpt_is_not_shown_inside_another() -> None:
    for excerpts in implementations().values():
        for one in excerpts:
            assert not any(other.holds(one) for other in excerpts if other != one)


def test_an_excerpt_is_a_part_of_its_module() -> None:
    excerpt = Excerpt("boxes.py", 1, 2)
    assert excerpt.lines == source("boxes.py").splitlines()[:2]


TEXT = '''"""A module (`iou.definition`)."""

SIZE = 1  # `decode.size`


def centre(t):
    """The centre (`decode.centre`).

    Args:
        t: what comes, in the
            units of `notation.truth-units`.
    """
    # `assign.cell`
    cell = int(
        t
    )
    if cell < 0:
        raise ValueError("domain.centre", cell)
    return cell
'''


@pytest.mark.parametrize(
    ("clause", "first", "last"),
    [
        ("iou.definition", 1, 1),
        ("decode.size", 3, 3),
        ("decode.centre", 6, 19),
        ("notation.truth-units", 10, 11),
        ("assign.cell", 13, 16),
        ("domain.centre", 17, 18),
    ],
)
def test_a_citation_stands_for_what_it_is_written_at(clause: str, first: int, last: int) -> None:
    assert (clause, first, last) in list(cited(TEXT))


def test_no_clause_changed_since_its_cases_were_looked_at() -> None:
    changed = unlocked(CLAUSES, LOCK.read_text(encoding="utf-8"))
    assert not changed, f"look at the cases of {', '.join(changed)}, then run `make lock`"


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": CLAUSE.norm + " Or not."},
        {"formulas": ("1 = 2",)},
        {"level": "MAY"},
        {"axis": None},
        {"values": ("none",)},
    ],
)
def test_what_a_clause_requires_is_locked(changes: dict[str, object]) -> None:
    changed = dataclasses.replace(CLAUSE, **changes)  # type: ignore[arg-type]
    assert digest(changed) != digest(CLAUSE)
    assert unlocked({CLAUSE.id: changed}, f"{CLAUSE.id} {digest(CLAUSE)}\n") == [CLAUSE.id]


def test_line_breaks_the_note_and_the_source_of_a_clause_are_free() -> None:
    moved = dataclasses.replace(CLAUSE, norm=CLAUSE.norm.replace(" ", "\n"), note="Asked often.", source="elsewhere")
    assert digest(moved) == digest(CLAUSE)


def test_a_clause_that_came_or_went_is_unlocked() -> None:
    assert unlocked({CLAUSE.id: CLAUSE}, "") == [CLAUSE.id]
    assert unlocked({}, f"{CLAUSE.id} {digest(CLAUSE)}\n") == [CLAUSE.id]


#: The families of clauses whose chapters kept their addresses.
UNMOVED = {"assign", "noobj", "prior", "coord", "object", "class"}


def test_the_former_address_of_a_clause_leads_to_it() -> None:
    pages = "\n".join(moved.pages(titles()).values())
    clauses = [clause for clause in CLAUSES if clause.partition(".")[0] not in UNMOVED]
    assert len(clauses) > 60
    for clause in clauses:
        here = f'<li id="{clause}"><a href="{clause_url(clause).removeprefix("spec/")}">'
        assert here in pages

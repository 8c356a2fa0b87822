"""The chapters, the profiles and the cases hold together."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import regionloss_spec
from regionloss_spec import AXES, ClauseError, ProfileError, load_cases, load_clauses, load_profile, profile_names
from regionloss_spec.clause import chapters, check_consequences, read_chapter
from regionloss_spec.profile import UNDEFINED, axis_values

CLAUSES = load_clauses()
CASES = load_cases()


def test_every_axis_is_defined_by_a_clause() -> None:
    assert {clause.axis for clause in CLAUSES.values()} - {None} == set(AXES)


@pytest.mark.parametrize("axis", [axis for axis in AXES if axis_values(axis)])
def test_every_value_of_an_axis_is_defined_by_a_clause(axis: str) -> None:
    named = {value for clause in CLAUSES.values() if clause.axis == axis for value in clause.values}
    assert named == set(axis_values(axis))


@pytest.mark.parametrize(
    "clause", [clause for clause in CLAUSES.values() if clause.level == "MUST"], ids=lambda clause: clause.id
)
def test_every_must_has_a_case(clause: object) -> None:
    assert [case.id for case in CASES if clause.id in case.clauses]  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_pins_clauses_that_exist_and_apply(case: object) -> None:
    for slug in case.clauses:  # type: ignore[attr-defined]
        assert slug in CLAUSES
        assert CLAUSES[slug].applies_to(case.profile), slug  # type: ignore[attr-defined]
    assert case.clauses  # type: ignore[attr-defined]
    assert case.title.endswith((".", "?"))  # type: ignore[attr-defined]


ROOT = Path(regionloss_spec.__file__).parents[2]
CITING = {".md", ".py", ".mjs", ".json", ".toml", ".h", ".cpp"}


@pytest.mark.parametrize("folder", ["spec", "reference", "adapters", "tests", "docs"])
def test_every_clause_that_is_cited_exists(folder: str) -> None:
    families = {slug.partition(".")[0] for slug in CLAUSES}
    cited = [
        (path.relative_to(ROOT).as_posix(), slug)
        for path in (ROOT / folder).rglob("*")
        if path.suffix in CITING
        for slug in re.findall(r"`([a-z0-9]+\.[a-z0-9-]+)`", path.read_text(encoding="utf-8"))
        if slug.partition(".")[0] in families
    ]
    assert cited
    assert [(path, slug) for path, slug in cited if slug not in CLAUSES] == []


def test_the_formula_of_a_clause_is_read() -> None:
    assert "MaxIOU" in CLAUSES["noobj.equality"].formula
    assert CLAUSES["noobj.equality"].chapter == "05-no-object.md"


CHAPTER = """# Chapter
### `a.b`

It MUST hold.

$$a = b$$

> **Note:** It does.
>
> And always did.

- level: MUST
- axis: ignore = above
- source: darknet
- seen in: gradient o at responsible; term object
- follows from: `a.a`, `a.c`

Prose between clauses.
"""


def test_a_clause_is_read_whole() -> None:
    (clause,) = read_chapter("x.md", CHAPTER + "## Next\n\nprose\n")
    assert (clause.id, clause.level, clause.axis, clause.values) == ("a.b", "MUST", "ignore", ("above",))
    assert clause.text.startswith("It MUST hold.\n\n$$a = b$$\n\n> **Note:**")
    assert (clause.norm, clause.formulas, clause.note) == ("It MUST hold.", ("a = b",), "It does.\n\nAnd always did.")
    assert clause.follows_from == ("a.a", "a.c")
    assert [view.answer for view in clause.seen] == ["gradient", "term"]


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("- level: MUST\n", "", "no '- level:' line"),
        ("- level: MUST", "- level: SHALL", "not MUST, SHOULD or MAY"),
        ("It MUST hold.", "It holds.", "not once in its sentences"),
        ("It MUST hold.", "It MUST hold. It MUST NOT fail.", "not once in its sentences"),
        ("It does.", "It MAY fail.", "its note requires something"),
        ("> And always did.", "And always did.", "followed by something else than its keys"),
        ("- axis: ignore = above", "- axis: ignore = sometimes", "no value 'sometimes'"),
        ("- axis: ignore = above", "- axis: weather", "unknown axis 'weather'"),
        ("- seen in: gradient o at responsible; term object\n", "", "needs either"),
        ("term object", "term beauty", "cannot read 'term beauty'"),
        ("gradient o at responsible", "gradient q at responsible", "cannot read"),
        ("- source: darknet", "- sauce: darknet", "unknown line '- sauce: darknet'"),
    ],
)
def test_a_broken_clause_names_itself_and_the_line(line: str, instead: str, message: str) -> None:
    assert line in CHAPTER
    with pytest.raises(ClauseError, match=message) as caught:
        read_chapter("x.md", CHAPTER.replace(line, instead))
    assert "x.md: a.b" in str(caught.value)


def test_a_view_reads_as_it_is_written() -> None:
    for path in chapters():
        for line in re.findall(r"^- seen in: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            (clause,) = read_chapter("x.md", CHAPTER.replace("gradient o at responsible; term object", line))
            assert "; ".join(map(str, clause.seen)) == line


def test_a_clause_follows_from_others_and_not_from_itself() -> None:
    (clause,) = read_chapter("x.md", CHAPTER)

    def following(**origins: str) -> None:
        clauses = {
            f"a.{slug}": dataclasses.replace(
                clause, id=f"a.{slug}", follows_from=tuple(f"a.{origin}" for origin in listed)
            )
            for slug, listed in origins.items()
        }
        check_consequences(clauses)

    following(b="", c="b", d="bc")
    with pytest.raises(ClauseError, match=r"a\.b: follows from 'a\.x', which is no clause"):
        following(b="x")
    for circle in ({"b": "b"}, {"b": "c", "c": "b"}, {"b": "c", "c": "d", "d": "b"}):
        with pytest.raises(ClauseError, match="follows from itself"):
            following(**circle)


@pytest.mark.parametrize(("axis", "value", "other", "needed", "clause"), UNDEFINED)
def test_a_profile_that_no_clause_defines_is_refused(
    axis: str, value: str, other: str, needed: tuple[str, ...], clause: str
) -> None:
    assert re.search(rf"`{other}` = {' and '.join(needed)}\b", CLAUSES[clause].norm)
    beside = {row[2]: row[3][0] for row in UNDEFINED if row[:2] == (axis, value)}
    load_profile("darknet").replace(**{axis: value} | beside)
    for wrong in set(axis_values(other)) - set(needed):
        with pytest.raises(ProfileError, match=f"{axis} is '{value}', which needs {other}.*{clause}"):
            load_profile("darknet").replace(**{axis: value} | beside | {other: wrong})


def test_profiles_are_all_different() -> None:
    profiles = [load_profile(name) for name in profile_names()]
    for at, one in enumerate(profiles):
        for other in profiles[at + 1 :]:
            assert one.differences(other), f"{one.name} and {other.name}"


def test_darknet_comes_first_and_at_least_six_dialects_follow() -> None:
    own = {"darknet", "darknet-2016", "formula", "yolo9000"}
    assert profile_names()[0] == "darknet"
    assert own <= set(profile_names())
    assert len(set(profile_names()) - own) >= 6


def table_of(chapter: str, first: str) -> list[list[str]]:
    """The rows of the Markdown tables of a chapter whose first header cell is `first`."""
    rows: list[list[str]] = []
    inside = False
    (path,) = [path for path in chapters() if path.name == chapter]
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == first)
        if inside and cells[0] != first and not set(cells[0]) <= {"-", " "}:
            rows.append(cells)
    return rows


def test_the_table_of_axes_names_every_axis_value_and_clause() -> None:
    rows = {row[0].strip("`"): row for row in table_of("B-profiles.md", "axis")}
    assert list(rows) == list(AXES)
    for axis, (_, values, _, named) in rows.items():
        listed_values = re.findall(r"`([^`]+)`", values) or re.findall(r"[\d.½]+", values)
        default = getattr(load_profile("darknet"), axis)
        first = {"½": 0.5}.get(listed_values[0], listed_values[0])
        assert str(first) == str(default) or float(first) == default, axis
        if axis_values(axis) and isinstance(default, str):
            assert set(listed_values) == set(axis_values(axis))
        assert {CLAUSES[slug].axis for slug in re.findall(r"`([^`]+)`", named)} <= {axis, "class_collision"}


@pytest.mark.parametrize("first", ["profile", "dialect"])
def test_the_tables_of_profiles_say_what_differs(first: str) -> None:
    rows = table_of("B-profiles.md", first)
    assert rows
    for name, _, differs in rows:
        listed_values = dict(re.findall(r"`(\w+) = ([^`]+)`", differs))
        pairs = load_profile("darknet").differences(load_profile(name.strip("`")))
        assert set(listed_values) == set(pairs), name
        for axis, (_, value) in pairs.items():
            assert listed_values[axis] == str(value) or float(listed_values[axis]) == value, (name, axis)

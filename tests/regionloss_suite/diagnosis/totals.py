"""What a loss looks like that answers nothing but its sum: which terms, multiplied by one number, would explain it."""

from __future__ import annotations

from collections import Counter

from regionloss_spec.clause import TERMS
from regionloss_suite.oracle.comparison import Comparison

#: The terms that may be multiplied together, and what that is the sign of.
_GROUPS = {
    TERMS: frozenset({"all by one factor"}),
    tuple(term for term in TERMS if term != "class"): frozenset({"squares by one factor"}),
    ("no_object",): frozenset({"background factor"}),
    ("prior",): frozenset({"prior size factor", "prior size of ignored factor"}),
    ("coord",): frozenset({"centre factor", "size factor"}),
    ("object",): frozenset({"objectness factor"}),
    ("class",): frozenset({"class factor"}),
}
_UNKNOWN = frozenset({"another potential"})


def total_signs(sums: list[Comparison]) -> list[frozenset[str]]:
    """The signs of each of the cases whose potential departs: of the terms that explain most of them, if any do."""
    best: dict[int, float] = {}
    sign = _UNKNOWN
    for terms, known in _GROUPS.items():
        numbers = {at: number for at, asked in enumerate(sums) if (number := _number(asked, terms)) is not None}
        usual, count = Counter(numbers.values()).most_common(1)[0] if numbers else (0.0, 0)
        if count > max(1, len(best), len(sums) // 2):
            best, sign = {at: number for at, number in numbers.items() if number == usual}, known
    return [sign if at in best else _UNKNOWN for at in range(len(sums))]


def _number(asked: Comparison, terms: tuple[str, ...]) -> float | None:
    """What some terms would have to be multiplied by to give the answered potential, to four digits."""
    total = sum(asked.result.term_values[term] for term in terms)
    assert asked.answer.potential is not None
    apart = asked.answer.potential - asked.result.potential
    return float(f"{1 + apart / total:.4g}") if total else None

"""Mistakes that the catalogue of mutants does not have, each with the clauses that it breaks.

Nobody who works on the ranking of clauses chose them, and no rule of the ranking may be made for one of them: they
measure how often the first clause is right for a loss that its authors have never seen.
"""

from __future__ import annotations

from meta.unlisted import everywhere, framework, max_iou, memory, overlap, second_round, single_terms
from meta.unlisted.mistake import Mistake, MistakenAdapter

__all__ = ["Mistake", "MistakenAdapter", "mistakes"]


def mistakes() -> list[Mistake]:
    """All of them, kind by kind, and then those of the second round, which were written when the others were known."""
    return [
        *overlap.MISTAKES,
        *memory.MISTAKES,
        *max_iou.MISTAKES,
        *everywhere.MISTAKES,
        *framework.MISTAKES,
        *single_terms.MISTAKES,
        *second_round.MISTAKES,
    ]

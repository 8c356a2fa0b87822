"""What every clause required when somebody last looked at its cases, so that none changes without a look at them.

`python -m regionloss_spec.lock` rewrites the file and lists the cases of every clause that has changed.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from regionloss_spec.case import load_cases
from regionloss_spec.clause import Clause, load_clauses

LOCK = Path(__file__).with_name("clauses.lock")


def digest(clause: Clause) -> str:
    """Twelve digits that change with the level, the axis, the norm or a formula of a clause.

    They do not change with its line breaks, its note or its provenance, which require nothing.
    """
    required = " ".join([clause.norm, *clause.formulas])
    words = [clause.level, str(clause.axis), *map(str, clause.values), *required.split()]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]


def unlocked(clauses: dict[str, Clause], lock: str) -> list[str]:
    """The ids of the clauses that differ from the lock, are missing from it, or exist only in it."""
    locked = dict(line.split() for line in lock.splitlines())
    now = {clause.id: digest(clause) for clause in clauses.values()}
    return [clause for clause in {**now, **locked} if now.get(clause) != locked.get(clause)]


def main() -> int:
    """Write the lock, and name the cases of every clause that has changed; 0."""
    clauses, cases = load_clauses(), load_cases()
    for changed in unlocked(clauses, LOCK.read_text(encoding="utf-8") if LOCK.is_file() else ""):
        pinning = [case.id for case in cases if changed in case.clauses]
        print(f"{changed}: look at {', '.join(pinning) or 'nothing: no case pins it'}")
    lines = [f"{clause.id} {digest(clause)}\n" for clause in clauses.values()]
    LOCK.write_text("".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

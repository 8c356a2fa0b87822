"""Turn recordings of darknet into cases: `make bundle-recordings RECORDINGS=DIR`.

What darknet recorded stays as it is. The clauses, the indicators, the terms and the potential, which no recording
holds, come from the NumPy reference, and the case says so. The title of a case that is there already is kept.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from regionloss import evaluate
from regionloss_adapters.numpy_reference import indicators
from regionloss_spec import Case, load_case
from regionloss_spec.case_writer import write_case
from regionloss_spec.recording import load_folder
from regionloss_suite.oracle.coverage import clauses_reached


def completed(case: Case) -> Case:
    """A recording with everything that the reference adds to it."""
    result = evaluate(case.batch, case.profile)
    responsible, ignored = indicators(result.decisions)
    expected = dataclasses.replace(
        case.expected,
        responsible=responsible,
        ignored=ignored,
        terms=result.term_values,
        potential=result.potential,
        statistics=dataclasses.asdict(result.statistics),
        from_reference=("responsible", "ignored", "terms", "potential", "statistics"),
    )
    return dataclasses.replace(case, clauses=clauses_reached(result, case.batch.images_seen), expected=expected)


def main(recordings: Path, folder: Path) -> None:
    """Write a case for every recording."""
    for case in load_folder(recordings):
        there = folder / f"{case.id}.json"
        title = load_case(there).title if there.exists() else case.title
        write_case(dataclasses.replace(completed(case), title=title), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Read reports from their JSON, to show them in another format or to compare them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from regionloss_suite.judging.differences import MeasuredDifference, Unexplained
from regionloss_suite.judging.report import Report
from regionloss_suite.judging.verdict import Verdict

_SCHEMA = Path(__file__).with_name("report.schema.json")


class StoredReportError(ValueError):
    """A file that is not a report; the message names the file and the invalid field."""


def read_report(path: Path) -> Report:
    """The report in a JSON file written by `regionloss check --json`.

    Raises:
        StoredReportError: the file cannot be read, or is something else.
    """
    import jsonschema  # only runs that read a report need the validator

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoredReportError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StoredReportError(f"{path}: not JSON: {error}") from error
    problem = jsonschema.exceptions.best_match(_validator().iter_errors(data))
    if problem is not None:
        raise StoredReportError(f"{path}: not a report: {problem.json_path}: {problem.message[:200]}")
    return from_json(data)


def from_json(data: dict[str, Any]) -> Report:
    """The report in a valid JSON object; keys of a newer version are ignored."""
    return Report(
        adapter=data["adapter"],
        profile=data["profile"],
        cases=data["cases"],
        verdicts=[Verdict.from_json(entry) for entry in data["verdicts"]],
        crashes=data["crashes"],
        notes=tuple(data.get("notes", ())),
        stale=tuple(data.get("stale", ())),
        version=data["version"],
        differences=tuple(MeasuredDifference.from_json(entry) for entry in data.get("differences", ())),
        unexplained=Unexplained.from_json(data["unexplained"]) if data.get("unexplained") else None,
        formula=tuple(data.get("formula", ())),
        claimed=tuple(data.get("claimed", ())),
    )


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8")))

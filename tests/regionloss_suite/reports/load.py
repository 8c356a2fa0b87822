"""Reports read back from their JSON, to be shown in another form or compared with a later one."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from regionloss_suite.judging.report import Report
from regionloss_suite.judging.verdict import Verdict

_SCHEMA = Path(__file__).with_name("report.schema.json")


class StoredReportError(ValueError):
    """A file that is no report: the message names the file and the field at fault."""


def read_report(path: Path) -> Report:
    """The report of a JSON file that `regionloss check --json` wrote.

    Raises:
        StoredReportError: the file cannot be read, or is something else.
    """
    import jsonschema  # a run that reads no report needs no validator

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoredReportError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StoredReportError(f"{path}: not JSON: {error}") from error
    problem = jsonschema.exceptions.best_match(_validator().iter_errors(data))
    if problem is not None:
        raise StoredReportError(f"{path}: no report: {problem.json_path}: {problem.message[:200]}")
    return from_json(data)


def from_json(data: dict[str, Any]) -> Report:
    """The report that a valid JSON object holds; keys of a newer version are passed over."""
    return Report(
        adapter=data["adapter"],
        profile=data["profile"],
        cases=data["cases"],
        verdicts=[Verdict.from_json(entry) for entry in data["verdicts"]],
        crashes=data["crashes"],
        notes=tuple(data.get("notes", ())),
        stale=tuple(data.get("stale", ())),
        version=data["version"],
    )


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8")))

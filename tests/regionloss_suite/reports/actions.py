"""The report as outputs and summary of a step of GitHub Actions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from regionloss_suite.judging.report import Report
from regionloss_suite.reports import badge, markdown


def files(report: Report, environment: Mapping[str, str]) -> list[tuple[Path, str]]:
    """The text to append to each file; files that the environment does not name are left out.

    The outputs are `level`, as in the report, and `badge`, the endpoint badge on one line.
    """
    outputs = {"level": report.level, "badge": json.dumps(json.loads(badge.render(report)), ensure_ascii=False)}
    texts = {
        "GITHUB_OUTPUT": "".join(f"{name}={value}\n" for name, value in outputs.items()),
        "GITHUB_STEP_SUMMARY": markdown.render(report),
    }
    return [(Path(environment[name]), text) for name, text in texts.items() if environment.get(name)]


def append(path: Path, text: str) -> None:
    """Append text to a file that other steps may have started."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)

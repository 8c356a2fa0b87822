"""The report as a step of GitHub Actions hands it on: its outputs, and the page of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from regionloss_suite.judging.report import Report
from regionloss_suite.reports import badge, markdown


def files(report: Report, environment: Mapping[str, str]) -> list[tuple[Path, str]]:
    """What is to be added to which file; none of those that the environment does not name.

    The outputs are `level`, as in the report, and `badge`, the endpoint badge on one line.
    """
    outputs = {"level": report.level, "badge": json.dumps(json.loads(badge.render(report)), ensure_ascii=False)}
    texts = {
        "GITHUB_OUTPUT": "".join(f"{name}={value}\n" for name, value in outputs.items()),
        "GITHUB_STEP_SUMMARY": markdown.render(report),
    }
    return [(Path(environment[name]), text) for name, text in texts.items() if environment.get(name)]


def append(path: Path, text: str) -> None:
    """Add text to a file that other steps may have begun."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)

"""The report as an endpoint badge of shields.io."""

from __future__ import annotations

import json

from regionloss_suite.judging.report import CONFORMING, Report


def render(report: Report) -> str:
    """The JSON text for shields.io (https://shields.io/badges/endpoint-badge)."""
    expected = report.counts.get("expected", 0)
    message = report.outcome + (f", {expected} expected to deviate" if expected else "")
    met = report.exit_code == CONFORMING
    badge = {
        "schemaVersion": 1,
        "label": f"YOLOv2 loss, {report.profile}" if report.profile != "any" else "YOLOv2 loss",
        "message": message,
        "color": "red" if not met else "yellowgreen" if expected else "brightgreen",
    }
    return json.dumps(badge | ({} if met else {"isError": True}), indent=1, ensure_ascii=False) + "\n"

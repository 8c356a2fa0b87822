"""The report as a badge."""

from __future__ import annotations

import json

from regionloss_suite.reports import badge
from unit.suite.reports.made_up import (
    small,
)


def test_the_badge_says_what_was_found() -> None:
    red = json.loads(badge.render(small()))
    assert red == {
        "schemaVersion": 1,
        "label": "YOLOv2 loss, darknet",
        "message": "not conforming, 1 expected to deviate",
        "color": "red",
        "isError": True,
    }
    good = small()
    good.verdicts = [good.verdicts[0]]
    assert json.loads(badge.render(good))["color"] == "brightgreen"
    good.verdicts.append(small().verdicts[2])
    assert json.loads(badge.render(good))["color"] == "yellowgreen"

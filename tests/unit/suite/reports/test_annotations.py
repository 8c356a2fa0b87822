"""The report as annotations of GitHub Actions."""

from __future__ import annotations

import re

from regionloss_suite.reports.annotations import render as annotate
from unit.suite.reports.made_up import (
    CASE,
    hostile,
    small,
)


def test_annotations_are_one_line_each_and_decode_to_what_was_said() -> None:
    lines = annotate(hostile())
    assert len(lines) == 4
    for line in lines:
        command, title, message = re.fullmatch(r"::(error|warning) title=([^:,\r\n]*)::([^\r\n]*)", line).groups()  # type: ignore[union-attr]
        assert command in ("error", "warning")
        assert re.fullmatch(r"(?:[^%]|%(?:25|0A|0D|3A|2C))*", title + message)
        assert "\x1b" not in line
    assert "%0A%3A%3Aerror%3A%3A100%25%2C%0D" in lines[0]


def test_annotations_leave_out_what_is_hidden_and_weigh_by_level() -> None:
    lines = annotate(small())
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]
    assert lines[0].endswith(f"profile darknet-2016%0Afirst seen: case {CASE}%0Ahidden behind it: assign.cell")

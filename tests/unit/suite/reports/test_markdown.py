"""The report as a Markdown summary."""

from __future__ import annotations

import re

from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.reports import markdown
from regionloss_suite.reports.wording import sentence
from unit.suite.reports.made_up import (
    departure,
    hostile,
    small,
)


def test_the_markdown_summary_fits_a_screen_and_quotes_the_clause() -> None:
    assert markdown.render(small()) == (
        "### ❌ `mine:Loss` as `darknet`: not conforming\n"
        "\n"
        "6 clauses: 1 conforming, 2 deviating, 1 hidden, 1 expected, 1 not-answerable; 2 cases; regionloss `1.2.3`\n"
        "\n"
        "| clause | what it requires | what was found |\n"
        "| --- | --- | --- |\n"
        f"| ✗ `coord.small-box-weight` MUST | {sentence('coord.small-box-weight')} | `{departure()}`"
        "<br>`profile darknet-2016`<br>1 more is hidden behind it |\n"
        f"| ✗ `statistics.class` SHOULD | {sentence('statistics.class')} | `{departure()}` |\n"
    )
    many = small()
    many.verdicts = [small().verdicts[3]] * 30
    for number, verdict in enumerate(many.verdicts):
        many.verdicts[number] = Verdict(**{**vars(verdict), "clause": f"clause.{number}"})
    assert "… and 22 clauses deviate" in markdown.render(many)
    assert len(markdown.render(many).splitlines()) < 20


def test_markdown_keeps_foreign_words_inside_code_spans() -> None:
    text = markdown.render(hostile())
    for line in text.splitlines():
        outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", line)
        assert "script" not in outside
        assert "::" not in outside
    assert markdown.code("a`b|c") == r"``a`b\|c``"
    assert markdown.code("`a`") == "`` `a` ``"

"""The stored benchmarks as a part of their page and as files: the goals, the charts and every table."""

from __future__ import annotations

from pathlib import Path

from regionloss_suite.bench.chart import charts
from regionloss_suite.bench.results import read_results
from regionloss_suite.bench.summary import about_lines
from regionloss_suite.bench.tables import goals_table, setting_tables

_STORED = Path(__file__).resolve().parents[2] / "benchmarks" / "cpu.json"


def measured() -> str:
    """The Markdown of the run that is kept in the repository."""
    results = read_results(_STORED)
    goals = goals_table(results)
    assert goals is not None, f"{_STORED.name} is no run of the standard plan"
    lines = [f"- {line}" for line in about_lines(results)]
    lines += ["", *goals.markdown(), ""]
    for chart in charts(results):
        lines += [f"![{chart.alternative}](assets/benchmarks-{chart.name}.svg)", ""]
    lines += ['<details markdown="1">', "<summary>Every time and every ratio of this run</summary>", ""]
    for table in setting_tables(results):
        lines += ["#" + table.markdown()[0], *table.markdown()[1:], ""]  # too many for the contents of the page
    return "\n".join([*lines, "</details>", "", f"[The file](benchmarks/{_STORED.name})", ""])


def files() -> dict[str, str]:
    """The charts, by their places in the site."""
    return {f"assets/benchmarks-{chart.name}.svg": chart.svg for chart in charts(read_results(_STORED))}

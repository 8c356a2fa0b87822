"""The report of a run: the machine, the goals, the tables, and the losses that were not timed."""

from __future__ import annotations

from regionloss_suite.bench.results import Results
from regionloss_suite.bench.tables import digits, goals_table, setting_tables

_METHOD = (
    "Every candidate runs in every round; a time is the median over a turn's calls, shown as the median over the "
    "rounds with the 20 % and 80 % quantiles.",
    "Ratios are computed for each round.",
    "The roofline is the least memory traffic of any implementation; its time assumes the best copy bandwidth of this "
    "run.",
    "Memory above is peak memory minus the gradient.",
)


def about_lines(results: Results) -> list[str]:
    """The machine, the versions and the date, one sentence each."""
    about, data = results.about, results.data
    cpu, commit = data["machine_info"].get("cpu") or {}, data.get("commit_info") or {}
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = []
    if "gpu" in about:
        lines.append(f"GPU: {about['gpu']}, CUDA {about['CUDA']}, L2 cache {about['L2 cache'] / 1e6:.0f} MB.")
    lines.append(
        f"Processor: {cpu.get('brand_raw', 'unknown')}, {cpu.get('count', '?')} cores, {about['vector instructions']}; "
        f"{about['threads']} thread{'s' * (about['threads'] != 1)}."
    )
    lines.append(f"Versions: Python {data['machine_info']['python_version']}, {versions}.")
    clocks = ", ".join(f"{name} {value}" for name, value in about["clocks"].items())
    lines.append(f"Clocks right after the work: {clocks or 'unknown'}.")
    lines.append(f"A large copy moves {digits(about['bandwidth'] / 1e9)} GB/s, read and written.")
    if results.device == "cpu" and "memory kept" in about:
        how = "keeps freed blocks of up to 32 MB for reuse" if about["memory kept"] else "has its default settings"
        lines.append(f"The allocator {how}.")
    before, after = about["load"]
    if before is not None and after is not None:
        lines.append(f"Load average: {before:g} before the run, {after:g} after it.")
    dirty = ", with local changes" if commit.get("dirty") else ""
    lines.append(f"Run {data['datetime'][:16]} UTC, {about['plan']} plan, commit {str(commit.get('id'))[:12]}{dirty}.")
    return lines


def terminal(results: Results) -> list[str]:
    """The report for a terminal."""
    lines = ["regionloss bench", *(f"  {line}" for line in about_lines(results))]
    for table in setting_tables(results):
        lines += ["", *table.text()]
    lines += ["", *_refused(results, "  ")] if results.about["refused"] else []
    goals = goals_table(results)
    return [*lines, "", *goals.text()] if goals else lines


def markdown(results: Results, charts: dict[str, str]) -> str:
    """The report as a page.

    Args:
        results: of the run.
        charts: the path of each chart from the page, by its text alternative.
    """
    lines = ["# Benchmarks", "", *(f"- {line}" for line in about_lines(results)), "", *_METHOD, ""]
    goals = goals_table(results)
    lines += [*goals.markdown(), ""] if goals else []
    for alternative, path in charts.items():
        lines += [f"![{alternative}]({path})", ""]
    lines += [*_refused(results, "- "), ""] if results.about["refused"] else []
    for table in setting_tables(results):
        lines += [*table.markdown(), ""]
    return "\n".join(lines).rstrip() + "\n"


def _refused(results: Results, mark: str) -> list[str]:
    """The losses that were not timed, each reason once."""
    reasons: dict[tuple[str, str], int] = {}
    for one in results.about["refused"]:
        key = (one["contender"], one["reason"])
        reasons[key] = reasons.get(key, 0) + 1
    lines = []
    for (name, reason), count in reasons.items():
        where = "1 setting" if count == 1 else f"{count} settings"
        lines.append(f"{mark}{name} is not timed in {where}: {reason}")
    return ["Not timed:", *([""] if mark == "- " else []), *lines]

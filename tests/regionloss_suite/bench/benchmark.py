"""One run from plan to results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regionloss_suite.bench.export import export
from regionloss_suite.bench.measure import Findings, measure
from regionloss_suite.bench.plan import Plan
from regionloss_suite.bench.results import Results
from regionloss_suite.bench.torch_machine import clocks, keep_memory, load, machine, on_threads


def run(plan: Plan, *, threads: int, kind: str, say: Callable[[str], None]) -> Results:
    """Time the candidates of a plan.

    Args:
        plan: settings, candidates and device.
        threads: PyTorch threads on the host.
        kind: the kind of plan, in one word.
        say: called with one line of progress for each step.

    Raises:
        AdapterError: a candidate does not exist.
        NotExportedError: pytest-benchmark is not installed.
    """
    with on_threads(threads):
        kept = keep_memory()
        before = load()
        findings = measure(plan, say)
        about = {
            "device": plan.device,
            "plan": kind,
            "load": [before, load()],
            "clocks": clocks(plan.device),
            "memory kept": kept,
            **machine(plan.device),
            **_about(findings),
        }
    return Results(export(findings, about), "this run")


def _about(findings: Findings) -> dict[str, Any]:
    return {
        "bandwidth": float(f"{findings.bandwidth:.4e}"),
        "settings": [
            {"setting": setting.to_json(), "floor": roofline.to_json()}  # "floor" is the key in kept results
            for setting, roofline in findings.rooflines.items()
        ],
        "refused": [
            {"setting": setting.name, "contender": name, "reason": reason} for setting, name, reason in findings.refused
        ],
    }

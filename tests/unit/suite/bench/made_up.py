"""A run of the benchmarks that was made up, and the settings that the tests time nothing on."""

from __future__ import annotations

from typing import Any

from regionloss_spec import load_profile
from regionloss_suite.bench.export import export
from regionloss_suite.bench.measure import Entry, Findings, Series
from regionloss_suite.bench.plan import GOALS, Item, Plan
from regionloss_suite.bench.results import Results
from regionloss_suite.bench.roofline import Roofline
from regionloss_suite.bench.rounds import Effort
from regionloss_suite.bench.setting import Setting
from regionloss_suite.bench.torch_footprint import Footprint

SMALL = Setting(height=4, width=3, images=3, classes=4, truths=(1, 3))
DARKNET = load_profile("darknet")

FEW = GOALS["cpu"][0]


def findings(
    times: dict[str, list[float]], *settings: Setting, memory: int = 1000, refused: tuple[str, ...] = ()
) -> Findings:
    """A run that was made up: the same times of everyone in each setting."""
    settings = settings or (FEW,)
    plan = Plan("cpu", tuple(Item(setting, tuple(times)) for setting in settings), Effort())
    run = Findings(plan, bandwidth=2e9)
    for setting in settings:
        run.rooflines[setting] = Roofline(1000, 2000, 3000, 1000)
        for name, seconds in times.items():
            run.series.append(Series(setting, name, "both", "wall", dict(enumerate(seconds))))
            if name not in ("zero_ (fresh)", "zero_", "copy_"):
                run.series.append(Series(setting, name, "forward", "wall", {0: seconds[0] / 2}))
                run.entries.append(
                    Entry(
                        setting, name, False, "165 golden cases", Footprint(memory, setting.gradient_bytes), ("a note",)
                    )
                )
        run.refused += [(setting, name, "it is wrong") for name in refused]
    return run


def results(times: dict[str, list[float]], *settings: Setting, **given: Any) -> Results:
    run = findings(times, *settings, **given)
    about = {
        "device": "cpu",
        "plan": "standard",
        "bandwidth": run.bandwidth,
        "load": [0.5, 1.5],
        "clocks": {},
        "memory kept": True,
        "versions": {"torch": "2"},
        "threads": 1,
        "vector instructions": "AVX2",
        "settings": [
            {"setting": one.to_json(), "floor": roofline.to_json()} for one, roofline in run.rooflines.items()
        ],
        "refused": [{"setting": one.name, "contender": name, "reason": reason} for one, name, reason in run.refused],
    }
    return Results(export(run, about), "made up")


TIMES = {
    "torch-analytic": [1e-3, 2e-3, 1e-3],
    "materialised": [11e-3, 22e-3, 12e-3],
    "zero_ (fresh)": [1e-4, 1e-4, 1e-4],
    "zero_": [1e-4, 1e-4, 1e-4],
    "copy_": [2e-4, 2e-4, 2e-4],
}

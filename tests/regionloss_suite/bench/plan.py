"""The plan of a run: settings, each with its candidates and the steps that are timed separately."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from regionloss_suite.bench.candidates import COMPILING
from regionloss_suite.bench.rounds import Effort
from regionloss_suite.bench.setting import Layout, Setting

#: The steps that are timed separately, in addition to `both`.
STEPS = ("forward", "backward", "no_grad")

#: The candidates by default, by the kind of device.
DEFAULT = {
    "cpu": ("torch-analytic", "torch-compiled", "torch-eager", "materialised", "materialised-compiled", "python-loop"),
    "cuda": ("torch-triton", "torch-analytic", "torch-eager", "materialised", "materialised-compiled", "python-loop"),
}

#: On the CPU a call takes milliseconds, and a loop needs many of them until the caches hold only its own data.
EFFORT = {"cpu": Effort(turn=0.04), "cuda": Effort()}

#: The comparator that joins candidates named by the user, so that there is something to compare them with.
COMPARATOR = "materialised"


@dataclass(frozen=True)
class Item:
    """One setting of a plan.

    Attributes:
        setting: the timed setting.
        candidates: names of the timed losses.
        steps: whether `forward`, `backward` and `no_grad` are timed separately as well as both together.
    """

    setting: Setting
    candidates: tuple[str, ...]
    steps: bool = True


@dataclass(frozen=True)
class Plan:
    """What a run times, on which device and for how long.

    Attributes:
        named: whether the user named the candidates, so that a missing one is an error.
    """

    device: str
    items: tuple[Item, ...]
    effort: Effort
    named: bool = True


GOALS = {
    "cpu": (
        Setting(images=16),
        Setting(images=64),
        Setting(images=64, truths=(50, 50)),
        Setting(19, 19, images=64, classes=80),
    ),
    "cuda": (
        Setting(images=64, classes=80),
        Setting(19, 19, images=256, classes=80),
        Setting(32, 32, images=256, classes=80),
    ),
}

#: The centre of the charts, and the values to both sides of it.
MIDDLE = {"cpu": Setting(images=16), "cuda": Setting(images=64, classes=80)}
_AXES: dict[str, dict[str, tuple[int, ...]]] = {
    "cpu": {"images": (1, 4, 64), "grid": (7, 19, 26), "classes": (2, 80), "truths": (1, 4, 16, 50)},
    "cuda": {"images": (1, 8, 256), "grid": (7, 19, 32), "classes": (2, 20, 320), "truths": (1, 4, 16, 50)},
}


def standard(device: str, names: Sequence[str]) -> Plan:
    """The settings of the goals, the other forms of a batch, and what the charts show.

    Slow and compiling candidates are timed only where a goal needs them.
    """
    everyone = tuple(names) or DEFAULT[device]
    quick = tuple(name for name in everyone if name not in (*COMPILING, "python-loop", "torch-eager"))
    goals = [Item(setting, _for_goal(everyone, setting, device)) for setting in GOALS[device]]
    forms = [Item(setting, quick) for setting in _forms(MIDDLE[device])]
    axes = [Item(setting, quick, steps=False) for setting in _along_the_axes(device)]
    return Plan(device, _each_once([*goals, *forms, *axes]), EFFORT[device], named=bool(names))


def quick(device: str, names: Sequence[str]) -> Plan:
    """One small setting, to see that everything works."""
    everyone = tuple(names) or tuple(name for name in DEFAULT[device] if name not in COMPILING)
    effort = Effort(rounds=5, turn=0.001, most=1.0)
    return Plan(device, (Item(Setting(images=2), everyone),), effort, named=bool(names))


def crossed(
    device: str,
    names: Sequence[str],
    *,
    grid: Iterable[tuple[int, int]] = ((13, 13),),
    batch: Iterable[int] = (16,),
    classes: Iterable[int] = (20,),
    truths: Iterable[tuple[int, int]] = ((1, 8),),
    dtype: Iterable[str] = ("float32",),
    layout: Iterable[Layout] = ("NCHW",),
    images_seen: Iterable[int] = (0,),
) -> Plan:
    """Every combination of the requested sizes and forms."""
    everyone = tuple(names) or DEFAULT[device]
    settings = [
        Setting(height, width, images, count, bounds, kind, lying, t)
        for (height, width), images, count, bounds, kind, lying, t in product(
            grid, batch, classes, truths, dtype, layout, images_seen
        )
    ]
    return Plan(device, tuple(Item(setting, everyone) for setting in settings), EFFORT[device], named=bool(names))


def _for_goal(everyone: tuple[str, ...], setting: Setting, device: str) -> tuple[str, ...]:
    """The candidates of a setting that has a goal, without the slow ones that no goal of it names."""
    dropped: set[str] = set()
    if device == "cuda" or setting.elements > Setting(images=64).elements or setting.truths[1] > 8:
        dropped.add("python-loop")
    if setting != (Setting(images=64, classes=80) if device == "cuda" else Setting(images=16)):
        dropped.add("materialised-compiled")
    if device == "cuda" and setting.images > 64:
        dropped |= {"torch-eager", "materialised"}
    return tuple(name for name in everyone if name not in dropped)


def _forms(setting: Setting) -> list[Setting]:
    """The other formats and layout of a batch, many truths, and no prior."""
    return [
        replace(setting, dtype="float16"),
        replace(setting, dtype="bfloat16"),
        replace(setting, layout="channels_last"),
        replace(setting, truths=(50, 50)),
        replace(setting, images_seen=12800),
    ]


def _along_the_axes(device: str) -> list[Setting]:
    middle, axes = MIDDLE[device], _AXES[device]
    settings = [middle]
    settings += [replace(middle, images=count) for count in axes["images"]]
    settings += [replace(middle, height=cells, width=cells) for cells in axes["grid"]]
    settings += [replace(middle, classes=count) for count in axes["classes"]]
    settings += [replace(middle, truths=(count, count)) for count in axes["truths"]]
    return settings


def _each_once(items: Iterable[Item]) -> tuple[Item, ...]:
    """The items without those whose setting has occurred before."""
    first: dict[Setting, Item] = {}
    for item in items:
        first.setdefault(item.setting, item)
    return tuple(first.values())

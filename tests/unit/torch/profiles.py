"""The profiles that a test of every choice goes through."""

from __future__ import annotations

from typing import Any

from regionloss_spec import Profile, load_profile, profile_names
from regionloss_spec.profile import AXES, axis_values

DARKNET = load_profile("darknet")
TREE = load_profile("yolo9000")

#: Choices that meet in no shipped profile and act on each other.
_TOGETHER: tuple[dict[str, Any], ...] = (
    {"class_term": "logistic", "class_collision": "accumulate"},
    {"object_target": "max-iou", "object_target_gradient": "flows"},
    {"size_space": "decoded", "object_target_gradient": "flows"},
    {"anchor_choice": "predicted-iou", "collision": "first"},
    {"collision": "sum", "reduction": "per-image"},
    {"objectness": "background", "ignored_class": "full"},
    {"class_term": "focal", "ignored_class": "by-objectness", "thresh": 0.1},
    {"coord_weight": 0.3, "object_weight": 2.5, "no_object_weight": 0.7, "class_weight": 1.7, "thresh": 0.25},
    {"thresh": 0.0},
)


def variants() -> dict[str, Profile]:
    """Every shipped profile, darknet with every value of every discrete axis, and some that act on each other."""
    profiles = {name: load_profile(name) for name in profile_names()}
    for axis in AXES:
        for value in axis_values(axis):
            base = TREE if value in ("tree", "accumulate") else DARKNET
            if getattr(base, axis) != value:
                profiles[f"{axis}={value}"] = base.replace(**{axis: value})
    for axes in _TOGETHER:
        profiles[" ".join(f"{axis}={value}" for axis, value in axes.items())] = DARKNET.replace(**axes)
    return profiles

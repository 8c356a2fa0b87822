"""The profiles that the fast paths express, as numbers that an operator can take; what they refuse, and how."""

from __future__ import annotations

from typing import NamedTuple

import torch

from regionloss_spec import Profile

#: The values that the fast paths express, for each discrete axis; axes not listed are expressed in full.
EXPRESSED: dict[str, tuple[str, ...]] = {
    "anchor_choice": ("anchor-shape",),
    "collision": ("last", "first"),
    "class_collision": ("replace",),
    "size_space": ("log",),
    "no_object_target": ("zero",),
    "object_target": ("iou", "one"),
    "object_target_gradient": ("constant",),
    "objectness": ("logistic",),
    "class_term": ("cross-entropy", "squared-error"),
    "ignored_class": ("none",),
}

#: The types that the Triton kernels take. They accumulate in float32, which is not enough for float64.
TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class PathError(ValueError):
    """A path cannot compute what it is given; the message names one that can."""


class Settings(NamedTuple):
    """The choices of a profile as numbers, each exact in float64; a switch is 0 or 1.

    The weights include the factor q of the squared terms (`scale.squared-factor`). The paths apply the reduction, since
    only they know the number of images.
    """

    thresh: float
    ignores: float
    """0 for no ignore rule, 1 if MaxIOU above the threshold silences, 2 if MaxIOU at or above it does."""
    every_no_object: float
    prior_until: float
    every_prior: float
    no_object: float
    prior: float
    coord: float
    object: float
    class_weight: float
    class_squared: float
    """1 if the class term is a squared error; its weight then includes the factor q."""
    small_box_exponent: float
    size_floor: float
    """The smallest size, in cells, that a truth has in the targets of the sizes."""
    target_one: float
    first_wins: float
    per_image: float
    terminated: float
    """1 if a truth with x = 0 ends the list of its image."""
    max_truths: float


def refusal(profile: Profile) -> str | None:
    """Why the fast paths do not express a profile, or `None` if they do."""
    for axis, values in EXPRESSED.items():
        value = getattr(profile, axis)
        if value not in values:
            return f"profile {profile.name!r} has {axis} = {value!r}; they express {' and '.join(map(repr, values))}"
    return None


def settings_of(profile: Profile) -> Settings:
    """The settings of a profile that the fast paths express."""
    q = profile.squared_factor
    squared = profile.class_term == "squared-error"
    return Settings(
        thresh=profile.thresh,
        ignores={"none": 0.0, "above": 1.0, "at-or-above": 2.0}[profile.ignore],
        every_no_object=float(profile.no_object_applies == "every-predictor"),
        prior_until=float(profile.prior_until),
        every_prior=float(profile.prior_applies == "every-predictor"),
        no_object=q * profile.no_object_weight,
        prior=q * profile.prior_weight,
        coord=q * profile.coord_weight,
        object=q * profile.object_weight,
        class_weight=profile.class_weight * (q if squared else 1.0),
        class_squared=float(squared),
        small_box_exponent=float(profile.small_box_exponent),
        size_floor=float(profile.size_target_floor == "one-cell"),
        target_one=float(profile.object_target == "one"),
        first_wins=float(profile.collision == "first"),
        per_image=float(profile.reduction == "per-image"),
        terminated=float(profile.truth_end == "x-zero"),
        max_truths=float(profile.max_truths),
    )

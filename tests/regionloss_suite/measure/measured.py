"""The measured loss: a profile, and the factors beside it that no profile holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from regionloss import DomainError, Result, evaluate
from regionloss_spec import Batch, Profile, ProfileError
from regionloss_spec.clause import TERMS
from regionloss_suite.measure.black_box import NoAnswerError, scene
from regionloss_suite.measure.findings import Findings, nice
from regionloss_suite.measure.profile import SQUARED, squared_weights

_BY_IOU = ("ignore", "thresh", "no_object_target", "object_target", "object_weight", "anchor_choice")
#: By a finding that no profile expresses, the axes that are not measured where it is wrong.
HIDES = {
    "iou": _BY_IOU,
    "centre of the box": _BY_IOU,
    "size of the box": _BY_IOU,
    "box of MaxIOU": ("ignore", "thresh"),
    "truths of MaxIOU": ("ignore", "thresh"),
    "images of MaxIOU": ("ignore", "thresh"),
    "cells of MaxIOU": ("ignore", "thresh"),
    "MaxIOU of other boxes": ("ignore", "thresh"),
    "IoU of other boxes": _BY_IOU,
    "ignore": ("thresh",),
    "cell rule": ("anchor_choice", "collision", "class_collision", "truth_end", "max_truths"),
}
#: The term that each weight multiplies.
TERM_OF = {
    "no_object_weight": "no_object",
    "prior_weight": "prior",
    "coord_weight": "coord",
    "object_weight": "object",
    "class_weight": "class",
}


@dataclass(frozen=True)
class Factors:
    """What a loss multiplies the terms of its profile by.

    Attributes:
        gradient: by term, the factor on its gradient where it is not 1.
        value: by term, the factor on its value where it is not 1.
        divisor: the reduction by a count that no profile has, a key of `COUNTS`, or an empty string.
    """

    gradient: Mapping[str, float] = field(default_factory=dict)
    value: Mapping[str, float] = field(default_factory=dict)
    divisor: str = ""

    def __bool__(self) -> bool:
        return bool(self.gradient or self.value or self.divisor)

    def applied(self, result: Result) -> Result:
        """A result with the factors on its terms; the divisor is not applied, since answers are multiplied by it."""
        if not self.gradient and not self.value:
            return result
        terms = {
            name: dataclasses.replace(
                term,
                value=term.value * self.value.get(name, 1.0),
                gradient=term.gradient * self.gradient.get(name, 1.0),
            )
            for name, term in result.terms.items()
        }
        return dataclasses.replace(result, terms=terms)


def signs(findings: Findings) -> dict[str, float]:
    """By term, -1 where the measured weight is negative."""
    return {TERM_OF[axis]: -1.0 for axis, product in findings.products.items() if product < 0}


def value_factors(findings: Findings, profile: Profile, gradient: Mapping[str, float]) -> dict[str, float]:
    """By term, the factor on its value, from the scalars of random batches; a finding if they do not fit.

    The scalar of a batch is a sum of five values, so that scalars of many batches show the factor on each.
    """
    box = findings.box
    if box.scalar_only:  # its slopes are those of the scalar
        return dict(gradient)
    scalars, values = [], []
    for batch in _batches(findings, profile):
        try:
            scalars.append(box.scalar(batch))
            values.append([evaluate(box.padded(batch), profile).term_values[name] for name in TERMS])
        except (NoAnswerError, DomainError):
            continue
    rows = np.array(values)
    paid = [place for place in range(len(TERMS)) if len(rows) and np.abs(rows[:, place]).max() > 0]
    if len(rows) < 2 * len(TERMS):
        return {}
    factors, *_ = np.linalg.lstsq(rows[:, paid], np.array(scalars), rcond=None)
    rest = np.abs(rows[:, paid] @ factors - scalars).max() / max(np.abs(scalars).max(), 1e-300)
    tolerance = 1e-7 if box.dtype == "float64" else 1e-4
    names = [TERMS[place] for place in paid]
    told = ", ".join(f"{name} {factor:.6g}" for name, factor in zip(names, factors, strict=True))
    evidence = f"the scalars of {len(rows)} random batches are the values of the terms times {told}"
    if not rest <= tolerance:
        findings.unknown("values", f"the scalars of {len(rows)} random batches are no sum of the terms", odd=True)
        return {}
    known = {name: nice(float(factor), 100 * tolerance) for name, factor in zip(names, factors, strict=True)}
    apart = {name: factor for name, factor in known.items() if not math.isclose(factor, 1.0, rel_tol=10 * tolerance)}
    if apart:
        findings.unknown("values", evidence, odd=True)
    else:
        findings.note("values", "as the gradient", evidence)
    return apart


def _batches(findings: Findings, profile: Profile) -> list[Batch]:
    """Random batches in which every term is paid."""
    random = np.random.default_rng(11)
    height = 3 if findings.box.square else 2
    tree = (-1, -1, 0, 0) if profile.class_term == "tree" else None
    batches = []
    for number in range(16):
        rows = [
            [*random.integers(1, 32, 2) / 32, *random.integers(2, 24, 2) / 32, float(random.integers(4))]
            for _ in range(2)
        ]
        raw = np.round(random.normal(size=(1, 2, 9, height, 3)) * 64) / 64
        batches.append(
            scene(
                rows, anchors=[(1.0, 0.75), (0.5, 1.25)], grid=(height, 3), classes=4,
                images_seen=0 if number % 2 else findings.late, raw=dict(np.ndenumerate(raw)), tree=tree,
            )
        )  # fmt: skip
    return batches


def at_factor(profile: Profile, q: float) -> Profile:
    """The same gradient and values, with the squared terms written for another factor."""
    if q == profile.squared_factor or not q:
        return profile
    weights = {
        axis: nice(getattr(profile, axis) * profile.squared_factor / q, 1e-12) for axis in squared_weights(profile)
    }
    return profile.replace(squared_factor=q, **weights)


def beside(profile: Profile, claimed: Profile) -> Profile:
    """A measured profile written so that it differs least from the claimed one.

    A gradient shows only products of the factor and the weights: they are split by the factor that leaves the fewest
    differences, and if several do, as in the claimed profile.
    """
    split = at_factor(profile, claimed.squared_factor)
    axes = [axis for axis in squared_weights(split) if axis in squared_weights(claimed)]
    if not split.prior_until:
        axes = [axis for axis in axes if axis != "prior_weight"]
    weights = [(getattr(split, axis), getattr(claimed, axis)) for axis in axes]
    ratios = [one / other for one, other in weights if other]
    best, most = 1.0, 1 + sum(math.isclose(ratio, 1.0, rel_tol=1e-6) for ratio in ratios)
    for ratio in ratios:
        alike = sum(math.isclose(ratio, other, rel_tol=1e-6) for other in ratios)
        if ratio and alike > most:
            best, most = ratio, alike
    return split if best == 1.0 else at_factor(split, nice(claimed.squared_factor * best, 1e-12))


def overlaid(profile: Profile, asked: Profile, measured: Profile) -> list[Profile]:
    """The profiles that a loss may have where a case sets options: the measured choices in place of the asked ones.

    A loss that reads its options may keep those that the case sets, or scale the weights that it sets.

    Args:
        profile: of the case.
        asked: the profile under which the loss was measured.
        measured: what it was measured to be.
    """
    changes = {axis: value for axis, (value, _) in measured.differences(asked).items()}
    own = [axis for axis in changes if getattr(profile, axis) != getattr(asked, axis)]
    kept = {axis: value for axis, value in changes.items() if axis not in own}
    scaled = dict(kept)
    for axis in own:
        if axis in (*SQUARED, "class_weight", "squared_factor") and getattr(asked, axis):
            scaled[axis] = nice(getattr(profile, axis) * changes[axis] / getattr(asked, axis), 1e-12)
    candidates: list[Profile] = []
    for options in (changes, *([kept, scaled] if own else [])):
        try:
            changed = profile.replace(**options)
        except ProfileError:
            continue
        if changed not in candidates:
            candidates.append(changed)
    return candidates

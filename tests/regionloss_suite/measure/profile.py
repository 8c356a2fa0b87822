"""From findings to a profile: products of weights split into factor and λ; axes without evidence get a default."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from regionloss import DomainError, evaluate
from regionloss_spec import AXES, Profile, load_profile, profile_names
from regionloss_suite.measure.black_box import NoAnswerError, scene
from regionloss_suite.measure.findings import Findings, listed, nice

#: The weights of squared terms, of which a gradient shows only 2q·λ.
SQUARED = ("coord_weight", "object_weight", "no_object_weight", "prior_weight")
_SQUARED_CLASS = ("squared-error", "squared-linear")


def squared_weights(profile: Profile) -> tuple[str, ...]:
    """The weights that q multiplies in a profile."""
    squared = set(SQUARED)
    if profile.class_term in _SQUARED_CLASS:
        squared.add("class_weight")
    if profile.objectness == "background":
        squared -= {"object_weight", "no_object_weight"}
    return tuple(sorted(squared))


def canonical(profile: Profile, q: float = 0.5) -> Profile:
    """An equivalent profile in normal form, without choices that no answer shows.

    The weights of squared terms are given for the factor q, and an axis without effect has its default.
    """
    changes: dict[str, Any] = {"squared_factor": q}
    for axis in squared_weights(profile):
        changes[axis] = nice(getattr(profile, axis) * profile.squared_factor / q, 1e-12)
    if profile.objectness == "background":
        changes |= {"object_target": "iou", "object_target_gradient": "constant"}
    elif profile.no_object_target == "max-iou":
        changes |= {"ignore": "none"}
    if changes.get("ignore", profile.ignore) == "none":
        changes |= {"ignored_class": "none", "thresh": 0.6}
    if profile.object_target == "one":
        changes |= {"object_target_gradient": "constant"}
    both = profile.replace(**changes)
    if (
        (both.object_target, both.no_object_target) == ("max-iou", "max-iou")
        and both.no_object_applies == "every-predictor"
        and both.object_target_gradient == "constant"
        and both.collision != "sum"
    ):  # one residual with two weights
        weight = nice(both.object_weight + both.no_object_weight, 1e-12)
        changes |= {"no_object_applies": "not-responsible", "object_weight": weight}
    if not profile.prior_until or not profile.prior_weight:
        changes |= {"prior_until": 0, "prior_weight": 0.01, "prior_applies": "not-responsible"}
    return profile.replace(**changes)


def profile_of(findings: Findings, name: str) -> Profile:
    """The profile of the findings; axes that no experiment could determine have darknet's value."""
    darknet = load_profile("darknet")
    values = {axis: findings.value(axis, getattr(darknet, axis)) for axis in AXES}
    # A profile has no negative weight: a sign is a factor beside it.
    values["printed_cost"] = findings.value("printed_cost", "potential")
    values |= {axis: abs(product) for axis, product in findings.products.items()} | {"squared_factor": 0.5}
    if values["class_collision"] == "accumulate" and (values["class_term"] not in ("logistic", "tree") or (
        values["collision"] != "last")):  # fmt: skip
        values["class_collision"] = "replace"  # profiles cannot express it; the finding does
    if values["class_collision"] == "accumulate":
        values["ignored_class"] = "none"
    joins = (values["class_term"], values["no_object_target"]) == ("cross-entropy", "zero")
    if values["objectness"] == "background" and not joins:
        values["objectness"] = "logistic"  # profiles cannot express it either
    at_half = Profile(name=name, title="identified from its answers", source="regionloss identify", **values)
    return _with_a_known_factor(at_half)


def _with_a_known_factor(at_half: Profile) -> Profile:
    """The factor of a shipped profile with the same products; ½ if there is none."""
    weights = (*SQUARED, "class_weight")
    for shipped in map(load_profile, profile_names()):
        if shipped.squared_factor == 0.5:
            continue
        q = shipped.squared_factor
        split = canonical(at_half, q)
        known = canonical(shipped, q)
        if all(math.isclose(getattr(split, axis), getattr(known, axis), rel_tol=1e-5) for axis in weights):
            return at_half.replace(
                squared_factor=q, **{axis: getattr(known, axis) for axis in squared_weights(at_half)}
            )
    return at_half


def printed_cost(findings: Findings) -> None:
    """Which quantity is printed as the cost, if it is returned at all."""
    raw = {(0, 0, c, 0, 0): 0.3 * c - 0.5 for c in range(8)}
    batch = scene([[0.375, 0.625, 0.5, 0.75, 1]], grid=(2, 2), images_seen=findings.late, raw=raw)
    try:
        cost = findings.box.answer(batch).printed_cost
    except NoAnswerError as refused:
        findings.unknown("printed_cost", str(refused))
        return
    if cost is None:
        findings.unknown("printed_cost", "it does not return its printed cost")
        return
    evidence = f"one truth: it prints {cost:.9g}"
    profile = profile_of(findings, "so far")
    wanted = {}
    # The factor affects the printed cost where it does not affect the gradient: try the factor of the products first.
    try:
        for kind in ("residuals", "gradient", "potential"):
            tree = (-1,) * batch.classes if profile.class_term == "tree" else None
            batch_of_kind = scene(
                [[0.375, 0.625, 0.5, 0.75, 1]], grid=(2, 2), images_seen=findings.late, raw=raw, tree=tree
            )
            wanted[kind] = evaluate(findings.box.padded(batch_of_kind), profile.replace(printed_cost=kind)).printed_cost
    except DomainError as error:
        findings.unknown("printed_cost", f"{evidence}; {error}")
        return
    for kind, want in wanted.items():
        if np.isclose(cost, want, rtol=1e-6 if findings.box.dtype == "float64" else 1e-3):
            findings.note("printed_cost", kind, f"{evidence}; the {kind} give {want:.9g}")
            return
    findings.unknown(
        "printed_cost", f"{evidence}; residuals, gradient, potential give {listed(*wanted.values())}", odd=True
    )

"""The class term at a responsible predictor: its form over several class outputs, and its weight."""

from __future__ import annotations

import numpy as np

from regionloss.classes import class_term
from regionloss_spec import Profile, load_profile
from regionloss_spec.batch import Array
from regionloss_spec.profile import axis_values
from regionloss_suite.measure.black_box import CLASSES, T_O, NoAnswerError, scene
from regionloss_suite.measure.findings import Findings, listed

#: (t_o, class outputs, true class); the tree has the groups 0-1, 2-3 and 4.
_LOGITS = (
    (-1.0, (0.3, -0.7, 1.1, 0.2, -0.4), 2),
    (1.5, (1.0, 0.5, -2.0, 0.75, 0.25), 2),
    (0.0, (-0.5, 2.0, 0.5, 1.0, 0.0), 2),
)
_TREE = (-1, -1, 0, 0, 1)


def form(findings: Findings) -> None:
    """Fit every known form of the class term to the gradient over the class outputs."""
    got = _pulled(findings, _TREE if findings.box.wants_tree else None)
    evidence = f"the class gradient of a responsible predictor is {listed(*got[0])} at {listed(*_LOGITS[0][1])}"
    if not np.abs(got).max() > findings.box.silence:
        findings.unknown("class_term", f"{evidence}: there is no class term", odd=True)
        return
    base = load_profile("darknet").replace(squared_factor=0.5)
    background = findings.value("objectness") == "background"
    candidates: list[tuple[str, str, Profile]] = []
    for name in axis_values("class_term"):
        profile = base.replace(class_term=name)
        candidates.append((name, "logistic", profile))
        if name == "cross-entropy":  # the one form for which `object.background` is defined
            candidates.append((name, "background", profile.replace(objectness="background")))
    for name, objectness, profile in candidates:
        want = np.array([
            class_term(np.array(z), np.array(t_o), [label], 1.0, profile, _TREE)[1] for t_o, z, label in _LOGITS
        ])  # fmt: skip
        weight = float((got * want).sum() / (want * want).sum())
        if not np.allclose(got, weight * want, rtol=1e-3, atol=1e-4 * np.abs(got).max()):
            continue
        joined = objectness == "background"
        joins = name in ("cross-entropy", "focal", "squared-error")  # the others do not contain t_o
        if joins and joined != background:
            among = "among" if joined else "not among"
            why = f"{name} with t_o {among} the classes, unlike the no-object term"
            findings.unknown("class_term", f"{evidence}: {why}", odd=True)
            return
        findings.products["class_weight"] = findings.number(weight)
        findings.note(
            "class_term", name, f"{evidence}, and the same at {len(got) - 1} other places: {weight:.9g} times {name}"
        )
        findings.note("class_weight", weight, f"{evidence}: weight {weight:.9g}")
        return
    findings.unknown("class_term", f"{evidence}, of no known form", odd=True)


def _pulled(findings: Findings, tree: tuple[int, ...] | None) -> Array:
    got = []
    for t_o, z, label in _LOGITS:
        raw = {(0, 0, T_O, 0, 0): t_o} | {(0, 0, CLASSES + c, 0, 0): value for c, value in enumerate(z)}
        batch = scene([[0.5, 0.5, 1.0, 1.0, label]], classes=5, images_seen=findings.late, raw=raw, tree=tree)
        got.append(findings.box.gradient(batch)[0, 0, CLASSES:, 0, 0])
    return np.array(got)


def scalar(findings: Findings) -> None:
    """Whether the scalar is the potential of the gradient: its change over small steps compared with the gradient."""
    if findings.box.scalar_only:
        findings.note("scalar", "potential", "it returns nothing else: all slopes are differences of it", "assumed")
        return
    random = np.random.default_rng(5)
    t = random.normal(size=(1, 8, 2, 2)) / 2
    try:
        pairs = []
        for _ in range(3):
            along = random.normal(size=t.shape)
            along[:, CLASSES:] = 0  # if t_o is a class, darknet's gradient omits the others
            # Without truths, nothing is held constant, so the scalar must change by the gradient.
            here = scene([], grid=(2, 2), images_seen=findings.late)
            step = 2.0**-12 if findings.box.dtype == "float64" else 2.0**-4
            ends = []
            for sign in (1, -1):
                np.copyto(here.predictions, t + sign * step * along)
                ends.append(findings.box.scalar(here))
            np.copyto(here.predictions, t)
            grad = float((findings.box.gradient(here)[...].reshape(t.shape) * along).sum())
            pairs.append(((ends[0] - ends[1]) / (2 * step), grad))
    except NoAnswerError as reason:
        findings.unknown("scalar", str(reason))
        return
    if not all(grad for _, grad in pairs):
        changes = listed(*(change for change, _ in pairs))
        findings.unknown("scalar", f"the scalar of empty images changes by {changes} where the gradient is 0", odd=True)
        return
    ratios = [change / grad for change, grad in pairs]
    evidence = f"the scalar changes by {listed(*ratios)} times the gradient, along three directions"
    tolerance = 1e-4 if findings.box.dtype == "float64" else 2e-2
    if np.allclose(ratios, 1, rtol=tolerance):
        findings.note("scalar", "potential", evidence)
    else:
        fixed = np.allclose(ratios, ratios[0], rtol=tolerance)
        findings.unknown(
            "scalar", evidence + (": a multiple of the potential" if fixed else ": another quantity"), odd=True
        )

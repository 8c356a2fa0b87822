"""Objectness at the responsible predictor: its weight and target, the gradient through it, and additional terms."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from regionloss.boxes import decode, iou, iou_grad, sigmoid, sigmoid_grad
from regionloss.classes import softmax
from regionloss_spec import Batch
from regionloss_spec.batch import Array
from regionloss_suite.measure.black_box import T_H, T_O, T_W, T_X, NoAnswerError, scene
from regionloss_suite.measure.findings import Findings, listed

_T_O = (-1.0, 0.5, 2.0)
_LOGITS = (0.3, -0.7, 1.1)
_MORE = "the truth of another predictor overlaps more"


def _scenes(findings: Findings) -> dict[str, Batch]:
    """A responsible predictor: its box is the truth, holds a small one, overlaps it in part, or a second one more."""
    thresh = findings.value("thresh", 0.6) if findings.value("ignore", "none") != "none" else 1.0
    side = math.floor(32 * np.sqrt(min(0.25, thresh / 4))) / 64  # exact in every format of truths
    height = 2 if findings.box.square else 1  # in cells; both have the same cells in the first row

    def on(*rows: list[float]) -> Batch:
        truths = [[x, y / height, w, h / height, c] for x, y, w, h, c in rows]
        return scene(truths, anchors=[(1.0, 0.5)], grid=(height, 2), images_seen=findings.late)

    small = [0.25, 0.5, side, side, 1]
    return {
        "its box is the truth": on([0.25, 0.5, 0.5, 0.5, 1]),
        "its box holds a small truth": on(small),
        "its box overlaps the truth in part": on([0.375, 0.5, 0.5, 0.25, 1]),
        _MORE: on(small, [0.53125, 0.5, 0.9375, 0.5, 0]),
    }


def _with(batch: Batch, t_o: float) -> Batch:
    t = np.array(batch.predictions).reshape(1, 1, -1, *batch.predictions.shape[2:])
    t[0, 0, T_O, 0, 0] = t_o
    t[0, 0, 5:, 0, 0] = _LOGITS
    return dataclasses.replace(batch, predictions=t.reshape(batch.predictions.shape))


def responsible(findings: Findings) -> None:
    """Weight and target of objectness, and whether no-object is paid as well."""
    batches = _scenes(findings)
    got: dict[str, Array] = {
        name: np.array([findings.box.gradient(_with(batch, t_o))[0, 0, T_O, 0, 0] for t_o in _T_O])
        for name, batch in batches.items()
    }
    evidence = "; ".join(f"{name}: {listed(*numbers)}" for name, numbers in got.items())
    evidence = f"gradient of t_o of a responsible predictor at {listed(*_T_O)}; {evidence}"
    if findings.value("objectness") is None:
        raise NoAnswerError(f"{evidence}; it means nothing without the shape of the no-object term")
    fits = []
    targets = ("iou", "one", "max-iou") if findings.value("objectness") == "logistic" else ("iou",)
    for target, every in itertools.product(targets, (False, True)):
        forms = [_forms(findings, batch, target) for batch in batches.values()]
        rest = np.concatenate(list(got.values())) - every * np.concatenate([form[1] for form in forms])
        form = np.concatenate([form[0] for form in forms])
        weight = float(rest @ form / (form @ form))
        error = float(np.abs(rest - weight * form).max() / max(np.abs(rest).max(), 1e-300))
        fits.append((error > 1e-4 or not weight, every, error, target, weight))
    wrong, every, _, target, weight = min(fits, key=lambda fit: fit[:2])
    if wrong:
        _shape(findings, got, evidence)
        findings.unknown("object_weight", evidence)
        return
    if sum(not fit[0] and fit[3] == target for fit in fits) > 1:
        # Both have the same target: only the effect of objectness alone separates their weights.
        alone = _alone(findings, batches["its box holds a small truth"], batches[_MORE])
        every = alone > 0 and not findings.same(alone, weight)
        weight = alone if every else weight
    findings.products["object_weight"] = findings.number(weight)
    findings.note("object_weight", weight, evidence)
    findings.note("no_object_applies", "every-predictor" if every else "not-responsible", f"{evidence}; no-object is "
              + ("paid on top" if every else "not paid"))  # fmt: skip
    if findings.value("objectness") == "logistic":
        means = {"iou": "the IoU with its own truth", "one": "1", "max-iou": "the largest IoU with any truth"}
        findings.note(
            "object_target", target, f"{evidence}: {weight:.9g}·(σ - target)·σ', the target is {means[target]}"
        )
    else:
        findings.note("object_target", "iou", "the background form has no target to choose", "assumed")
    _flow(findings, batches[_MORE])


def _shape(findings: Findings, got: dict[str, Array], evidence: str) -> None:
    """What is unlike any profile: whether it is a squared error at all, and then its weight or its target."""
    s, grad = sigmoid(np.array(_T_O)), sigmoid_grad(np.array(_T_O))
    if findings.value("objectness") != "logistic":
        findings.unknown("object_target", f"{evidence}, of no known shape", odd=True)
        return
    fits = [np.polyfit(s, numbers / grad, 1) for numbers in got.values()]
    off = [
        float(np.abs(np.polyval(fit, s) * grad - numbers).max())
        for fit, numbers in zip(fits, got.values(), strict=True)
    ]
    largest = max(float(np.abs(numbers).max()) for numbers in got.values())
    weights = [float(fit[0]) for fit in fits]
    if max(off) > 1e-3 * largest:
        findings.unknown("form of objectness", f"{evidence}: not λ·(σ - target)·σ'", odd=True)
        findings.unknown("object_target", "objectness is no squared error")
    elif not np.allclose(weights, weights[0], rtol=1e-3):
        findings.unknown("weight of objectness", f"{evidence}: λ is {listed(*weights)}", odd=True)
        findings.unknown("object_target", "the weight of objectness is not one number")
    else:
        targets = [float(-fit[1] / fit[0]) if fit[0] else math.nan for fit in fits]
        findings.unknown("object_target", f"{evidence}: the targets are {listed(*targets)}", odd=True)


def _forms(findings: Findings, batch: Batch, target: str) -> tuple[Array, Array]:
    """The objectness gradient per weight, and the additional no-object gradient, at each t_o."""
    t_o = np.array(_T_O)
    boxes = _box(batch)
    overlaps = [float(iou(boxes, row[:4])) for row in batch.truths[0]]
    best, own = max(overlaps), overlaps[0]
    ignore, thresh = findings.value("ignore", "none"), findings.value("thresh", 0.6)
    quiet = {"none": False, "above": best > thresh, "at-or-above": best >= thresh}[ignore]
    paid = (not quiet) * findings.products["no_object_weight"]
    form = findings.value("background form")
    if form == "softmax":
        p = np.array([softmax(np.array([value, *_LOGITS]))[0] for value in _T_O])
        return p, paid * (p - 1)
    if form == "linear":
        return t_o, paid * (t_o - 1)
    s, grad = sigmoid(t_o), sigmoid_grad(t_o)
    background = best if findings.value("no_object_target") == "max-iou" else 0.0
    return (s - {"iou": own, "one": 1.0, "max-iou": best}[target]) * grad, paid * (s - background) * grad


def _box(batch: Batch) -> Array:
    """The box of the first predictor, in fractions of the image."""
    return decode(batch.predictions.reshape(1, -1, *batch.predictions.shape[2:]), batch.anchors)[:, 0, 0, 0]


def _alone(findings: Findings, one: Batch, two: Batch) -> float:
    """Weight of objectness from its gradient through the largest IoU, or from a repeated truth; otherwise 0."""
    got = [findings.box.gradient(_with(two, t_o))[0, 0, T_W, 0, 0] for t_o in _T_O]
    s = sigmoid(np.array(_T_O))
    box = _box(two)
    grad = float(iou_grad(box, two.truths[0][1, :4])[2] * box[2])
    flow = float(-(got[2] - got[0]) / (s[2] - s[0]) / grad)
    if abs(flow) > 1e-9:
        return flow
    twice = Batch(one.predictions, (np.repeat(one.truths[0], 2, axis=0),), one.anchors, 3, one.images_seen)
    more = [findings.box.gradient(_with(batch, 2.0))[0, 0, T_O, 0, 0] for batch in (one, twice)]
    return float((more[1] - more[0]) / _forms(findings, one, "max-iou")[0][2])


def _flow(findings: Findings, batch: Batch) -> None:
    """Whether the gradient of t_x to t_h depends on t_o."""
    if findings.box.scalar_only:
        findings.note("object_target_gradient", "constant", "a scalar does not show what its gradient holds constant",
                  "assumed")  # fmt: skip
        return
    got = [findings.box.gradient(_with(batch, t_o))[0, 0, T_X:T_O, 0, 0] for t_o in (-2.0, 2.0)]
    move = float(np.abs(got[1] - got[0]).max())
    evidence = f"its gradient of t_x to t_h is {listed(*got[0])} at t_o = -2 and {listed(*got[1])} at t_o = 2"
    flows = move > 1e-6 * max(float(np.abs(got).max()), 1e-12)
    if not flows:
        findings.note("object_target_gradient", "constant", evidence)
    elif (
        findings.value("object_target") in ("iou", "max-iou")
        and abs(got[1][T_W] - got[0][T_W]) + abs(got[1][T_H] - got[0][T_H]) > 0
    ):
        findings.note("object_target_gradient", "flows", evidence)
    else:
        findings.unknown("object_target_gradient", evidence, odd=True)


def prior_applies(findings: Findings) -> None:
    """Whether a responsible predictor also has the gradient of the prior: early compared with late."""
    if "prior_applies" in findings.by_axis or not findings.value("prior_until"):
        return
    raw = {(0, 0, T_X, 0, 0): 1.0, (0, 0, T_W, 0, 0): 0.5, (0, 0, T_H, 0, 0): -0.25}
    truth = [0.625, 0.375, 1.0, 1.0, 1]
    pulls = [
        findings.box.gradient(scene([truth], images_seen=images_seen, raw=raw))[0, 0, :4, 0, 0]
        for images_seen in (0, findings.late)
    ]
    more = pulls[0] - pulls[1]
    evidence = f"the gradient of t_x to t_h of a responsible predictor is larger by {listed(*more)} at t = 0 than late"
    if (
        np.abs(more).max() < 1e-9 * max(1.0, np.abs(pulls).max())
        if findings.box.dtype == "float64"
        else (np.abs(more).max() < 1e-5 * np.abs(pulls).max())
    ):
        findings.note("prior_applies", "not-responsible", evidence)
        return
    s, grad = float(sigmoid(np.array(1.0))), float(sigmoid_grad(np.array(1.0)))
    want = findings.products.get("prior_weight", 0.0) * np.array([(s - 0.5) * grad, 0.0, 0.5, -0.25])
    as_prior = np.allclose(more, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())
    findings.note("prior_applies", "every-predictor" if as_prior else None, evidence, odd=not as_prior)

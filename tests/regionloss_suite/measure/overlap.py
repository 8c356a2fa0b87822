"""The IoU itself, whatever it is used for: as the target of objectness, and at the threshold of the ignore rule."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from regionloss.boxes import decode, iou, sigmoid, sigmoid_grad
from regionloss_spec import Batch
from regionloss_suite.measure.black_box import T_H, T_O, T_W, T_X, T_Y, scene
from regionloss_suite.measure.findings import DIGITS, Findings, listed

#: Centre and size of a truth, t_x, t_y, t_w, t_h of its predictor on an anchor of a cell, and what is tried. Where all
#: outputs are 0, the box is the cell whatever decodes it, so that only the IoU can be wrong.
_PAIRS = (
    ((0.5, 0.5, 0.5, 0.25), (0.0, 0.0, 0.0, 0.0), "iou"),
    ((0.125, 0.25, 0.75, 0.5), (0.0, 0.0, 0.0, 0.0), "iou"),
    ((0.875, 0.75, 1.5, 1.0), (0.0, 0.0, 0.0, 0.0), "iou"),
    ((0.5, 0.375, 0.0625, 0.125), (0.0, 0.0, 0.0, 0.0), "iou"),
    ((0.625, 0.5, 0.75, 0.5), (-0.5, 0.0, 0.0, 0.0), "centre of the box"),
    ((0.375, 0.625, 1.0, 0.5), (0.0, 1.25, 0.0, 0.0), "centre of the box"),
    ((0.5, 0.5, 0.5, 0.5), (0.0, 0.0, -1.25, -0.75), "size of the box"),
    ((0.5, 0.375, 0.75, 1.0), (0.0, 0.0, 0.5, -0.25), "size of the box"),
    ((0.125, 0.125, 0.125, 0.125), (2.0, 2.0, -2.0, -2.0), "apart"),
    ((0.25, 0.5, 0.25, 0.5), (1.5, 0.0, -1.5, -0.5), "apart"),
    ((0.5, 0.25, 0.5, 0.25), (0.0, 1.5, -0.5, -1.5), "apart"),
)
#: Truths around a predictor with a moved centre and with another size, to tell a wrong box from a wrong IoU: a box that
#: is found from one truth explains the IoU with the others.
_MOVED, _SIZED = (-0.5, 0.0, 0.0, 0.0), (0.0, 0.0, -1.25, 0.0)
_AROUND = ((0.625, 0.5, 0.75, 0.5), (0.25, 0.5, 0.5, 1.0), (0.5, 0.375, 0.875, 0.75), (0.75, 0.625, 0.5, 0.5))
_T_O = (-1.0, 1.5)
#: Where the ignore rule does not look: an IoU of 0 is below every threshold.
_APART = "which have no point in common"


def overlap(findings: Findings) -> None:
    """Whether the IoU is intersection over union, and of which box, wherever an answer contains it."""
    shown = False
    if findings.value("object_target") != "one" and findings.value("no_object_applies") != "every-predictor":
        shown = _targets(findings)
    if findings.value("ignore", "none") != "none":
        right = _thresholds(findings, apart=shown)
        known = findings.by_axis.get("iou")
        if right and known is not None and _APART not in known.evidence and not _same_function(findings):
            # It is right elsewhere, so that the target is another number.
            evidence = f"{known.evidence}; where the ignore rule compares it, the IoU is right"
            findings.note("iou", "intersection over union", "boxes of two kinds, by the ignore rule")
            findings.unknown("object_target", evidence, odd=True)
        shown = shown or right is not None
    if not shown:
        findings.unknown("iou", "nothing that the loss returns contains an IoU by itself")
    elif "iou" not in findings.by_axis:
        findings.note("iou", "intersection over union", "boxes of eight kinds, by objectness or by the ignore rule")


def _same_function(findings: Findings) -> bool:
    """Whether the target at an IoU of the measured threshold is the asked threshold: both see the same other IoU."""
    measured, asked = findings.value("thresh"), findings.box.profile.thresh
    if measured is None or math.isclose(measured, asked, rel_tol=1e-6):
        return False
    side = math.sqrt(measured)
    _, target, _ = _target(findings, (0.5, 0.5, 1.0, 1.0), (0.0, 0.0, math.log(side), math.log(side)))
    return math.isclose(target, asked, abs_tol=DIGITS)


def _on(findings: Findings, truth: tuple[float, ...], raw: tuple[float, ...], t_o: float) -> Batch:
    """One truth and its predictor in the first cell of two."""
    rows = 2 if findings.box.square else 1
    x, y, w, h = truth
    row = [x / 2, y / rows, w / 2, h / rows, 1.0]
    values = {(0, 0, channel, 0, 0): t for channel, t in zip((T_X, T_Y, T_W, T_H, T_O), (*raw, t_o), strict=True)}
    return scene([row], grid=(rows, 2), images_seen=findings.late, raw=values)


def _target(findings: Findings, truth: tuple[float, ...], raw: tuple[float, ...]) -> tuple[float, float, float]:
    """Weight and target of objectness, from two values of t_o, and the IoU of the boxes."""
    s, grad = sigmoid(np.array(_T_O)), sigmoid_grad(np.array(_T_O))
    batches = [_on(findings, truth, raw, t_o) for t_o in _T_O]
    got = np.array([findings.box.gradient(batch)[0, 0, T_O, 0, 0] for batch in batches]) / grad
    weight = float((got[1] - got[0]) / (s[1] - s[0]))
    t = batches[0].predictions.reshape(1, -1, *batches[0].predictions.shape[2:])
    wanted = float(iou(decode(t, batches[0].anchors)[:, 0, 0, 0], batches[0].truths[0][0, :4]))
    return weight, float(s[0] - got[0] / weight) if abs(weight) > findings.box.silence else math.nan, wanted


def _targets(findings: Findings) -> bool:
    """The target of objectness for each pair of boxes. False if it is no IoU."""
    answers = [_target(findings, truth, raw) for truth, raw, _ in _PAIRS]
    weights, targets, wanted = (list(numbers) for numbers in zip(*answers, strict=True))
    if not np.isfinite(targets).all() or not np.allclose(weights, weights[0], rtol=1e-3):
        return False  # no squared error with a target
    if np.allclose(targets, targets[0], atol=1e-3):  # then the target is no IoU
        return False
    scale = float(np.dot(targets, wanted) / np.dot(wanted, wanted))
    if abs(scale - 1) > 1e-3 and np.allclose(targets, scale * np.array(wanted), atol=1e-3):
        return False  # the IoU, mixed with another target
    limit = 1e-9 if findings.box.dtype == "float64" else 1e-3
    wrong = [abs(target - want) > limit for target, want in zip(targets, wanted, strict=True)]
    if any(wrong) and np.allclose(targets, wanted, rtol=0, atol=DIGITS):
        off = float(np.abs(np.subtract(targets, wanted)).max())
        evidence = f"objectness has the IoU of {len(targets)} pairs of boxes as its target, off by up to {off:.2g}"
        findings.unknown("digits", evidence, odd=True)
        return True
    for kind in ("iou", "centre of the box", "size of the box", "apart"):
        places = [place for place, pair in enumerate(_PAIRS) if pair[2] == kind]
        if any(wrong[place] for place in places):
            evidence = (
                f"objectness has the targets {listed(*(targets[place] for place in places))} for boxes whose IoU is "
                f"{listed(*(wanted[place] for place in places))}"
            )
            if kind == "apart":
                evidence += f", {_APART}"
            if "box" in kind:
                another = _another_box(findings, kind)
                evidence += f"; {another or 'no box has this IoU with each of four truths'}"
                kind = kind if another else "iou"
            findings.unknown("iou" if kind == "apart" else kind, evidence, odd=True)
            break  # what is wrong in a simple scene is wrong in the others too
    return True


def _another_box(findings: Findings, kind: str) -> str:
    """The box that explains the IoU with four truths, if there is one: then the box is wrong and not the IoU."""
    moved = kind == "centre of the box"
    targets = [_target(findings, truth, _MOVED if moved else _SIZED)[1] for truth in _AROUND]

    def off(value: float) -> float:
        box = np.array([value, 0.5, 1.0, 1.0] if moved else [0.5, 0.5, value, 1.0])
        return max(
            abs(float(iou(box, np.array(truth))) - target) for truth, target in zip(_AROUND, targets, strict=True)
        )

    low, high = (-1.0, 2.0) if moved else (0.01, 3.0)
    for _ in range(6):  # the best of a grid, and then of finer grids around it
        values = np.linspace(low, high, 301)
        best = float(values[np.argmin([off(value) for value in values])])
        low, high = best - (high - low) / 150, best + (high - low) / 150
    if off(best) > 1e-3:
        return ""
    return f"a box {'whose centre is at' if moved else 'with a width of'} {best:.4g} of a cell explains them"


def _thresholds(findings: Findings, *, apart: bool) -> bool | None:
    """Whether a predictor becomes silent at the right IoU, for boxes moved aside and for small boxes.

    `None` if the threshold does not show it.

    If objectness shows that the IoU is right (`apart`), what is wrong here is MaxIOU.
    """
    thresh = findings.value("thresh")
    if thresh is None or not 0.05 < thresh < 0.95:
        return None
    wrong = []
    ways: tuple[tuple[str, Callable[[Findings, float], Batch], Callable[[float], float], float, float], ...] = (
        ("boxes moved aside", _moved, lambda shift: (1 - shift) ** 2 / (2 - (1 - shift) ** 2), 0.0, 0.3),
        ("boxes of an eighth of a cell", _small, lambda ratio: ratio**2, 1.0, 0.02),
    )
    for name, batch_of, overlap_of, low, high in ways:  # silent at `low`, paying at `high`
        if _pays(findings, batch_of(findings, low)):
            wrong.append(f"{name}: an IoU of 1 is not silent")
            continue
        if not _pays(findings, batch_of(findings, high)):
            if overlap_of(high) < thresh:
                still = f"{name} with an IoU of {overlap_of(high):.6g} are still silent"
                wrong.append(f"{still}, where the threshold is {thresh:.6g}")
            continue
        for _ in range(18):
            middle = (low + high) / 2
            low, high = (low, middle) if _pays(findings, batch_of(findings, middle)) else (middle, high)
        limit = overlap_of((low + high) / 2)
        if not math.isclose(limit, thresh, abs_tol=2e-3):
            wrong.append(f"{name} are silent from an IoU of {limit:.6g}, where the threshold is {thresh:.6g}")
    if wrong and "iou" not in findings.by_axis:
        findings.unknown("MaxIOU of other boxes" if apart else "IoU of other boxes", "; ".join(wrong), odd=True)
    return not wrong


def _pays(findings: Findings, batch: Batch) -> bool:
    return bool(abs(findings.box.gradient(batch)[0, 1, T_O, 0, 0]) > findings.box.silence)


def _moved(findings: Findings, shift: float) -> Batch:
    """Anchor 0 fits the truth better; the box of anchor 1 is the truth, moved aside by a share of its sides."""
    raw = {(0, 1, T_O, 0, 0): 0.5, (0, 1, T_W, 0, 0): math.log(0.75 / 0.5)}
    for channel, side in ((T_X, 0.75), (T_Y, 0.5)):
        s = 0.5 + shift * side
        raw[0, 1, channel, 0, 0] = math.log(s / (1 - s))
    anchors = [(0.75, 0.5), (0.5, 0.5)]
    return scene([[0.5, 0.5, 0.75, 0.5, 1]], anchors=anchors, images_seen=findings.late, raw=raw)


def _small(findings: Findings, ratio: float) -> Batch:
    """The box of anchor 1 has a share of the sides of a small truth."""
    raw = {(0, 1, T_O, 0, 0): 0.5} | {(0, 1, channel, 0, 0): math.log(ratio * 0.125 / 0.5) for channel in (T_W, T_H)}
    anchors = [(0.125, 0.125), (0.5, 0.5)]
    return scene([[0.5, 0.5, 0.125, 0.125, 1]], anchors=anchors, images_seen=findings.late, raw=raw)

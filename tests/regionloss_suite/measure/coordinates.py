"""A single truth and its predictor: targets, weights and space of x, y, w and h."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from regionloss.boxes import decode, iou, sigmoid, sigmoid_grad
from regionloss_spec import Batch
from regionloss_spec.batch import Array
from regionloss_suite.measure.black_box import T_H, T_O, T_W, T_X, T_Y, NoAnswerError, scene
from regionloss_suite.measure.findings import DIGITS, Findings, listed

_TRUTH = (0.625, 0.375, 0.5, 0.25, 1)
#: On two columns, so that a cell and the image differ, and no smaller than a cell; the anchor is not a cell either.
_LARGE = (0.296875, 0.375, 0.75, 1.0, 1)
_ANCHOR = (1.25, 0.5)


def at_its_iou(batch: Batch) -> Batch:
    """The batch with t_o of its first predictor such that σ(t_o) is the IoU with its first truth.

    Then the objectness residual is 0, and no gradient flows from it through the IoU.
    """
    t = np.array(batch.predictions).reshape(len(batch.truths), len(batch.anchors), -1, *batch.predictions.shape[2:])
    own = float(iou(decode(t[0], batch.anchors)[:, 0, 0, 0], batch.truths[0][0, :4]))
    own = min(max(own, 1e-6), 1 - 1e-6)
    t[0, 0, T_O, 0, 0] = math.log(own / (1 - own))
    np.copyto(batch.predictions, t.reshape(batch.predictions.shape))
    return batch


def _pulled(findings: Findings, channel: int, t: float, truth: tuple[float, ...], size: float = 0.0) -> float:
    """Gradient of one output of the only predictor, with t_w = t_h = `size` unless the output is one of them."""
    raw = {(0, 0, T_W, 0, 0): size, (0, 0, T_H, 0, 0): size, (0, 0, channel, 0, 0): t}
    gradient = findings.box.gradient(at_its_iou(scene([truth], images_seen=findings.late, raw=raw)))
    return float(gradient[0, 0, channel, 0, 0])


def centre(findings: Findings) -> None:
    """Weight and targets of x and y, and how the weight depends on the size of the truth."""
    values = (-0.5, 0.75, 1.5)
    weights = []
    for channel, target in ((T_X, _TRUTH[0]), (T_Y, _TRUTH[1])):
        name = "t_x" if channel == T_X else "t_y"
        # The predicted box is so large that it contains the whole truth, and the IoU does not change with its centre.
        got = np.array([_pulled(findings, channel, t, _TRUTH, 3.0) for t in values])
        s, grad = sigmoid(np.array(values)), sigmoid_grad(np.array(values))
        evidence = f"gradient of {name} at {listed(*values)} is {listed(*got)}"
        if not np.abs(got).max() > findings.box.silence:
            findings.unknown("coord_weight", f"{evidence}: no predictor is responsible for the truth", odd=True)
            raise NoAnswerError(f"{evidence}: no predictor is responsible for the truth")
        weight, offset = np.polyfit(s, got / grad, 1)
        middle = -offset / weight if weight else math.nan
        if np.allclose(got, weight * (s - target) * grad, rtol=1e-3, atol=1e-4 * abs(weight)):
            weights.append(float(weight))
            findings.note(f"target of {name}", target, f"{evidence}: {weight:.9g}·(σ - {middle:.6g})·σ'")
            continue
        plain = got @ (s - target) / ((s - target) @ (s - target))
        entropy = np.allclose(got, plain * (s - target), rtol=1e-3)
        shape = "binary cross-entropy" if entropy else f"not a squared error with target {target:g}"
        findings.unknown(f"target of {name}", f"{evidence}: {shape}", odd=True)
        raise NoAnswerError(f"{evidence}: {shape}")
    if not findings.same(weights[0], weights[1]):
        close = math.isclose(*weights, rel_tol=DIGITS)
        findings.unknown("digits" if close else "weights of x and y", f"weights of t_x and t_y: {weights}", odd=True)
    _size_of_weight(findings)


def _size_of_weight(findings: Findings) -> None:
    sides = ((0.25, 0.5), (0.75, 0.5), (1.0, 0.875))  # not squares, so that w·h is neither w² nor h²
    weights = []
    for w, h in sides:
        got = _pulled(findings, T_X, 1.5, (0.625, 0.5, w, h, 1), 3.0)
        weights.append(got / float((sigmoid(np.array(1.5)) - 0.625) * sigmoid_grad(np.array(1.5))))
    s = np.array([2 - w * h for w, h in sides])
    evidence = f"weight of t_x for truths of w·h = {listed(*(w * h for w, h in sides))}: {listed(*weights)}"
    for exponent in (1, 0, 2):
        base = float(np.mean(weights / s**exponent))
        if np.allclose(weights, base * s**exponent, rtol=1e-3):
            findings.products["coord_weight"] = findings.number(float(weights[-1] / s[-1] ** exponent))
            findings.note("small_box_exponent", exponent, f"{evidence}: {base:.9g}·(2 - w·h)^{exponent}")
            findings.note("coord_weight", base, evidence)
            return
    findings.unknown("small_box_exponent", f"{evidence}: no power 0, 1, 2 of 2 - w·h", odd=True)
    findings.unknown("coord_weight", evidence, odd=True)


def size(findings: Findings) -> None:
    """The space in which widths and heights are compared, its weight, and whether small truths are clamped."""
    values = (-0.5, 0.25, 1.0)
    # On one row unless the loss supports only square grids; the truth is as high as a cell in both.
    rows = 2 if findings.box.square else 1
    large = (_LARGE[0], _LARGE[1] / rows, _LARGE[2], _LARGE[3] / rows, _LARGE[4])
    s = (2 - large[2] * large[3]) ** findings.value("small_box_exponent", 0)
    known = findings.products.get("coord_weight")
    # Functions of t, the truth's side and the anchor, both in cells, and the number of cells.
    forms: dict[str, Callable[[Array, float, float, int], Array]] = {
        "log": lambda t, side, anchor, cells: t - math.log(side / anchor),
        "decoded": lambda t, side, anchor, cells: (anchor * np.exp(t) - side) * anchor * np.exp(t),
        "square-root": lambda t, side, anchor, cells: (
            (np.sqrt(anchor / cells * np.exp(t)) - math.sqrt(side / cells))
            * np.sqrt(anchor / cells * np.exp(t)) / 2
        ),
    }  # fmt: skip
    fits = []
    for channel, cells in ((T_W, 2), (T_H, rows)):
        got = []
        for t in values:
            raw = {(0, 0, channel, 0, 0): t}
            batch = scene([large], anchors=[_ANCHOR], grid=(rows, 2), images_seen=findings.late, raw=raw)
            got.append(float(findings.box.gradient(at_its_iou(batch))[0, 0, channel, 0, 0]))
        evidence = f"gradient of {'t_w' if channel == T_W else 't_h'} at {listed(*values)} is {listed(*got)}"
        for name, form in forms.items():
            expected = form(np.array(values), large[channel] * cells, _ANCHOR[channel - T_W], cells)
            weight = float(np.array(got) @ expected / (expected @ expected))
            if np.allclose(got, weight * expected, rtol=1e-3, atol=1e-4 * abs(weight)) and weight:
                fits.append((name, weight / s, f"{evidence}: {name}, weight {weight / s:.9g}"))
                break
        else:
            findings.unknown("size_space", f"{evidence}: none of log, decoded and √", odd=True)
            return
    if fits[0][0] != fits[1][0]:
        findings.unknown("size_space", f"{fits[0][2]}; {fits[1][2]}", odd=True)
        return
    findings.note("size_space", fits[0][0], fits[0][2])
    if known is not None and not all(findings.same(weight, known) for _, weight, _ in fits):
        _weights_apart(findings, [weight for _, weight, _ in fits], known, large, s)
    _floor(findings)


def _weights_apart(findings: Findings, weights: list[float], known: float, large: tuple[float, ...], s: float) -> None:
    """Sizes weigh unlike centres: in the same scene too, or only since a larger grid changes both."""
    rows = 2 if findings.box.square else 1
    raw = {(0, 0, T_X, 0, 0): 1.5, (0, 0, T_W, 0, 0): 3.0, (0, 0, T_H, 0, 0): 3.0}
    batch = scene([large], anchors=[_ANCHOR], grid=(rows, 2), images_seen=findings.late, raw=raw)
    pull = float(findings.box.gradient(at_its_iou(batch))[0, 0, T_X, 0, 0])
    residual = float((sigmoid(np.array(1.5)) - 2 * large[0]) * sigmoid_grad(np.array(1.5)))
    here = pull / residual / s
    evidence = f"{listed(*weights)} for w and h, {known:.6g} for the centre on one cell, {here:.6g} on {rows} × 2 cells"
    in_anchors = [weight * side**2 for weight, side in zip(weights, _ANCHOR, strict=True)]
    if findings.value("size_space") == "decoded" and all(math.isclose(one, here, rel_tol=1e-3) for one in in_anchors):
        findings.unknown("size_space", f"{evidence}: both are compared in anchors, e^t with a share of the anchor",
                         odd=True)  # fmt: skip
    elif all(math.isclose(weight, here, rel_tol=DIGITS) for weight in weights):
        name = "digits" if math.isclose(here, known, rel_tol=DIGITS) else "small_box_exponent"
        findings.unknown(name, f"weights of sizes and centres: {evidence}", odd=True)
    else:
        findings.unknown("weight of sizes", evidence, odd=True)


def _floor(findings: Findings) -> None:
    if findings.value("size_space") != "log":
        findings.note("size_target_floor", "none", "sizes are not compared as logarithms", "assumed")
        return
    small = (0.5, 0.5, 0.25, 0.25, 1)
    got = [_pulled(findings, T_W, t, small) for t in (0.0, 1.0)]
    if abs(got[1] - got[0]) <= findings.box.silence:
        findings.unknown(
            "size_target_floor", f"a truth of a quarter of a cell gives t_w the slopes {listed(*got)}", odd=True
        )
        return
    target = -got[0] / (got[1] - got[0])
    evidence = (
        f"a truth of a quarter of a cell gives t_w the target {target:.6g}; its own logarithm is {math.log(0.25):.6g}"
    )
    if abs(target - math.log(0.25)) < 1e-3:
        findings.note("size_target_floor", "none", evidence)
    elif abs(target) < 1e-3:
        findings.note("size_target_floor", "one-cell", evidence)
    else:
        findings.unknown("size_target_floor", evidence, odd=True)

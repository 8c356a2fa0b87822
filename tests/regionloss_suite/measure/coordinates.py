"""A truth and its predictor alone: targets, weights and space of x, y, w and h."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from regionloss.boxes import decode, iou, sigmoid, sigmoid_grad
from regionloss_spec import Batch
from regionloss_spec.batch import Array
from regionloss_suite.measure.black_box import T_H, T_O, T_W, T_X, T_Y, NoAnswerError, scene
from regionloss_suite.measure.findings import Notebook, listed

_TRUTH = (0.625, 0.375, 0.5, 0.25, 1)
#: On two columns, so that a cell and the image differ, and no smaller than a cell; the anchor is no cell either.
_LARGE = (0.3, 0.375, 0.75, 1.0, 1)
_ANCHOR = (1.25, 0.5)


def at_its_iou(batch: Batch) -> Batch:
    """The batch with t_o of its first predictor such that σ(t_o) is the IoU with its first truth.

    Then the residual of objectness is 0, and nothing flows from it through the IoU.
    """
    t = np.array(batch.predictions).reshape(len(batch.truths), len(batch.anchors), -1, *batch.predictions.shape[2:])
    own = float(iou(decode(t[0], batch.anchors)[:, 0, 0, 0], batch.truths[0][0, :4]))
    own = min(max(own, 1e-6), 1 - 1e-6)
    t[0, 0, T_O, 0, 0] = math.log(own / (1 - own))
    np.copyto(batch.predictions, t.reshape(batch.predictions.shape))
    return batch


def _pulled(book: Notebook, channel: int, t: float, truth: tuple[float, ...], size: float = 0.0) -> float:
    """Gradient of one output of the only predictor, with t_w = t_h = `size` unless it is one of them that is asked."""
    raw = {(0, 0, T_W, 0, 0): size, (0, 0, T_H, 0, 0): size, (0, 0, channel, 0, 0): t}
    gradient = book.box.gradient(at_its_iou(scene([truth], seen=book.late, raw=raw)))
    return float(gradient[0, 0, channel, 0, 0])


def centre(book: Notebook) -> None:
    """Weight and targets of x and y, and how the weight follows the size of the truth."""
    values = (-0.5, 0.75, 1.5)
    weights = []
    for channel, target in ((T_X, _TRUTH[0]), (T_Y, _TRUTH[1])):
        name = "t_x" if channel == T_X else "t_y"
        # The predicted box is so large that it holds the truth whole, and the IoU does not move with its centre.
        got = np.array([_pulled(book, channel, t, _TRUTH, 3.0) for t in values])
        s, slope = sigmoid(np.array(values)), sigmoid_grad(np.array(values))
        said = f"gradient of {name} at {listed(*values)} is {listed(*got)}"
        if not np.abs(got).max() > book.box.silence:
            book.unknown("coord_weight", f"{said}: no predictor answers for the truth", odd=True)
            raise NoAnswerError(f"{said}: no predictor answers for the truth")
        weight, offset = np.polyfit(s, got / slope, 1)
        middle = -offset / weight if weight else math.nan
        if np.allclose(got, weight * (s - target) * slope, rtol=1e-3, atol=1e-4 * abs(weight)):
            weights.append(float(weight))
            book.note(f"target of {name}", target, f"{said}: {weight:.9g}·(σ - {middle:.6g})·σ'")
            continue
        plain = got @ (s - target) / ((s - target) @ (s - target))
        entropy = np.allclose(got, plain * (s - target), rtol=1e-3)
        shape = "binary cross-entropy" if entropy else f"not a squared error towards {target:g}"
        book.unknown(f"target of {name}", f"{said}: {shape}", odd=True)
        raise NoAnswerError(f"{said}: {shape}")
    if not book.same(weights[0], weights[1]):
        book.unknown("weights of x and y", f"{listed(*weights)}: they differ", odd=True)
    _size_of_weight(book)


def _size_of_weight(book: Notebook) -> None:
    sides = (0.25, 0.5, 1.0)
    weights = []
    for side in sides:
        got = _pulled(book, T_X, 1.5, (0.625, 0.5, side, side, 1), 3.0)
        weights.append(got / float((sigmoid(np.array(1.5)) - 0.625) * sigmoid_grad(np.array(1.5))))
    s = np.array([2 - side * side for side in sides])
    said = f"weight of t_x for truths of w·h = {listed(*(side * side for side in sides))}: {listed(*weights)}"
    for exponent in (1, 0, 2):
        base = float(np.mean(weights / s**exponent))
        if np.allclose(weights, base * s**exponent, rtol=1e-3):
            book.products["coord_weight"] = book.number(float(weights[-1] / s[-1] ** exponent))
            book.note("small_box_exponent", exponent, f"{said}: {base:.9g}·(2 - w·h)^{exponent}")
            book.note("coord_weight", base, said)
            return
    book.unknown("small_box_exponent", f"{said}: no power 0, 1, 2 of 2 - w·h", odd=True)
    book.unknown("coord_weight", said, odd=True)


def size(book: Notebook) -> None:
    """In which space widths and heights are compared, with which weight, and whether small truths are clamped."""
    values = (-0.5, 0.25, 1.0)
    # On one row unless the loss takes square grids alone; the truth is as high as a cell in both.
    rows = 2 if book.box.square else 1
    large = (_LARGE[0], _LARGE[1] / rows, _LARGE[2], _LARGE[3] / rows, _LARGE[4])
    s = (2 - large[2] * large[3]) ** book.value("small_box_exponent", 0)
    known = book.products.get("coord_weight")
    # Of t, the truth's side and the anchor, both in cells, and the number of cells.
    forms: dict[str, Callable[[Array, float, float, int], Array]] = {
        "log": lambda t, side, anchor, cells: t - math.log(side / anchor),
        "decoded": lambda t, side, anchor, cells: (anchor * np.exp(t) - side) * anchor * np.exp(t),
        "square-root": lambda t, side, anchor, cells: (
            (np.sqrt(anchor / cells * np.exp(t)) - math.sqrt(side / cells))
            * np.sqrt(anchor / cells * np.exp(t)) / 2
        ),
    }  # fmt: skip
    found = []
    for channel, cells in ((T_W, 2), (T_H, rows)):
        got = []
        for t in values:
            raw = {(0, 0, channel, 0, 0): t}
            batch = scene([large], anchors=[_ANCHOR], grid=(rows, 2), seen=book.late, raw=raw)
            got.append(float(book.box.gradient(at_its_iou(batch))[0, 0, channel, 0, 0]))
        said = f"gradient of {'t_w' if channel == T_W else 't_h'} at {listed(*values)} is {listed(*got)}"
        for name, form in forms.items():
            expected = form(np.array(values), large[channel] * cells, _ANCHOR[channel - T_W], cells)
            weight = float(np.array(got) @ expected / (expected @ expected))
            if np.allclose(got, weight * expected, rtol=1e-3, atol=1e-4 * abs(weight)) and weight:
                found.append((name, weight / s, f"{said}: {name}, weight {weight / s:.9g}"))
                break
        else:
            book.unknown("size_space", f"{said}: neither log, decoded nor √", odd=True)
            return
    if found[0][0] != found[1][0]:
        book.unknown("size_space", f"{found[0][2]}; {found[1][2]}", odd=True)
        return
    book.note("size_space", found[0][0], found[0][2])
    if known is not None and not all(book.same(weight, known) for _, weight, _ in found):
        weights = listed(*(weight for _, weight, _ in found))
        book.unknown("weight of sizes", f"{weights} for w and h, {known:.6g} for the centre", odd=True)
    _floor(book)


def _floor(book: Notebook) -> None:
    if book.value("size_space") != "log":
        book.note("size_target_floor", "none", "sizes are not compared as logarithms", "assumed")
        return
    small = (0.5, 0.5, 0.25, 0.25, 1)
    got = [_pulled(book, T_W, t, small) for t in (0.0, 1.0)]
    if abs(got[1] - got[0]) <= book.box.silence:
        book.unknown("size_target_floor", f"a truth of a quarter of a cell pulls t_w by {listed(*got)}", odd=True)
        return
    target = -got[0] / (got[1] - got[0])
    said = f"a truth of a quarter of a cell pulls t_w towards {target:.6g}, its own logarithm is {math.log(0.25):.6g}"
    if abs(target - math.log(0.25)) < 1e-3:
        book.note("size_target_floor", "none", said)
    elif abs(target) < 1e-3:
        book.note("size_target_floor", "one-cell", said)
    else:
        book.unknown("size_target_floor", said, odd=True)

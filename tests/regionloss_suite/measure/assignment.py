"""Which predictor is responsible for a truth: the list, the cell, the anchor, ties, and two truths on one predictor."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np

from regionloss.boxes import decode, iou, sigmoid, sigmoid_grad
from regionloss.decisions import anchor_fit
from regionloss_spec import Batch, Profile
from regionloss_spec.batch import Array
from regionloss_spec.profile import axis_values
from regionloss_suite.measure.black_box import CLASSES, T_H, T_O, T_W, T_X, T_Y, NoAnswerError, scene
from regionloss_suite.measure.findings import Findings, listed
from regionloss_suite.measure.scalar_gradient import ScalarGradient

#: The most truths per image to try.
CAPACITY = 256


def responsible(findings: Findings, batch: Batch) -> list[tuple[int, ...]]:
    """The predictors (image, anchor, row, column) with a gradient of t_x, t_y, t_w or t_h, late in training."""
    if findings.box.scalar_only:
        batch = settled(batch)
    gradient = findings.box.gradient(batch)
    pulled = np.abs(gradient[:, :, :T_O]).max(axis=2) > findings.box.silence
    if findings.box.scalar_only:
        # A box that moves may win the truth of an equal rival; a class output moves no box.
        pulled &= np.abs(gradient[:, :, CLASSES:]).max(axis=2) > findings.box.silence
    return [tuple(map(int, place)) for place in np.argwhere(pulled)]


def settled(batch: Batch) -> Batch:
    """The batch with each t_o such that σ(t_o) is the largest IoU with a truth.

    A scalar also changes with an IoU that its gradient holds constant; if the residual is 0, that does not show.
    """
    t = np.array(batch.predictions).reshape(len(batch.truths), len(batch.anchors), -1, *batch.predictions.shape[2:])
    for n, rows in enumerate(batch.truths):
        boxes = decode(t[n], batch.anchors)
        best = np.clip(np.max([iou(boxes, row[:4]) for row in rows], axis=0, initial=0.0), 1e-6, 1 - 1e-6)
        t[n, :, T_O] = np.log(best / (1 - best))
    return dataclasses.replace(batch, predictions=t.reshape(batch.predictions.shape))


def capacity(findings: Findings) -> None:
    """How many truths of an image are read."""
    side = int(CAPACITY**0.5)
    rows = [[(i + 0.25) / side, (j + 0.25) / side, 1 / side, 1 / side, 0] for j in range(side) for i in range(side)]
    most = _most_accepted(findings, rows, side)
    batch = scene(rows[:most], grid=(side, side), classes=1, images_seen=findings.late)
    predictors = _first_pulled(findings, batch) if findings.box.scalar_only else responsible(findings, batch)
    evidence = f"{most} truths, each in a cell of its own: {len(predictors)} are assigned"
    first = {(0, 0, place // side, place % side) for place in range(len(predictors))}
    if len(predictors) == most < CAPACITY:
        findings.note("max_truths", most, f"{evidence}; it takes no more")
    elif len(predictors) == CAPACITY:
        findings.note("max_truths", 0, f"{evidence}; a higher limit would not show")
    elif set(predictors) == first:
        findings.note("max_truths", len(predictors), f"{evidence}, the first ones")
    else:
        findings.unknown("max_truths", f"{evidence}, not the first ones", odd=True)


def _most_accepted(findings: Findings, rows: list[list[float]], side: int) -> int:
    """How many truths in an image the adapter says that its loss takes."""

    def accepts(number: int) -> bool:
        try:
            findings.box.answer(scene(rows[:number], grid=(side, side), classes=1, images_seen=findings.late))
        except NoAnswerError as error:
            if error.declined:
                return False
            raise
        return True

    if accepts(CAPACITY):
        return CAPACITY
    below, above = 1, CAPACITY
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if accepts(middle) else (below, middle)
    return below


def _first_pulled(findings: Findings, batch: Batch) -> list[tuple[int, ...]]:
    """The predictors up to the last one with a gradient, if a sample of those before it have one too.

    With a scalar, many slopes are measured at once; measuring each predictor separately would take too many questions.
    """
    gradient = findings.box.gradient(settled(batch))
    side = batch.predictions.shape[-1]
    assert isinstance(gradient, ScalarGradient)

    def pulled(begin: int, end: int) -> bool:
        cells = np.arange(begin, end)
        return gradient.any((0, 0, slice(T_X, T_O), cells // side, cells % side))

    below, above = 0, CAPACITY  # gradients at or after the first, none after the second
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if pulled(middle, CAPACITY) else (below, middle)
    looked_at = sorted({*np.linspace(0, above - 1, 8).astype(int).tolist()})
    silent = {k for k in looked_at if not pulled(k, k + 1)}
    return [(0, 0, k // side, k % side) for k in range(above) if k not in silent]


def end_of_list(findings: Findings) -> None:
    """Whether a row with x = 0 ends the list; what other padding does."""
    truth = [0.625, 0.375, 0.5, 0.5, 0]
    rows = [[0.0, 0.375, 0.5, 0.5, 0], truth]
    try:
        predictors = responsible(findings, scene(rows, grid=(2, 2), images_seen=findings.late))
    except NoAnswerError as refused:
        findings.unknown("truth_end", f"a truth with x = 0, then another: {refused}")
    else:
        evidence = f"a truth with x = 0, then another: {len(predictors)} are assigned"
        value = "x-zero" if not predictors else "none" if predictors == [(0, 0, 0, 0), (0, 0, 0, 1)] else None
        findings.note("truth_end", value, evidence, odd=value is None)
    padded = {"zeros": [0.0] * 5, "a class of -1": [0.5, 0.5, 0.5, 0.5, -1.0], "all -1": [-1.0] * 5}
    for name, row in padded.items():
        counts = []
        for order in ([truth, row], [row, truth]):
            try:
                counts.append(
                    f"{len(responsible(findings, scene(order, grid=(2, 2), images_seen=findings.late)))} assigned"
                )
            except NoAnswerError as refused:
                counts.append(str(refused).split(":")[0])
        findings.note(
            f"padding with {name}", f"{counts[0]}, {counts[1]}", f"after a truth: {counts[0]}; before it: {counts[1]}"
        )


def cell(findings: Findings) -> None:
    """The cell of a centre inside a cell, near a border and exactly on it, preferably on a grid that is not square."""
    wrong = []
    height = 4 if findings.box.square else 2
    # In 64ths, so that every format of truths has them, corners too.
    places = [(0.25, 0.5), (0.734375, 0.296875), (0.765625, 0.703125), (0.5, 0.625), (0.375, 0.90625)]
    for x, y in places:
        batch = scene([[x, y, 0.375, 0.625, 0]], grid=(height, 4), images_seen=findings.late)
        predictors = responsible(findings, batch)
        # A gradient may be 0 by chance only if the target is met, which these places avoid in w and h or x and y.
        if predictors != [(0, 0, int(y * height), int(x * 4))]:
            wrong.append(f"({x}, {y}): {predictors}")
    evidence = f"centres {places} on {height} rows of 4 cells"
    if wrong and height == 2:
        _square_cells(findings, places, f"{evidence}: {'; '.join(wrong)}")
    if wrong:
        rule = "another predictor than floor(y·H), floor(x·W)"
        findings.unknown("cell rule", f"{evidence}: {rule} for {'; '.join(wrong)}", odd=True)
    else:
        findings.note("cell rule", "floor", f"{evidence}: always floor(y·H), floor(x·W)")


def _square_cells(findings: Findings, places: list[tuple[float, float]], evidence: str) -> None:
    """Whether a wrong cell is right on a square grid, or the centre's mirror image: then the axes are mixed up."""
    straight, mirrored = [], []
    for x, y in places[:4]:
        batch = scene([[x, y, 0.375, 0.625, 0]], grid=(4, 4), images_seen=findings.late)
        predictors = responsible(findings, batch)
        straight.append(predictors == [(0, 0, int(y * 4), int(x * 4))])
        mirrored.append(predictors == [(0, 0, int(x * 4), int(y * 4))])
    if all(straight):
        findings.unknown("grid axes", f"{evidence}; on a grid of 4 rows of 4 cells, all are right", odd=True)
    elif all(mirrored):
        findings.unknown("axes of truths", f"{evidence}; on a square grid, row and column change places", odd=True)


def anchor_choice(findings: Findings) -> None:
    """Scenes in which the rules choose different anchors, found by a search with the reference's own fits."""
    rules = axis_values("anchor_choice")
    left = list(rules)
    evidence = []
    for batch, choices in _telling_scenes(rules):
        predictors = responsible(findings, dataclasses.replace(batch, images_seen=findings.late))
        evidence.append(
            f"anchor {', '.join(str(k) for _, k, _, _ in predictors) or 'none'} where the rules say {choices}"
        )
        if len(predictors) != 1:
            findings.unknown(
                "anchor_choice", f"{len(predictors)} predictors are responsible for one truth: {evidence[-1]}", odd=True
            )
            return
        left = [rule for rule in left if choices[rule] == predictors[0][1]]
        if not left:
            break
    if len(left) != 1:
        findings.unknown("anchor_choice", f"{evidence[-1]}; the remaining rules are {left or 'none'}", odd=True)
        return
    findings.note(
        "anchor_choice", left[0], f"in {len(evidence)} scenes that separate the rules, always the choice of {left[0]}"
    )
    _tie(findings)


@cache
def _telling_scenes(rules: tuple[str, ...]) -> list[tuple[Batch, dict[str, int]]]:
    random = np.random.default_rng(20)
    base = Profile(name="", title="", source="")
    scenes: list[tuple[Batch, dict[str, int]]] = []
    separated: set[tuple[str, str]] = set()
    wanted = {(a, b) for a in rules for b in rules if a < b}
    while len(scenes) < 10 or separated != wanted:
        anchors = random.choice(np.arange(3, 17), (3, 2)) / 8
        truth = [*random.choice(np.arange(1, 31), 2) / 32, *random.choice(np.arange(4, 15), 2) / 16, 1.0]
        t = np.round(random.normal(size=(3, 4)) * 16) / 16
        raw = {(0, k, c, j, i): t[k, c] for k in range(3) for c in range(4) for j in range(2) for i in range(2)}
        batch = scene([truth], anchors=anchors, grid=(2, 2), images_seen=0, raw=raw)
        row = np.array(truth)
        boxes = decode(batch.predictions.reshape(3, 8, 2, 2), batch.anchors)
        choices, clear = {}, True
        for rule in rules:
            fits = anchor_fit(
                int(row[1] * 2), int(row[0] * 2), row, boxes, batch.anchors, base.replace(anchor_choice=rule)
            )
            choices[rule] = int(np.argmax(fits))
            clear &= bool(np.sort(fits)[-1] - np.sort(fits)[-2] > 0.02)
        new = {(a, b) for a, b in wanted if choices[a] != choices[b]}
        if clear and (len(new) >= 5 or new - separated):
            scenes.append((batch, choices))
            separated |= new
    return scenes


def _tie(findings: Findings) -> None:
    anchors = [(1.0, 1.0), (0.75, 0.75), (0.75, 0.75)]
    raw = {(0, k, c, 0, 0): -2.0 for k in range(3) for c in (T_X, T_Y)}
    # Close to the corner, so that a box of 3/4 fits better than one of 1 under every comparison.
    twins = scene([[0.125, 0.125, 0.25, 0.25, 1]], anchors=anchors, images_seen=findings.late, raw=raw)
    predictors = responsible(findings, twins)
    value = "first" if predictors == [(0, 1, 0, 0)] else "last" if predictors == [(0, 2, 0, 0)] else None
    findings.note("anchor tie", value, f"anchors 1 and 2 fit equally: {predictors} responsible", odd=value != "first")


def collision(findings: Findings) -> None:
    """Two truths on one predictor: which of them affects t_x and the class outputs."""
    offsets = (0.25, 0.625)
    tree = (-1, -1, 0, 0, 1) if findings.value("class_term") == "tree" else None
    rows = [[offsets[0], 0.5, 0.5, 0.5, 2], [offsets[1], 0.5, 0.5, 0.5, 4]]
    # The predicted box contains both, so that the IoU does not change with its centre.
    raw = {(0, 0, T_X, 0, 0): 0.75, (0, 0, T_Y, 0, 0): 0.5, (0, 0, T_W, 0, 0): 3.0, (0, 0, T_H, 0, 0): 3.0}

    def pulled(*chosen: int) -> Array:
        batch = scene([rows[k] for k in chosen], classes=5, images_seen=findings.late, raw=raw, tree=tree)
        return np.asarray(findings.box.gradient(batch)[0, 0, :, 0, 0])

    first, last, both = pulled(0), pulled(1), pulled(0, 1)
    kinds = {"last": last, "first": first, "sum": first + last}

    def kind_of(channels: slice) -> str | None:
        scale = np.abs(first[channels]).max() + np.abs(last[channels]).max()
        return next((k for k, want in kinds.items() if np.allclose(both[channels], want[channels], atol=1e-4 * scale)),
                    None)  # fmt: skip

    box, of_class = kind_of(slice(T_X, T_Y)), kind_of(slice(CLASSES, None))
    s = float(sigmoid(np.array(0.75)))
    pull = [g[T_X] / float(sigmoid_grad(np.array(0.75))) for g in (first, last, both)]
    evidence = (
        f"two truths at offsets {listed(*offsets)} on one predictor (σ(t_x) = {s:.6g}): the gradient of t_x is "
        f"{listed(*pull)} from the first, the last, both"
    )
    findings.note("collision", box, f"{evidence}: {box}", odd=box is None)
    class_evidence = (
        f"the class gradient is {listed(*first[CLASSES:])} | {listed(*last[CLASSES:])} | {listed(*both[CLASSES:])}"
    )
    accumulated = np.minimum(
        first[CLASSES:], last[CLASSES:]
    )  # a true class has a negative gradient, whichever truth has it
    if tree is not None:  # a group off the last path keeps the class of the first truth
        accumulated = np.where(last[CLASSES:] != 0, last[CLASSES:], first[CLASSES:])
    if of_class is not None and of_class == box:
        findings.note("class_collision", "replace", class_evidence)
    elif box == "last" and np.allclose(both[CLASSES:], accumulated, atol=1e-4 * np.abs(both[CLASSES:]).max()):
        findings.note("class_collision", "accumulate", class_evidence)
    else:
        findings.unknown("class_collision", f"{class_evidence}: {of_class or 'no'} rule, the box: {box}", odd=True)

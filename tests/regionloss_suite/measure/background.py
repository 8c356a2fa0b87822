"""Images without objects: the prior with its limit, the shape of the no-object term, and the reduction."""

from __future__ import annotations

import itertools

import numpy as np

from regionloss.boxes import sigmoid, sigmoid_grad
from regionloss.classes import softmax
from regionloss_spec import Batch
from regionloss_suite.measure.black_box import T_H, T_O, T_W, T_X, NoAnswerError, scene
from regionloss_suite.measure.findings import DIGITS, Findings, listed
from regionloss_suite.measure.reduction import DIVIDING

_FURTHEST = 2**40
_LOGITS = (0.3, -0.7, 1.1)


def start(findings: Findings) -> None:
    """Whether the loss answers at all: with a tree of classes, more anchors or a truth if it needs them."""
    _anchors(findings)
    empty = scene([], images_seen=findings.late)
    try:
        _ask(findings, empty)
    except NoAnswerError as refused:
        findings.box.wants_tree = True
        try:
            _ask(findings, empty)
        except NoAnswerError:
            findings.box.wants_tree = False
            _ask(findings, scene(_TRUTH, images_seen=findings.late))
            findings.unknown("empty image", f"an image without objects: {refused}", odd=not refused.declined)
            findings.box.wants_truth = True
    _grids(findings)


_TRUTH = ((0.5, 0.5, 1.0, 1.0, 0),)
#: Numbers of anchors to try for a loss that does not take one.
_ANCHORS = (5, 9, 3, 2)


def _ask(findings: Findings, batch: Batch) -> None:
    """Raise `NoAnswerError` unless the loss answers a batch: slopes of a scalar are asked only once they are read."""
    findings.box.answer(batch)
    findings.box.gradient(batch)


def _anchors(findings: Findings) -> None:
    """The number of anchors that the loss takes, if one anchor is not possible; later questions keep to it."""

    def answers() -> bool:
        for findings.box.wants_tree in (False, True):
            try:
                _ask(findings, scene(_TRUTH, images_seen=findings.late))
            except NoAnswerError:
                continue
            finally:
                findings.box.wants_tree = False
            return True
        return False

    if answers():
        return
    for findings.box.anchors in _ANCHORS:
        if answers():
            evidence = f"it takes {findings.box.anchors} anchors and not one; those that a question lacks are tiny"
            findings.note("number of anchors", findings.box.anchors, evidence, "assumed")
            return
    findings.box.anchors = 0


def _grids(findings: Findings) -> None:
    """Whether the loss supports a grid that is not square; otherwise later experiments use a square one."""
    truth = [0.25, 0.25, 0.5, 0.5, 0]
    try:
        _ask(findings, scene([truth], grid=(1, 2), images_seen=findings.late))
    except NoAnswerError as refused:
        _ask(findings, scene([truth], grid=(2, 2), images_seen=findings.late))
        findings.box.square = True
        findings.unknown("grids", f"a truth on 1 row of 2 cells: {refused}", odd=not refused.declined)


def prior(findings: Findings) -> None:
    """Gradient of t_x to t_h in an empty image, and the t at which it ends."""
    raw = {(0, 0, T_X, 0, 0): 1.0, (0, 0, T_W, 0, 0): 0.5, (0, 0, T_H, 0, 0): -0.25}

    def pulls(images_seen: int) -> bool:
        return bool(
            np.abs(findings.box.gradient(scene([], images_seen=images_seen, raw=raw))[0, 0, :4]).max()
            > findings.box.silence
        )

    at_zero = findings.box.gradient(scene([], images_seen=0, raw=raw))[0, 0, :4, 0, 0]
    if not np.abs(at_zero).max() > findings.box.silence:
        findings.note("prior_until", 0, "an empty image at t = 0: t_x to t_h have no gradient, so there is no prior")
        findings.note("prior_weight", 0.01, "no prior is paid, so its weight does not show", "assumed")
        findings.note("prior_applies", "not-responsible", "no prior is paid", "assumed")
        return
    if pulls(_FURTHEST):
        findings.unknown(
            "prior_until", f"an empty image: t_x to t_h have gradients at t = 0 and at t = {_FURTHEST}", odd=True
        )
        findings.late = _FURTHEST
    else:
        below, above = 0, 1
        while pulls(above):
            below, above = above, above * 2
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (middle, above) if pulls(middle) else (below, middle)
        findings.note("prior_until", above, f"an empty image: t_x to t_h have gradients at t = {below}, not {above}")
        findings.late = max(findings.late, 2 * above)
    residuals = np.array([(sigmoid(np.array(1.0)) - 0.5) * sigmoid_grad(np.array(1.0)), 0.0, 0.5, -0.25])
    weight = float(at_zero @ residuals / (residuals @ residuals))
    evidence = f"gradient of t_x, t_y, t_w, t_h at 1, 0, .5, -.25: {listed(*at_zero)}"
    if not np.allclose(at_zero, weight * residuals, rtol=1e-4, atol=1e-4 * abs(weight)):
        findings.unknown("prior_weight", f"{evidence}, which is not a multiple of {listed(*residuals)}", odd=True)
        return
    findings.products["prior_weight"] = findings.number(weight)
    findings.note("prior_weight", weight, f"{evidence}: {weight:.9g} times the residuals with targets .5, .5, 0, 0")


def no_object(findings: Findings) -> None:
    """Shape and weight of the no-object term over several values of t_o."""
    values = (-1.0, 0.25, 1.5)
    got, forms = [], []
    for t_o in values:
        raw = {(0, 0, T_O, 0, 0): t_o} | {(0, 0, 5 + c, 0, 0): z for c, z in enumerate(_LOGITS)}
        gradient = findings.box.gradient(scene([], images_seen=findings.late, raw=raw))[0, 0, :, 0, 0]
        got.append(gradient[T_O])
        s = float(sigmoid(np.array(t_o)))
        p = float(softmax(np.array([t_o, *_LOGITS]))[0])
        forms.append((s * s * (1 - s), p - 1, t_o - 1, s, t_o))
    names = ("λ·σ·σ'", "λ·(p_background - 1)", "λ·(t_o - 1)", "λ·σ (binary cross-entropy)", "λ·t_o")
    evidence = f"an empty image: gradient of t_o at {listed(*values)} is {listed(*got)}"
    if not np.abs(got).max() > findings.box.silence:
        findings.unknown("objectness", f"{evidence}; nothing is paid for no object", odd=True)
        beside = scene([[0.25, 0.5, 0.5, 1.0, 1]], grid=(2, 2), images_seen=findings.late)
        pull = float(findings.box.gradient(beside)[0, 0, T_O, 1, 1])
        if abs(pull) > findings.box.silence:
            findings.unknown("empty images", f"{evidence}; in an image with a truth it is {pull:.6g}", odd=True)
        return
    for name, form in zip(names, np.array(forms).T, strict=True):
        weight = float(got @ form / (form @ form))
        if np.allclose(got, weight * form, rtol=1e-4, atol=1e-5 * abs(weight)):
            findings.products["no_object_weight"] = findings.number(weight)
            findings.note("no_object_weight", weight, f"{evidence}: {name} with λ = {weight:.9g}")
            kind = {names[0]: "logistic", names[1]: "background", names[2]: "background"}.get(name)
            findings.note("objectness", kind, f"{evidence}: {name}", odd=kind is None)
            findings.by_axis["background form"] = findings.by_axis["objectness"]
            if name == names[1]:
                findings.note("background form", "softmax", evidence)
            elif name == names[2]:
                findings.note("background form", "linear", evidence)
            else:
                findings.by_axis.pop("background form")
            return
    for name, form in zip(names, np.array(forms).T, strict=True):
        weight = float(got @ form / (form @ form))
        if not findings.box.scalar_only and np.allclose(got, weight * form, rtol=DIGITS, atol=0):
            findings.unknown("digits", f"{evidence}: {name} with λ = {weight:.6g}, to three digits", odd=True)
    findings.unknown("objectness", f"{evidence}, of no known shape", odd=True)


def reduction(findings: Findings) -> None:
    """The divisor of the gradient of one predictor, over batches of several sizes.

    A divisor that no profile has is taken out of every later answer.
    """

    def size(images: int, objects: int, side: int, anchors: int = 1, *, cell: bool = False) -> float:
        # The objects are in cells of their own, unless all are in the first; the last cell, which is measured, stays
        # empty and apart.
        cells = [(k % side, k // side) if not cell else (0, 0) for k in range(objects)]
        rows = [[(i + 0.5) / side, (j + 0.5) / side, 1 / side, 1 / side, 0] for i, j in cells]
        sizes = [(1.0, 1.0), (0.25, 0.125)][:anchors]
        batch = scene(*[rows] * images, anchors=sizes, grid=(side, side), images_seen=findings.late)
        return float(abs(findings.box.gradient(batch)[0, 0, T_O, -1, -1]))

    one = size(1, 1, 2)
    sizes = [size(2, 1, 2), size(1, 3, 2), size(1, 1, 4)]
    if not min(one, *sizes) > 0:
        raise NoAnswerError(f"gradient of t_o of a predictor without object: {listed(one, *sizes)}, nothing to compare")
    ratios = [one / other for other in sizes]
    whats = ["2 images for 1", "3 objects for 1", "16 cells for 4"]
    if round(ratios[2], 4) != 1:  # only then do the anchors matter, of which a loss may take one number alone
        ratios.append(one / size(1, 1, 2, anchors=2))
        whats.append("2 anchors for 1")
    kind = DIVIDING.get(tuple(round(ratio, 4) for ratio in ratios))
    if kind == "per-object":  # of two truths on one predictor a loss may count both or one
        ratios.append(one / size(1, 2, 2, cell=True))
        whats.append("2 objects on one predictor for 1")
        kind = "per-object" if round(ratios[-1], 4) == 2 else "per-responsible" if round(ratios[-1], 4) == 1 else None
    evidence = "divided by " + ", ".join(f"{ratio:.6g} with {what}" for ratio, what in zip(ratios, whats, strict=True))
    evidence = f"the gradient of t_o of a predictor without object is {evidence}"
    if kind in ("sum", "per-image"):
        findings.note("reduction", kind, evidence)
        return
    findings.unknown("reduction", f"{evidence}; {kind or 'no known reduction'}", odd=True)
    if kind is not None:
        findings.box.divisor = kind


def steady(findings: Findings) -> None:
    """The same question again, with others in between."""
    early = scene([[0.5, 0.5, 1.0, 1.0, 0]], images_seen=0, raw={(0, 0, c, 0, 0): 0.3 * c - 0.5 for c in range(8)})
    answers = [findings.box.gradient(early)[...] for _ in range(2)]
    findings.box.gradient(scene([], [], images_seen=findings.late))
    answers.append(findings.box.gradient(early)[...])
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in itertools.pairwise(answers))
    findings.note("hidden state", "none" if same else None, "the same question three times, another before the last: "
              + ("the same answer" if same else "the answers differ"), odd=not same)  # fmt: skip
    if findings.box.spoilt:
        findings.unknown("mutation of inputs", findings.box.spoilt, odd=True)
    else:
        findings.note("mutation of inputs", "none", f"inputs after {findings.box.questions} questions are unchanged")

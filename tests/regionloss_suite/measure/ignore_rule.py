"""The ignore rule: a predictor whose IoU with a truth is exactly what the experiment needs."""

from __future__ import annotations

import math

import numpy as np

from regionloss.boxes import decode, iou, sigmoid, sigmoid_grad
from regionloss_spec import Batch
from regionloss_suite.measure.black_box import CLASSES, T_O, T_W, T_X, NoAnswerError, scene
from regionloss_suite.measure.findings import Findings, listed, nice

_T_O = 0.5


def overlapping(findings: Findings, r: float, t_o: float = _T_O, t_w: float = 0.0) -> Batch:
    """Anchor 0 fits the truth; anchor 1 is r times as wide, so its IoU with it is r (times e^t_w)."""
    raw = {(0, 1, T_O, 0, 0): t_o, (0, 1, T_W, 0, 0): t_w}
    truth = [0.5, 0.5, 1.0, 1.0, 1]
    return scene([truth], anchors=[(1.0, 1.0), (r, 1.0)], images_seen=findings.late, raw=raw)


def _pays(findings: Findings, batch: Batch, image: int = 0) -> bool:
    return bool(abs(findings.box.gradient(batch)[image, 1, T_O, 0, 0]) > findings.box.silence)


def rule(findings: Findings) -> None:
    """Whether an IoU silences the no-object term or becomes its target, the threshold, and equality."""
    if "no_object_weight" not in findings.products:
        raise NoAnswerError("the loss has no no-object term, so the ignore rule has no effect")
    gradients = [float(findings.box.gradient(overlapping(findings, r))[0, 1, T_O, 0, 0]) for r in (0.03125, 0.96875)]
    evidence = f"IoU 1/32 and 31/32 with a truth: the gradient of t_o is {listed(*gradients)}"
    if all(abs(gradient) > findings.box.silence for gradient in gradients):
        # gradient = λ·(σ - target)·σ'
        s, grad = float(sigmoid(np.array(_T_O))), float(sigmoid_grad(np.array(_T_O)))
        targets = [s - gradient / grad / findings.products["no_object_weight"] for gradient in gradients]
        logistic = findings.value("objectness") == "logistic"
        if logistic and np.allclose(targets, (0.03125, 0.96875), atol=1e-3):
            findings.note("no_object_target", "max-iou", f"{evidence}: the targets are {listed(*targets)}")
            findings.note("ignore", "none", f"{evidence}: for every IoU")
        elif (logistic and np.allclose(targets, 0, atol=1e-3)) or np.allclose(gradients[0], gradients[1], rtol=1e-3):
            findings.note("no_object_target", "zero", f"{evidence}: equal")
            findings.note("ignore", "none", f"{evidence}: an overlap silences no predictor")
        else:
            findings.unknown("ignore", f"{evidence}, by no known rule", odd=True)
            return
        findings.note("thresh", 0.6, "nothing is ignored, so the threshold has no effect", "assumed")
        if findings.value("ignore") == "none" and findings.value("no_object_target") == "zero":
            _beside_another(findings)
        return
    if abs(gradients[0]) <= findings.box.silence or abs(gradients[1]) > findings.box.silence:
        findings.unknown("ignore", f"{evidence}: a small overlap silences it", odd=True)
        return
    findings.note("no_object_target", "zero", f"{evidence}: either paid or not")
    _threshold(findings)
    _reach(findings)


def _beside_another(findings: Findings) -> None:
    """Whether a truth silences a predictor after all, if another truth stands before or behind it."""
    near, far = [0.5, 0.5, 1.0, 1.0, 1], [0.5, 0.5, 0.0625, 0.0625, 1]
    silent = [_silent(findings, rows, 1.0) for rows in ([near, far], [far, near])]
    if any(silent):
        words = ["silences" if one else "does not silence" for one in silent]
        findings.unknown("ignore", "an only truth silences no predictor")
        evidence = f"of two truths the first {words[0]} a predictor on it, and the second {words[1]} one on it"
        findings.unknown("truths of MaxIOU", f"{evidence}; an only truth silences none", odd=True)
    elif _reaches_other_cells(findings):
        findings.unknown("ignore", "a truth silences no predictor of its own cell")
        evidence = "an IoU of 0.95 with the truth of another cell silences a predictor, and an IoU of 31/32 in its own"
        findings.unknown("cells of MaxIOU", f"{evidence} does not", odd=True)


def _threshold(findings: Findings) -> None:
    below, above = 0.03125, 0.96875
    for _ in range(50 if findings.box.dtype == "float64" else 24):
        middle = (below + above) / 2
        below, above = (middle, above) if _pays(findings, overlapping(findings, middle)) else (below, middle)
    measured = nice((below + above) / 2, 1e-6)
    evidence = f"IoU bisected: {below:.9g} pays no-object, {above:.9g} does not"
    if abs(measured - below) < 5e-7:
        findings.note("thresh", measured, evidence)
    else:
        findings.note("thresh", below, evidence)
    thresh, exact = _at_equality(findings, measured)
    if not exact:
        findings.note("ignore", "above", f"{evidence}; no box has an IoU of exactly {measured:.9g}", "assumed")
        return
    at_equality = f"{evidence}; at an IoU of exactly {thresh:.9g} it {'pays' if exact[0] else 'is silenced'}"
    if len(set(exact)) > 1:
        findings.note("ignore", "above", f"{at_equality} or not, depending on its own rounding of the IoU", "assumed")
        return
    findings.note("ignore", "above" if exact[0] else "at-or-above", at_equality)


def _at_equality(findings: Findings, measured: float) -> tuple[float, list[bool]]:
    """The threshold at which equality was tested, and for each scene with exactly that IoU, whether it pays.

    A threshold such as 0.6 is not a float32 number, and a loss may round an IoU of 0.6 to either side. So a loss that
    reads its threshold from the question is tested with one half, whatever its threshold was before.
    """
    plain = findings.box.profile
    if findings.box.dtype != "float64" and float(np.float32(measured)) != measured:
        findings.box.profile = plain.replace(thresh=0.5)
        try:
            if _pays(findings, overlapping(findings, 0.46875)) and not _pays(findings, overlapping(findings, 0.53125)):
                return 0.5, [_pays(findings, batch) for batch in _exactly(findings, 0.5)]
        except NoAnswerError:
            pass  # it has no such option
        finally:
            findings.box.profile = plain
    return measured, [_pays(findings, batch) for batch in _exactly(findings, measured)]


def _exactly(findings: Findings, wanted: float) -> list[Batch]:
    """Scenes in which the IoU of anchor 1 with the truth is bitwise equal to the threshold, one for each scale."""
    scenes = []
    for scale in (1.0, 0.5, 0.75, 0.625, 0.875, 0.375):
        r = wanted * scale
        for step in range(-8, 9):
            width = r
            for _ in range(abs(step)):
                width = math.nextafter(width, math.copysign(math.inf, step))
            truth = np.array([0.5, 0.5, scale, scale, 1.0])
            raw = {(0, 1, T_O, 0, 0): _T_O}
            batch = scene([truth], anchors=[(scale, scale), (width, scale)], images_seen=findings.late, raw=raw)
            t = batch.predictions.reshape(2, -1, 1, 1)
            if float(iou(decode(t, batch.anchors)[:, 1, 0, 0], truth[:4])) == wanted:
                scenes.append(batch)
                break
    return scenes


def _reach(findings: Findings) -> None:
    """Whose IoU counts: of the decoded box or the anchor, with any truth or only some, of this image or of any."""
    thresh = findings.value("thresh")
    high, low = math.ceil(32 * (1 + thresh)) / 64, thresh / 4  # a width that every format of truths has
    grown = not _pays(findings, overlapping(findings, low, t_w=math.log(high / low)))
    shrunk = _pays(findings, overlapping(findings, high, t_w=math.log(low / high)))
    outcome = "silent" if grown else "not silent", "pays" if shrunk else "does not pay"
    evidence = f"a box grown to IoU {high:.6g} is {outcome[0]}, one shrunk to {low:.6g} {outcome[1]}"
    decoded = grown and shrunk
    if not grown and not shrunk:
        evidence += ": the shape of the anchor decides, and not the box"
    findings.note("box of MaxIOU", "decoded" if decoded else None, evidence, odd=not decoded)
    _every_truth(findings, high)
    near, far = [0.5, 0.5, high, 1.0, 1], [0.5, 0.5, 0.0625, 0.0625, 1]
    raw = {(n, 1, T_O, 0, 0): _T_O for n in range(2)}
    other = scene([], [[0.5, 0.5, 1.0, 1.0, 1]], anchors=[(1, 1), (high, 1.0)], images_seen=findings.late, raw=raw)
    before = scene([[0.5, 0.5, 1.0, 1.0, 1]], [], anchors=[(1, 1), (high, 1.0)], images_seen=findings.late, raw=raw)
    second = scene([far], [near], anchors=[(0.0625, 0.0625), *[(high, 1.0)] * 2], images_seen=findings.late,
                   raw={(1, 2, T_O, 0, 0): _T_O})  # fmt: skip
    own = abs(findings.box.gradient(second)[1, 2, T_O, 0, 0]) <= findings.box.silence
    leaks = [f"a truth of the {where} image silences as well" for where, batch, image in
             (("next", other, 0), ("previous", before, 1)) if not _pays(findings, batch, image)]  # fmt: skip
    leaks += [] if own else ["a truth of the second image does not silence a predictor there"]
    findings.note("images of MaxIOU", None if leaks else "own",
                  "; ".join(leaks) or "a truth of another image does not silence it", odd=bool(leaks))  # fmt: skip


def _silent(findings: Findings, rows: list[list[float]], width: float) -> bool:
    """Whether truths silence the last of three predictors of a cell, whose box is as wide as given."""
    anchors, raw = [(0.0625, 0.0625), (width, 1.0), (width, 1.0)], {(0, k, T_O, 0, 0): _T_O for k in range(3)}
    gradient = findings.box.gradient(scene(rows, anchors=anchors, images_seen=findings.late, raw=raw))
    return bool(abs(gradient[0, 2, T_O, 0, 0]) <= findings.box.silence)


def _every_truth(findings: Findings, high: float) -> None:
    """Whether MaxIOU is the largest IoU with any truth: each place of the list counts, and nothing is added up."""
    near, far = [0.5, 0.5, high, 1.0, 1], [0.5, 0.5, 0.0625, 0.0625, 1]
    most = findings.value("max_truths", 0) or 30
    lists = {"the first of two": [near, far], "the second": [far, near]}
    small, wide = [0.5, 0.5, high / 4, 0.25, 1], [0.5, 0.5, 1.0, 1.0, 1]
    if most >= 4:
        lists["the third of four"] = [far, far, near, far]
    if most >= 12:
        lists["the twelfth"] = [*[far] * 11, near]
    words = []
    for place, rows in lists.items():
        try:
            words.append(f"{place} {'is silent' if _silent(findings, rows, high) else 'is not silent'}")
        except NoAnswerError:  # it may not take so many truths
            if len(rows) == 2:
                raise
    raw = {(0, k, T_O, 0, 0): _T_O for k in range(3)}
    anchors = [(1.0, 1.0), (high / 4, 0.25), (high / 4, 0.25)]
    beside = scene([small, wide], anchors=anchors, images_seen=findings.late, raw=raw)
    quiet = abs(findings.box.gradient(beside)[0, 2, T_O, 0, 0]) <= findings.box.silence
    words.append(f"the smaller of two {'is silent' if quiet else 'is not silent'}")
    evidence = f"a predictor on one of several truths: on {', on '.join(words)}"
    wrong = any(word.endswith("not silent") for word in words)
    low = 0.75 * findings.value("thresh")  # twice that is beyond the threshold
    if not wrong and _silent(findings, [[0.5, 0.5, 1.0, 1.0, 1]] * 2, low):
        evidence += f"; two truths with an IoU of {low:.6g} each silence it together"
        wrong = True
    findings.note("truths of MaxIOU", None if wrong else "all", evidence, odd=wrong)


def of_other_cells(findings: Findings) -> None:
    """Whether a truth of another cell silences a predictor, and the box gradient of an ignored predictor."""
    if findings.value("ignore", "none") == "none" or findings.value("thresh") > 0.9:
        return
    reaches = _reaches_other_cells(findings)
    evidence = (
        f"an IoU of 0.95 with the truth of another cell {'silences' if reaches else 'does not silence'} a predictor"
    )
    findings.note("cells of MaxIOU", "all" if reaches else None, evidence, odd=not reaches)
    r, t_w = (1 + findings.value("thresh")) / 2, 0.5
    pulls = []
    for images_seen in (findings.late, 0):
        raw = {(0, 1, T_W, 0, 0): t_w}
        anchors = [(1.0, 1.0), (r * math.exp(-t_w), 1.0)]
        batch = scene([[0.5, 0.5, 1.0, 1.0, 1]], anchors=anchors, images_seen=images_seen, raw=raw)
        pulls.append(float(findings.box.gradient(batch)[0, 1, T_W, 0, 0]))
    want = [0.0, findings.products.get("prior_weight", 0.0) * t_w if findings.value("prior_until") else 0.0]
    evidence = f"t_w = {t_w} of an ignored predictor has the gradient {listed(*pulls)} late and at t = 0"
    alike = np.allclose(pulls, want, rtol=1e-3, atol=10 * findings.box.silence)
    if abs(pulls[0]) > 10 * findings.box.silence:  # with no prior to pay
        findings.unknown("coordinates of the ignored", evidence, odd=True)
        return
    findings.note("box of the ignored", "as of any other" if alike else None,
              f"{evidence}; the prior would give {listed(*want)}", odd=not alike)  # fmt: skip


def _reaches_other_cells(findings: Findings) -> bool:
    """Whether a truth silences a predictor of the cell beside its own."""
    rows = 2 if findings.box.square else 1
    truth = [0.484375, 0.5 / rows, 1.0, 1.0 / rows, 1]
    raw = {(0, 0, T_O, 0, 1): _T_O, (0, 0, T_X, 0, 1): -4.0}
    batch = scene([truth], anchors=[(2.0, 1.0)], grid=(rows, 2), images_seen=findings.late, raw=raw)
    return bool(abs(findings.box.gradient(batch)[0, 0, T_O, 0, 1]) <= findings.box.silence)


def ignored_class(findings: Findings) -> None:
    """Whether an ignored predictor learns the class of the truth that it overlaps."""
    if findings.value("ignore", "none") == "none":
        findings.note("ignored_class", "none", "nothing is ignored", "assumed")
        return
    r = (1 + findings.value("thresh")) / 2
    values = (-1.0, 1.0)
    got = [findings.box.gradient(overlapping(findings, r, t_o))[0, :, CLASSES:, 0, 0] for t_o in values]
    pulls = [float(np.abs(gradient[1]).max()) for gradient in got]
    own = [float(np.abs(gradient[0]).max()) for gradient in got]
    evidence = (
        f"class gradient of an ignored predictor at t_o = -1, 1: {listed(*pulls)}; of the responsible {listed(*own)}"
    )
    if max(pulls) < findings.box.silence:
        findings.note("ignored_class", "none", evidence)
        return
    s = [float(sigmoid(np.array(t_o))) for t_o in values]
    # If the objectness is the background class of the softmax, it changes the probabilities too.
    shares = [pull / o for pull, o in zip(pulls, own, strict=True)]
    if findings.value("objectness") == "background":
        shares = [_background_share(findings, pull, t_o) for pull, t_o in zip(pulls, values, strict=True)]
    for name, want in (("full", [1.0, 1.0]), ("by-objectness", s)):
        if np.allclose(shares, want, rtol=1e-3):
            findings.note("ignored_class", name, evidence)
            return
    findings.unknown("ignored_class", evidence, odd=True)


def _background_share(findings: Findings, pull: float, t_o: float) -> float:
    """The gradient as a share of that of a responsible predictor with the same outputs."""
    batch = scene([[0.5, 0.5, 1.0, 1.0, 1]], images_seen=findings.late, raw={(0, 0, T_O, 0, 0): t_o})
    return pull / float(np.abs(findings.box.gradient(batch)[0, 0, CLASSES:, 0, 0]).max())

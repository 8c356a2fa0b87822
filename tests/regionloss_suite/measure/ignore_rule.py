"""The ignore rule: a predictor that overlaps a truth by exactly as much as the experiment wants."""

from __future__ import annotations

import math

import numpy as np

from regionloss.boxes import decode, iou, sigmoid, sigmoid_grad
from regionloss_spec import Batch
from regionloss_suite.measure.black_box import CLASSES, T_O, T_W, T_X, NoAnswerError, scene
from regionloss_suite.measure.findings import Notebook, listed, nice

_T_O = 0.5


def overlapping(book: Notebook, r: float, t_o: float = _T_O, t_w: float = 0.0) -> Batch:
    """Anchor 0 fits the truth; anchor 1 is r times as wide, so its IoU with it is r (times e^t_w)."""
    raw = {(0, 1, T_O, 0, 0): t_o, (0, 1, T_W, 0, 0): t_w}
    truth = [0.5, 0.5, 1.0, 1.0, 1]
    return scene([truth], anchors=[(1.0, 1.0), (r, 1.0)], seen=book.late, raw=raw)


def _pays(book: Notebook, batch: Batch, image: int = 0) -> bool:
    return bool(abs(book.box.gradient(batch)[image, 1, T_O, 0, 0]) > book.box.silence)


def rule(book: Notebook) -> None:
    """Whether an overlap silences the no-object term or becomes its target, the threshold, and equality."""
    if "no_object_weight" not in book.products:
        raise NoAnswerError("nothing is paid for no object, so that no ignoring shows")
    gradients = [float(book.box.gradient(overlapping(book, r))[0, 1, T_O, 0, 0]) for r in (0.03125, 0.96875)]
    said = f"IoU 1/32 and 31/32 with a truth: t_o is pulled by {listed(*gradients)}"
    if all(abs(gradient) > book.box.silence for gradient in gradients):
        # gradient = λ·(σ - target)·σ'
        s, slope = float(sigmoid(np.array(_T_O))), float(sigmoid_grad(np.array(_T_O)))
        targets = [s - gradient / slope / book.products["no_object_weight"] for gradient in gradients]
        logistic = book.value("objectness") == "logistic"
        if logistic and np.allclose(targets, (0.03125, 0.96875), atol=1e-3):
            book.note("no_object_target", "max-iou", f"{said}: towards {listed(*targets)}")
            book.note("ignore", "none", f"{said}: at every overlap")
        elif (logistic and np.allclose(targets, 0, atol=1e-3)) or np.allclose(gradients[0], gradients[1], rtol=1e-3):
            book.note("no_object_target", "zero", f"{said}: the same")
            book.note("ignore", "none", f"{said}: an overlap silences nothing")
        else:
            book.unknown("ignore", f"{said}, by no known rule", odd=True)
            return
        book.note("thresh", 0.6, "nothing is ignored, so that the threshold does not show", "assumed")
        return
    if abs(gradients[0]) <= book.box.silence or abs(gradients[1]) > book.box.silence:
        book.unknown("ignore", f"{said}: a small overlap silences it", odd=True)
        return
    book.note("no_object_target", "zero", f"{said}: paid or not")
    _threshold(book)
    _reach(book)


def _threshold(book: Notebook) -> None:
    below, above = 0.03125, 0.96875
    for _ in range(50 if book.box.dtype == "float64" else 24):
        middle = (below + above) / 2
        below, above = (middle, above) if _pays(book, overlapping(book, middle)) else (below, middle)
    measured = nice((below + above) / 2, 1e-6)
    said = f"IoU bisected: {below:.9g} pays no-object, {above:.9g} does not"
    if abs(measured - below) < 5e-7:
        book.note("thresh", measured, said)
    else:
        book.note("thresh", below, said)
    asked, exact = _at_equality(book, measured)
    if not exact:
        book.note("ignore", "above", f"{said}; no box has an IoU of exactly {measured:.9g}", "assumed")
        return
    told = f"{said}; at an IoU of exactly {asked:.9g} it {'pays' if exact[0] else 'is silent'}"
    if len(set(exact)) > 1:
        book.note("ignore", "above", f"{told} or not, as its own rounding of the IoU has it", "assumed")
        return
    book.note("ignore", "above" if exact[0] else "at-or-above", told)


def _at_equality(book: Notebook, measured: float) -> tuple[float, list[bool]]:
    """At which threshold equality was asked, and in each scene that has exactly that IoU whether it pays.

    A threshold such as 0.6 is no number of float32, and a loss may round an IoU of it to either side.
    So a loss that takes its threshold from the question is asked with one half, whatever it was before.
    """
    plain = book.box.profile
    if book.box.dtype != "float64" and float(np.float32(measured)) != measured:
        book.box.profile = plain.replace(thresh=0.5)
        try:
            if _pays(book, overlapping(book, 0.46875)) and not _pays(book, overlapping(book, 0.53125)):
                return 0.5, [_pays(book, batch) for batch in _exactly(book, 0.5)]
        except NoAnswerError:
            pass  # it has no such option
        finally:
            book.box.profile = plain
    return measured, [_pays(book, batch) for batch in _exactly(book, measured)]


def _exactly(book: Notebook, wanted: float) -> list[Batch]:
    """Scenes in which the IoU of anchor 1 with the truth is the threshold to the last bit, one for each scale."""
    found = []
    for scale in (1.0, 0.5, 0.75, 0.625, 0.875, 0.375):
        r = wanted * scale
        for step in range(-8, 9):
            width = r
            for _ in range(abs(step)):
                width = math.nextafter(width, math.copysign(math.inf, step))
            truth = np.array([0.5, 0.5, scale, scale, 1.0])
            raw = {(0, 1, T_O, 0, 0): _T_O}
            batch = scene([truth], anchors=[(scale, scale), (width, scale)], seen=book.late, raw=raw)
            t = batch.predictions.reshape(2, -1, 1, 1)
            if float(iou(decode(t, batch.anchors)[:, 1, 0, 0], truth[:4])) == wanted:
                found.append(batch)
                break
    return found


def _reach(book: Notebook) -> None:
    """Whose overlap counts: the decoded box or the anchor, of any truth or of some, of this image or of any."""
    thresh = book.value("thresh")
    high, low = (1 + thresh) / 2, thresh / 4
    grown = not _pays(book, overlapping(book, low, t_w=math.log(high / low)))
    shrunk = _pays(book, overlapping(book, high, t_w=math.log(low / high)))
    outcome = "silent" if grown else "not silent", "pays" if shrunk else "does not pay"
    said = f"a box grown to IoU {high:.6g} is {outcome[0]}, one shrunk to {low:.6g} {outcome[1]}"
    decoded = grown and shrunk
    book.note("box of MaxIOU", "decoded" if decoded else None, said, odd=not decoded)
    near, far = [0.5, 0.5, high, 1.0, 1], [0.5, 0.5, 0.0625, 0.0625, 1]
    anchors = [(0.0625, 0.0625), (high, 1.0), (high, 1.0)]
    silent = []
    for rows in ([near, far], [far, near]):
        raw = {(0, k, T_O, 0, 0): _T_O for k in range(3)}
        gradient = book.box.gradient(scene(rows, anchors=anchors, seen=book.late, raw=raw))
        silent.append(bool(abs(gradient[0, 2, T_O, 0, 0]) < book.box.silence))
    words = ["silent" if one else "not silent" for one in silent]
    told = f"a predictor on the first of two truths is {words[0]}, one on the second is {words[1]}"
    book.note("truths of MaxIOU", "all" if all(silent) else None, told, odd=not all(silent))
    raw = {(n, 1, T_O, 0, 0): _T_O for n in range(2)}
    other = scene([], [[0.5, 0.5, 1.0, 1.0, 1]], anchors=[(1, 1), (high, 1.0)], seen=book.late, raw=raw)
    leaks = not _pays(book, other)
    book.note("images of MaxIOU", None if leaks else "own", "a truth of another image "
              + ("silences as well" if leaks else "silences nothing"), odd=leaks)  # fmt: skip


def of_other_cells(book: Notebook) -> None:
    """Whether a truth of another cell silences a predictor, and what an ignored one pays for its box."""
    if book.value("ignore", "none") == "none" or book.value("thresh") > 0.9:
        return
    rows = 2 if book.box.square else 1
    truth = [0.49, 0.5 / rows, 1.0, 1.0 / rows, 1]
    raw = {(0, 0, T_O, 0, 1): _T_O, (0, 0, T_X, 0, 1): -4.0}
    batch = scene([truth], anchors=[(2.0, 1.0)], grid=(rows, 2), seen=book.late, raw=raw)
    reaches = abs(book.box.gradient(batch)[0, 0, T_O, 0, 1]) <= book.box.silence
    told = f"an IoU of 0.96 with the truth of another cell {'silences' if reaches else 'does not silence'} a predictor"
    book.note("cells of MaxIOU", "all" if reaches else None, told, odd=not reaches)
    r, t_w = (1 + book.value("thresh")) / 2, 0.5
    pulls = []
    for seen in (book.late, 0):
        raw = {(0, 1, T_W, 0, 0): t_w}
        anchors = [(1.0, 1.0), (r * math.exp(-t_w), 1.0)]
        batch = scene([[0.5, 0.5, 1.0, 1.0, 1]], anchors=anchors, seen=seen, raw=raw)
        pulls.append(float(book.box.gradient(batch)[0, 1, T_W, 0, 0]))
    want = [0.0, book.products.get("prior_weight", 0.0) * t_w if book.value("prior_until") else 0.0]
    said = f"t_w = {t_w} of an ignored predictor is pulled by {listed(*pulls)} late and at t = 0"
    alike = np.allclose(pulls, want, rtol=1e-3, atol=10 * book.box.silence)
    book.note("box of the ignored", "as of any other" if alike else None,
              f"{said}, by the prior it would be {listed(*want)}", odd=not alike)  # fmt: skip


def ignored_class(book: Notebook) -> None:
    """Whether an ignored predictor learns the class of the truth that it overlaps."""
    if book.value("ignore", "none") == "none":
        book.note("ignored_class", "none", "nothing is ignored", "assumed")
        return
    r = (1 + book.value("thresh")) / 2
    values = (-1.0, 1.0)
    got = [book.box.gradient(overlapping(book, r, t_o))[0, :, CLASSES:, 0, 0] for t_o in values]
    pulls = [float(np.abs(gradient[1]).max()) for gradient in got]
    own = [float(np.abs(gradient[0]).max()) for gradient in got]
    said = f"class outputs of an ignored predictor at t_o = -1, 1: {listed(*pulls)}; of the responsible {listed(*own)}"
    if max(pulls) < book.box.silence:
        book.note("ignored_class", "none", said)
        return
    s = [float(sigmoid(np.array(t_o))) for t_o in values]
    # Where the objectness is the background class of the softmax, it changes the probabilities too.
    slopes = [pull / o for pull, o in zip(pulls, own, strict=True)]
    if book.value("objectness") == "background":
        slopes = [_background_share(book, pull, t_o) for pull, t_o in zip(pulls, values, strict=True)]
    for name, want in (("full", [1.0, 1.0]), ("by-objectness", s)):
        if np.allclose(slopes, want, rtol=1e-3):
            book.note("ignored_class", name, said)
            return
    book.unknown("ignored_class", said, odd=True)


def _background_share(book: Notebook, pull: float, t_o: float) -> float:
    """The pull as a share of that of a responsible predictor with the same outputs."""
    batch = scene([[0.5, 0.5, 1.0, 1.0, 1]], seen=book.late, raw={(0, 0, T_O, 0, 0): t_o})
    return pull / float(np.abs(book.box.gradient(batch)[0, 0, CLASSES:, 0, 0]).max())

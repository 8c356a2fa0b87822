"""The class term at a responsible predictor: its form over several class outputs, and its weight."""

from __future__ import annotations

import numpy as np

from regionloss.classes import class_term
from regionloss_spec import Profile, load_profile
from regionloss_spec.batch import Array
from regionloss_spec.profile import axis_values
from regionloss_suite.measure.black_box import CLASSES, T_O, NoAnswerError, scene
from regionloss_suite.measure.findings import Notebook, listed

#: (t_o, class outputs, true class); the tree has the groups 0-1, 2-3 and 4.
_LOGITS = (
    (-1.0, (0.3, -0.7, 1.1, 0.2, -0.4), 2),
    (1.5, (1.0, 0.5, -2.0, 0.75, 0.25), 2),
    (0.0, (-0.5, 2.0, 0.5, 1.0, 0.0), 2),
)
_TREE = (-1, -1, 0, 0, 1)


def form(book: Notebook) -> None:
    """Fit every known form of the class term to the gradient over the class outputs."""
    got = _pulled(book, _TREE if book.box.wants_tree else None)
    said = f"class outputs of a responsible predictor are pulled by {listed(*got[0])} at {listed(*_LOGITS[0][1])}"
    if not np.abs(got).max() > book.box.silence:
        book.unknown("class_term", f"{said}: nothing is paid", odd=True)
        return
    base = load_profile("darknet").replace(squared_factor=0.5)
    background = book.value("objectness") == "background"
    candidates: list[tuple[str, str, Profile]] = []
    for name in axis_values("class_term"):
        profile = base.replace(class_term=name)
        candidates.append((name, "logistic", profile))
        candidates.append((name, "background", profile.replace(objectness="background")))
    for name, objectness, profile in candidates:
        want = np.array([
            class_term(np.array(z), np.array(t_o), [label], 1.0, profile, _TREE)[1] for t_o, z, label in _LOGITS
        ])  # fmt: skip
        weight = float((got * want).sum() / (want * want).sum())
        if not np.allclose(got, weight * want, rtol=1e-3, atol=1e-4 * np.abs(got).max()):
            continue
        joined = objectness == "background"
        joins = name in ("cross-entropy", "focal", "squared-error")  # the others do not look at t_o
        if joins and joined != background:
            book.unknown("class_term", f"{said}: {name} with t_o {'among' if joined else 'not among'} the classes, "
                         "unlike the no-object term", odd=True)  # fmt: skip
            return
        book.products["class_weight"] = book.number(weight)
        book.note("class_term", name, f"{said}, likewise at {len(got) - 1} other places: {weight:.9g} times {name}")
        book.note("class_weight", weight, f"{said}: weight {weight:.9g}")
        return
    book.unknown("class_term", f"{said}, of no known form", odd=True)


def _pulled(book: Notebook, tree: tuple[int, ...] | None) -> Array:
    got = []
    for t_o, z, label in _LOGITS:
        raw = {(0, 0, T_O, 0, 0): t_o} | {(0, 0, CLASSES + c, 0, 0): value for c, value in enumerate(z)}
        batch = scene([[0.5, 0.5, 1.0, 1.0, label]], classes=5, seen=book.late, raw=raw, tree=tree)
        got.append(book.box.gradient(batch)[0, 0, CLASSES:, 0, 0])
    return np.array(got)


def scalar(book: Notebook) -> None:
    """Whether the scalar is the potential of the gradient: its change over small steps against the gradient."""
    if book.box.scalar_only:
        book.note("scalar", "potential", "it answers nothing else: all slopes are differences of it", "assumed")
        return
    random = np.random.default_rng(5)
    t = random.normal(size=(1, 8, 2, 2)) / 2
    try:
        pairs = []
        for _ in range(3):
            along = random.normal(size=t.shape)
            along[:, CLASSES:] = 0  # where t_o is a class, darknet's gradient leaves the others out
            # No truth: nothing is held constant, so that the scalar must change as the gradient says.
            here = scene([], grid=(2, 2), seen=book.late)
            step = 2.0**-12 if book.box.dtype == "float64" else 2.0**-4
            ends = []
            for sign in (1, -1):
                np.copyto(here.predictions, t + sign * step * along)
                ends.append(book.box.scalar(here))
            np.copyto(here.predictions, t)
            slope = float((book.box.gradient(here)[...].reshape(t.shape) * along).sum())
            pairs.append(((ends[0] - ends[1]) / (2 * step), slope))
    except NoAnswerError as reason:
        book.unknown("scalar", str(reason))
        return
    if not all(slope for _, slope in pairs):
        changes = listed(*(change for change, _ in pairs))
        book.unknown("scalar", f"the scalar of empty images changes by {changes} where the gradient says 0", odd=True)
        return
    ratios = [change / slope for change, slope in pairs]
    said = f"the scalar changes by {listed(*ratios)} times what the gradient says, along three directions"
    tolerance = 1e-4 if book.box.dtype == "float64" else 2e-2
    if np.allclose(ratios, 1, rtol=tolerance):
        book.note("scalar", "potential", said)
    else:
        fixed = np.allclose(ratios, ratios[0], rtol=tolerance)
        book.unknown("scalar", said + (": a multiple of the potential" if fixed else ": another quantity"), odd=True)

"""Hypothesis strategies for the domain: input that is rare in random data but decides the loss is common here.

Anchor ties, collisions, repeated truths, centres exactly on cell borders, boxes close to a truth or with an IoU at the
threshold, both sides of the limit of the prior, grids that are not square, empty images, tiny and huge boxes and large
logits.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionloss_spec import Batch, Profile

#: Trees with groups of several sizes, by their number of classes.
_TREES = {3: (-1, -1, 0), 5: (-1, -1, 0, 0, 1), 7: (-1, -1, 0, 0, 0, 1, 1)}
_ANCHORS = ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0), (0.5, 0.5), (1.25, 0.75), (1.125, 1.0), (3.0, 2.5))
_SIZES = (0.05, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 2.0**-10, 1e-6)
#: On a lattice, all numbers are short binary fractions, so that moving them is exact.
_LATTICE_CELLS = (1, 2, 4)
_LATTICE_SIZES = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
#: How far a box is from its truth; NaN stands for the distance at the threshold.
_AWAY = (0.0, 0.1, -0.3, float("nan"))


@st.composite
def batches(
    draw: st.DrawFn, profile: Profile, *, images: tuple[int, int] = (1, 3), lattice: bool = False, boxless: bool = True
) -> Batch:
    """Batches inside the domain of a profile; every number is exact in float32.

    Args:
        draw: provided by Hypothesis.
        profile: selects classes or a tree of classes, and the interesting counts of images seen.
        images: minimum and maximum number of images.
        lattice: grids of 1, 2 and 4 cells, and centres that are never on a border between cells: such batches can be
            shifted, flipped and transposed without rounding.
        boxless: whether images of a tree may have a class and no box.
    """
    count = draw(st.integers(*images))
    cells = st.sampled_from(_LATTICE_CELLS) if lattice else st.integers(1, 4)
    height, width = draw(cells), draw(cells)
    anchors = np.array(draw(st.lists(st.sampled_from(_ANCHORS), min_size=1, max_size=3)))
    tree = draw(st.sampled_from(list(_TREES.values()))) if profile.class_term == "tree" else None
    classes = draw(st.integers(1, 4)) if tree is None else len(tree)
    lists = truth_lists(height, width, classes, boxless=boxless and tree is not None, lattice=lattice)
    truths = tuple(draw(lists) for _ in range(count))
    predictions = np.zeros((count, len(anchors), 5 + classes, height, width))
    seed = draw(st.integers(0, 2**16))
    if seed:  # shrinks to a network whose outputs are all 0
        predictions = np.random.default_rng(seed).normal(size=predictions.shape)
    for _ in range(draw(st.integers(0, 4))):
        place = tuple(draw(st.integers(0, size - 1)) for size in (count, len(anchors), height, width))
        image, anchor, row, column = place
        if len(truths[image]) and draw(st.booleans()):
            truth = truths[image][draw(st.integers(0, len(truths[image]) - 1))]
            raw = raw_of(truth, row, column, anchors[anchor], height, width)
            away = draw(st.sampled_from(_AWAY))
            if np.isnan(away):
                raw[2] += np.log(profile.thresh or 1.0) + draw(st.sampled_from((0.0, 3e-7, -3e-7)))
                away = 0.0
            predictions[image, anchor, :4, row, column] = raw + away
        else:
            logit = st.sampled_from((0.0, -1.5, 4.0, 15.0, -15.0, 100.0, -100.0))
            predictions[image, anchor, :, row, column] = [draw(logit) for _ in range(5 + classes)]
    until = max(profile.prior_until, 1)
    return Batch(
        predictions=predictions.reshape(count, -1, height, width).astype(np.float32).astype(np.float64),
        truths=truths,
        anchors=anchors,
        classes=classes,
        images_seen=draw(st.sampled_from((until, until - 1, 0, 10 * until))),
        tree=tree,
    )


@st.composite
def truth_lists(
    draw: st.DrawFn, height: int, width: int, classes: int, *, boxless: bool = False, lattice: bool = False
) -> NDArray[np.float64]:
    """The truths of one image, `[T, 5]`, T from 0 to 5; with `boxless`, sometimes a class without a box."""
    rows: list[list[float]] = []
    places, sizes = (_lattice_places, _LATTICE_SIZES) if lattice else (_places, _SIZES)
    for _ in range(draw(st.integers(0, 5))):
        label = float(draw(st.integers(0, classes - 1)))
        if rows and draw(st.integers(0, 3)) == 0:  # in the cell of another truth, often an exact copy
            other = draw(st.sampled_from(rows))
            size = other[2:4] if draw(st.booleans()) else [draw(st.sampled_from(sizes)), draw(st.sampled_from(sizes))]
            rows.append([*other[:2], *size, label])
            continue
        w = draw(st.sampled_from(sizes))
        h = w * width / height if draw(st.booleans()) and w * width <= height else draw(st.sampled_from(sizes))
        rows.append([draw(places(width)), draw(places(height)), w, h, label])
    if boxless and draw(st.integers(0, 4)) == 0:
        rows.append([1e6, 1e6, 1e6, 1e6, float(draw(st.integers(0, classes - 1)))])
    return np.array(rows, dtype=np.float32).astype(np.float64).reshape(len(rows), 5)


def _places(cells: int) -> st.SearchStrategy[float]:
    """A centre along one axis, never 0: on a border, in the middle of a cell, or anywhere."""
    borders = [k / cells for k in range(1, cells)]
    middles = [(k + 0.5) / cells for k in range(cells)]
    return st.sampled_from([*borders, *middles, 0.125, 0.7, 0.9990234375])


def _lattice_places(cells: int) -> st.SearchStrategy[float]:
    """A centre along one axis, inside a cell and a multiple of an eighth of it."""
    return st.sampled_from([(k + m / 8) / cells for k in range(cells) for m in range(1, 8)])


def raw_of(
    truth: NDArray[np.float64], row: int, column: int, anchor: NDArray[np.float64], height: int, width: int
) -> NDArray[np.float64]:
    """Raw outputs tx, ty, tw, th that put a predictor's box as close to a truth as its cell allows."""
    if truth[0] > 1:  # a class without a box
        return np.zeros(4)
    inside = np.clip([truth[0] * width - column, truth[1] * height - row], 0.02, 0.98)
    sizes = truth[2:4] * [width, height] / anchor
    return np.concatenate([np.log(inside / (1 - inside)), np.log(sizes)])

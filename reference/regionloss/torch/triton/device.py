"""What the Triton kernels share: the types of their arguments, and the functions inlined into them."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Outputs(NamedTuple):
    """Predictions or their gradient, `[N, A*(5+C), H, W]`: the address, and the strides in elements."""

    at: Any
    n: Any
    c: Any
    h: Any
    w: Any


class TruthRows(NamedTuple):
    """Rows `[N, T, 5]` of truths with their strides, counts `[N]` or none, and the most rows to read of an image."""

    at: Any
    n: Any
    t: Any
    v: Any
    counts: Any
    capacity: Any


class Saved(NamedTuple):
    """What backward needs of forward: state `[N, A, H, W]`, predictor and overlap `[N, T]`, each contiguous."""

    state: Any
    predictor_of_truth: Any
    overlap: Any


class Sizes(NamedTuple):
    """N, H, W, C and T."""

    images: Any
    height: Any
    width: Any
    classes: Any
    length: Any


class Anchors(NamedTuple):
    """Widths and heights in turn, in cells and in fractions of the image: float64, each as the integer of its bits.

    Triton would pass a number as float32, and compile the kernel again for each value of a constant.
    """

    sizes: Any
    fractions: Any


class Threshold(NamedTuple):
    """`below`, and half its distance to the next float32. See `exceeds`."""

    below: Any
    half_step: Any


@triton.jit
def exponential(t):
    """e^t in float32, to a few units in the last place.

    `tl.exp` rounds t·log2(e) and so loses as many units as t is large, which is too many for a logistic far out.
    """
    t = tl.clamp(t, -128.0, 128.0, propagate_nan=tl.PropagateNan.ALL)  # where float32 has long reached 0 and infinity
    whole = tl.floor(t * 1.4426950408889634)
    rest = tl.fma(t, 1.4426950216293335, -whole)
    rest = tl.fma(t, 1.9259629911266175e-08, rest)
    return tl.exp2(rest) * tl.exp2(whole)


@triton.jit
def logistic(t):
    """σ(t) in float32, to a few units in the last place on both sides."""
    small = exponential(-tl.abs(t))
    return tl.div_rn(tl.where(t >= 0, 1.0, small), 1.0 + small)


@triton.jit
def common_length(start, end, other_start, other_end):
    """Length of the overlap of two intervals (`iou.touching`)."""
    return tl.maximum(tl.minimum(end, other_end) - tl.maximum(start, other_start), 0.0)


@triton.jit
def exceeds(shared, union, threshold):
    """Whether the float32 quotient shared/union is above `threshold.below`, without dividing.

    The quotient rounds to more than `below` where it lies beyond the middle between `below` and the next float32; on
    the middle no quotient of two float32 lies, for it would need a digit more than they have. Wherever that is in doubt
    the fused shared - below·union is exact, so this returns what the division would, equality with the threshold
    included (`noobj.equality`), at a tenth of its cost; shared compared with a rounded below·union would not. False
    unless the union is positive and finite.
    """
    return tl.fma(-threshold.below, union, shared) > threshold.half_step * union


@triton.jit
def count_read(truths, n, terminated, SCAN: tl.constexpr):
    """How many rows of image n are read (`truths.terminator`, `truths.capacity`)."""
    read = truths.capacity
    if truths.counts is not None:
        read = tl.minimum(read, tl.load(truths.counts + n)).to(tl.int32)
    if terminated > 0:
        for start in range(0, read, SCAN):
            t = start + tl.arange(0, SCAN)
            x = tl.load(truths.at + n * truths.n + t * truths.t, mask=t < read, other=1.0)
            read = tl.minimum(read, tl.min(tl.where(x == 0, t, read)))
    return read


@triton.jit
def assign(truths, n, t, read, sizes, anchors):
    """The predictors of truths t, -1 for none; and which of the truths are read and outside the domain.

    By the operations of the reference, in float64, so that every path chooses the same predictor, and the first of
    equal anchors (`assign.cell`, `assign.anchor-shape`, `assign.anchor-tie`).
    """
    exists = t < read
    row = truths.at + n * truths.n + t * truths.t
    x = tl.load(row, mask=exists, other=0.0).to(tl.float64)
    y = tl.load(row + truths.v, mask=exists, other=0.0).to(tl.float64)
    w = tl.load(row + 2 * truths.v, mask=exists, other=0.0).to(tl.float64)
    h = tl.load(row + 3 * truths.v, mask=exists, other=0.0).to(tl.float64)
    label = tl.load(row + 4 * truths.v, mask=exists, other=0.0).to(tl.float64)
    # False where one is NaN, so that nothing outside the domain ever becomes an address.
    sound = (x >= 0) & (x < 1) & (y >= 0) & (y < 1) & (w > 0) & (w <= 1) & (h > 0) & (h <= 1)
    sound = sound & (label >= 0) & (label < sizes.classes) & (label == tl.floor(label)) & exists
    i, j = (tl.where(sound, x, 0.0) * sizes.width).to(tl.int32), (tl.where(sound, y, 0.0) * sizes.height).to(tl.int32)
    k, best = tl.full(w.shape, 0, tl.int32), tl.full(w.shape, -1.0, tl.float64)
    for other in tl.static_range(len(anchors.fractions) // 2):
        a_w = anchors.fractions[2 * other].to(tl.float64, bitcast=True)
        a_h = anchors.fractions[2 * other + 1].to(tl.float64, bitcast=True)
        shared = tl.minimum(w, a_w) * tl.minimum(h, a_h)
        iou = shared / (w * h + a_w * a_h - shared)
        k, best = tl.where(iou > best, other, k), tl.maximum(iou, best)
    return tl.where(sound, (k * sizes.height + j) * sizes.width + i, -1), exists & (sound == 0)


@triton.jit
def anchor_size(k, AXIS: tl.constexpr, anchors):
    """Width (axis 0) or height (axis 1) of anchor k, cells, in float64."""
    size = anchors.sizes[AXIS].to(tl.float64, bitcast=True)
    for other in tl.static_range(1, len(anchors.sizes) // 2):
        size = tl.where(k == other, anchors.sizes[2 * other + AXIS].to(tl.float64, bitcast=True), size)
    return size


@triton.jit
def channel(outputs, n, k, c, j, i, sizes):
    """Addresses of channel c of predictors (n, k, j, i); in 64 bits, since a tensor may hold more than 2³¹ numbers."""
    place = (k * (5 + sizes.classes) + c).to(tl.int64) * outputs.c
    return outputs.at + n * outputs.n + place + j.to(tl.int64) * outputs.h + i.to(tl.int64) * outputs.w


@triton.jit
def load_five(outputs, at, mask, mask_o):
    """tx, ty, tw, th and to of predictors whose first channel is at `at`; 0 where a mask is false.

    Channel by channel: a multiple of the stride could be too large for 32 bits.
    """
    at_y = at + outputs.c
    at_w = at_y + outputs.c
    at_h = at_w + outputs.c
    t_x = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    t_y = tl.load(at_y, mask=mask, other=0.0).to(tl.float32)
    t_w = tl.load(at_w, mask=mask, other=0.0).to(tl.float32)
    t_h = tl.load(at_h, mask=mask, other=0.0).to(tl.float32)
    t_o = tl.load(at_h + outputs.c, mask=mask_o, other=0.0).to(tl.float32)
    return t_x, t_y, t_w, t_h, t_o


@triton.jit
def targets(truths, n, t, k, j, i, sizes, settings, anchors):
    """The targets of the coordinates of a responsible predictor, their weight, and the class of its truth.

    In float64 until the end: in a lower precision a wide grid would cost digits of x·W - i.
    """
    row = truths.at + n * truths.n + t * truths.t
    x, y = tl.load(row).to(tl.float64), tl.load(row + truths.v).to(tl.float64)
    w, h = tl.load(row + 2 * truths.v).to(tl.float64), tl.load(row + 3 * truths.v).to(tl.float64)
    t_w = tl.log(tl.maximum(w * sizes.width, settings.size_floor) / anchor_size(k, 0, anchors))
    t_h = tl.log(tl.maximum(h * sizes.height, settings.size_floor) / anchor_size(k, 1, anchors))
    small = (2 - w * h).to(tl.float32)
    weight = settings.coord * tl.where(settings.small_box_exponent > 0, small, 1.0)
    weight = weight * tl.where(settings.small_box_exponent > 1, small, 1.0)
    b_x, b_y = (x * sizes.width - i).to(tl.float32), (y * sizes.height - j).to(tl.float32)
    label = tl.load(row + 4 * truths.v).to(tl.int32)
    return b_x, b_y, t_w.to(tl.float32), t_h.to(tl.float32), weight, label


@triton.jit
def softmax_parts(outputs, n, k, j, i, sizes, CLASSES: tl.constexpr):
    """The largest class output z of a predictor, and Σ e^(z - largest); `CLASSES` of them at a time."""
    largest, total = float("-inf"), 0.0
    for start in range(0, sizes.classes, CLASSES):
        c = start + tl.arange(0, CLASSES)
        at = channel(outputs, n, k, 5 + c, j, i, sizes)
        z = tl.load(at, mask=c < sizes.classes, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(largest, tl.max(z))
        total = total * exponential(largest - higher) + tl.sum(exponential(z - higher))
        largest = higher
    return largest, total

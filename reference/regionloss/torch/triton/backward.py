"""The backward kernel of the CUDA path.

It computes no IoU and takes no decision: forward left one byte for each predictor, and the predictor and the IoU of
each truth. Dense programs write all channels of every predictor that is not responsible, row programs those of one that
is, so that every element of the gradient is written once and none is read.
"""

from __future__ import annotations

import triton
import triton.language as tl

from regionloss.torch.triton.device import channel, exponential, load_five, logistic, softmax_parts, targets


@triton.jit(
    do_not_specialize=["truths", "divisor", "sizes", "anchors", "settings"],
    do_not_specialize_on_alignment=["upstream", "predictions", "saved", "gradient"],
)
def backward_kernel(
    upstream,
    divisor,
    predictions,
    truths,
    saved,
    gradient,
    sizes,
    settings,
    anchors,
    BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr,
    CLASSES: tl.constexpr,
    FLAT: tl.constexpr,
):
    """The gradient with respect to the predictions, times `upstream` and divided by `divisor`.

    Args:
        upstream: the address of the gradient of the loss.
        divisor: N for a loss per image, else 1.
        predictions: `Outputs`.
        truths: `TruthRows`.
        saved: `Saved`.
        gradient: `Outputs`, which is written.
        sizes: `Sizes`.
        settings: `Settings`.
        anchors: `Anchors`.
        BLOCK: cells of a tile.
        CHANNELS: channels that are written at a time.
        CLASSES: classes that are read at a time.
        FLAT: whether the rows of the grid follow each other in memory, so that the grid is addressed as one row.
    """
    cells = sizes.height * sizes.width
    tiles = len(anchors.sizes) // 2 * tl.cdiv(cells, BLOCK)
    place = tl.program_id(0) % (tiles + sizes.length)
    n = (tl.program_id(0) // (tiles + sizes.length)).to(tl.int64)
    factor = tl.div_rn(tl.load(upstream).to(tl.float32), divisor)
    state = saved.state + n * (len(anchors.sizes) // 2 * cells)
    if place < tiles:
        dense_backward(predictions, state, gradient, factor, sizes, settings, n, place, BLOCK, CHANNELS, FLAT)
    else:
        t = place - tiles
        predictor = tl.load(saved.predictor_of_truth + n * sizes.length + t)
        if predictor >= 0:
            overlap = tl.load(saved.overlap + n * sizes.length + t)
            row_backward(
                predictions,
                truths,
                state,
                gradient,
                factor,
                sizes,
                settings,
                n,
                t,
                predictor,
                overlap,
                anchors,
                CLASSES,
            )


@triton.jit
def dense_grads(predictions, at, bits, exists, factor, settings):
    """Gradients of the no-object and prior terms of predictors in state `bits`; loads only what these terms need."""
    prior = exists & ((bits & 2) > 0)
    t_x, t_y, t_w, t_h, t_o = load_five(predictions, at, prior, exists & ((bits & 1) > 0))
    b_x, b_y, b_o = logistic(t_x), logistic(t_y), logistic(t_o)
    weight = 2 * settings.prior * factor
    g_x = tl.where(prior, weight * (b_x - 0.5) * b_x * (1 - b_x), 0.0)
    g_y = tl.where(prior, weight * (b_y - 0.5) * b_y * (1 - b_y), 0.0)
    g_w, g_h = tl.where(prior, weight * t_w, 0.0), tl.where(prior, weight * t_h, 0.0)
    g_o = tl.where((bits & 1) > 0, 2 * settings.no_object * factor * b_o * b_o * (1 - b_o), 0.0)
    g_o = tl.where((bits & 8) > 0, float("nan"), g_o)
    return g_x, g_y, g_w, g_h, g_o


@triton.jit
def dense_backward(
    predictions,
    state,
    gradient,
    factor,
    sizes,
    settings,
    n,
    place,
    BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr,
    FLAT: tl.constexpr,
):
    """Write the predictors of a tile that are not responsible: five channels that may hold something, and zeros."""
    cells = sizes.height * sizes.width
    k = place // tl.cdiv(cells, BLOCK)
    cell = place % tl.cdiv(cells, BLOCK) * BLOCK + tl.arange(0, BLOCK)
    inside = cell < cells
    if FLAT:  # so the compiler sees that cells are neighbours in memory, and lets neighbouring threads write them
        j, i = tl.zeros((BLOCK,), tl.int32), cell
    else:
        j, i = cell // sizes.width, cell % sizes.width
    bits = tl.load(state + k * cells + cell, mask=inside, other=4).to(tl.int32)
    writes = (bits & 4) == 0
    at = channel(predictions, n, k, 0, j, i, sizes)
    g_x, g_y, g_w, g_h, g_o = dense_grads(predictions, at, bits, writes, factor, settings)
    write_five(gradient, channel(gradient, n, k, 0, j, i, sizes), g_x, g_y, g_w, g_h, g_o, writes)
    for start in range(0, sizes.classes, CHANNELS):
        c = start + tl.arange(0, CHANNELS)[:, None]
        to = channel(gradient, n, k, 5 + c, j[None, :], i[None, :], sizes)  # [CHANNELS, BLOCK]
        mask = (c < sizes.classes) & writes[None, :]
        tl.store(to, tl.zeros((CHANNELS, BLOCK), gradient.at.dtype.element_ty), mask=mask)


@triton.jit
def write_five(gradient, to, g_x, g_y, g_w, g_h, g_o, mask):
    """Write the box and objectness channels of predictors whose first channel is at `to`, rounded once."""
    kind = gradient.at.dtype.element_ty
    to_y = to + gradient.c
    to_w = to_y + gradient.c
    to_h = to_w + gradient.c
    tl.store(to, g_x.to(kind), mask=mask)
    tl.store(to_y, g_y.to(kind), mask=mask)
    tl.store(to_w, g_w.to(kind), mask=mask)
    tl.store(to_h, g_h.to(kind), mask=mask)
    tl.store(to_h + gradient.c, g_o.to(kind), mask=mask)


@triton.jit
def row_backward(
    predictions,
    truths,
    state,
    gradient,
    factor,
    sizes,
    settings,
    n,
    t,
    predictor,
    overlap,
    anchors,
    CLASSES: tl.constexpr,
):
    """Write all channels of the predictor that is responsible for truth t."""
    cells = sizes.height * sizes.width
    k, j, i = predictor // cells, predictor // sizes.width % sizes.height, predictor % sizes.width
    at = channel(predictions, n, k, 0, j, i, sizes)
    bits = tl.load(state + predictor).to(tl.int32)
    g_x, g_y, g_w, g_h, g_o = dense_grads(predictions, at, bits, bits >= 0, factor, settings)
    t_x, t_y, t_w, t_h, t_o = load_five(predictions, at, bits >= 0, bits >= 0)
    b_x, b_y, b_o = logistic(t_x), logistic(t_y), logistic(t_o)
    to_x, to_y, to_w, to_h, weight, label = targets(truths, n, t, k, j, i, sizes, settings, anchors)
    weight = 2 * factor * weight
    g_x += weight * (b_x - to_x) * b_x * (1 - b_x)
    g_y += weight * (b_y - to_y) * b_y * (1 - b_y)
    g_w += weight * (t_w - to_w)
    g_h += weight * (t_h - to_h)
    residual = b_o - tl.where(settings.target_one > 0, 1.0, overlap)
    g_o += 2 * factor * settings.object * residual * b_o * (1 - b_o)
    write_five(gradient, channel(gradient, n, k, 0, j, i, sizes), g_x, g_y, g_w, g_h, g_o, bits >= 0)
    class_grads(predictions, gradient, factor * settings.class_weight, n, k, j, i, label, sizes, settings, CLASSES)


@triton.jit
def class_grads(predictions, gradient, weight, n, k, j, i, label, sizes, settings, CLASSES: tl.constexpr):
    """Write the class channels of a responsible predictor."""
    largest, total = softmax_parts(predictions, n, k, j, i, sizes, CLASSES)
    joint = 0.0  # Σ p·(p - target), which the derivative of a squared error has
    if settings.class_squared > 0:
        for start in range(0, sizes.classes, CLASSES):
            c = start + tl.arange(0, CLASSES)
            p, residual = softmax_residual(predictions, n, k, j, i, c, label, largest, total, sizes)
            joint += tl.sum(p * residual)
    for start in range(0, sizes.classes, CLASSES):
        c = start + tl.arange(0, CLASSES)
        p, residual = softmax_residual(predictions, n, k, j, i, c, label, largest, total, sizes)
        residual = tl.where(settings.class_squared > 0, 2 * p * (residual - joint), residual)
        to = channel(gradient, n, k, 5 + c, j, i, sizes)
        tl.store(to, (weight * residual).to(gradient.at.dtype.element_ty), mask=c < sizes.classes)


@triton.jit
def softmax_residual(predictions, n, k, j, i, c, label, largest, total, sizes):
    """The softmax of classes c and its residual from the target; both 0 beyond the last class."""
    at = channel(predictions, n, k, 5 + c, j, i, sizes)
    z = tl.load(at, mask=c < sizes.classes, other=float("-inf")).to(tl.float32)
    p = tl.div_rn(exponential(z - largest), total)
    return p, p - tl.where(c == label, 1.0, 0.0)

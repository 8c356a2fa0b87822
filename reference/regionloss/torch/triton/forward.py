"""The forward kernel of the CUDA path, and the one that adds up the sums of its programs.

A dense program computes a tile of the grid of one anchor, a row program one row of the truths. None needs what another
writes, so there are no atomics and no order, and the result is the same bits each time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from regionloss.torch.triton.device import (
    anchor_size,
    assign,
    channel,
    common_length,
    count_read,
    exceeds,
    exponential,
    load_five,
    logistic,
    softmax_parts,
    targets,
)


@triton.jit(
    do_not_specialize=["truths", "seen", "until", "sizes", "anchors", "settings", "threshold"],
    do_not_specialize_on_alignment=["predictions", "saved", "sums"],
)
def forward_kernel(
    predictions,
    truths,
    seen,
    until,
    saved,
    sums,
    sizes,
    settings,
    threshold,
    anchors,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """State, predictors and overlaps of truths, and the sums of every program.

    Args:
        predictions: `Outputs`.
        truths: `TruthRows`.
        seen: t, or its address.
        until: the t at which the prior ends.
        saved: `Saved`, which is written.
        sums: float32: no-object and prior of all dense programs, then coord, object, class and number of bad truths of
            all row programs; each of the six together, images first.
        sizes: `Sizes`.
        settings: `Settings`.
        threshold: `Threshold`.
        anchors: `Anchors`.
        BLOCK: cells of a tile.
        CHUNK: truths that are assigned at a time.
        CLASSES: classes that are read at a time.
    """
    tiles = len(anchors.sizes) // 2 * tl.cdiv(sizes.height * sizes.width, BLOCK)
    place = tl.program_id(0) % (tiles + sizes.length)
    n = (tl.program_id(0) // (tiles + sizes.length)).to(tl.int64)
    if place < tiles:
        if seen.dtype.is_ptr():
            early = tl.load(seen) < until
        else:
            early = seen < until
        no_object, prior = dense_forward(
            predictions, truths, early, saved, sizes, settings, threshold, n, place, anchors, BLOCK, CHUNK
        )
        programs = sizes.images.to(tl.int64) * tiles
        at = sums + n * tiles + place
        tl.store(at, no_object)
        tl.store(at + programs, prior)
    else:
        t = place - tiles
        coord, objectness, classes, bad = row_forward(
            predictions, truths, saved, sizes, settings, n, t, anchors, CHUNK, CLASSES
        )
        programs = sizes.images.to(tl.int64) * sizes.length
        at = sums + 2 * sizes.images.to(tl.int64) * tiles + n * sizes.length + t
        tl.store(at, coord)
        tl.store(at + programs, objectness)
        tl.store(at + 2 * programs, classes)
        tl.store(at + 3 * programs, bad)


@triton.jit
def dense_forward(
    predictions,
    truths,
    early,
    saved,
    sizes,
    settings,
    threshold,
    n,
    place,
    anchors,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The no-object and prior terms of a tile; writes its state."""
    cells = sizes.height * sizes.width
    k = place // tl.cdiv(cells, BLOCK)
    cell = place % tl.cdiv(cells, BLOCK) * BLOCK + tl.arange(0, BLOCK)
    inside = cell < cells
    j, i = cell // sizes.width, cell % sizes.width
    at = channel(predictions, n, k, 0, j, i, sizes)
    t_x, t_y, t_w, t_h, t_o = load_five(predictions, at, inside, inside)
    # Only now, because this waits for the number of truths; by now the predictions are on their way.
    read = count_read(truths, n, settings.terminated, CHUNK)
    first = k * cells + place % tl.cdiv(cells, BLOCK) * BLOCK
    end = tl.minimum(first + BLOCK, (k + 1) * cells)
    responsible, bad = find_responsible(truths, n, read, first, end, sizes, anchors, BLOCK, CHUNK)
    b_x, b_y, b_o = logistic(t_x), logistic(t_y), logistic(t_o)
    x, y, w, h = decode(b_x, b_y, t_w, t_h, k, j, i, sizes, anchors)
    silent = silenced(truths, n, read, x, y, w, h, settings, threshold)
    no_object = (silent == 0) & ((responsible == 0) | (settings.every_no_object > 0))
    prior = early & ((responsible == 0) | (settings.every_prior > 0))
    state = tl.where(no_object, 1, 0) + tl.where(prior, 2, 0) + 4 * responsible + 8 * bad
    tl.store(saved.state + n * (len(anchors.sizes) // 2 * cells) + k * cells + cell, state.to(tl.uint8), mask=inside)
    term_n = settings.no_object * tl.sum(tl.where(inside & no_object, b_o * b_o, 0.0))
    b_x, b_y = b_x - 0.5, b_y - 0.5
    term_p = settings.prior * b_x * b_x + settings.prior * b_y * b_y
    term_p += settings.prior * t_w * t_w + settings.prior * t_h * t_h  # the weight first, against overflow
    return term_n, tl.sum(tl.where(inside & prior, term_p, 0.0))


@triton.jit
def find_responsible(truths, n, read, first, end, sizes, anchors, BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    """Whether the predictors from `first` to `end` are responsible, and whether a truth is bad; 1 or 0.

    Which of several truths wins a predictor is left to the row programs.
    """
    index = first + tl.arange(0, BLOCK)
    responsible, bad = tl.zeros(index.shape, tl.int32), 0
    for start in range(0, read, CHUNK):
        predictor, wrong = assign(truths, n, start + tl.arange(0, CHUNK), read, sizes, anchors)
        bad = tl.maximum(bad, tl.max(wrong.to(tl.int32)))
        # One after the other, the greatest first: a tile has few of them, and to compare all with all costs more.
        greatest = tl.max(tl.where(predictor < end, predictor, -1))
        while greatest >= first:
            responsible = tl.where(index == greatest, 1, responsible)
            greatest = tl.max(tl.where(predictor < greatest, predictor, -1))
    return responsible, bad


@triton.jit
def decode(b_x, b_y, t_w, t_h, k, j, i, sizes, anchors):
    """Boxes of predictors in fractions of the image, by the operations of darknet (`decode.centre`, `decode.size`)."""
    width, height = sizes.width.to(tl.float32), sizes.height.to(tl.float32)
    x = tl.div_rn(i.to(tl.float32) + b_x, width)
    y = tl.div_rn(j.to(tl.float32) + b_y, height)
    w = tl.div_rn(exponential(t_w) * anchor_size(k, 0, anchors).to(tl.float32), width)
    h = tl.div_rn(exponential(t_h) * anchor_size(k, 1, anchors).to(tl.float32), height)
    return x, y, w, h


@triton.jit
def intersection(x, y, w, h, truths, n, t):
    """Area that boxes share with truth t, and the area of the truth."""
    row = truths.at + n * truths.n + t * truths.t
    t_x, t_y = tl.load(row).to(tl.float32), tl.load(row + truths.v).to(tl.float32)
    t_w, t_h = tl.load(row + 2 * truths.v).to(tl.float32), tl.load(row + 3 * truths.v).to(tl.float32)
    across = common_length(x - w * 0.5, x + w * 0.5, t_x - t_w * 0.5, t_x + t_w * 0.5)
    down = common_length(y - h * 0.5, y + h * 0.5, t_y - t_h * 0.5, t_y + t_h * 0.5)
    return across * down, t_w * t_h


@triton.jit
def silenced(truths, n, read, x, y, w, h, settings, threshold):
    """Where MaxIOU silences the no-object term (`noobj.threshold`, `noobj.equality`)."""
    # At or above a threshold of 0 is everything, for MaxIOU is 0 without a truth.
    silent = tl.zeros(x.shape, tl.int1) | ((settings.ignores == 2) & (settings.thresh <= 0))
    for t in range(0, tl.where(settings.ignores > 0, read, 0)):
        shared, area = intersection(x, y, w, h, truths, n, t)
        silent = silent | exceeds(shared, w * h + area - shared, threshold)
    return silent


@triton.jit
def row_forward(
    predictions,
    truths,
    saved,
    sizes,
    settings,
    n,
    t,
    anchors,
    CHUNK: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """The terms of truth t, 0 if it is not read or loses its predictor; writes its predictor and overlap."""
    read = count_read(truths, n, settings.terminated, CHUNK)
    predictor, wrong = assign(truths, n, t, read, sizes, anchors)
    for start in range(0, tl.where(predictor >= 0, read, 0), CHUNK):
        other = start + tl.arange(0, CHUNK)
        rival, _ = assign(truths, n, other, read, sizes, anchors)
        wins = tl.where(settings.first_wins > 0, other < t, other > t)
        predictor = tl.where(tl.max((wins & (rival == predictor)).to(tl.int32)) > 0, -1, predictor)
    coord, objectness, classes, overlap = 0.0, 0.0, 0.0, 0.0
    if predictor >= 0:
        cells = sizes.height * sizes.width
        k, j, i = predictor // cells, predictor // sizes.width % sizes.height, predictor % sizes.width
        at = channel(predictions, n, k, 0, j, i, sizes)
        t_x, t_y, t_w, t_h, t_o = load_five(predictions, at, predictor >= 0, predictor >= 0)
        b_x, b_y, b_o = logistic(t_x), logistic(t_y), logistic(t_o)
        x, y, w, h = decode(b_x, b_y, t_w, t_h, k, j, i, sizes, anchors)
        shared, area = intersection(x, y, w, h, truths, n, t)
        union = w * h + area - shared
        overlap = tl.where((union > 0) & (union < float("inf")), tl.div_rn(shared, union), 0.0)
        to_x, to_y, to_w, to_h, weight, label = targets(truths, n, t, k, j, i, sizes, settings, anchors)
        coord = weight * (b_x - to_x) * (b_x - to_x) + weight * (b_y - to_y) * (b_y - to_y)
        coord += weight * (t_w - to_w) * (t_w - to_w) + weight * (t_h - to_h) * (t_h - to_h)
        residual = b_o - tl.where(settings.target_one > 0, 1.0, overlap)
        objectness = settings.object * residual * residual
        classes = class_term(predictions, n, k, j, i, label, sizes, settings, CLASSES)
    tl.store(saved.predictor_of_truth + n * sizes.length + t, predictor)
    tl.store(saved.overlap + n * sizes.length + t, overlap)
    return coord, objectness, classes, wrong.to(tl.float32)


@triton.jit
def class_term(predictions, n, k, j, i, label, sizes, settings, CLASSES: tl.constexpr):
    """Cross-entropy of a predictor, or the squared error of its softmax."""
    largest, total = softmax_parts(predictions, n, k, j, i, sizes, CLASSES)
    true = tl.load(channel(predictions, n, k, 5 + label, j, i, sizes)).to(tl.float32) - largest
    value = tl.log(total) - true
    if settings.class_squared > 0:
        value = 0.0
        for start in range(0, sizes.classes, CLASSES):
            c = start + tl.arange(0, CLASSES)
            at = channel(predictions, n, k, 5 + c, j, i, sizes)
            z = tl.load(at, mask=c < sizes.classes, other=float("-inf")).to(tl.float32)
            residual = tl.div_rn(exponential(z - largest), total) - tl.where(c == label, 1.0, 0.0)
            value += tl.sum(residual * residual)
    return settings.class_weight * value


@triton.jit(do_not_specialize=["dense", "rows", "divisor"], do_not_specialize_on_alignment=["sums", "loss", "terms"])
def reduction_kernel(sums, loss, terms, dense, rows, divisor, LANES: tl.constexpr):
    """Add up `sums` of `dense` and `rows` programs, always in the same order, into the five terms and the loss.

    The loss is NaN if a truth is outside the domain, so that this is noticed without waiting for the device.
    """
    lane = tl.arange(0, LANES)
    no_object, prior = tl.zeros((LANES,), tl.float32), tl.zeros((LANES,), tl.float32)
    for start in range(0, dense, LANES):
        at, mask = sums + start + lane, start + lane < dense
        no_object += tl.load(at, mask=mask, other=0.0)
        prior += tl.load(at + dense, mask=mask, other=0.0)
    coord, objectness = tl.zeros((LANES,), tl.float32), tl.zeros((LANES,), tl.float32)
    classes, bad = tl.zeros((LANES,), tl.float32), tl.zeros((LANES,), tl.float32)
    for start in range(0, rows, LANES):
        at, mask = sums + 2 * dense + start + lane, start + lane < rows
        coord += tl.load(at, mask=mask, other=0.0)
        objectness += tl.load(at + rows, mask=mask, other=0.0)
        classes += tl.load(at + 2 * rows, mask=mask, other=0.0)
        bad += tl.load(at + 3 * rows, mask=mask, other=0.0)
    term_n, term_p = tl.div_rn(tl.sum(no_object), divisor), tl.div_rn(tl.sum(prior), divisor)
    term_x, term_o = tl.div_rn(tl.sum(coord), divisor), tl.div_rn(tl.sum(objectness), divisor)
    term_c = tl.div_rn(tl.sum(classes), divisor)
    tl.store(terms, term_n)
    tl.store(terms + 1, term_p)
    tl.store(terms + 2, term_x)
    tl.store(terms + 3, term_o)
    tl.store(terms + 4, term_c)
    tl.store(loss, tl.where(tl.sum(bad) > 0, float("nan"), term_n + term_p + term_x + term_o + term_c))

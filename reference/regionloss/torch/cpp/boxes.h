/* Boxes of truths, in cells. */

#pragma once

#include "arithmetic.h"
#include "batch.h"

template <typename Real>
struct Box {
    Real left, top, right, bottom, area;
    int64_t from, to; /* cells, in whole blocks from the first, whose predictors may overlap it beyond the threshold */
};

/* How far the centre of a box may be from that of a truth, in sizes of the truth, if they overlap beyond thresh: along
   one axis the IoU is at most 1/(1 + 2d), which a box has that ends where the truth does on the far side. */
static double reach_of(const Settings *s) {
    if (!s->ignores) return -INFINITY;
    return s->thresh > 0 ? (1 / s->thresh - 1) / 2 : INFINITY;
}

template <typename Real>
static Box<Real> box_of(const Batch<Real> *b, const Settings *s, const double *truth) {
    const double slack = 1e-3; /* cells, far more than rounding moves a centre by */
    double x = truth[0] * b->width, y = truth[1] * b->height;
    double half_w = truth[2] * (b->width / 2.0), half_h = truth[3] * (b->height / 2.0);
    double reach = 2 * half_h * reach_of(s) + slack;
    /* An area that rounds to 0 would make an IoU 0/0, where that of a prediction underflows too (iou.zero-area). */
    Real area = larger<Real>(truth[2] * truth[3] * (double)(b->height * b->width), kMinPositive<Real>);
    int64_t first = fmin(fmax(y - reach, 0), b->height), end = fmin(fmax(y + reach + 1, 0), b->height);
    int64_t from = first * b->width / LANES * LANES, to = end * b->width;
    Real left = x - half_w, top = y - half_h, right = x + half_w, bottom = y + half_h;
    return Box<Real>{left, top, right, bottom, area, from, to};
}

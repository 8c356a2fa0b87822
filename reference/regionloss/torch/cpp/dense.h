/* The terms that every predictor may pay: no-object and prior, and the indicators that they follow. */

#pragma once

#include <string.h>

#include <cmath>
#include <limits>

#include "boxes.h"

/* The predictors of one anchor, lane by lane; lanes after the last cell pay nothing. */
template <typename Real>
struct Plane {
    Real *x, *y, *w, *h, *o; /* raw, and after decode() σ(tx), σ(ty), tw, th, σ(to) */
    Real *left, *top, *right, *bottom, *area, *max_iou;
    int32_t *state;
};

/* Returns the memory of all arrays of the plane, NULL if there is none; the caller frees it. */
template <typename Real>
static Real *alloc_plane(Plane<Real> *p, const Grid<Real> *grid) {
    Real *memory = (Real *)malloc(grid->lanes * (11 * sizeof(Real) + sizeof(int32_t))), *next = memory;
    Real **arrays[11] = {&p->x,   &p->y,     &p->w,      &p->h,    &p->o,      &p->left,
                         &p->top, &p->right, &p->bottom, &p->area, &p->max_iou};
    if (!memory) return memory;
    for (int v = 0; v < 11; v++, next += grid->lanes) *arrays[v] = next;
    p->state = (int32_t *)next;
    return memory;
}

template <typename Real>
static void load(Real *to, const Real *plane, const Grid<Real> *grid) {
    if (grid->contiguous)
        memcpy(to, plane, grid->cells * sizeof(Real));
    else
        for (int64_t cell = 0; cell < grid->cells; cell++) to[cell] = plane[grid->offset[cell]];
    for (int64_t l = grid->cells; l < grid->lanes; l++) to[l] = 0;
}

/* Raw outputs into σ(tx), σ(ty), tw, th, σ(to) and boxes. */
template <typename Real>
static void decode(Plane<Real> *p, const Batch<Real> *b, const Grid<Real> *grid, int64_t anchor) {
    Real half_w = b->sizes[2 * anchor] / 2, half_h = b->sizes[2 * anchor + 1] / 2;
    Real *x = p->x, *y = p->y, *o = p->o;
    EACH_LANE(0, grid->lanes) {
        Real w = smaller(exponential(p->w[l]) * half_w, kMaxSize<Real>);
        Real h = smaller(exponential(p->h[l]) * half_h, kMaxSize<Real>);
        x[l] = logistic(x[l]), y[l] = logistic(y[l]), o[l] = logistic(o[l]);
        Real centre_x = x[l] + grid->column[l], centre_y = y[l] + grid->row[l];
        p->left[l] = centre_x - w, p->right[l] = centre_x + w;
        p->top[l] = centre_y - h, p->bottom[l] = centre_y + h;
        p->area[l] = 4 * w * h;
        p->max_iou[l] = 0;
    }
}

/* MaxIOU of the predictors of a plane; where it is not above the threshold, it may be any smaller number. */
template <typename Real>
static void update_max_iou(Plane<Real> *p, const Box<Real> *boxes, int64_t count) {
    for (int64_t t = 0; t < count; t++) {
        const Box<Real> truth = boxes[t];
        EACH_LANE(truth.from, truth.to) {
            Real across = larger<Real>(smaller(p->right[l], truth.right) - larger(p->left[l], truth.left), 0);
            Real down = smaller(p->bottom[l], truth.bottom) - larger(p->top[l], truth.top);
            Real shared = across * down; /* not positive for boxes apart: one side of 0 is enough */
            Real iou = shared / (p->area[l] + truth.area - shared);
            p->max_iou[l] = larger(p->max_iou[l], iou);
        }
    }
}

/* The state of the predictors of a plane. A term that one does not pay gets numbers for which its gradient is 0. */
template <typename Real>
static void decide_states(Plane<Real> *p, const Batch<Real> *b, const Settings *s, const Grid<Real> *grid,
                          const int32_t *truth_of) {
    Real thresh = s->ignores ? s->thresh : 2; /* an IoU is never above 1 */
    Real limit = s->ignores == 2 ? thresh : std::nextafter(thresh, std::numeric_limits<Real>::infinity());
    int32_t every_no_object = s->every_no_object != 0, every_prior = s->every_prior != 0, early = b->early;
    EACH_LANE(0, grid->cells) {
        Real x = p->x[l], y = p->y[l], w = p->w[l], h = p->h[l], o = p->o[l];
        int32_t unassigned = truth_of[l] < 0, below = p->max_iou[l] < limit; /* false where it is NaN */
        int32_t no_object = below & (unassigned | every_no_object), prior = early & (unassigned | every_prior);
        p->state[l] = no_object * NO_OBJECT | prior * PRIOR | (1 - unassigned) * RESPONSIBLE;
        p->o[l] = no_object ? o : 0;
        p->x[l] = prior ? x : (Real)0.5;
        p->y[l] = prior ? y : (Real)0.5;
        p->w[l] = prior ? w : 0;
        p->h[l] = prior ? h : 0;
    }
    for (int64_t l = grid->cells; l < grid->lanes; l++) p->o[l] = 0, p->x[l] = p->y[l] = (Real)0.5;
}

/* Σ (value - middle)² over a plane. */
template <typename Real>
static double sum_of_squares(const Real *values, Real middle, const Grid<Real> *grid) {
    Real sums[LANES] = {0};
    double total = 0;
    for (int64_t from = 0; from < grid->lanes; from += LANES)
        EACH_LANE(0, LANES) sums[l] += (values[from + l] - middle) * (values[from + l] - middle);
    for (int l = 0; l < LANES; l++) total += sums[l];
    return total;
}

/* The no-object and prior terms of an image, before their weights, into `sums`; and its `state` and `active`. */
template <typename Real>
static void pay_dense(const Batch<Real> *b, const Settings *s, const Grid<Real> *grid, int64_t image,
                      const Box<Real> *boxes, int64_t truths, const int32_t *truth_of, Plane<Real> *p, double *sums) {
    Real *outputs[5] = {p->x, p->y, p->w, p->h, p->o};
    for (int64_t k = 0; k < b->anchors; k++) {
        for (int v = 0; v < 5; v++) load(outputs[v], prediction_plane(b, image, k, v), grid);
        decode(p, b, grid, k);
        update_max_iou(p, boxes, truths);
        decide_states(p, b, s, grid, truth_of + k * grid->cells);
        uint8_t *state = b->state + (image * b->anchors + k) * grid->cells;
        EACH_LANE(0, grid->cells) state[l] = p->state[l];
        for (int v = 0; v < 5; v++)
            memcpy(active_plane(b, grid, image, k, v), outputs[v], grid->cells * sizeof(Real));
        sums[NO_OBJECT_TERM] += sum_of_squares<Real>(p->o, 0, grid);
        if (!b->early) continue;
        sums[PRIOR_TERM] += sum_of_squares<Real>(p->x, 0.5, grid) + sum_of_squares<Real>(p->y, 0.5, grid) +
                            sum_of_squares<Real>(p->w, 0, grid) + sum_of_squares<Real>(p->h, 0, grid);
    }
}

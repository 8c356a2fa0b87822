/* The terms of a responsible predictor: coordinates, objectness and class. */

#pragma once

#include "boxes.h"

/* A responsible predictor with its truth. */
template <typename Real>
struct Responsible {
    int64_t anchor, cell;
    Real raw[5], x, y, o;
    Real residual[5]; /* of bx, by, tw, th and bo from their targets */
    double weight;    /* of the squares of the first four */
    int64_t label;
};

template <typename Real>
static Responsible<Real> responsible_for(const Batch<Real> *b, const Settings *s, const Grid<Real> *grid,
                                         int64_t image, int64_t t) {
    const double *truth = b->rows + (image * b->length + t) * 5;
    int64_t predictor = b->predictor_of_truth[image * b->length + t];
    Responsible<Real> r = {};
    r.anchor = predictor / grid->cells, r.cell = predictor % grid->cells, r.label = truth[4];
    for (int v = 0; v < 5; v++) r.raw[v] = prediction_plane(b, image, r.anchor, v)[grid->offset[r.cell]];
    r.x = logistic(r.raw[0]), r.y = logistic(r.raw[1]), r.o = logistic(r.raw[4]);
    /* In double: in a lower precision a wide grid would cost digits of the targets. */
    double x = truth[0] * b->width, y = truth[1] * b->height, w = truth[2] * b->width, h = truth[3] * b->height;
    if (s->size_floor) w = fmax(w, s->size_floor), h = fmax(h, s->size_floor);
    r.residual[0] = r.x - (Real)(x - floor(x));
    r.residual[1] = r.y - (Real)(y - floor(y));
    r.residual[2] = r.raw[2] - (Real)log(w / b->sizes[2 * r.anchor]);
    r.residual[3] = r.raw[3] - (Real)log(h / b->sizes[2 * r.anchor + 1]);
    r.weight = s->coord * pow(2 - truth[2] * truth[3], s->small_box_exponent);
    return r;
}

/* IoU of the decoded box of a responsible predictor with its truth. */
template <typename Real>
static Real iou_with_truth(const Batch<Real> *b, const Settings *s, const Grid<Real> *grid, const Responsible<Real> *r,
                           const double *truth) {
    Real w = smaller(exponential(r->raw[2]) * (Real)(b->sizes[2 * r->anchor] / 2), kMaxSize<Real>);
    Real h = smaller(exponential(r->raw[3]) * (Real)(b->sizes[2 * r->anchor + 1] / 2), kMaxSize<Real>);
    Real x = r->x + grid->column[r->cell], y = r->y + grid->row[r->cell];
    Box<Real> box = box_of(b, s, truth);
    Real across = smaller(x + w, box.right) - larger(x - w, box.left);
    Real down = smaller(y + h, box.bottom) - larger(y - h, box.top);
    Real shared = larger<Real>(across, 0) * larger<Real>(down, 0);
    return shared / (4 * w * h + box.area - shared);
}

/* The softmax of a predictor into `p`; returns the class term, before its weight. */
template <typename Real>
static double classify(Real *p, const Batch<Real> *b, const Settings *s, const Grid<Real> *grid, int64_t image,
                       const Responsible<Real> *r) {
    const Real *z = prediction_plane(b, image, r->anchor, 5) + grid->offset[r->cell];
    Real largest = z[0];
    double total = 0, squares = 0;
    for (int64_t v = 0; v < b->classes; v++) p[v] = z[v * b->channel_stride];
    for (int64_t v = 0; v < b->classes; v++) largest = larger(largest, p[v]);
    double entropy = -(double)(p[r->label] - largest);
    for (int64_t v = 0; v < b->classes; v++) p[v] = exponential(p[v] - largest);
    for (int64_t v = 0; v < b->classes; v++) total += p[v];
    for (int64_t v = 0; v < b->classes; v++) p[v] /= (Real)total;
    if (!s->class_squared) return entropy + log(total);
    for (int64_t v = 0; v < b->classes; v++) squares += (p[v] - (v == r->label)) * (p[v] - (v == r->label));
    return squares;
}

/* The terms of the predictor that is responsible for truth t, before their weights, into `sums`; and their gradient
   with respect to its outputs, before the upstream factor, into `truth_grads`. */
template <typename Real>
static void pay_responsible(const Batch<Real> *b, const Settings *s, const Grid<Real> *grid, int64_t image, int64_t t,
                            double *sums) {
    Responsible<Real> r = responsible_for(b, s, grid, image, t);
    Real *grad = grad_of_truth(b, image, t), *p = grad + 5;
    const double *truth = b->rows + (image * b->length + t) * 5;
    r.residual[4] = r.o - (s->target_one ? 1 : iou_with_truth(b, s, grid, &r, truth));
    for (int v = 0; v < 4; v++) sums[COORD_TERM] += r.weight * r.residual[v] * r.residual[v];
    sums[OBJECT_TERM] += (double)r.residual[4] * r.residual[4];
    sums[CLASS_TERM] += classify(p, b, s, grid, image, &r);
    Real coord = 2 * r.weight, object = 2 * s->object, weight = s->class_weight;
    grad[0] = coord * r.residual[0] * r.x * (1 - r.x);
    grad[1] = coord * r.residual[1] * r.y * (1 - r.y);
    grad[2] = coord * r.residual[2];
    grad[3] = coord * r.residual[3];
    grad[4] = object * r.residual[4] * r.o * (1 - r.o);
    double mean = 0;
    for (int64_t v = 0; v < b->classes; v++) mean += p[v] * (p[v] - (v == r.label));
    for (int64_t v = 0; v < b->classes; v++) {
        Real residual = p[v] - (v == r.label);
        p[v] = weight * (s->class_squared ? 2 * p[v] * (residual - (Real)mean) : residual);
    }
}

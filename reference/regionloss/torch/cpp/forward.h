/* The loss of a batch, in one pass over its predictions.

   Sums are over lanes, then planes, then images, in this order however many threads there are, so that they are the
   same from run to run. */

#pragma once

#include "assignment.h"
#include "dense.h"
#include "responsible.h"

/* The terms of an image into `sums`. */
template <typename Real>
static NEVER_INLINE Status pay_image(const Batch<Real> *b, const Settings *s, const Grid<Real> *grid, int64_t image,
                                     double *sums) {
    int64_t predictors = b->anchors * grid->cells, truths = 0;
    Plane<Real> plane;
    int32_t *truth_of = (int32_t *)malloc(predictors * sizeof(int32_t) + 1);
    Box<Real> *boxes = (Box<Real> *)malloc(b->length * sizeof(Box<Real>) + 1);
    Real *memory = alloc_plane(&plane, grid);
    bool allocated = truth_of && boxes && memory;
    if (allocated) {
        memset(truth_of, -1, predictors * sizeof(int32_t));
        truths = assign(b, s, image, boxes, truth_of);
        pay_dense(b, s, grid, image, boxes, truths, truth_of, &plane, sums);
        memset(grad_of_truth(b, image, 0), 0, b->length * (5 + b->classes) * sizeof(Real));
        for (int64_t t = 0; t < b->length; t++)
            if (b->predictor_of_truth[image * b->length + t] >= 0) pay_responsible(b, s, grid, image, t, sums);
        double weights[TERMS] = {s->no_object, s->prior, 1, s->object, s->class_weight}; /* coord has its own */
        for (int v = 0; v < TERMS; v++) sums[v] *= weights[v];
    }
    free(truth_of);
    free(boxes);
    free(memory);
    return !allocated ? NO_MEMORY : truths < 0 ? BAD_TRUTH : DONE;
}

template <typename Real>
static Status pay(const Batch<Real> *b, const Settings *s) {
    double terms[TERMS] = {0}, loss = 0, *sums = (double *)calloc(b->images * TERMS + 1, sizeof(double));
    Status status = NO_MEMORY;
    if (sums)
        status = for_each_image(b, [=](const Grid<Real> *grid, int64_t image) {
            return pay_image(b, s, grid, image, sums + image * TERMS);
        });
    for (int64_t image = 0; status == DONE && image < b->images; image++)
        for (int v = 0; v < TERMS; v++) terms[v] += sums[image * TERMS + v];
    for (int v = 0; v < TERMS; v++) {
        if (s->per_image && b->images) terms[v] /= b->images;
        b->terms[v] = terms[v];
        loss += terms[v];
    }
    *b->loss = loss;
    free(sums);
    return status;
}

/* Which predictor is responsible for which truth. */

#pragma once

#include <algorithm>

#include "boxes.h"

/* The first anchor that a truth of this shape overlaps most (assign.anchor-shape, assign.anchor-tie). */
template <typename Real>
static int64_t best_anchor(const Batch<Real> *b, double w, double h) {
    int64_t best = 0;
    double largest = -1;
    for (int64_t k = 0; k < b->anchors; k++) {
        double anchor_w = b->sizes[2 * k] / b->width, anchor_h = b->sizes[2 * k + 1] / b->height;
        double shared = fmin(w, anchor_w) * fmin(h, anchor_h);
        double iou = shared / (w * h + anchor_w * anchor_h - shared);
        if (iou > largest) largest = iou, best = k;
    }
    return best;
}

/* Whether a truth is inside the domain; not if one of its numbers is NaN. */
template <typename Real>
static bool inside(const Batch<Real> *b, const double *truth) {
    double x = truth[0], y = truth[1], w = truth[2], h = truth[3], label = truth[4];
    return x >= 0 && x < 1 && y >= 0 && y < 1 && w > 0 && w <= 1 && h > 0 && h <= 1 && label >= 0 &&
           label < b->classes && label == floor(label);
}

/* Assign the truths of an image: `truth_of` gets the truth of each predictor, or -1, and `boxes` those of the truths
   that are read. Returns how many these are, or -1 if one of them is outside the domain. */
template <typename Real>
static int64_t assign(const Batch<Real> *b, const Settings *s, int64_t image, Box<Real> *boxes, int32_t *truth_of) {
    const double *truth = b->rows + image * b->length * 5;
    int32_t *predictor_of = b->predictor_of_truth + image * b->length;
    int64_t end = b->length;
    if (s->max_truths) end = std::min(end, (int64_t)s->max_truths);
    if (b->counts) end = std::min(end, b->counts[image]);
    for (int64_t t = 0; t < b->length; t++) predictor_of[t] = -1;
    int64_t count = 0;
    for (int64_t t = 0; t < end; t++, truth += 5) {
        if (s->terminated && truth[0] == 0) break;
        if (!inside(b, truth)) return -1;
        boxes[count++] = box_of(b, s, truth);
        int64_t k = best_anchor(b, truth[2], truth[3]);
        int64_t j = truth[1] * b->height, i = truth[0] * b->width, predictor = (k * b->height + j) * b->width + i;
        if (truth_of[predictor] >= 0) {
            if (s->first_wins) continue;
            predictor_of[truth_of[predictor]] = -1;
        }
        truth_of[predictor] = t;
        predictor_of[t] = predictor;
    }
    return count;
}

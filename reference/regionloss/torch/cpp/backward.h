/* The gradient of a batch, written in one pass from what forward kept, times the upstream factor. */

#pragma once

#include <string.h>

#include "batch.h"

/* The gradients of the no-object and prior terms of one channel, from what decide_states() left. */
template <typename Real>
static void write_plane(Real *to, const Real *active, int channel, Real factor, const Grid<Real> *grid) {
    if (channel < 2)
        EACH_LANE(0, grid->cells)
            to[l] = factor * (active[l] - (Real)0.5) * active[l] * (1 - active[l]);
    else if (channel < 4)
        EACH_LANE(0, grid->cells) to[l] = factor * active[l];
    else
        EACH_LANE(0, grid->cells) to[l] = factor * active[l] * active[l] * (1 - active[l]);
}

/* Those of all channels; zeros where there are none. */
template <typename Real>
static void write_dense(const Batch<Real> *b, const Settings *s, const Grid<Real> *grid, int64_t image, Real *buffer) {
    Real no_object = 2 * s->no_object * b->factor, prior = 2 * s->prior * b->factor;
    for (int64_t k = 0; k < b->anchors; k++) {
        for (int v = 0; v < 5; v++) {
            Real *to = gradient_plane(b, image, k, v);
            const Real *active = active_plane(b, grid, image, k, v);
            write_plane(grid->contiguous ? to : buffer, active, v, v < 4 ? prior : no_object, grid);
            if (!grid->contiguous)
                for (int64_t cell = 0; cell < grid->cells; cell++) to[grid->offset[cell]] = buffer[cell];
        }
        if (grid->contiguous && b->channel_stride == grid->cells)
            memset(gradient_plane(b, image, k, 5), 0, b->classes * grid->cells * sizeof(Real));
        else
            for (int64_t v = 0; v < b->classes; v++)
                for (int64_t cell = 0; cell < grid->cells; cell++)
                    gradient_plane(b, image, k, 5 + v)[grid->offset[cell]] = 0;
    }
}

/* All gradients of an image: those of the responsible predictors are added to what the dense terms left. */
template <typename Real>
static NEVER_INLINE Status write_image(const Batch<Real> *b, const Settings *s, const Grid<Real> *grid, int64_t image) {
    Real *buffer = (Real *)malloc(grid->cells * sizeof(Real)), factor = b->factor;
    if (!buffer) return NO_MEMORY;
    write_dense(b, s, grid, image, buffer);
    for (int64_t t = 0; t < b->length; t++) {
        int64_t predictor = b->predictor_of_truth[image * b->length + t];
        if (predictor < 0) continue;
        const Real *grad = grad_of_truth(b, image, t);
        Real *to = gradient_plane(b, image, predictor / grid->cells, 0) + grid->offset[predictor % grid->cells];
        for (int64_t v = 0; v < 5 + b->classes; v++) to[v * b->channel_stride] += factor * grad[v];
    }
    free(buffer);
    return DONE;
}

template <typename Real>
static Status write_gradient(const Batch<Real> *b, const Settings *s) {
    return for_each_image(b, [=](const Grid<Real> *grid, int64_t image) { return write_image(b, s, grid, image); });
}

/* A batch in the memory of the caller, its grid, and how both are addressed. */

#pragma once

#include <stdint.h>
#include <stdlib.h>

/* Predictors of an anchor are worked on together, in arrays that stay in the first cache and are whole blocks long. */
enum { LANES = 16 };

/* Lanes do not depend on each other, which the compiler cannot see. */
#define EACH_LANE(from, to) _Pragma("omp simd") for (int64_t l = (from); l < (to); l++)

/* For the work on an image: inlined into the loop over images, it would lose registers to that loop's variables. */
#define NEVER_INLINE __attribute__((noinline))

enum State { NO_OBJECT = 1, PRIOR = 2, RESPONSIBLE = 4 };

enum Term { NO_OBJECT_TERM, PRIOR_TERM, COORD_TERM, OBJECT_TERM, CLASS_TERM, TERMS };

enum Status { DONE = 0, NO_MEMORY = 1, BAD_TRUTH = 2 }; /* of a batch: the worst of its images */

template <typename Real>
struct Batch {
    int64_t images, anchors, classes, height, width, length, threads; /* length: T, rows of an image */
    int64_t image_stride, channel_stride, row_stride, column_stride;    /* of the predictions or their gradient */
    const double *sizes;                                                /* widths and heights of the anchors, cells */
    uint8_t *state;
    int32_t *predictor_of_truth;
    Real *active, *truth_grads; /* what backward needs of forward, see `kept_tensors` in ops.py */
    /* of forward alone */
    bool early;
    const Real *predictions;
    const double *rows;
    const int64_t *counts; /* or NULL */
    Real *loss, *terms;
    /* of backward alone */
    double factor;
    Real *gradient;
};

/* What depends on the grid alone. */
template <typename Real>
struct Grid {
    int64_t cells, lanes; /* of a plane, and rounded up to whole blocks */
    Real *column, *row;   /* of each lane */
    int64_t *offset;      /* of each cell in a plane of the predictions or of the gradient */
    bool contiguous;      /* whether the cells of such a plane follow each other in memory */
};

template <typename Real>
static bool init_grid(Grid<Real> *grid, const Batch<Real> *b) {
    grid->cells = b->height * b->width;
    grid->lanes = (grid->cells + LANES - 1) / LANES * LANES;
    grid->column = (Real *)calloc(2 * grid->lanes, sizeof(Real));
    grid->offset = (int64_t *)malloc(grid->cells * sizeof(int64_t));
    if (!grid->column || !grid->offset) return false;
    grid->row = grid->column + grid->lanes;
    grid->contiguous = b->column_stride == 1 && b->row_stride == b->width;
    for (int64_t cell = 0; cell < grid->cells; cell++) {
        int64_t j = cell / b->width, i = cell % b->width;
        grid->column[cell] = i;
        grid->row[cell] = j;
        grid->offset[cell] = j * b->row_stride + i * b->column_stride;
    }
    return true;
}

template <typename Real>
static void free_grid(Grid<Real> *grid) {
    free(grid->column);
    free(grid->offset);
}

template <typename Real>
static const Real *prediction_plane(const Batch<Real> *b, int64_t image, int64_t anchor, int64_t channel) {
    return b->predictions + image * b->image_stride + (anchor * (5 + b->classes) + channel) * b->channel_stride;
}

template <typename Real>
static Real *gradient_plane(const Batch<Real> *b, int64_t image, int64_t anchor, int64_t channel) {
    return b->gradient + image * b->image_stride + (anchor * (5 + b->classes) + channel) * b->channel_stride;
}

/* σ(tx), σ(ty), tw, th or σ(to) of the predictors of an anchor, as decide_states() leaves them. */
template <typename Real>
static Real *active_plane(const Batch<Real> *b, const Grid<Real> *grid, int64_t image, int64_t anchor, int channel) {
    return b->active + ((channel * b->images + image) * b->anchors + anchor) * grid->cells;
}

template <typename Real>
static Real *grad_of_truth(const Batch<Real> *b, int64_t image, int64_t truth) {
    return b->truth_grads + (image * b->length + truth) * (5 + b->classes);
}

/* Work on all images, `work(grid, image)`, in as many threads as there may be. */
template <typename Real, typename Work>
static Status for_each_image(const Batch<Real> *b, Work work) {
    Grid<Real> grid = {};
    int worst = init_grid(&grid, b) ? DONE : NO_MEMORY;
    if (worst == DONE) {
#pragma omp parallel for num_threads(b->threads) if (b->threads > 1) reduction(max : worst)
        for (int64_t image = 0; image < b->images; image++) {
            int status = work(&grid, image);
            worst = status > worst ? status : worst;
        }
    }
    free_grid(&grid);
    return (Status)worst;
}

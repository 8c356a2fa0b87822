/* The YOLOv2 ("region") loss of the profiles darknet and darknet-2016, its terms and its gradient. C99. */

#ifndef REGION_LOSS_LOSS_H
#define REGION_LOSS_LOSS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

/* Channels of a predictor; the logits of the classes follow. */
enum { T_X, T_Y, T_W, T_H, T_O, CLASSES };

enum { NO_OBJECT, PRIOR, COORD, OBJECT, CLASS, TERMS };

static const char *const term_names[TERMS] = {"no_object", "prior", "coord", "object", "class"};

enum { NOBODY = -1 };

struct box {
    double x, y, w, h; /* centre and size, fractions of the image */
};

struct truth {
    struct box box;
    long label;
};

struct image {
    struct truth *truths; /* those that are read */
    long count;
};

struct batch {
    long images, anchors, classes, height, width;
    double *t;      /* [N, A, 5+C, H, W], raw predictions */
    double *anchor; /* [A, 2], width and height in cells */
    struct image *image;
    double images_seen;
};

struct profile {
    double thresh, prior_until, prior_weight, coord_weight, object_weight, no_object_weight, class_weight;
    double squared_factor, small_box_exponent, max_truths;
    bool by_predicted_shape; /* else by the shape of the anchors */
    bool target_is_one;      /* else the IoU */
};

struct answer {
    double *gradient; /* [N, A, 5+C, H, W] */
    double terms[TERMS];
    long *owner;   /* [N, A, H, W], the truth that a predictor is responsible for, or NOBODY */
    bool *ignored; /* [N, A, H, W] */
};

/* A predictor: image, anchor, row, column. */
struct place {
    long n, k, j, i;
};

struct loss {
    const struct batch *batch;
    const struct profile *profile;
    struct answer *answer;
};

static size_t predictors(const struct batch *batch)
{
    return (size_t)(batch->images * batch->anchors * batch->height * batch->width);
}

static size_t predictor(const struct batch *batch, struct place p)
{
    return (size_t)(((p.n * batch->anchors + p.k) * batch->height + p.j) * batch->width + p.i);
}

static struct place place_of(const struct batch *batch, size_t predictor)
{
    long at = (long)predictor, cells = batch->height * batch->width;
    return (struct place){at / cells / batch->anchors, at / cells % batch->anchors, at % cells / batch->width,
                          at % batch->width};
}

/* Where a channel of a predictor stands in the predictions and in the gradient. */
static size_t index_of(const struct batch *batch, struct place p, long channel)
{
    long cells = batch->height * batch->width;
    long before = (p.n * batch->anchors + p.k) * (5 + batch->classes) + channel;
    return (size_t)(before * cells + p.j * batch->width + p.i);
}

static double sigmoid(double t)
{
    double small = exp(-fabs(t));
    return (t >= 0 ? 1.0 : small) / (1.0 + small);
}

/* b(1 - b), without the cancellation near b = 1. */
static double sigmoid_slope(double t)
{
    return sigmoid(t) * sigmoid(-t);
}

/* Length of the overlap of two intervals, negative where they are apart. */
static double overlap(double centre, double size, double other_centre, double other_size)
{
    double right = fmin(centre + size / 2, other_centre + other_size / 2);
    double left = fmax(centre - size / 2, other_centre - other_size / 2);
    return right - left;
}

static double iou(struct box box, struct box other)
{
    double across = overlap(box.x, box.w, other.x, other.w);
    double down = overlap(box.y, box.h, other.y, other.h);
    double intersection = across < 0 || down < 0 ? 0.0 : across * down;
    double both = box.w * box.h + other.w * other.h - intersection;
    return both > 0 && isfinite(both) ? intersection / both : 0.0; /* an infinite box overlaps nothing */
}

static struct box decode(const struct batch *batch, struct place p)
{
    double width = (double)batch->width, height = (double)batch->height;
    return (struct box){
        ((double)p.i + sigmoid(batch->t[index_of(batch, p, T_X)])) / width,
        ((double)p.j + sigmoid(batch->t[index_of(batch, p, T_Y)])) / height,
        exp(batch->t[index_of(batch, p, T_W)]) * batch->anchor[2 * p.k] / width,
        exp(batch->t[index_of(batch, p, T_H)]) * batch->anchor[2 * p.k + 1] / height,
    };
}

/* The largest IoU of a box with any truth of its image, 0 where there is none. */
static double max_iou(const struct image *image, struct box box)
{
    double best = 0;
    for (long m = 0; m < image->count; m++) {
        best = fmax(best, iou(box, image->truths[m].box));
    }
    return best;
}

/* The predictor that a truth falls to: its cell, and there the anchor of the most similar shape, the first on a tie. */
static struct place responsible_for(const struct loss *loss, long n, struct box truth)
{
    const struct batch *batch = loss->batch;
    double width = (double)batch->width, height = (double)batch->height;
    struct place best = {n, 0, (long)floor(truth.y * height), (long)floor(truth.x * width)};
    double best_fit = 0;
    for (struct place p = best; p.k < batch->anchors; p.k++) {
        struct box shape = {0, 0, batch->anchor[2 * p.k] / width, batch->anchor[2 * p.k + 1] / height};
        if (loss->profile->by_predicted_shape) {
            shape = decode(batch, p);
            shape.x = shape.y = 0;
        }
        double fit = iou(shape, (struct box){0, 0, truth.w, truth.h});
        if (fit > best_fit) {
            best_fit = fit;
            best = p;
        }
    }
    return best;
}

/* Add q·λ·r² to a term and 2q·λ·r·(dr/dt) to the gradient. */
static void pay(struct loss *loss, int term, double weight, double residual, size_t at, double slope)
{
    double q = loss->profile->squared_factor;
    loss->answer->terms[term] += q * weight * residual * residual;
    loss->answer->gradient[at] += 2 * q * weight * residual * slope;
}

/* Pay for an output that goes through the logistic function. */
static void pay_logistic(struct loss *loss, int term, double weight, struct place p, long channel, double target)
{
    size_t at = index_of(loss->batch, p, channel);
    double t = loss->batch->t[at];
    pay(loss, term, weight, sigmoid(t) - target, at, sigmoid_slope(t));
}

/* Pay for an output that is taken raw. */
static void pay_raw(struct loss *loss, int term, double weight, struct place p, long channel, double target)
{
    size_t at = index_of(loss->batch, p, channel);
    pay(loss, term, weight, loss->batch->t[at] - target, at, 1.0);
}

static void pay_prior(struct loss *loss, struct place p)
{
    double weight = loss->profile->prior_weight;
    pay_logistic(loss, PRIOR, weight, p, T_X, 0.5);
    pay_logistic(loss, PRIOR, weight, p, T_Y, 0.5);
    pay_raw(loss, PRIOR, weight, p, T_W, 0.0);
    pay_raw(loss, PRIOR, weight, p, T_H, 0.0);
}

static void pay_coord(struct loss *loss, struct place p, struct box truth)
{
    const double *anchor = &loss->batch->anchor[2 * p.k];
    double width = (double)loss->batch->width, height = (double)loss->batch->height;
    double weight = loss->profile->coord_weight * pow(2 - truth.w * truth.h, loss->profile->small_box_exponent);
    pay_logistic(loss, COORD, weight, p, T_X, truth.x * width - (double)p.i);
    pay_logistic(loss, COORD, weight, p, T_Y, truth.y * height - (double)p.j);
    pay_raw(loss, COORD, weight, p, T_W, log(truth.w * width / anchor[0]));
    pay_raw(loss, COORD, weight, p, T_H, log(truth.h * height / anchor[1]));
}

/* Cross-entropy of the softmax over the classes; its gradient is the softmax, minus 1 at the true class. */
static void pay_class(struct loss *loss, struct place p, long label)
{
    const struct batch *batch = loss->batch;
    double weight = loss->profile->class_weight, top = -HUGE_VAL, sum = 0;
    for (long c = 0; c < batch->classes; c++) {
        top = fmax(top, batch->t[index_of(batch, p, CLASSES + c)]);
    }
    for (long c = 0; c < batch->classes; c++) {
        sum += exp(batch->t[index_of(batch, p, CLASSES + c)] - top);
    }
    for (long c = 0; c < batch->classes; c++) {
        size_t at = index_of(batch, p, CLASSES + c);
        double log_p = batch->t[at] - top - log(sum);
        loss->answer->gradient[at] += weight * (exp(log_p) - (c == label));
        loss->answer->terms[CLASS] -= c == label ? weight * log_p : 0;
    }
}

static void pay_responsible(struct loss *loss, struct place p, struct truth truth)
{
    /* The IoU is a constant here: no gradient flows through it. */
    double target = loss->profile->target_is_one ? 1.0 : iou(decode(loss->batch, p), truth.box);
    pay_coord(loss, p, truth.box);
    pay_logistic(loss, OBJECT, loss->profile->object_weight, p, T_O, target);
    pay_class(loss, p, truth.label);
}

static void pay_other(struct loss *loss, struct place p)
{
    double best = max_iou(&loss->batch->image[p.n], decode(loss->batch, p));
    if (best > loss->profile->thresh) {
        loss->answer->ignored[predictor(loss->batch, p)] = true;
    } else {
        pay_logistic(loss, NO_OBJECT, loss->profile->no_object_weight, p, T_O, 0.0);
    }
    if (loss->batch->images_seen < loss->profile->prior_until) {
        pay_prior(loss, p);
    }
}

/* The loss of a batch inside the domain. The arrays of the answer have room for it; what they hold is overwritten. */
static void region_loss(const struct batch *batch, const struct profile *profile, struct answer *answer)
{
    struct loss loss = {batch, profile, answer};
    size_t count = predictors(batch);
    for (size_t at = 0; at < count * (size_t)(5 + batch->classes); at++) {
        answer->gradient[at] = 0;
    }
    for (int term = 0; term < TERMS; term++) {
        answer->terms[term] = 0;
    }
    for (size_t here = 0; here < count; here++) {
        answer->owner[here] = NOBODY;
        answer->ignored[here] = false;
    }
    for (long n = 0; n < batch->images; n++) {
        for (long m = 0; m < batch->image[n].count; m++) { /* in their order: the last takes a predictor whole */
            answer->owner[predictor(batch, responsible_for(&loss, n, batch->image[n].truths[m].box))] = m;
        }
    }
    for (size_t here = 0; here < count; here++) {
        struct place p = place_of(batch, here);
        if (answer->owner[here] != NOBODY) {
            pay_responsible(&loss, p, batch->image[p.n].truths[answer->owner[here]]);
        } else {
            pay_other(&loss, p);
        }
    }
}

#endif

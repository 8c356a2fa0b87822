/* What the suite asks, read and checked: a profile that this program has, and a batch inside the domain. C99. */

#ifndef REGION_LOSS_QUESTION_H
#define REGION_LOSS_QUESTION_H

#include <limits.h>
#include <stdarg.h>

#include "json.h"
#include "loss.h"
#include "tensor.h"

/* Why there is no answer: the question is skipped, or refused, which names the place. */
struct reason {
    char text[512];
    long image, truth; /* NOBODY where the fault has no such place */
};

static bool say(struct reason *reason, long image, long truth, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(reason->text, sizeof reason->text, format, values);
    va_end(values);
    reason->image = image;
    reason->truth = truth;
    return false;
}

/* The choices that this program has. An axis that is not here, or another value, is skipped. */
static bool read_profile(const struct json *given, struct profile *profile, struct reason *reason)
{
    struct {
        const char *axis;
        double *number;
    } numbers[] = {
        {"thresh", &profile->thresh},
        {"prior_until", &profile->prior_until},
        {"prior_weight", &profile->prior_weight},
        {"coord_weight", &profile->coord_weight},
        {"object_weight", &profile->object_weight},
        {"no_object_weight", &profile->no_object_weight},
        {"class_weight", &profile->class_weight},
        {"squared_factor", &profile->squared_factor},
        {"small_box_exponent", &profile->small_box_exponent},
        {"max_truths", &profile->max_truths},
    };
    static const struct {
        const char *axis, *value;
    } only[] = {
        {"ignore", "above"},
        {"no_object_applies", "not-responsible"},
        {"no_object_target", "zero"},
        {"prior_applies", "not-responsible"},
        {"collision", "last"},
        {"class_collision", "replace"},
        {"size_space", "log"},
        {"size_target_floor", "none"},
        {"object_target_gradient", "constant"},
        {"objectness", "logistic"},
        {"class_term", "cross-entropy"},
        {"ignored_class", "none"},
        {"reduction", "sum"},
        {"truth_end", "x-zero"},
    };
    memset(profile, 0, sizeof *profile);
    size_t known = 0;
    for (size_t here = 0; given != NULL && here < given->count; here++) {
        const char *axis = given->keys[here];
        const struct json *value = &given->items[here];
        if (strcmp(axis, "name") == 0 || strcmp(axis, "printed_cost") == 0) {
            continue; /* it does not answer the printed cost */
        }
        bool has = false;
        for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++) {
            if (strcmp(axis, numbers[at].axis) == 0) {
                *numbers[at].number = json_number(value);
                has = isfinite(*numbers[at].number);
            }
        }
        for (size_t at = 0; at < sizeof only / sizeof *only; at++) {
            has = has || (strcmp(axis, only[at].axis) == 0 && json_is_text(value, only[at].value));
        }
        if (strcmp(axis, "anchor_choice") == 0) {
            profile->by_predicted_shape = json_is_text(value, "predicted-shape");
            has = profile->by_predicted_shape || json_is_text(value, "anchor-shape");
        }
        if (strcmp(axis, "object_target") == 0) {
            profile->target_is_one = json_is_text(value, "one");
            has = profile->target_is_one || json_is_text(value, "iou");
        }
        if (!has) {
            return say(reason, NOBODY, NOBODY, "%s: this example has no %s", axis,
                       value->kind == JSON_TEXT ? value->text : "such value");
        }
        known++;
    }
    if (known != sizeof numbers / sizeof *numbers + sizeof only / sizeof *only + 2) {
        return say(reason, NOBODY, NOBODY, "the profile does not state every axis that this example has");
    }
    return true;
}

static bool is_whole(double value)
{
    return isfinite(value) && value == floor(value);
}

static bool is_list(const struct json *value)
{
    return value != NULL && value->kind == JSON_LIST;
}

static bool read_anchors(const struct json *given, struct batch *batch, struct reason *reason)
{
    if (!is_list(given) || given->count == 0) {
        return say(reason, NOBODY, NOBODY, "there are no anchors, expected at least one");
    }
    batch->anchors = (long)given->count;
    batch->anchor = json_memory(NULL, 2 * given->count, sizeof *batch->anchor);
    for (size_t k = 0; k < given->count; k++) {
        const struct json *pair = &given->items[k];
        if (!is_list(pair) || pair->count != 2) {
            return say(reason, NOBODY, NOBODY, "anchor %zu is no pair of width and height", k);
        }
        for (size_t axis = 0; axis < 2; axis++) {
            double size = json_number(&pair->items[axis]);
            if (!(isfinite(size) && size > 0)) {
                return say(reason, NOBODY, NOBODY, "anchor %zu has the size %g, expected a positive one", k, size);
            }
            batch->anchor[2 * k + axis] = size;
        }
    }
    return true;
}

static bool read_predictions(const struct json *given, const char *folder, struct batch *batch,
                             struct reason *reason)
{
    const struct json *shape = json_get(given, "shape");
    if (!is_list(shape) || shape->count != 4) {
        return say(reason, NOBODY, NOBODY, "predictions have rank %zu, expected 4", is_list(shape) ? shape->count : 0);
    }
    long channels = (long)json_number(&shape->items[1]);
    batch->images = (long)json_number(&shape->items[0]);
    batch->height = (long)json_number(&shape->items[2]);
    batch->width = (long)json_number(&shape->items[3]);
    if (channels != batch->anchors * (5 + batch->classes)) {
        return say(reason, NOBODY, NOBODY, "predictions have %ld channels, expected A*(5+C) = %ld", channels,
                   batch->anchors * (5 + batch->classes));
    }
    if (batch->height < 1 || batch->width < 1) {
        return say(reason, NOBODY, NOBODY, "the grid is %ld x %ld cells, expected at least 1 x 1", batch->height,
                   batch->width);
    }
    size_t of_image = (size_t)(channels * batch->height * batch->width), count = (size_t)batch->images * of_image;
    batch->t = json_memory(NULL, count, sizeof *batch->t);
    read_tensor(given, folder, batch->t, count);
    for (size_t at = 0; at < count; at++) {
        if (!isfinite(batch->t[at])) {
            long n = (long)(at / of_image);
            return say(reason, n, NOBODY, "image %ld: prediction %zu is %g, expected a finite number", n, at % of_image,
                       batch->t[at]);
        }
    }
    return true;
}

/* One row that is read: x, y, w, h, class. */
static bool read_truth(const double *row, long classes, long n, long m, struct truth *truth, struct reason *reason)
{
    for (int at = 0; at < 5; at++) {
        if (!isfinite(row[at])) {
            return say(reason, n, m, "image %ld, truth %ld: %c is %g, expected a finite number", n, m, "xywhc"[at],
                       row[at]);
        }
    }
    for (int at = 0; at < 2; at++) {
        if (!(row[at] >= 0 && row[at] < 1)) {
            return say(reason, n, m, "image %ld, truth %ld: %c is %g, expected a fraction of the image below 1", n, m,
                       "xy"[at], row[at]);
        }
    }
    for (int at = 2; at < 4; at++) {
        if (!(row[at] > 0 && row[at] <= 1)) {
            return say(reason, n, m, "image %ld, truth %ld: %c is %g, expected a fraction of the image above 0", n, m,
                       "xywh"[at], row[at]);
        }
    }
    if (!is_whole(row[4]) || row[4] < 0 || row[4] >= (double)classes) {
        return say(reason, n, m, "image %ld, truth %ld: class is %g, expected a whole number from 0 to %ld", n, m,
                   row[4], classes - 1);
    }
    *truth = (struct truth){{row[0], row[1], row[2], row[3]}, (long)row[4]};
    return true;
}

/* The rows of one image up to its terminator, a row whose x is 0, and up to the capacity. */
static bool read_truths(const struct json *rows, const struct profile *profile, struct batch *batch, long n,
                        struct reason *reason)
{
    struct image *image = &batch->image[n];
    for (size_t m = 0; m < rows->count; m++) {
        if (!is_list(&rows->items[m]) || rows->items[m].count != 5) {
            return say(reason, n, NOBODY, "image %ld: a row is not the five numbers x, y, w, h, class", n);
        }
    }
    image->truths = json_memory(NULL, rows->count, sizeof *image->truths);
    for (size_t m = 0; m < rows->count; m++) {
        double row[5];
        for (int at = 0; at < 5; at++) {
            row[at] = json_number(&rows->items[m].items[at]);
        }
        if (row[0] == 0 || (profile->max_truths > 0 && (double)m >= profile->max_truths)) {
            break;
        }
        if (!read_truth(row, batch->classes, n, (long)m, &image->truths[m], reason)) {
            return false;
        }
        image->count++;
    }
    return true;
}

static bool read_batch(const struct json *given, const char *folder, const struct profile *profile, struct batch *batch,
                       struct reason *reason)
{
    memset(batch, 0, sizeof *batch);
    if (!read_anchors(json_get(given, "anchors"), batch, reason)) {
        return false;
    }
    double classes = json_number(json_get(given, "classes"));
    if (!is_whole(classes) || classes < 1 || classes > INT_MAX) {
        return say(reason, NOBODY, NOBODY, "classes is %g, expected a whole number >= 1", classes);
    }
    batch->classes = (long)classes;
    batch->images_seen = json_number(json_get(given, "images_seen"));
    if (!is_whole(batch->images_seen) || batch->images_seen < 0) {
        return say(reason, NOBODY, NOBODY, "images_seen is %g, expected a whole number >= 0", batch->images_seen);
    }
    if (!read_predictions(json_get(given, "predictions"), folder, batch, reason)) {
        return false;
    }
    const struct json *truths = json_get(given, "truths");
    if (!is_list(truths) || truths->count != (size_t)batch->images) {
        size_t lists = is_list(truths) ? truths->count : 0;
        return say(reason, NOBODY, NOBODY, "got %zu truth lists for %ld images", lists, batch->images);
    }
    batch->image = json_memory(NULL, truths->count, sizeof *batch->image);
    memset(batch->image, 0, truths->count * sizeof *batch->image);
    for (long n = 0; n < batch->images; n++) {
        if (!read_truths(&truths->items[n], profile, batch, n, reason)) {
            return false;
        }
    }
    return true;
}

#endif

/* The loss of a batch on the host: forward in one pass over the predictions, backward in one over the gradient.

   Included once for each REAL, the type of the predictions, within a namespace of its own, after Settings and the
   headers that operators.cpp includes. Nothing here knows of PyTorch. The predictors of an anchor are looked at
   together, in arrays that stay in the first cache and are whole vectors long. Forward keeps the slopes of what it has
   at hand, up to the upstream factor, and backward has only to write them down. Sums are over lanes, then planes, then
   images, in this order however many threads there are, so that they are the same from run to run. */

enum { LANES = 16, NO_OBJECT = 1, PRIOR = 2, RESPONSIBLE = 4, TERMS = 5 };

/* A batch, in numbers and in memory of the caller. */
struct Call {
    int64_t images, anchors, classes, height, width, slots, threads;
    int64_t of_image, of_channel, of_row, of_column; /* strides of the predictions, or of the gradient in backward */
    const double *sizes;                             /* widths and heights of the anchors in turn, cells */
    uint8_t *state;
    int32_t *owner;
    REAL *active, *slopes;
    /* for pay() alone */
    bool early;
    const REAL *predictions;
    const double *rows;
    const int64_t *counts; /* or NULL */
    REAL *loss, *terms;
    /* for write_gradient() alone */
    double factor;
    REAL *gradient;
};

/* Lanes do not depend on each other, which the compiler cannot see. */
#define EACH_LANE(from, to) _Pragma("omp simd") for (int64_t l = (from); l < (to); l++)

/* What depends on the grid alone. */
struct Grid {
    int64_t cells, lanes; /* of a plane, and as many as whole blocks have */
    REAL *column, *row;   /* of each lane */
    int64_t *at;          /* where each cell lies in a plane of the predictions or of the gradient */
    int at_once;          /* whether a plane lies in one piece there */
};

/* A truth, cells. */
struct Box {
    REAL left, top, right, bottom, area;
    int64_t from, to; /* blocks of the cells whose predictors may overlap it beyond the threshold */
};

/* The predictors of one anchor, lane by lane; what lies behind the last cell pays nothing. */
struct Plane {
    REAL *x, *y, *w, *h, *o; /* raw, and after decode() σ(tx), σ(ty), tw, th, σ(to) */
    REAL *left, *top, *right, *bottom, *area, *best;
    int32_t *state;
};

/* A responsible predictor with its truth. */
struct Owner {
    int64_t anchor, cell;
    REAL raw[5], x, y, o;
    REAL away[5];  /* of bx, by, tw, th and bo from their targets */
    double weight; /* of the squares of the first four */
    int64_t label;
};

#if SINGLE
#ifdef FP_FAST_FMAF
static inline float fused(float a, float b, float c) { return fmaf(a, b, c); }
#else
static inline float fused(float a, float b, float c) { return a * b + c; }
#endif

/* e^x: 2^n·e^r with |r| ≤ ln 2 / 2, by Taylor's polynomial; 2^n in two factors, for either end of the range. */
static AT_ONCE float exponential(float x) {
    const float shift = 12582912.0f; /* 1.5·2^23: a sum with it is rounded to a whole number, in its lowest bits */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float shifted = x * 1.44269504f + shift;
    float n = shifted - shift;
    float r = fused(n, 2.12194440e-4f, fused(n, -0.693359375f, x));
    float p = 1.0f / 5040;
    p = fused(p, r, 1.0f / 720);
    p = fused(p, r, 1.0f / 120);
    p = fused(p, r, 1.0f / 24);
    p = fused(p, r, 1.0f / 6);
    p = fused(p, r, 0.5f);
    p = fused(p * r, r, r) + 1.0f;
    union { float number; int32_t bits; } whole = {shifted}, one, other;
    int32_t power = whole.bits - 0x4B400000;
    int32_t half = power >> 1;
    one.bits = (half + 127) << 23;
    other.bits = (power - half + 127) << 23;
    return p * one.number * other.number;
}
#define NEXT(x) nextafterf(x, INFINITY)
static const float VAST = 0x1p60f, LEAST = 0x1p-149f;
#else
static AT_ONCE double exponential(double x) { return exp(x); }
#define NEXT(x) nextafter(x, INFINITY)
static const double VAST = 0x1p500, LEAST = 0x1p-1074;
#endif

static AT_ONCE REAL logistic(REAL x) { return 1 / (1 + exponential(-x)); }
static inline REAL smaller(REAL a, REAL b) { return a < b ? a : b; }
static inline REAL larger(REAL a, REAL b) { return a > b ? a : b; }

static int64_t min_64(int64_t a, int64_t b) { return a < b ? a : b; }

static const REAL *plane_of(const Call *c, int64_t image, int64_t anchor, int64_t channel) {
    return c->predictions + image * c->of_image + (anchor * (5 + c->classes) + channel) * c->of_channel;
}

static REAL *slope_of(const Call *c, int64_t image, int64_t anchor, int64_t channel) {
    return c->gradient + image * c->of_image + (anchor * (5 + c->classes) + channel) * c->of_channel;
}

/* σ(tx), σ(ty), tw, th or σ(to) of all predictors, as settle() leaves them. */
static REAL *active_of(const Call *c, const Grid *grid, int v) {
    return c->active + v * c->images * c->anchors * grid->cells;
}

static REAL *row_of(const Call *c, int64_t image, int64_t slot) {
    return c->slopes + (image * c->slots + slot) * (5 + c->classes);
}

static int lay_out(Grid *grid, const Call *c) {
    grid->cells = c->height * c->width;
    grid->lanes = (grid->cells + LANES - 1) / LANES * LANES;
    grid->column = (REAL *)calloc(2 * grid->lanes, sizeof(REAL));
    grid->at = (int64_t *)malloc(grid->cells * sizeof(int64_t));
    if (!grid->column || !grid->at) return 0;
    grid->row = grid->column + grid->lanes;
    grid->at_once = c->of_column == 1 && c->of_row == c->width;
    for (int64_t cell = 0; cell < grid->cells; cell++) {
        int64_t j = cell / c->width, i = cell % c->width;
        grid->column[cell] = i;
        grid->row[cell] = j;
        grid->at[cell] = j * c->of_row + i * c->of_column;
    }
    return 1;
}

static void clear(Grid *grid) {
    free(grid->column);
    free(grid->at);
}

static REAL *reserve(Plane *p, const Grid *grid) {
    REAL *room = (REAL *)malloc(grid->lanes * (11 * sizeof(REAL) + sizeof(int32_t))), *next = room;
    REAL **arrays[11] = {&p->x, &p->y, &p->w, &p->h, &p->o, &p->left, &p->top, &p->right, &p->bottom, &p->area, &p->best};
    if (!room) return room;
    for (int v = 0; v < 11; v++, next += grid->lanes) *arrays[v] = next;
    p->state = (int32_t *)next;
    return room;
}

static void load(REAL *into, const REAL *plane, const Grid *grid) {
    if (grid->at_once)
        memcpy(into, plane, grid->cells * sizeof(REAL));
    else
        for (int64_t cell = 0; cell < grid->cells; cell++) into[cell] = plane[grid->at[cell]];
    for (int64_t l = grid->cells; l < grid->lanes; l++) into[l] = 0;
}

/* The first anchor that a truth of this shape overlaps most (assign.anchor-shape, assign.anchor-tie). */
static int64_t best_anchor(const Call *c, double w, double h) {
    int64_t found = 0;
    double most = -1;
    for (int64_t k = 0; k < c->anchors; k++) {
        double anchor_w = c->sizes[2 * k] / c->width, anchor_h = c->sizes[2 * k + 1] / c->height;
        double shared = fmin(w, anchor_w) * fmin(h, anchor_h);
        double iou = shared / (w * h + anchor_w * anchor_h - shared);
        if (iou > most) most = iou, found = k;
    }
    return found;
}

static int inside(const Call *c, const double *truth) {
    double x = truth[0], y = truth[1], w = truth[2], h = truth[3], label = truth[4];
    return x >= 0 && x < 1 && y >= 0 && y < 1 && w > 0 && w <= 1 && h > 0 && h <= 1 && label >= 0 &&
           label < c->classes && label == floor(label);
}

/* How far the centre of a box may be from that of a truth, in sizes of the truth, if they overlap beyond thresh: along
   one axis the IoU is at most 1/(1 + 2d), which a box has that ends where the truth does on the far side. */
static double reach_of(const Settings *s) {
    if (!s->ignores) return -INFINITY;
    return s->thresh > 0 ? (1 / s->thresh - 1) / 2 : INFINITY;
}

static Box box_of(const Call *c, const Settings *s, const double *truth) {
    const double slack = 1e-3; /* cells, far more than rounding moves a centre by */
    double x = truth[0] * c->width, y = truth[1] * c->height;
    double half_w = truth[2] * (c->width / 2.0), half_h = truth[3] * (c->height / 2.0);
    double reach = 2 * half_h * reach_of(s) + slack;
    /* An area that rounds to 0 would make an IoU 0/0, where that of a prediction underflows too (iou.zero-area). */
    REAL area = larger(truth[2] * truth[3] * (double)(c->height * c->width), LEAST);
    int64_t first = fmin(fmax(y - reach, 0), c->height), behind = fmin(fmax(y + reach + 1, 0), c->height);
    int64_t from = first * c->width / LANES * LANES, to = behind * c->width;
    REAL left = x - half_w, top = y - half_h, right = x + half_w, bottom = y + half_h;
    return Box{left, top, right, bottom, area, from, to};
}

/* Decide which predictor answers for which truth of an image; `who` is the truth of each predictor, or -1.
   Returns how many truths are read, those are `boxes`; -1 if one of them is outside the domain. */
static int64_t assign(const Call *c, const Settings *s, int64_t image, Box *boxes, int32_t *who) {
    const double *truth = c->rows + image * c->slots * 5;
    int32_t *owner = c->owner + image * c->slots;
    int64_t slots = c->slots;
    if (s->max_truths) slots = min_64(slots, (int64_t)s->max_truths);
    if (c->counts) slots = min_64(slots, c->counts[image]);
    for (int64_t t = 0; t < c->slots; t++) owner[t] = -1;
    int64_t count = 0;
    for (int64_t t = 0; t < slots; t++, truth += 5) {
        if (s->terminated && truth[0] == 0) break;
        if (!inside(c, truth)) return -1;
        boxes[count++] = box_of(c, s, truth);
        int64_t k = best_anchor(c, truth[2], truth[3]);
        int64_t j = truth[1] * c->height, i = truth[0] * c->width, place = (k * c->height + j) * c->width + i;
        if (who[place] >= 0) {
            if (s->first_wins) continue;
            owner[who[place]] = -1;
        }
        who[place] = t;
        owner[t] = place;
    }
    return count;
}

/* Raw numbers of a plane into σ(tx), σ(ty), tw, th, σ(to) and boxes. */
static void decode(Plane *p, const Call *c, const Grid *grid, int64_t anchor) {
    REAL half_w = c->sizes[2 * anchor] / 2, half_h = c->sizes[2 * anchor + 1] / 2;
    REAL *x = p->x, *y = p->y, *o = p->o;
    EACH_LANE(0, grid->lanes) {
        /* A size beyond this overlaps nothing that a threshold could tell, and its area is a number. */
        REAL w = smaller(exponential(p->w[l]) * half_w, VAST), h = smaller(exponential(p->h[l]) * half_h, VAST);
        x[l] = logistic(x[l]), y[l] = logistic(y[l]), o[l] = logistic(o[l]);
        REAL across = x[l] + grid->column[l], down = y[l] + grid->row[l];
        p->left[l] = across - w, p->right[l] = across + w;
        p->top[l] = down - h, p->bottom[l] = down + h;
        p->area[l] = 4 * w * h;
        p->best[l] = 0;
    }
}

/* MaxIOU of the predictors of a plane, or any number below it where that is not above the threshold. */
static void meet(Plane *p, const Box *boxes, int64_t count) {
    for (int64_t t = 0; t < count; t++) {
        const Box truth = boxes[t];
        EACH_LANE(truth.from, truth.to) {
            REAL across = larger(smaller(p->right[l], truth.right) - larger(p->left[l], truth.left), 0);
            REAL down = smaller(p->bottom[l], truth.bottom) - larger(p->top[l], truth.top);
            REAL shared = across * down; /* one side is enough to keep that of boxes apart from being positive */
            REAL iou = shared / (p->area[l] + truth.area - shared);
            p->best[l] = larger(p->best[l], iou);
        }
    }
}

/* The state of the predictors of a plane; who does not pay a term gets the numbers for which it has no slope. */
static void settle(Plane *p, const Call *c, const Settings *s, const Grid *grid, const int32_t *who) {
    REAL thresh = s->ignores ? s->thresh : 2; /* an IoU is never above 1 */
    REAL limit = s->ignores == 2 ? thresh : NEXT(thresh);
    int32_t every_no_object = s->every_no_object != 0, every_prior = s->every_prior != 0, early = c->early;
    EACH_LANE(0, grid->cells) {
        REAL x = p->x[l], y = p->y[l], w = p->w[l], h = p->h[l], o = p->o[l];
        int32_t free = who[l] < 0, loud = p->best[l] < limit; /* not where it is not a number */
        int32_t pays = loud & (free | every_no_object), pulled = early & (free | every_prior);
        p->state[l] = pays * NO_OBJECT | pulled * PRIOR | (1 - free) * RESPONSIBLE;
        p->o[l] = pays ? o : 0;
        p->x[l] = pulled ? x : (REAL)0.5;
        p->y[l] = pulled ? y : (REAL)0.5;
        p->w[l] = pulled ? w : 0;
        p->h[l] = pulled ? h : 0;
    }
    for (int64_t l = grid->cells; l < grid->lanes; l++) p->o[l] = 0, p->x[l] = p->y[l] = (REAL)0.5;
}

/* Σ of the squares of a plane of numbers less `middle`. */
static double squares(const REAL *values, REAL middle, const Grid *grid) {
    REAL sums[LANES] = {0};
    double total = 0;
    for (int64_t from = 0; from < grid->lanes; from += LANES)
        EACH_LANE(0, LANES) sums[l] += (values[from + l] - middle) * (values[from + l] - middle);
    for (int l = 0; l < LANES; l++) total += sums[l];
    return total;
}

/* The no-object and prior terms of an image, before their weights, the state of its predictors, and what their slopes
   are made of. */
static void pay_dense(const Call *c, const Settings *s, const Grid *grid, int64_t image, const Box *boxes,
                      int64_t truths, const int32_t *who, Plane *p, double *sums) {
    REAL *arrays[5] = {p->x, p->y, p->w, p->h, p->o};
    for (int64_t k = 0; k < c->anchors; k++) {
        int64_t place = (image * c->anchors + k) * grid->cells;
        for (int v = 0; v < 5; v++) load(arrays[v], plane_of(c, image, k, v), grid);
        decode(p, c, grid, k);
        meet(p, boxes, truths);
        settle(p, c, s, grid, who + k * grid->cells);
        uint8_t *state = c->state + place;
        EACH_LANE(0, grid->cells) state[l] = p->state[l];
        for (int v = 0; v < 5; v++) memcpy(active_of(c, grid, v) + place, arrays[v], grid->cells * sizeof(REAL));
        sums[0] += squares(p->o, 0, grid);
        if (!c->early) continue;
        sums[1] += squares(p->x, 0.5, grid) + squares(p->y, 0.5, grid) + squares(p->w, 0, grid) + squares(p->h, 0, grid);
    }
}

static Owner owner_of(const Call *c, const Settings *s, const Grid *grid, int64_t image, int64_t slot) {
    const double *truth = c->rows + (image * c->slots + slot) * 5;
    int64_t place = c->owner[image * c->slots + slot];
    Owner one = {};
    one.anchor = place / grid->cells, one.cell = place % grid->cells, one.label = truth[4];
    for (int v = 0; v < 5; v++) one.raw[v] = plane_of(c, image, one.anchor, v)[grid->at[one.cell]];
    one.x = logistic(one.raw[0]), one.y = logistic(one.raw[1]), one.o = logistic(one.raw[4]);
    /* In double: in a lower precision a wide grid would cost digits of the targets. */
    double x = truth[0] * c->width, y = truth[1] * c->height, w = truth[2] * c->width, h = truth[3] * c->height;
    if (s->size_floor) w = fmax(w, s->size_floor), h = fmax(h, s->size_floor);
    one.away[0] = one.x - (REAL)(x - floor(x));
    one.away[1] = one.y - (REAL)(y - floor(y));
    one.away[2] = one.raw[2] - (REAL)log(w / c->sizes[2 * one.anchor]);
    one.away[3] = one.raw[3] - (REAL)log(h / c->sizes[2 * one.anchor + 1]);
    one.weight = s->coord * pow(2 - truth[2] * truth[3], s->small_box_exponent);
    return one;
}

static REAL overlap_of(const Call *c, const Settings *s, const Grid *grid, const Owner *one, const double *truth) {
    REAL w = smaller(exponential(one->raw[2]) * (REAL)(c->sizes[2 * one->anchor] / 2), VAST);
    REAL h = smaller(exponential(one->raw[3]) * (REAL)(c->sizes[2 * one->anchor + 1] / 2), VAST);
    REAL x = one->x + grid->column[one->cell], y = one->y + grid->row[one->cell];
    Box t = box_of(c, s, truth);
    REAL across = smaller(x + w, t.right) - larger(x - w, t.left);
    REAL down = smaller(y + h, t.bottom) - larger(y - h, t.top);
    REAL shared = larger(across, 0) * larger(down, 0);
    return shared / (4 * w * h + t.area - shared);
}

/* The class probabilities of a predictor into `p`; returns the class term, before its weight. */
static double classify(REAL *p, const Call *c, const Settings *s, const Grid *grid, int64_t image, const Owner *one) {
    const REAL *z = plane_of(c, image, one->anchor, 5) + grid->at[one->cell];
    REAL most = z[0];
    double total = 0, squares = 0;
    for (int64_t v = 0; v < c->classes; v++) p[v] = z[v * c->of_channel];
    for (int64_t v = 0; v < c->classes; v++) most = larger(most, p[v]);
    double entropy = -(double)(p[one->label] - most);
    for (int64_t v = 0; v < c->classes; v++) p[v] = exponential(p[v] - most);
    for (int64_t v = 0; v < c->classes; v++) total += p[v];
    for (int64_t v = 0; v < c->classes; v++) p[v] /= (REAL)total;
    if (!s->class_squared) return entropy + log(total);
    for (int64_t v = 0; v < c->classes; v++) squares += (p[v] - (v == one->label)) * (p[v] - (v == one->label));
    return squares;
}

/* The other terms of a responsible predictor, before their weights, and their slopes up to the upstream factor. */
static void pay_owner(const Call *c, const Settings *s, const Grid *grid, int64_t image, int64_t slot, double *sums) {
    Owner one = owner_of(c, s, grid, image, slot);
    REAL *slope = row_of(c, image, slot), *p = slope + 5;
    one.away[4] = one.o - (s->target_one ? 1 : overlap_of(c, s, grid, &one, c->rows + (image * c->slots + slot) * 5));
    for (int v = 0; v < 4; v++) sums[2] += one.weight * one.away[v] * one.away[v];
    sums[3] += (double)one.away[4] * one.away[4];
    sums[4] += classify(p, c, s, grid, image, &one);
    REAL coord = 2 * one.weight, object = 2 * s->object, weight = s->class_weight;
    slope[0] = coord * one.away[0] * one.x * (1 - one.x);
    slope[1] = coord * one.away[1] * one.y * (1 - one.y);
    slope[2] = coord * one.away[2];
    slope[3] = coord * one.away[3];
    slope[4] = object * one.away[4] * one.o * (1 - one.o);
    double mean = 0;
    for (int64_t v = 0; v < c->classes; v++) mean += p[v] * (p[v] - (v == one.label));
    for (int64_t v = 0; v < c->classes; v++) {
        REAL away = p[v] - (v == one.label);
        p[v] = weight * (s->class_squared ? 2 * p[v] * (away - (REAL)mean) : away);
    }
}

static int pay_image(const Call *c, const Settings *s, const Grid *grid, int64_t image, double *sums) {
    int64_t predictors = c->anchors * grid->cells, truths = 0;
    Plane plane;
    int32_t *who = (int32_t *)malloc(predictors * sizeof(int32_t) + 1);
    Box *boxes = (Box *)malloc(c->slots * sizeof(Box) + 1);
    REAL *room = reserve(&plane, grid);
    int held = who && boxes && room;
    sums += image * TERMS;
    if (held) {
        memset(who, -1, predictors * sizeof(int32_t));
        truths = assign(c, s, image, boxes, who);
        pay_dense(c, s, grid, image, boxes, truths, who, &plane, sums);
        memset(row_of(c, image, 0), 0, c->slots * (5 + c->classes) * sizeof(REAL));
        for (int64_t t = 0; t < c->slots; t++)
            if (c->owner[image * c->slots + t] >= 0) pay_owner(c, s, grid, image, t, sums);
        double weights[TERMS] = {s->no_object, s->prior, 1, s->object, s->class_weight};
        for (int v = 0; v < TERMS; v++) sums[v] *= weights[v];
    }
    free(who);
    free(boxes);
    free(room);
    return !held ? NO_MEMORY : truths < 0 ? BAD_TRUTH : DONE;
}

/* The gradients of the no-object and prior terms of one channel, from what settle() left; `by` is their factor. */
static void write_plane(REAL *to, const REAL *active, int channel, REAL by, const Grid *grid) {
    if (channel < 2)
        EACH_LANE(0, grid->cells)
            to[l] = by * (active[l] - (REAL)0.5) * active[l] * (1 - active[l]);
    else if (channel < 4)
        EACH_LANE(0, grid->cells) to[l] = by * active[l];
    else
        EACH_LANE(0, grid->cells) to[l] = by * active[l] * active[l] * (1 - active[l]);
}

/* Those of all channels; zeros where there are none. */
static void write_dense(const Call *c, const Settings *s, const Grid *grid, int64_t image, REAL *room) {
    REAL pay = 2 * s->no_object * c->factor, pull = 2 * s->prior * c->factor;
    for (int64_t k = 0; k < c->anchors; k++) {
        int64_t place = (image * c->anchors + k) * grid->cells;
        for (int v = 0; v < 5; v++) {
            REAL *to = slope_of(c, image, k, v);
            write_plane(grid->at_once ? to : room, active_of(c, grid, v) + place, v, v < 4 ? pull : pay, grid);
            if (!grid->at_once)
                for (int64_t cell = 0; cell < grid->cells; cell++) to[grid->at[cell]] = room[cell];
        }
        if (grid->at_once && c->of_channel == grid->cells)
            memset(slope_of(c, image, k, 5), 0, c->classes * grid->cells * sizeof(REAL));
        else
            for (int64_t v = 0; v < c->classes; v++)
                for (int64_t cell = 0; cell < grid->cells; cell++) slope_of(c, image, k, 5 + v)[grid->at[cell]] = 0;
    }
}

/* The gradients of the other terms, added to what the responsible pay otherwise. */
static int write_image(const Call *c, const Settings *s, const Grid *grid, int64_t image, double *unused) {
    REAL *room = (REAL *)malloc(grid->cells * sizeof(REAL)), factor = c->factor;
    (void)unused;
    if (!room) return NO_MEMORY;
    write_dense(c, s, grid, image, room);
    for (int64_t t = 0; t < c->slots; t++) {
        int64_t place = c->owner[image * c->slots + t];
        if (place < 0) continue;
        const REAL *slope = row_of(c, image, t);
        REAL *to = slope_of(c, image, place / grid->cells, 0) + grid->at[place % grid->cells];
        for (int64_t v = 0; v < 5 + c->classes; v++) to[v * c->of_channel] += factor * slope[v];
    }
    free(room);
    return DONE;
}

static int for_each_image(int (*work)(const Call *, const Settings *, const Grid *, int64_t, double *), const Call *c,
                          const Settings *s, double *sums) {
    Grid grid = {};
    int worst = lay_out(&grid, c) ? DONE : NO_MEMORY;
    if (worst == DONE) {
#pragma omp parallel for num_threads(c->threads) if (c->threads > 1) reduction(max : worst)
        for (int64_t image = 0; image < c->images; image++) {
            int how = work(c, s, &grid, image, sums);
            worst = how > worst ? how : worst;
        }
    }
    clear(&grid);
    return worst;
}

static int pay(const Call *c, const Settings *s) {
    double terms[TERMS] = {0}, loss = 0, *sums = (double *)calloc(c->images * TERMS + 1, sizeof(double));
    int how = sums ? for_each_image(pay_image, c, s, sums) : NO_MEMORY;
    for (int64_t image = 0; how == DONE && image < c->images; image++)
        for (int v = 0; v < TERMS; v++) terms[v] += sums[image * TERMS + v];
    for (int v = 0; v < TERMS; v++) {
        if (s->per_image && c->images) terms[v] /= c->images;
        c->terms[v] = terms[v];
        loss += terms[v];
    }
    *c->loss = loss;
    free(sums);
    return how;
}

static int write_gradient(const Call *c, const Settings *s) { return for_each_image(write_image, c, s, NULL); }

/* The loss of a batch on the host, forward and backward, in one pass over the predictions each.

   Compiled with REAL, the type of the predictions, and after the declarations of Call and Settings, which compiled.py
   writes, so that the two languages cannot disagree about them. Predictors are looked at in blocks of LANES, which stay
   in the first cache and are as many lanes of vectors. Sums are over lanes, then planes, then images, in this order
   however many threads there are, so that they are the same from run to run. */

enum { LANES = 64, NO_OBJECT = 1, PRIOR = 2, RESPONSIBLE = 4, TERMS = 5 };

#define EACH_LANE for (int l = 0; l < LANES; l++)

/* What depends on the grid alone. */
typedef struct {
    int64_t cells;
    REAL *column, *row;  /* of each cell, and of as many more as fill the last block */
    int64_t *at, *to;    /* where each cell lies in a plane of the predictions and of the gradient */
    int at_once, to_once; /* whether a plane lies in one piece there */
} Grid;

/* A truth, cells. */
typedef struct {
    REAL left, top, right, bottom, area;
} Box;

typedef struct {
    REAL tx[LANES], ty[LANES], tw[LANES], th[LANES], to[LANES];
} Block;

/* A responsible predictor with its truth. */
typedef struct {
    int64_t anchor, cell;
    REAL raw[5], x, y, o;
    REAL away[5];  /* of bx, by, tw, th and bo from their targets */
    double weight; /* of the squares of the first four */
    int64_t label;
} Owner;

#ifdef SINGLE
/* e^x: 2^n·e^r with |r| ≤ ln 2 / 2, by Taylor's polynomial; 2^n in two factors, for either end of the range. */
static inline float exponential(float x) {
    const float shift = 12582912.0f; /* 1.5·2^23: a sum with it is rounded to a whole number, in its lowest bits */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float shifted = x * 1.44269504f + shift;
    float n = shifted - shift;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    union { float number; int32_t bits; } whole = {shifted}, one, other;
    int32_t power = whole.bits - 0x4B400000;
    int32_t half = power >> 1;
    one.bits = (half + 127) << 23;
    other.bits = (power - half + 127) << 23;
    return p * one.number * other.number;
}
static const float VAST = 0x1p60f, LEAST = 0x1p-149f;
#else
static inline double exponential(double x) { return exp(x); }
static const double VAST = 0x1p500, LEAST = 0x1p-1074;
#endif

static inline REAL logistic(REAL x) { return 1 / (1 + exponential(-x)); }
static inline REAL smaller(REAL a, REAL b) { return a < b ? a : b; }
static inline REAL larger(REAL a, REAL b) { return a > b ? a : b; }

static int64_t min_64(int64_t a, int64_t b) { return a < b ? a : b; }

static const REAL *plane_of(const Call *c, int64_t image, int64_t anchor, int64_t channel) {
    return (const REAL *)c->predictions + image * c->p_image + (anchor * (5 + c->classes) + channel) * c->p_channel;
}

static REAL *slope_of(const Call *c, int64_t image, int64_t anchor, int64_t channel) {
    return (REAL *)c->gradient + image * c->g_image + (anchor * (5 + c->classes) + channel) * c->g_channel;
}

static int lay_out(Grid *grid, const Call *c) {
    int64_t room = c->height * c->width + LANES;
    grid->cells = c->height * c->width;
    grid->column = calloc(2 * room, sizeof(REAL));
    grid->at = calloc(2 * room, sizeof(int64_t));
    if (!grid->column || !grid->at) return 0;
    grid->row = grid->column + room;
    grid->to = grid->at + room;
    grid->at_once = c->p_column == 1 && c->p_row == c->width;
    grid->to_once = c->g_column == 1 && c->g_row == c->width;
    for (int64_t cell = 0; cell < grid->cells; cell++) {
        int64_t j = cell / c->width, i = cell % c->width;
        grid->column[cell] = i;
        grid->row[cell] = j;
        grid->at[cell] = j * c->p_row + i * c->p_column;
        grid->to[cell] = j * c->g_row + i * c->g_column;
    }
    return 1;
}

static void clear(Grid *grid) {
    free(grid->column);
    free(grid->at);
}

static void load_plane(REAL *into, const REAL *plane, const Grid *grid, int64_t from, int64_t count) {
    if (grid->at_once && count == LANES)
        memcpy(into, plane + from, LANES * sizeof(REAL));
    else if (grid->at_once)
        memcpy(into, plane + from, count * sizeof(REAL));
    else
        for (int64_t l = 0; l < count; l++) into[l] = plane[grid->at[from + l]];
    for (int64_t l = count; l < LANES; l++) into[l] = 0;
}

static void load(Block *b, const Call *c, const Grid *grid, int64_t image, int64_t anchor, int64_t from, int64_t count) {
    load_plane(b->tx, plane_of(c, image, anchor, 0), grid, from, count);
    load_plane(b->ty, plane_of(c, image, anchor, 1), grid, from, count);
    load_plane(b->tw, plane_of(c, image, anchor, 2), grid, from, count);
    load_plane(b->th, plane_of(c, image, anchor, 3), grid, from, count);
    load_plane(b->to, plane_of(c, image, anchor, 4), grid, from, count);
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

static Box box_of(const Call *c, const double *truth) {
    double x = truth[0] * c->width, y = truth[1] * c->height;
    double half_w = truth[2] * (c->width / 2.0), half_h = truth[3] * (c->height / 2.0);
    /* An area that rounds to 0 would make an IoU 0/0, where that of a prediction underflows too (iou.zero-area). */
    REAL area = larger(truth[2] * truth[3] * (double)(c->height * c->width), LEAST);
    return (Box){x - half_w, y - half_h, x + half_w, y + half_h, area};
}

/* Decide which predictor answers for which truth of an image; `who` is the truth of each predictor, or -1.
   Returns how many truths are read and inside the domain; those are `boxes`. */
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
        if (!inside(c, truth)) {
            c->bad[image * c->slots + t] = 1;
            continue;
        }
        boxes[count++] = box_of(c, truth);
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

/* MaxIOU of a block of predictors. */
static void meet(REAL *best, const Block *b, const REAL *bx, const REAL *by, const Call *c, const Grid *grid,
                 const Box *boxes, int64_t count, int64_t anchor, int64_t from) {
    REAL left[LANES], top[LANES], right[LANES], bottom[LANES], area[LANES];
    REAL half_w = c->sizes[2 * anchor] / 2, half_h = c->sizes[2 * anchor + 1] / 2;
    EACH_LANE {
        /* A size beyond this overlaps nothing that a threshold could tell, and its area is a number. */
        REAL w = smaller(exponential(b->tw[l]) * half_w, VAST), h = smaller(exponential(b->th[l]) * half_h, VAST);
        REAL x = bx[l] + grid->column[from + l], y = by[l] + grid->row[from + l];
        left[l] = x - w, right[l] = x + w;
        top[l] = y - h, bottom[l] = y + h;
        area[l] = 4 * w * h;
        best[l] = 0;
    }
    for (int64_t t = 0; t < count; t++) {
        const Box truth = boxes[t];
        EACH_LANE {
            REAL across = larger(smaller(right[l], truth.right) - larger(left[l], truth.left), 0);
            REAL down = smaller(bottom[l], truth.bottom) - larger(top[l], truth.top);
            REAL shared = across * down; /* one side is enough to keep that of boxes apart from being positive */
            REAL iou = shared / (area[l] + truth.area - shared);
            best[l] = larger(best[l], iou);
        }
    }
}

/* The no-object and prior terms of an image, before their weights, and the state of its predictors. */
static void pay_dense(const Call *c, const Settings *s, const Grid *grid, int64_t image, const Box *boxes,
                      int64_t truths, const int32_t *who, double *sums) {
    REAL thresh = s->ignores ? s->thresh : 2; /* an IoU is never above 1 */
    for (int64_t k = 0; k < c->anchors; k++) {
        REAL no_object[LANES] = {0}, prior[LANES] = {0};
        for (int64_t from = 0; from < grid->cells; from += LANES) {
            int64_t count = min_64(grid->cells - from, LANES), place = k * grid->cells + from;
            uint8_t *state = c->state + image * c->anchors * grid->cells + place;
            Block b;
            REAL x[LANES], y[LANES], o[LANES], best[LANES], owned[LANES], pays[LANES];
            load(&b, c, grid, image, k, from, count);
            EACH_LANE x[l] = logistic(b.tx[l]), y[l] = logistic(b.ty[l]), o[l] = logistic(b.to[l]);
            meet(best, &b, x, y, c, grid, boxes, truths, k, from);
            EACH_LANE owned[l] = 1; /* what lies behind the last predictor pays nothing */
            for (int64_t l = 0; l < count; l++) owned[l] = who[place + l] >= 0;
            if (s->ignores == 2)
                EACH_LANE pays[l] = best[l] < thresh;
            else
                EACH_LANE pays[l] = best[l] <= thresh;
            if (!s->every_no_object) EACH_LANE pays[l] = owned[l] ? 0 : pays[l];
            for (int64_t l = count; l < LANES; l++) pays[l] = 0;
            EACH_LANE no_object[l] += pays[l] * (o[l] * o[l]);
            int pulled = c->early ? PRIOR : 0;
            for (int64_t l = 0; l < count; l++)
                state[l] = (pays[l] ? NO_OBJECT : 0) | (who[place + l] >= 0 ? RESPONSIBLE : 0) |
                           (who[place + l] < 0 || s->every_prior ? pulled : 0);
            if (!pulled) continue;
            REAL every = s->every_prior; /* lanes behind the last predictor pay nothing: σ(0) = ½ and t = 0 */
            EACH_LANE {
                REAL away = (x[l] - (REAL)0.5) * (x[l] - (REAL)0.5) + (y[l] - (REAL)0.5) * (y[l] - (REAL)0.5) +
                            b.tw[l] * b.tw[l] + b.th[l] * b.th[l];
                prior[l] += (owned[l] ? every : 1) * away;
            }
        }
        EACH_LANE sums[0] += no_object[l], sums[1] += prior[l];
    }
}

static Owner owner_of(const Call *c, const Settings *s, const Grid *grid, int64_t image, int64_t slot) {
    const double *truth = c->rows + (image * c->slots + slot) * 5;
    int64_t place = c->owner[image * c->slots + slot];
    Owner one = {.anchor = place / grid->cells, .cell = place % grid->cells, .label = truth[4]};
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

static void aim(Owner *one, const Settings *s, REAL overlap) { one->away[4] = one->o - (s->target_one ? 1 : overlap); }

static REAL overlap_of(const Call *c, const Grid *grid, const Owner *one, const double *truth) {
    REAL w = smaller(exponential(one->raw[2]) * (REAL)(c->sizes[2 * one->anchor] / 2), VAST);
    REAL h = smaller(exponential(one->raw[3]) * (REAL)(c->sizes[2 * one->anchor + 1] / 2), VAST);
    REAL x = one->x + grid->column[one->cell], y = one->y + grid->row[one->cell];
    Box t = box_of(c, truth);
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
    for (int64_t v = 0; v < c->classes; v++) p[v] = z[v * c->p_channel];
    for (int64_t v = 0; v < c->classes; v++) most = larger(most, p[v]);
    double entropy = -(double)(p[one->label] - most);
    for (int64_t v = 0; v < c->classes; v++) p[v] = exponential(p[v] - most);
    for (int64_t v = 0; v < c->classes; v++) total += p[v];
    for (int64_t v = 0; v < c->classes; v++) p[v] /= (REAL)total;
    if (!s->class_squared) return entropy + log(total);
    for (int64_t v = 0; v < c->classes; v++) squares += (p[v] - (v == one->label)) * (p[v] - (v == one->label));
    return squares;
}

static int pay_image(const Call *c, const Settings *s, const Grid *grid, int64_t image) {
    int64_t predictors = c->anchors * grid->cells;
    double *sums = c->sums + image * TERMS;
    int32_t *who = malloc(predictors * sizeof(int32_t) + 1);
    Box *boxes = malloc(c->slots * sizeof(Box) + 1);
    REAL *p = malloc(c->classes * sizeof(REAL));
    int held = who && boxes && p;
    if (held) {
        memset(who, -1, predictors * sizeof(int32_t));
        int64_t truths = assign(c, s, image, boxes, who);
        pay_dense(c, s, grid, image, boxes, truths, who, sums);
        for (int64_t t = 0; t < c->slots; t++) {
            REAL *overlap = (REAL *)c->overlap + image * c->slots + t;
            *overlap = 0;
            if (c->owner[image * c->slots + t] < 0) continue;
            Owner one = owner_of(c, s, grid, image, t);
            *overlap = overlap_of(c, grid, &one, c->rows + (image * c->slots + t) * 5);
            aim(&one, s, *overlap);
            for (int v = 0; v < 4; v++) sums[2] += one.weight * one.away[v] * one.away[v];
            sums[3] += (double)one.away[4] * one.away[4];
            sums[4] += classify(p, c, s, grid, image, &one);
        }
        double weights[TERMS] = {s->no_object, s->prior, 1, s->object, s->class_weight};
        for (int v = 0; v < TERMS; v++) sums[v] *= weights[v];
    }
    free(who);
    free(boxes);
    free(p);
    return held;
}

static void store(REAL *plane, const REAL *values, const Grid *grid, int64_t from, int64_t count) {
    if (grid->to_once)
        memcpy(plane + from, values, count * sizeof(REAL));
    else
        for (int64_t l = 0; l < count; l++) plane[grid->to[from + l]] = values[l];
}

/* The gradients of the no-object and prior terms; zeros where there are none. */
static void write_dense(const Call *c, const Settings *s, const Grid *grid, int64_t image) {
    REAL pay = 2 * s->no_object * c->factor, pull = 2 * s->prior * c->factor;
    for (int64_t k = 0; k < c->anchors; k++) {
        for (int64_t from = 0; from < grid->cells; from += LANES) {
            int64_t count = min_64(grid->cells - from, LANES);
            const uint8_t *state = c->state + (image * c->anchors + k) * grid->cells + from;
            uint8_t bits[LANES] = {0}, any = 0;
            REAL o[LANES], slope[5][LANES] = {{0}};
            Block b;
            memcpy(bits, state, count);
            EACH_LANE any |= bits[l];
            load(&b, c, grid, image, k, from, count);
            EACH_LANE {
                o[l] = logistic(b.to[l]);
                slope[4][l] = (bits[l] & NO_OBJECT ? pay : 0) * o[l] * o[l] * (1 - o[l]);
            }
            if (any & PRIOR) EACH_LANE {
                REAL x = logistic(b.tx[l]), y = logistic(b.ty[l]), by = bits[l] & PRIOR ? pull : 0;
                slope[0][l] = by * (x - (REAL)0.5) * x * (1 - x);
                slope[1][l] = by * (y - (REAL)0.5) * y * (1 - y);
                slope[2][l] = by * b.tw[l];
                slope[3][l] = by * b.th[l];
            }
            for (int v = 0; v < 5; v++) store(slope_of(c, image, k, v), slope[v], grid, from, count);
        }
        if (grid->to_once && c->g_channel == grid->cells)
            memset(slope_of(c, image, k, 5), 0, c->classes * grid->cells * sizeof(REAL));
        else
            for (int64_t v = 0; v < c->classes; v++)
                for (int64_t cell = 0; cell < grid->cells; cell++) slope_of(c, image, k, 5 + v)[grid->to[cell]] = 0;
    }
}

/* The gradients of the other terms, added to what the responsible pay otherwise. */
static int write_image(const Call *c, const Settings *s, const Grid *grid, int64_t image) {
    REAL *p = malloc(c->classes * sizeof(REAL));
    if (!p) return 0;
    write_dense(c, s, grid, image);
    for (int64_t t = 0; t < c->slots; t++) {
        if (c->owner[image * c->slots + t] < 0) continue;
        Owner one = owner_of(c, s, grid, image, t);
        aim(&one, s, ((REAL *)c->overlap)[image * c->slots + t]);
        REAL coord = 2 * one.weight * c->factor, object = 2 * s->object * c->factor;
        REAL slope[5] = {coord * one.away[0] * one.x * (1 - one.x), coord * one.away[1] * one.y * (1 - one.y),
                         coord * one.away[2], coord * one.away[3], object * one.away[4] * one.o * (1 - one.o)};
        for (int v = 0; v < 5; v++) slope_of(c, image, one.anchor, v)[grid->to[one.cell]] += slope[v];
        classify(p, c, s, grid, image, &one);
        REAL weight = s->class_weight * c->factor;
        double mean = 0;
        for (int64_t v = 0; v < c->classes; v++) mean += p[v] * (p[v] - (v == one.label));
        for (int64_t v = 0; v < c->classes; v++) {
            REAL away = p[v] - (v == one.label);
            if (s->class_squared) away = 2 * p[v] * (away - (REAL)mean);
            slope_of(c, image, one.anchor, 5 + v)[grid->to[one.cell]] = weight * away;
        }
    }
    free(p);
    return 1;
}

static int for_each_image(int (*work)(const Call *, const Settings *, const Grid *, int64_t), const Call *c,
                          const Settings *s) {
    Grid grid = {0};
    int held = lay_out(&grid, c);
    if (held) {
#pragma omp parallel for num_threads(c->threads) if (c->threads > 1) reduction(&& : held)
        for (int64_t image = 0; image < c->images; image++) held = work(c, s, &grid, image) && held;
    }
    clear(&grid);
    return held;
}

/* Both return whether there was memory enough. */
int pay(const Call *c, const Settings *s) {
    double terms[TERMS] = {0}, loss = 0;
    if (!for_each_image(pay_image, c, s)) return 0;
    for (int64_t image = 0; image < c->images; image++)
        for (int v = 0; v < TERMS; v++) terms[v] += c->sums[image * TERMS + v];
    for (int v = 0; v < TERMS; v++) {
        if (s->per_image && c->images) terms[v] /= c->images;
        ((REAL *)c->terms)[v] = terms[v];
        loss += terms[v];
    }
    *(REAL *)c->loss = loss;
    return 1;
}

int write_gradient(const Call *c, const Settings *s) { return for_each_image(write_image, c, s); }

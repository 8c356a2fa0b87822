/*
 * Puts one batch to the forward_region_layer of the darknet that this file is compiled against.
 *
 *     darknet_shim REQUEST ANSWER [TREE]
 *
 * REQUEST, in the machine's own formats:
 *     int64   the ASK fields below, in their order
 *     float   thresh, coord_scale, object_scale, noobject_scale, class_scale
 *     float   anchors [num][2], truths [batch][rows][5], predictions [batch][num * (5 + classes)][height][width]
 * ANSWER:
 *     double  cost, 1 if the statistics line was printed, its five numbers, its count
 *     float   l.delta and l.output, each as long as the predictions
 * TREE is a file that darknet's read_tree understands.
 *
 * REGIONLOSS_FAMILY is 1 for pjreddie/darknet, 2 for AlexeyAB/darknet. REGIONLOSS_SOURCES is defined where darknet's
 * own sources are compiled in, with printf renamed to regionloss_printf so that the statistics keep all their digits.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "darknet.h"
#ifdef REGIONLOSS_SOURCES
#include "list.h"
#endif

tree *read_tree(char *filename);
#if REGIONLOSS_FAMILY == 1
layer make_region_layer(int batch, int w, int h, int n, int classes, int coords);
void forward_region_layer(const layer l, network net);
#else
layer make_region_layer(int batch, int w, int h, int n, int classes, int coords, int max_boxes);
void forward_region_layer(const layer l, network_state state);
#endif

/* The prefixes keep these names apart from darknet's. */
enum {
    ASK_MAGIC, ASK_BATCH, ASK_WIDTH, ASK_HEIGHT, ASK_NUM, ASK_CLASSES, ASK_ROWS, ASK_SEEN,
    ASK_SOFTMAX, ASK_RESCORE, ASK_BIAS_MATCH, ASK_BACKGROUND, ASK_CLASSFIX, ASK_FOCAL, ASK_FIELDS
};
enum { BY_THRESH, BY_COORD, BY_OBJECT, BY_NOOBJECT, BY_CLASS, BY_FIELDS };
enum { SAY_COST, SAY_PRINTED, SAY_STATISTICS, SAY_COUNT = SAY_STATISTICS + 5, SAY_FIELDS };

static const int64_t magic = 0x0131534c4e474552;
static const size_t truth_columns = 5;
static double figures[SAY_FIELDS];

static void give_up(const char *why)
{
    fprintf(stderr, "darknet_shim: %s\n", why);
    exit(2);
}

static float *read_floats(FILE *file, size_t count)
{
    float *values = calloc(count + 1, sizeof(float));
    if (!values) give_up("out of memory");
    if (fread(values, sizeof(float), count, file) != count) give_up("the request is too short");
    return values;
}

#ifdef REGIONLOSS_SOURCES
int regionloss_printf(const char *format, ...)
{
    static const char line[] = "Region Avg IOU: %f, Class: %f, Obj: %f, No Obj: %f, Avg Recall: %f,  count: %d\n";
    va_list arguments;
    if (strcmp(format, line)) return 0;
    va_start(arguments, format);
    for (int i = 0; i < 5; ++i) figures[SAY_STATISTICS + i] = va_arg(arguments, double);
    figures[SAY_COUNT] = va_arg(arguments, int);
    figures[SAY_PRINTED] = 1;
    va_end(arguments);
    return 0;
}

/* tree.c names it in a function that nothing here calls; its own file would pull in the image library. */
__attribute__((weak)) list *get_paths(char *filename)
{
    (void)filename;
    abort();
}
#endif

int main(int argc, char **argv)
{
    int64_t head[ASK_FIELDS];
    float scales[BY_FIELDS];
    if (argc < 3) give_up("usage: darknet_shim REQUEST ANSWER [TREE]");
    FILE *request = fopen(argv[1], "rb");
    if (!request) give_up("the request cannot be opened");
    if (fread(head, sizeof(int64_t), ASK_FIELDS, request) != ASK_FIELDS || head[ASK_MAGIC] != magic) give_up("this is no request");
    if (fread(scales, sizeof(float), BY_FIELDS, request) != BY_FIELDS) give_up("the request is too short");

    const size_t batch = head[ASK_BATCH], rows = head[ASK_ROWS], anchors = 2 * (size_t)head[ASK_NUM];
    const size_t outputs = (size_t)(head[ASK_NUM] * (5 + head[ASK_CLASSES]) * head[ASK_HEIGHT] * head[ASK_WIDTH]);
    float *biases = read_floats(request, anchors);
    float *given = read_floats(request, batch * rows * truth_columns);
    float *input = read_floats(request, batch * outputs);
    fclose(request);

#if REGIONLOSS_FAMILY == 1
    layer l = make_region_layer(batch, head[ASK_WIDTH], head[ASK_HEIGHT], head[ASK_NUM], head[ASK_CLASSES], 4);
    const size_t row_size = l.coords + 1;
    l.truths = rows * row_size; /* the distance between two lists; how many rows are read is darknet's own affair */
    l.background = head[ASK_BACKGROUND];
#else
    layer l = make_region_layer(batch, head[ASK_WIDTH], head[ASK_HEIGHT], head[ASK_NUM], head[ASK_CLASSES], 4, rows);
    const size_t row_size = l.truth_size;
    l.classfix = head[ASK_CLASSFIX];
    l.focal_loss = head[ASK_FOCAL];
    if (argc > 3) l.softmax_tree = read_tree(argv[3]);
#endif
    l.softmax = head[ASK_SOFTMAX];
    l.rescore = head[ASK_RESCORE];
    l.bias_match = head[ASK_BIAS_MATCH];
    l.thresh = scales[BY_THRESH];
    l.coord_scale = scales[BY_COORD];
    l.object_scale = scales[BY_OBJECT];
    l.noobject_scale = scales[BY_NOOBJECT];
    l.class_scale = scales[BY_CLASS];
    memcpy(l.biases, biases, anchors * sizeof(float));

    float *truth = calloc(batch * rows * row_size + 1, sizeof(float));
    if (!truth) give_up("out of memory");
    for (size_t i = 0; i < batch * rows; ++i) {
        memcpy(truth + i * row_size, given + i * truth_columns, truth_columns * sizeof(float));
    }

#if REGIONLOSS_FAMILY == 1
    size_t seen = head[ASK_SEEN];
    network net;
    memset(&net, 0, sizeof net);
    net.input = input;
    net.truth = truth;
    net.train = 1;
    net.seen = &seen;
    forward_region_layer(l, net);
#else
    uint64_t seen = head[ASK_SEEN];
    network_state state;
    memset(&state, 0, sizeof state);
    state.input = input;
    state.truth = truth;
    state.train = 1;
    state.net.seen = &seen;
    forward_region_layer(l, state);
#endif

    figures[SAY_COST] = *l.cost;
    FILE *answer = fopen(argv[2], "wb");
    if (!answer) give_up("the answer cannot be opened");
    size_t written = fwrite(figures, sizeof(double), SAY_FIELDS, answer);
    written += fwrite(l.delta, sizeof(float), batch * outputs, answer);
    written += fwrite(l.output, sizeof(float), batch * outputs, answer);
    if (fclose(answer) || written != SAY_FIELDS + 2 * batch * outputs) give_up("the answer cannot be written");
    return 0;
}

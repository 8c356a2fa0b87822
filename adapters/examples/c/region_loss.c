/* The YOLOv2 ("region") loss of loss.h as an adapter of the regionloss suite, in C99.
 *
 *     cc -O2 -std=c99 -o region_loss region_loss.c -lm
 *     regionloss check "cmd:./region_loss"
 *
 * It reads one line of JSON for each question and writes one line for each answer; docs/protocol.md has the messages.
 * It computes the profiles darknet and darknet-2016 in double precision, and skips choices that it does not have.
 */

#include "json.h"
#include "loss.h"
#include "question.h"
#include "tensor.h"

enum { PROTOCOL = 1 };

static struct answer new_answer(const struct batch *batch)
{
    size_t count = predictors(batch), numbers = count * (size_t)(5 + batch->classes);
    struct answer answer = {
        .gradient = json_memory(NULL, numbers, sizeof *answer.gradient),
        .owner = json_memory(NULL, count, sizeof *answer.owner),
        .ignored = json_memory(NULL, count, sizeof *answer.ignored),
    };
    return answer;
}

static void free_answer(struct answer *answer)
{
    free(answer->gradient);
    free(answer->owner);
    free(answer->ignored);
}

static void free_batch(struct batch *batch)
{
    for (long n = 0; batch->image != NULL && n < batch->images; n++) {
        free(batch->image[n].truths);
    }
    free(batch->image);
    free(batch->anchor);
    free(batch->t);
}

/* Where an answer goes: the number of its question, and how large tensors are handed over. */
struct target {
    double id, inline_limit;
    const char *folder;
};

static void write_values(FILE *out, const double *values, size_t count, double factor)
{
    for (size_t at = 0; at < count; at++) {
        fputs(at ? "," : "", out);
        json_write_number(out, factor * values[at]);
    }
}

static void write_gradient(const struct batch *batch, const double *gradient, double upstream, struct target to)
{
    long channels = batch->anchors * (5 + batch->classes);
    size_t count = (size_t)(batch->images * channels * batch->height * batch->width);
    printf(",\"gradient\":{\"shape\":[%ld,%ld,%ld,%ld]", batch->images, channels, batch->height, batch->width);
    if ((double)count <= to.inline_limit) {
        printf(",\"values\":[");
        write_values(stdout, gradient, count, upstream);
        printf("]}");
    } else {
        char name[64];
        snprintf(name, sizeof name, "answer-%.0f-gradient.raw", to.id);
        write_file(to.folder, name, gradient, count, upstream);
        printf(",\"dtype\":\"float64\",\"file\":\"%s\"}", name);
    }
}

static void write_indicators(const struct batch *batch, const struct answer *answer)
{
    const char *comma = "";
    printf(",\"responsible\":[");
    for (size_t here = 0; here < predictors(batch); here++) {
        if (answer->owner[here] != NOBODY) {
            struct place p = place_of(batch, here);
            printf("%s[%ld,%ld,%ld,%ld,%ld]", comma, p.n, answer->owner[here], p.k, p.j, p.i);
            comma = ",";
        }
    }
    comma = "";
    printf("],\"ignored\":[");
    for (size_t here = 0; here < predictors(batch); here++) {
        if (answer->ignored[here]) {
            struct place p = place_of(batch, here);
            printf("%s[%ld,%ld,%ld,%ld]", comma, p.n, p.k, p.j, p.i);
            comma = ",";
        }
    }
    printf("]");
}

static void write_answer(const struct batch *batch, const struct answer *answer, double upstream, struct target to)
{
    double potential = 0;
    printf("{\"type\":\"answer\",\"id\":%.0f,\"terms\":{", to.id);
    for (int term = 0; term < TERMS; term++) {
        printf("%s\"%s\":", term ? "," : "", term_names[term]);
        json_write_number(stdout, answer->terms[term]);
        potential += answer->terms[term];
    }
    printf("},\"potential\":");
    json_write_number(stdout, potential);
    write_indicators(batch, answer);
    write_gradient(batch, answer->gradient, upstream, to);
    puts("}");
}

static void write_reason(const char *type, const char *key, const struct reason *reason, double id)
{
    printf("{\"type\":\"%s\",\"id\":%.0f,\"%s\":", type, id, key);
    json_write_text(stdout, reason->text);
    if (reason->image != NOBODY) {
        printf(",\"image\":%ld", reason->image);
    }
    if (reason->truth != NOBODY) {
        printf(",\"truth\":%ld", reason->truth);
    }
    puts("}");
}

static void answer_question(const struct json *question, struct target to)
{
    struct reason reason;
    struct profile profile;
    struct batch batch;
    if (!read_profile(json_get(question, "profile"), &profile, &reason)) {
        write_reason("skipped", "reason", &reason, to.id);
        return;
    }
    if (!read_batch(json_get(question, "batch"), to.folder, &profile, &batch, &reason)) {
        write_reason("refused", "message", &reason, to.id);
    } else {
        struct answer answer = new_answer(&batch);
        region_loss(&batch, &profile, &answer);
        write_answer(&batch, &answer, json_number(json_get(question, "upstream")), to);
        free_answer(&answer);
    }
    free_batch(&batch);
}

/* A line of any length without its line break, or NULL at the end. */
static char *read_line(void)
{
    size_t room = 4096, length = 0;
    char *line = json_memory(NULL, room, 1);
    while (fgets(line + length, (int)(room - length), stdin) != NULL) {
        length += strlen(line + length);
        if (length > 0 && line[length - 1] == '\n') {
            line[length - 1] = '\0';
            return line;
        }
        if (room > INT_MAX / 2) {
            break;
        }
        room *= 2;
        line = json_memory(line, room, 1);
    }
    free(line);
    return NULL;
}

int main(void)
{
    char *folder = NULL, *line;
    double inline_limit = 0;
    while ((line = read_line()) != NULL) {
        struct json message;
        bool parsed = json_parse(line, &message);
        double id = json_number(json_get(&message, "id"));
        if (!parsed) {
            fprintf(stderr, "a line came that is not JSON\n");
            return 1;
        }
        if (json_is_text(json_get(&message, "type"), "hello")) {
            const struct json *path = json_get(&message, "folder");
            if (json_number(json_get(&message, "protocol")) != PROTOCOL || path == NULL || path->kind != JSON_TEXT) {
                fprintf(stderr, "this program speaks protocol %d\n", PROTOCOL);
                return 1;
            }
            folder = json_memory(folder, strlen(path->text) + 1, 1);
            strcpy(folder, path->text);
            inline_limit = json_number(json_get(&message, "inline_limit"));
            printf("{\"type\":\"hello\",\"id\":%.0f,\"protocol\":%d,\"name\":\"C example\","
                   "\"profiles\":[\"darknet\",\"darknet-2016\"],"
                   "\"answers\":[\"potential\",\"terms\",\"gradient\",\"indicators\",\"errors\"],"
                   "\"dtypes\":[\"float64\"]}\n",
                   id, PROTOCOL);
        } else if (folder != NULL) {
            answer_question(&message, (struct target){id, inline_limit, folder});
        }
        fflush(stdout); /* a pipe is not flushed at the end of a line, and the suite would wait */
        json_free(&message);
        free(line);
    }
    free(folder);
    return 0;
}

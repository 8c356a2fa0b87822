/* Large tensors by file: raw little-endian doubles, in a folder that the suite names. C99. */

#ifndef REGION_LOSS_TENSOR_H
#define REGION_LOSS_TENSOR_H

#include <stdint.h>

#include "json.h"

/* The 8 bytes of a little-endian double, whatever order this machine keeps. */
static double from_bytes(const unsigned char *bytes)
{
    uint64_t bits = 0;
    double value;
    for (int place = 7; place >= 0; place--) {
        bits = bits << 8 | bytes[place];
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void to_bytes(double value, unsigned char *bytes)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    for (int place = 0; place < 8; place++) {
        bytes[place] = (unsigned char)(bits >> 8 * place);
    }
}

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
    char *path = json_memory(NULL, strlen(folder) + strlen(name) + 2, 1);
    sprintf(path, "%s/%s", folder, name);
    FILE *file = fopen(path, mode);
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    free(path);
    return file;
}

static void read_tensor(const struct json *tensor, const char *folder, double *values, size_t count)
{
    const struct json *list = json_get(tensor, "values"), *name = json_get(tensor, "file");
    if (list != NULL && list->count == count) {
        for (size_t at = 0; at < count; at++) {
            values[at] = json_number(&list->items[at]);
        }
        return;
    }
    if (name == NULL || name->kind != JSON_TEXT) {
        fprintf(stderr, "a tensor came without its values and without a file\n");
        exit(1);
    }
    FILE *file = open_in(folder, name->text, "rb");
    for (size_t at = 0; at < count; at++) {
        unsigned char bytes[8];
        if (fread(bytes, 1, sizeof bytes, file) != sizeof bytes) {
            fprintf(stderr, "%s ends too early\n", name->text);
            exit(1);
        }
        values[at] = from_bytes(bytes);
    }
    fclose(file);
}

static void write_file(const char *folder, const char *name, const double *values, size_t count, double factor)
{
    FILE *file = open_in(folder, name, "wb");
    for (size_t at = 0; at < count; at++) {
        unsigned char bytes[8];
        to_bytes(factor * values[at], bytes);
        fwrite(bytes, 1, sizeof bytes, file);
    }
    if (ferror(file) || fclose(file) != 0) {
        perror(name);
        exit(1);
    }
}

#endif

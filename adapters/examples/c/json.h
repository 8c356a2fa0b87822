/* As much JSON as an adapter needs: one line in, as a tree of values, and numbers and texts out. C99. */

#ifndef REGION_LOSS_JSON_H
#define REGION_LOSS_JSON_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_LIST, JSON_OBJECT };

struct json {
    enum json_kind kind;
    double number;      /* of a number; 0 or 1 for a bool */
    char *text;         /* of a text, UTF-8 */
    size_t count;       /* of a list or an object */
    struct json *items; /* of a list, or the values of an object */
    char **keys;        /* of an object */
};

static void *json_memory(void *old, size_t count, size_t size)
{
    void *memory = realloc(old, (count ? count : 1) * size);
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

static void json_free(struct json *value)
{
    for (size_t here = 0; here < value->count; here++) {
        json_free(&value->items[here]);
        if (value->keys != NULL) {
            free(value->keys[here]);
        }
    }
    free(value->items);
    free(value->keys);
    free(value->text);
    memset(value, 0, sizeof *value);
}

static void json_space(const char **at)
{
    *at += strspn(*at, " \t\r\n");
}

static char *json_utf8(char *out, unsigned code)
{
    if (code == 0 || (code >= 0xD800 && code <= 0xDFFF)) {
        *out++ = '?'; /* half of a pair; no name that this program looks for holds one */
    } else if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* The text at a quotation mark, or NULL where it is none. */
static char *json_parse_text(const char **at)
{
    if (**at != '"') {
        return NULL;
    }
    (*at)++;
    char *text = json_memory(NULL, strlen(*at) + 1, 1);
    char *out = text;
    while (**at != '\0' && **at != '"') {
        char one = *(*at)++;
        if (one != '\\') {
            *out++ = one;
            continue;
        }
        static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        one = *(*at)++;
        unsigned code = 0;
        if (one != '\0' && strchr(names, one) != NULL) {
            *out++ = meant[strchr(names, one) - names];
        } else if (one == 'u' && strspn(*at, "0123456789abcdefABCDEF") >= 4 && sscanf(*at, "%4x", &code) == 1) {
            *at += 4;
            out = json_utf8(out, code);
        } else {
            free(text);
            return NULL;
        }
    }
    if (**at != '"') {
        free(text);
        return NULL;
    }
    (*at)++;
    *out = '\0';
    return text;
}

static bool json_parse_value(const char **at, struct json *value, int depth);

/* The items of a list or an object, up to its closing bracket. */
static bool json_parse_items(const char **at, struct json *value, char close, int depth)
{
    size_t room = 0;
    json_space(at);
    if (**at == close) {
        (*at)++;
        return true;
    }
    for (;;) {
        if (value->count == room) {
            room = room ? 2 * room : 8;
            value->items = json_memory(value->items, room, sizeof *value->items);
            if (value->kind == JSON_OBJECT) {
                value->keys = json_memory(value->keys, room, sizeof *value->keys);
            }
        }
        struct json *item = &value->items[value->count];
        memset(item, 0, sizeof *item);
        json_space(at);
        if (value->kind == JSON_OBJECT) {
            value->keys[value->count] = json_parse_text(at);
            if (value->keys[value->count] == NULL) {
                return false;
            }
            json_space(at);
        }
        value->count++;
        if (value->kind == JSON_OBJECT && *(*at)++ != ':') {
            return false;
        }
        if (!json_parse_value(at, item, depth - 1)) {
            return false;
        }
        json_space(at);
        char next = *(*at)++;
        if (next == close) {
            return true;
        }
        if (next != ',') {
            return false;
        }
    }
}

static bool json_parse_value(const char **at, struct json *value, int depth)
{
    memset(value, 0, sizeof *value);
    json_space(at);
    if (depth == 0) {
        return false;
    }
    if (**at == '{' || **at == '[') {
        bool object = *(*at)++ == '{';
        value->kind = object ? JSON_OBJECT : JSON_LIST;
        return json_parse_items(at, value, object ? '}' : ']', depth);
    }
    if (**at == '"') {
        value->kind = JSON_TEXT;
        value->text = json_parse_text(at);
        return value->text != NULL;
    }
    static const char *const words[] = {"null", "false", "true"};
    for (int word = 0; word < 3; word++) {
        if (strncmp(*at, words[word], strlen(words[word])) == 0) {
            *at += strlen(words[word]);
            value->kind = word == 0 ? JSON_NULL : JSON_BOOL;
            value->number = word == 2;
            return true;
        }
    }
    if (**at != '-' && (**at < '0' || **at > '9')) {
        return false;
    }
    char *end;
    value->kind = JSON_NUMBER;
    value->number = strtod(*at, &end);
    bool moved = end != *at;
    *at = end;
    return moved;
}

/* Parse one line. Whether it succeeds or not, the value is to be freed. */
static bool json_parse(const char *line, struct json *value)
{
    const char *at = line;
    if (!json_parse_value(&at, value, 32)) {
        return false;
    }
    json_space(&at);
    return *at == '\0';
}

/* What an object holds under a key; NULL where it is no object or has no such key. */
static const struct json *json_get(const struct json *object, const char *key)
{
    for (size_t here = 0; object != NULL && object->kind == JSON_OBJECT && here < object->count; here++) {
        if (strcmp(object->keys[here], key) == 0) {
            return &object->items[here];
        }
    }
    return NULL;
}

static bool json_is_text(const struct json *value, const char *text)
{
    return value != NULL && value->kind == JSON_TEXT && strcmp(value->text, text) == 0;
}

/* A number, or one of the texts that stand for the numbers which JSON lacks; NaN for anything else. */
static double json_number(const struct json *value)
{
    if (value != NULL && value->kind == JSON_NUMBER) {
        return value->number;
    }
    if (json_is_text(value, "inf")) {
        return HUGE_VAL;
    }
    return json_is_text(value, "-inf") ? -HUGE_VAL : (double)NAN;
}

static void json_write_number(FILE *out, double number)
{
    if (isnan(number)) {
        fputs("\"nan\"", out);
    } else if (isinf(number)) {
        fputs(number > 0 ? "\"inf\"" : "\"-inf\"", out);
    } else {
        fprintf(out, "%.17g", number);
    }
}

static void json_write_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
    }
    fputc('"', out);
}

#endif

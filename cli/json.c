/* SPDX-License-Identifier: MIT */
/* A small JSON writer: escapes strings, places commas and indents; the caller only names members.
 * */
#include "cli.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

void json_init(struct json *json, FILE *out)
{
    *json = (struct json){ .out = out };
}

/* Length of the UTF-8 sequence at `s` if it is well-formed, else 0: a path may hold any bytes, and
 * the document must be valid all the same. */
static unsigned utf8_length(const unsigned char *s)
{
    unsigned length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (s[0] > 0xf4)
        return 0;
    for (unsigned i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies above U+10FFFF. */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return length;
}

static void write_string(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    fputc('"', out);
    while (*s) {
        unsigned length = utf8_length(s);

        if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (*s == '\n')
            fputs("\\n", out);
        else if (*s == '\t')
            fputs("\\t", out);
        else if (*s < 0x20 || *s == 0x7f)
            fprintf(out, "\\u%04x", *s);
        else if (length == 0)
            fputs("\\ufffd", out);
        else
            fwrite(s, 1, length, out);
        s += length ? length : 1;
    }
    fputc('"', out);
}

static void begin_member(struct json *json, const char *key)
{
    if (json->depth > 0) {
        unsigned level = json->depth - 1;

        if (json->compact[level]) {
            fputs(json->used[level] ? ", " : "", json->out);
        } else {
            fputs(json->used[level] ? ",\n" : "\n", json->out);
            fprintf(json->out, "%*s", (int)(2 * json->depth), "");
        }
        json->used[level] = true;
    }
    if (key) {
        write_string(json->out, key);
        fputs(": ", json->out);
    }
}

static void open_level(struct json *json, const char *key, char opener, char closer, bool compact)
{
    assert(json->depth < JSON_DEPTH_MAX);
    begin_member(json, key);
    fputc(opener, json->out);
    json->used[json->depth] = false;
    json->compact[json->depth] = compact;
    json->closer[json->depth++] = closer;
}

void json_object(struct json *json, const char *key)
{
    open_level(json, key, '{', '}', false);
}

void json_array(struct json *json, const char *key)
{
    open_level(json, key, '[', ']', false);
}

void json_array_compact(struct json *json, const char *key)
{
    open_level(json, key, '[', ']', true);
}

void json_end(struct json *json)
{
    assert(json->depth > 0);
    json->depth--;
    if (json->used[json->depth] && !json->compact[json->depth])
        fprintf(json->out, "\n%*s", (int)(2 * json->depth), "");
    fputc(json->closer[json->depth], json->out);
    if (json->depth == 0)
        fputc('\n', json->out);
}

void json_string(struct json *json, const char *key, const char *value)
{
    if (!value) {
        json_null(json, key);
        return;
    }
    begin_member(json, key);
    write_string(json->out, value);
}

void json_int(struct json *json, const char *key, int64_t value)
{
    begin_member(json, key);
    fprintf(json->out, "%" PRId64, value);
}

void json_uint(struct json *json, const char *key, uint64_t value)
{
    begin_member(json, key);
    fprintf(json->out, "%" PRIu64, value);
}

void json_double(struct json *json, const char *key, double value)
{
    if (!isfinite(value)) {
        json_null(json, key);
        return;
    }
    begin_member(json, key);
    /* The command never calls setlocale, so the decimal point is a point. */
    fprintf(json->out, "%.10g", value);
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin_member(json, key);
    fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *key)
{
    begin_member(json, key);
    fputs("null", json->out);
}

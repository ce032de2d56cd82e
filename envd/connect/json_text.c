#include "envd/connect/json_text.h"

#include <stdint.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

void json_text_init(struct json_text *text, const char *data, size_t len)
{
    *text = (struct json_text){.start = data, .at = data, .end = data + len};
}

static int fail(struct json_text *text, const char *problem)
{
    if (text->problem == NULL)
        text->problem = problem;
    return -1;
}

int json_text_error(const struct json_text *text, struct err *err)
{
    return err_set(err, ERR_INVALID, "invalid JSON at byte %zu: %s",
                   (size_t)(text->at - text->start),
                   text->problem != NULL ? text->problem : "unexpected text");
}

static void skip_space(struct json_text *text)
{
    while (text->at < text->end &&
           (*text->at == ' ' || *text->at == '\n' || *text->at == '\t' || *text->at == '\r'))
        text->at++;
}

/* Take C if it comes. */
static bool take(struct json_text *text, char c)
{
    skip_space(text);
    if (text->at == text->end || *text->at != c)
        return false;
    text->at++;
    return true;
}

char json_text_peek(struct json_text *text)
{
    skip_space(text);
    if (text->problem != NULL || text->at == text->end || *text->at == '\0' ||
        strchr("{[\"-0123456789tfn", *text->at) == NULL)
        return '\0';
    return *text->at;
}

int json_text_enter(struct json_text *text, char open)
{
    if (text->problem != NULL || !take(text, open))
        return fail(text, open == '{' ? "expected an object" : "expected an array");
    if (++text->depth > JSON_DEPTH_MAX)
        return fail(text, "nested too deep");
    return 0;
}

int json_text_element(struct json_text *text, bool *first)
{
    if (text->problem != NULL)
        return -1;
    if (take(text, ']')) {
        text->depth--;
        return 0;
    }
    if (!*first && !take(text, ','))
        return fail(text, "expected ',' or ']'");
    *first = false;
    return 1;
}

int json_text_key(struct json_text *text, bool *first, struct json_slice *key)
{
    if (text->problem != NULL)
        return -1;
    if (take(text, '}')) {
        text->depth--;
        return 0;
    }
    if (!*first && !take(text, ','))
        return fail(text, "expected ',' or '}'");
    *first = false;
    if (json_text_string(text, key) < 0)
        return -1;
    return take(text, ':') ? 1 : fail(text, "expected ':'");
}

/* One escape; AT is behind the backslash. */
static int skip_escape(struct json_text *text)
{
    char c = text->at < text->end ? *text->at++ : '\0';

    if (c == '\0' || strchr("\"\\/bfnrtu", c) == NULL)
        return fail(text, "invalid escape");
    for (int i = 0; c == 'u' && i < 4; i++) {
        if (text->at == text->end || hex_digit(*text->at++) < 0)
            return fail(text, "invalid escape");
    }
    return 0;
}

#define EACH_BYTE(c) (0x0101010101010101u * (c))

/* Any byte of V is zero (and a few above it may count too: then they are looked at one by one). */
static bool has_zero(uint64_t v)
{
    return ((v - EACH_BYTE(1)) & ~v & EACH_BYTE(0x80)) != 0;
}

/* Over plain ASCII, eight bytes at a time: most of a long string is base64. */
static void skip_plain(struct json_text *text)
{
    while (text->end - text->at >= 8) {
        uint64_t v;

        memcpy(&v, text->at, sizeof(v));
        if ((v & EACH_BYTE(0x80)) != 0 || has_zero(v & EACH_BYTE(0xe0)) ||
            has_zero(v ^ EACH_BYTE('"')) || has_zero(v ^ EACH_BYTE('\\')))
            return;
        text->at += 8;
    }
}

/* To the quote or backslash that comes. Returns whether all of it was ASCII. */
static bool skip_characters(struct json_text *text)
{
    unsigned char seen = 0;

    skip_plain(text);
    while (text->at < text->end && (unsigned char)*text->at >= ' ' && *text->at != '"' &&
           *text->at != '\\')
        seen |= (unsigned char)*text->at++;
    return seen < 0x80;
}

int json_text_string(struct json_text *text, struct json_slice *out)
{
    bool ascii = true;

    if (text->problem != NULL || !take(text, '"'))
        return fail(text, "expected a string");
    *out = (struct json_slice){.s = text->at};
    for (;;) {
        ascii = skip_characters(text) && ascii;
        if (text->at == text->end)
            return fail(text, "a string does not end");
        if (*text->at == '"')
            break;
        if (*text->at++ != '\\')
            return fail(text, "control character in a string");
        out->escaped = true;
        if (skip_escape(text) < 0)
            return -1;
    }
    out->len = (size_t)(text->at++ - out->s);
    return ascii || str_is_utf8(out->s, out->len) ? 0 : fail(text, "a string is not UTF-8");
}

static size_t digits(struct json_text *text)
{
    const char *from = text->at;

    while (text->at < text->end && *text->at >= '0' && *text->at <= '9')
        text->at++;
    return (size_t)(text->at - from);
}

int json_text_number(struct json_text *text, struct json_slice *out)
{
    bool zero;

    skip_space(text);
    *out = (struct json_slice){.s = text->at};
    if (text->at < text->end && *text->at == '-')
        text->at++;
    zero = text->at < text->end && *text->at == '0';
    if (zero)
        text->at++;
    if (text->problem != NULL || (digits(text) == 0) != zero)
        return fail(text, "invalid number");
    if (text->at < text->end && *text->at == '.') {
        text->at++;
        if (digits(text) == 0)
            return fail(text, "invalid number");
    }
    if (text->at < text->end && (*text->at == 'e' || *text->at == 'E')) {
        text->at++;
        if (text->at < text->end && (*text->at == '+' || *text->at == '-'))
            text->at++;
        if (digits(text) == 0)
            return fail(text, "invalid number");
    }
    out->len = (size_t)(text->at - out->s);
    return 0;
}

int json_text_word(struct json_text *text, const char *word)
{
    size_t len = strlen(word);

    skip_space(text);
    if (text->problem != NULL || (size_t)(text->end - text->at) < len ||
        memcmp(text->at, word, len) != 0)
        return fail(text, "expected a value");
    text->at += len;
    return 0;
}

static int skip_scalar(struct json_text *text, char c)
{
    struct json_slice ignored;

    switch (c) {
    case '\0':
        return fail(text, "expected a value");
    case '"':
        return json_text_string(text, &ignored);
    case 't':
        return json_text_word(text, "true");
    case 'f':
        return json_text_word(text, "false");
    case 'n':
        return json_text_word(text, "null");
    default:
        return json_text_number(text, &ignored);
    }
}

/* A value, without recursion: INSIDE remembers what each level is. */
static int skip_value(struct json_text *text)
{
    char inside[JSON_DEPTH_MAX + 1];
    int base = text->depth;
    struct json_slice key;
    bool first = true;
    int more;

    for (;;) {
        char c = json_text_peek(text);

        if (c == '{' || c == '[') {
            if (json_text_enter(text, c) < 0)
                return -1;
            inside[text->depth] = c;
            first = true;
        } else if (skip_scalar(text, c) < 0) {
            return -1;
        }
        do { /* out of what ends here, to the next value */
            if (text->depth == base)
                return 0;
            more = inside[text->depth] == '{' ? json_text_key(text, &first, &key)
                                              : json_text_element(text, &first);
            if (more == 0)
                first = false;
        } while (more == 0);
        if (more < 0)
            return -1;
    }
}

int json_text_skip(struct json_text *text, struct json_slice *out)
{
    const char *from;

    skip_space(text);
    from = text->at;
    if (skip_value(text) < 0)
        return -1;
    if (out != NULL)
        *out = (struct json_slice){.s = from, .len = (size_t)(text->at - from)};
    return 0;
}

int json_text_end(struct json_text *text)
{
    skip_space(text);
    return text->problem == NULL && text->at == text->end ? 0 : fail(text, "text behind the value");
}

/* ---- Strings ---- */

static unsigned hex4(const char *s)
{
    unsigned value = 0;

    for (int i = 0; i < 4; i++)
        value = value << 4 | (unsigned)hex_digit(s[i]);
    return value;
}

/* "\uXXXX" at S, or a pair of them. Returns how many bytes of S it is, or -1. */
static int unicode_escape(const char *s, size_t left, unsigned *code)
{
    unsigned low;

    *code = hex4(s + 2);
    if (*code < 0xd800 || *code > 0xdfff)
        return 6;
    if (*code > 0xdbff || left < 12 || s[6] != '\\' || s[7] != 'u')
        return -1;
    low = hex4(s + 8);
    if (low < 0xdc00 || low > 0xdfff)
        return -1;
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return 12;
}

static size_t put_utf8(unsigned code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

static char plain_escape(char c)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *found = strchr(from, c);

    return found != NULL ? to[found - from] : c;
}

ptrdiff_t json_slice_decode(const struct json_slice *slice, char *out)
{
    const char *s = slice->s, *end = s + slice->len;
    char *to = out;

    if (!slice->escaped) {
        memcpy(out, s, slice->len);
        return (ptrdiff_t)slice->len;
    }
    while (s < end) {
        unsigned code;
        int used;

        if (*s != '\\') {
            *to++ = *s++;
        } else if (s[1] != 'u') {
            *to++ = plain_escape(s[1]);
            s += 2;
        } else {
            used = unicode_escape(s, (size_t)(end - s), &code);
            if (used < 0)
                return -1;
            to += put_utf8(code, to);
            s += used;
        }
    }
    return to - out;
}

#include "server/base/str.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

bool str_eq(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
    size_t len = strlen(s), tail = strlen(suffix);

    return len >= tail && strcmp(s + len - tail, suffix) == 0;
}

bool mem_is(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(s, word, len) == 0;
}

bool mem_is_nocase(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(s, word, len) == 0;
}

int str_copy(char *out, size_t size, const char *s, size_t len)
{
    if (len >= size || memchr(s, '\0', len) != NULL)
        return -1;
    memcpy(out, s, len);
    out[len] = '\0';
    return 0;
}

static int parse_digits(const char *s, size_t len, uint64_t *out)
{
    uint64_t value = 0;

    if (len == 0)
        return -1;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s[i] - '0'), &value))
            return -1;
    }
    *out = value;
    return 0;
}

int str_to_u64(const char *s, size_t len, uint64_t min, uint64_t max, const char *what,
               uint64_t *out, struct err *err)
{
    uint64_t value;

    if (parse_digits(s, len, &value) < 0 || value < min || value > max)
        return err_set(err, ERR_INVALID, "%s must be a number between %llu and %llu", what,
                       (unsigned long long)min, (unsigned long long)max);
    *out = value;
    return 0;
}

int str_to_i64(const char *s, size_t len, int64_t min, int64_t max, const char *what, int64_t *out,
               struct err *err)
{
    bool negative = len > 0 && s[0] == '-';
    uint64_t value;

    if (parse_digits(s + negative, len - negative, &value) < 0 ||
        value > (uint64_t)INT64_MAX + negative)
        goto bad;
    int64_t result = negative ? (int64_t)(0 - value) : (int64_t)value;
    if (result < min || result > max)
        goto bad;
    *out = result;
    return 0;
bad:
    return err_set(err, ERR_INVALID, "%s must be a number between %lld and %lld", what,
                   (long long)min, (long long)max);
}

int str_to_duration_ms(const char *s, int64_t *out, struct err *err)
{
    static const struct {
        const char *suffix;
        int64_t ms;
    } units[] = {{"ms", 1},          {"s", 1000},     {"m", 60 * 1000},
                 {"h", 3600 * 1000}, {"d", 86400000}, {"", 1000}};
    size_t digits = strspn(s, "0123456789");
    uint64_t value;

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(s + digits, units[i].suffix) != 0)
            continue;
        if (parse_digits(s, digits, &value) < 0 || value > (uint64_t)(INT64_MAX / units[i].ms))
            break;
        *out = (int64_t)value * units[i].ms;
        return 0;
    }
    return err_set(err, ERR_INVALID, "'%.40s' is not a duration such as 90s, 15m, 2h or 30d", s);
}

bool str_is_utf8(const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;

    for (size_t i = 0; i < len;) {
        unsigned char c = p[i];
        size_t more = c < 0x80                 ? 0
                      : c >= 0xc2 && c <= 0xdf ? 1
                      : c >= 0xe0 && c <= 0xef ? 2
                      : c >= 0xf0 && c <= 0xf4 ? 3
                                               : 9;
        if (c == 0 || more == 9 || len - i <= more)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f) ||
            (c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}

void hex_encode(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hex_decode(const char *hex, size_t hex_len, uint8_t *out, size_t len)
{
    if (hex_len / 2 != len || hex_len % 2 != 0)
        return -1;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return -1;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

int url_decode(const char *s, size_t len, bool plus, struct buf *out)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)s[i];
        if (s[i] == '%') {
            if (len - i < 3 || hex_decode(s + i + 1, 2, &byte, 1) < 0)
                return -1;
            i += 2;
        } else if (plus && s[i] == '+') {
            byte = ' ';
        }
        if (buf_add(out, &byte, 1) < 0)
            return -1;
    }
    return 0;
}

int url_encode(const char *s, size_t len, struct buf *out)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        int rc = (c < 0x80 && isalnum(c)) || (c != 0 && strchr("-._~", c) != NULL)
                     ? buf_add_char(out, s[i])
                     : buf_printf(out, "%%%02X", c);
        if (rc < 0)
            return -1;
    }
    return 0;
}

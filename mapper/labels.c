#include "mapper/labels.h"

#include <ctype.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/str.h"

#define HASH_DIGITS 10

static bool is_alnum(char c)
{
    return (unsigned char)c < 0x80 && isalnum((unsigned char)c);
}

bool label_value_valid(const char *value)
{
    size_t len = strlen(value);

    if (len == 0)
        return true;
    if (len >= LABEL_VALUE_SIZE || !is_alnum(value[0]) || !is_alnum(value[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(value[i]) && strchr("-_.", value[i]) == NULL)
            return false;
    return true;
}

bool dns_label_valid(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len >= DNS_LABEL_SIZE || name[0] == '-' || name[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!(is_alnum(name[i]) && !isupper((unsigned char)name[i])) && name[i] != '-')
            return false;
    return true;
}

/* Copy what fits of TEXT with other characters as FILL, then "-" and the start of its hash. */
static void encode(const char *text, const char *allowed, char fill, bool lower, char *out,
                   size_t size)
{
    const size_t room = size - 1 - HASH_DIGITS - 1;
    char hex[SHA256_HEX_SIZE];
    size_t at = 0;

    for (const char *p = text; *p != '\0' && at < room; p++) {
        char c = lower && is_alnum(*p) ? (char)tolower((unsigned char)*p) : *p;
        bool ok = is_alnum(c) || strchr(allowed, c) != NULL;
        if (at == 0 && !is_alnum(c))
            continue;
        out[at++] = ok ? c : fill;
    }
    if (at > 0)
        out[at++] = '-';
    hash_sha256_hex(text, strlen(text), hex);
    memcpy(out + at, hex, HASH_DIGITS);
    out[at + HASH_DIGITS] = '\0';
}

void label_encode(const char *text, char out[LABEL_VALUE_SIZE])
{
    if (label_value_valid(text))
        memcpy(out, text, strlen(text) + 1);
    else
        encode(text, "-_.", '.', false, out, LABEL_VALUE_SIZE);
}

void dns_label_encode(const char *text, char out[DNS_LABEL_SIZE])
{
    if (dns_label_valid(text))
        memcpy(out, text, strlen(text) + 1);
    else
        encode(text, "-", '-', true, out, DNS_LABEL_SIZE);
}

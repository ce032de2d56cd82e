#include "server/model/placeholder.h"

#include <stdbool.h>
#include <string.h>

#define BEGIN "${e2b."

static const struct {
    const char *prefix;
    enum placeholder_kind kind;
} kinds[] = {
    {BEGIN "secrets.", PLACEHOLDER_SECRET},
    {BEGIN "identity.tokens.", PLACEHOLDER_TOKEN},
};

static bool name_valid(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f || name[i] == '{' || name[i] == '$')
            return false;
    }
    return len > 0;
}

/* VALUE begins with BEGIN. The length of the whole, or 0 when it is malformed. */
static size_t parse(const char *value, struct placeholder *out)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t prefix = strlen(kinds[i].prefix), len;
        if (strncmp(value, kinds[i].prefix, prefix) != 0)
            continue;
        len = strcspn(value + prefix, "}");
        if (value[prefix + len] != '}' || !name_valid(value + prefix, len))
            return 0;
        *out = (struct placeholder){kinds[i].kind, value + prefix, len};
        return prefix + len + 1;
    }
    return 0;
}

int placeholder_next(const char *value, size_t *at, struct placeholder *out, struct err *err)
{
    const char *start = value + *at, *next = strstr(start, BEGIN);
    size_t len;

    if (*start == '\0') {
        *out = (struct placeholder){PLACEHOLDER_END, start, 0};
        return 0;
    }
    if (next != start) {
        len = next != NULL ? (size_t)(next - start) : strlen(start);
        *out = (struct placeholder){PLACEHOLDER_TEXT, start, len};
        *at += len;
        return 0;
    }
    len = parse(start, out);
    if (len == 0)
        return err_set(err, ERR_INVALID,
                       "Network transform header contains a malformed E2B placeholder.");
    *at += len;
    return 0;
}

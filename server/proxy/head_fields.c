#include "server/proxy/head_fields.h"

#include <string.h>
#include <strings.h>

#include "server/base/str.h"

bool field_in(const char *name, size_t len, const char *const *names)
{
    for (; *names != NULL; names++)
        if (mem_is_nocase(name, len, *names))
            return true;
    return false;
}

bool field_named_by(const char *value, size_t value_len, const char *name, size_t len)
{
    static const char *const kept[] = {"content-length", "host", "transfer-encoding", NULL};
    const char *end = value + value_len;

    while (value < end) {
        const char *comma = memchr(value, ',', (size_t)(end - value));
        const char *stop = comma != NULL ? comma : end;

        while (value < stop && (*value == ' ' || *value == '\t'))
            value++;
        if ((size_t)(stop - value) >= len && strncasecmp(value, name, len) == 0) {
            const char *at = value + len;

            while (at < stop && (*at == ' ' || *at == '\t'))
                at++;
            if (at == stop && len > 0)
                return !field_in(name, len, kept);
        }
        value = comma != NULL ? comma + 1 : end;
    }
    return false;
}

void field_add(struct buf *out, const char *name, const char *value, size_t value_len)
{
    buf_add_str(out, name);
    buf_add_str(out, ": ");
    buf_add(out, value, value_len);
    buf_add_str(out, "\r\n");
}

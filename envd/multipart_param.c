/* envd/multipart.h: parameters of a header value, quoted, plain and RFC 2231. */
#include "envd/multipart.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

struct param {
    const char *name;
    size_t name_len;
    struct buf *value;
};

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

/* A quoted string from its opening quote; the place after its end, or NULL. */
static const char *read_quoted(const char *at, struct buf *out)
{
    for (at++; *at != '"'; at++) {
        /* Go's rule: only what would be special is unescaped, so C:\dir survives */
        if (at[0] == '\\' && at[1] != '\0' && strchr("()<>@,;:\\\"/[]?=", at[1]) != NULL)
            at++;
        if (*at == '\0' || buf_add_char(out, *at) < 0)
            return NULL;
    }
    return at + 1;
}

/*
 * The parameter at AT, which is just after a ';'. Returns the place after it, or NULL: malformed,
 * too long, or no more (PARAM->name_len is 0 then).
 */
static const char *read_param(const char *at, struct param *param)
{
    size_t size;

    at = skip_space(at);
    param->name = at;
    param->name_len = strcspn(at, "= \t\r\n;\"");
    buf_reset(param->value);
    at = skip_space(at + param->name_len);
    if (param->name_len == 0 || *at != '=')
        return NULL;
    at = skip_space(at + 1);
    if (*at == '"')
        return read_quoted(at, param->value);
    size = strcspn(at, "; \t\r\n\"");
    return buf_add(param->value, at, size) < 0 ? NULL : at + size;
}

/* "charset'language'percent-coded" in UTF-8 or ASCII. */
static int decode_extended(const struct buf *value, struct buf *out)
{
    const char *text = buf_str(value);
    const char *language = strchr(text, '\'');
    const char *coded = language != NULL ? strchr(language + 1, '\'') : NULL;

    if (coded == NULL || (!mem_is_nocase(text, (size_t)(language - text), "utf-8") &&
                          !mem_is_nocase(text, (size_t)(language - text), "us-ascii")))
        return -1;
    coded++;
    buf_reset(out);
    if (url_decode(coded, strlen(coded), false, out) < 0 || !str_is_utf8(buf_str(out), out->len))
        return -1;
    return 1;
}

int multipart_param(const char *value, const char *name, struct buf *out)
{
    const char *at = value + strcspn(value, ";");
    _cleanup_(buf_clear) struct buf text;
    struct param param = {.value = &text};
    int rc = 0;

    buf_init(&text, out->max);
    while (rc >= 0 && *(at = skip_space(at)) == ';') {
        if (*skip_space(at + 1) == '\0')
            break; /* a lone ';' at the end */
        at = read_param(at + 1, &param);
        if (at == NULL) {
            rc = -1;
        } else if (param.name_len == strlen(name) + 1 && param.name[param.name_len - 1] == '*' &&
                   mem_is_nocase(param.name, param.name_len - 1, name)) {
            rc = decode_extended(&text, out);
            break; /* the extended form wins */
        } else if (rc == 0 && mem_is_nocase(param.name, param.name_len, name)) {
            buf_reset(out);
            rc = buf_add(out, buf_str(&text), text.len) < 0 ? -1 : 1;
        }
    }
    if (rc >= 0) {
        at = skip_space(at);
        if (*at != '\0' && *at != ';')
            rc = -1; /* something that is no parameter */
    }
    return rc;
}

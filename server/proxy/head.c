#include "server/proxy/head.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/proxy/head_fields.h"

static struct slice slice_of(const char *data, size_t len)
{
    return (struct slice){data, len};
}

static int target_absolute(struct slice rest, struct head_target *out, struct err *err)
{
    size_t host_len = 0;

    while (host_len < rest.len && strchr("/?#", rest.data[host_len]) == NULL)
        host_len++;
    if (host_len == 0 || memchr(rest.data, '@', host_len) != NULL)
        return err_set(err, ERR_INVALID, "Invalid host");
    out->host = slice_of(rest.data, host_len);
    out->path = slice_of(rest.data + host_len, rest.len - host_len);
    if (out->path.len == 0)
        out->path = slice_of("/", 1);
    else if (out->path.data[0] != '/')
        return err_set(err, ERR_INVALID, "Invalid host");
    return 0;
}

int head_target(const struct http_head *head, struct head_target *out, struct err *err)
{
    struct slice target = slice_of(head->target, head->target_len);

    if (target.len > 7 && mem_is_nocase(target.data, 7, "http://"))
        return target_absolute(slice_of(target.data + 7, target.len - 7), out, err);
    if (target.len > 8 && mem_is_nocase(target.data, 8, "https://"))
        return target_absolute(slice_of(target.data + 8, target.len - 8), out, err);
    if (target.data[0] != '/' && !mem_is(target.data, target.len, "*"))
        return err_set(err, ERR_INVALID, "Invalid host");
    out->path = target;
    out->host =
        head->host != NULL ? slice_of(head->host->value, head->host->value_len) : slice_of(NULL, 0);
    return 0;
}

int head_refused_status(enum err_code code)
{
    return code == ERR_LIMIT ? 431 : code == ERR_UNSUPPORTED ? 505 : 400;
}

/* Whether "X-Forwarded-…" and other fields are the proxy's to write or to drop. */
static bool drop_from_request(const struct http_head *head, const struct http_header *field,
                              const struct head_change *change)
{
    static const char *const dropped[] = {"connection",
                                          "keep-alive",
                                          "proxy-connection",
                                          "proxy-authenticate",
                                          "te",
                                          "transfer-encoding",
                                          "upgrade",
                                          "proxy-authorization",
                                          "forwarded",
                                          "x-forwarded-for",
                                          "x-forwarded-host",
                                          "x-forwarded-proto",
                                          "host",
                                          NULL};

    if (field_in(field->name, field->name_len, dropped))
        return true;
    if (change->jwt != NULL && mem_is_nocase(field->name, field->name_len, "authorization"))
        return true;
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_header *other = &head->headers[i];
        if (other->name_len == 10 && mem_is_nocase(other->name, 10, "connection") &&
            field_named_by(other->value, other->value_len, field->name, field->name_len))
            return true;
    }
    return false;
}

static void add_upgrade(const struct http_head *head, struct buf *out)
{
    const struct http_header *upgrade = http_head_find(head, "upgrade");

    buf_add_str(out, "Connection: Upgrade\r\n");
    field_add(out, "Upgrade", upgrade->value, upgrade->value_len);
}

/* Fields that say how this connection is used, written afresh. */
static void add_own_fields(const struct http_head *head, const struct head_target *target,
                           const struct head_change *change, struct buf *out)
{
    const struct http_header *te = http_head_find(head, "te");

    field_add(out, "X-Forwarded-Host", target->host.data, target->host.len);
    if (change->jwt != NULL) {
        buf_add_str(out, "Authorization: Bearer ");
        buf_add_str(out, change->jwt);
        buf_add_str(out, "\r\n");
    }
    if (te != NULL && http_list_has(te->value, te->value_len, "trailers"))
        buf_add_str(out, "TE: trailers\r\n");
    if (head->framing == HTTP_BODY_CHUNKED)
        buf_add_str(out, "Transfer-Encoding: chunked\r\n");
    if (head->upgrade && head->minor_version == 1)
        add_upgrade(head, out);
    else if (change->close)
        buf_add_str(out, "Connection: close\r\n");
}

int head_write_request(const struct http_head *head, const struct head_target *target,
                       const struct head_change *change, struct buf *out, struct err *err)
{
    buf_add(out, head->method, head->method_len);
    buf_add_char(out, ' ');
    buf_add(out, target->path.data, target->path.len);
    buf_add_str(out, " HTTP/1.1\r\n");
    if (change->host != NULL)
        field_add(out, "Host", change->host, strlen(change->host));
    else
        field_add(out, "Host", target->host.data, target->host.len);
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_header *field = &head->headers[i];
        if (!drop_from_request(head, field, change)) {
            buf_add(out, field->name, field->name_len);
            buf_add_str(out, ": ");
            buf_add(out, field->value, field->value_len);
            buf_add_str(out, "\r\n");
        }
    }
    add_own_fields(head, target, change, out);
    buf_add_str(out, "\r\n");
    if (out->overflow)
        return err_set(err, ERR_INVALID, "the request head is too large");
    return 0;
}

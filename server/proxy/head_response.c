#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/proxy/head.h"
#include "server/proxy/head_fields.h"
#include "server/proxy/phr.h"

struct parsed {
    int minor_version, status;
    const char *reason;
    size_t reason_len;
    struct phr_header fields[HEAD_FIELDS_MAX];
    size_t count;
    /* what the fields say */
    bool has_length, chunked, close, keep_alive;
    uint64_t length;
    struct slice upgrade;
};

static bool field_is(const struct phr_header *field, const char *name)
{
    return mem_is_nocase(field->name, field->name_len, name);
}

static int note_length(const struct phr_header *field, struct parsed *parsed, struct err *err)
{
    uint64_t length;

    if (str_to_u64(field->value, field->value_len, 0, INT64_MAX, "Content-Length", &length, err) <
        0)
        return -1;
    if (parsed->has_length && parsed->length != length)
        return err_set(err, ERR_INVALID, "two Content-Length fields that differ");
    parsed->has_length = true;
    parsed->length = length;
    return 0;
}

static int note_field(const struct phr_header *field, struct parsed *parsed, struct err *err)
{
    if (field->name == NULL)
        return err_set(err, ERR_INVALID, "a folded header field");
    if (field_is(field, "content-length"))
        return note_length(field, parsed, err);
    if (field_is(field, "transfer-encoding")) {
        if (parsed->chunked || !mem_is_nocase(field->value, field->value_len, "chunked"))
            return err_set(err, ERR_INVALID, "a transfer coding other than chunked");
        parsed->chunked = true;
    } else if (field_is(field, "connection")) {
        parsed->close |= http_list_has(field->value, field->value_len, "close");
        parsed->keep_alive |= http_list_has(field->value, field->value_len, "keep-alive");
    } else if (field_is(field, "upgrade")) {
        parsed->upgrade = (struct slice){field->value, field->value_len};
    }
    return 0;
}

/* The size of the head, 0 when it is incomplete, -1 with ERR. */
static int parse(const char *data, size_t len, size_t scanned, struct parsed *parsed,
                 struct err *err)
{
    int size;

    memset(parsed, 0, sizeof(*parsed));
    parsed->count = array_size(parsed->fields);
    size = phr_parse_response(data, len, &parsed->minor_version, &parsed->status, &parsed->reason,
                              &parsed->reason_len, parsed->fields, &parsed->count, scanned);
    if (size == -2 && len <= HEAD_MAX_BYTES)
        return 0;
    if (size < 0 || size > HEAD_MAX_BYTES)
        return err_set(err, ERR_INVALID, "malformed or too large response head");
    if (parsed->minor_version > 1 || parsed->status < 100)
        return err_set(err, ERR_INVALID, "malformed status line");
    for (size_t i = 0; i < parsed->count; i++)
        if (note_field(&parsed->fields[i], parsed, err) < 0)
            return -1;
    while (parsed->reason_len > 0 && *parsed->reason == ' ') {
        parsed->reason++;
        parsed->reason_len--;
    }
    return size;
}

/* RFC 9112 section 6.3 */
static enum body_kind framing_of(const struct parsed *parsed, bool head_request)
{
    if (head_request || parsed->status < 200 || parsed->status == 204 || parsed->status == 304)
        return BODY_NONE;
    if (parsed->chunked)
        return BODY_CHUNKED;
    return parsed->has_length ? BODY_LENGTH : BODY_TO_EOF;
}

static bool drop(const struct parsed *parsed, const struct phr_header *field, bool *length_sent)
{
    static const char *const dropped[] = {
        "connection", "keep-alive",        "proxy-connection", "proxy-authenticate",
        "te",         "transfer-encoding", "upgrade",          "proxy-authorization",
        NULL};

    if (field_in(field->name, field->name_len, dropped))
        return true;
    if (field_is(field, "content-length")) {
        if (*length_sent || parsed->chunked || parsed->status < 200 || parsed->status == 204)
            return true;
        *length_sent = true;
        return false;
    }
    for (size_t i = 0; i < parsed->count; i++) {
        const struct phr_header *other = &parsed->fields[i];
        if (field_is(other, "connection") &&
            field_named_by(other->value, other->value_len, field->name, field->name_len))
            return true;
    }
    return false;
}

static void write_fields(const struct parsed *parsed, struct buf *out)
{
    bool length_sent = false;

    buf_printf(out, "HTTP/1.1 %d ", parsed->status);
    buf_add(out, parsed->reason, parsed->reason_len);
    buf_add_str(out, "\r\n");
    for (size_t i = 0; i < parsed->count; i++) {
        const struct phr_header *field = &parsed->fields[i];
        if (!drop(parsed, field, &length_sent)) {
            buf_add(out, field->name, field->name_len);
            buf_add_str(out, ": ");
            buf_add(out, field->value, field->value_len);
            buf_add_str(out, "\r\n");
        }
    }
}

static void write_own_fields(const struct parsed *parsed, const struct response_want *want,
                             struct buf *out)
{
    if (parsed->status == 101) {
        buf_add_str(out, "Connection: Upgrade\r\n");
        field_add(out, "Upgrade", parsed->upgrade.data, parsed->upgrade.len);
    } else if (parsed->status >= 200) {
        /* HEAD and 304 show the framing that the body would have had */
        if (parsed->chunked && parsed->status != 204 && !want->http_1_0)
            buf_add_str(out, "Transfer-Encoding: chunked\r\n");
        if (want->close || framing_of(parsed, want->head_request) == BODY_TO_EOF)
            buf_add_str(out, "Connection: close\r\n");
    }
    buf_add_str(out, "\r\n");
}

int head_pass_response(const char *data, size_t len, const struct response_want *want,
                       struct buf *out, struct response_head *response, struct err *err)
{
    struct parsed parsed;
    size_t before = out->len;
    int size = parse(data, len, want->scanned, &parsed, err);

    if (size <= 0)
        return size < 0 ? -1 : 1;
    write_fields(&parsed, out);
    write_own_fields(&parsed, want, out);
    if (out->overflow) {
        out->len = before;
        return err_set(err, ERR_INVALID, "response head too large");
    }
    *response = (struct response_head){
        .status = parsed.status,
        .keep_alive = !parsed.close && (parsed.minor_version == 1 || parsed.keep_alive),
        .framing = framing_of(&parsed, want->head_request),
        .content_length = parsed.length,
        .upgrade = parsed.upgrade,
        .size = (size_t)size,
    };
    return 0;
}

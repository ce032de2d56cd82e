#include "server/api/list_query.h"

#include <stdio.h>
#include <string.h>

#include "server/base/buf.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/model/limits.h"

#define TOKEN_TEXT_SIZE 64
#define ORDER_ASC "asc"
#define ORDER_DESC "desc"

void list_query_clear(struct list_query *query)
{
    json_decref(query->metadata);
    query->metadata = NULL;
}

static int bad_metadata(struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "Error parsing metadata: it must be 'key=value' pairs joined by '&'");
}

/* Decode one more time; UTF-8 without NUL. */
static int decode(const char *s, size_t len, struct buf *out, struct err *err)
{
    buf_init(out, HEAD_MAX_BYTES);
    if (url_decode(s, len, true, out) < 0 || !str_is_utf8(buf_str(out), out->len))
        return bad_metadata(err);
    return 0;
}

/* "key=value", both still encoded, into MAP. */
static int add_pair(json_t *map, const char *pair, size_t len, struct err *err)
{
    _cleanup_buf_ struct buf key = {0}, value = {0};
    const char *eq = memchr(pair, '=', len);
    const char *end = pair + len;

    if (eq == NULL || memchr(eq + 1, '=', (size_t)(end - eq - 1)) != NULL)
        return bad_metadata(err);
    if (decode(pair, (size_t)(eq - pair), &key, err) < 0 ||
        decode(eq + 1, (size_t)(end - eq - 1), &value, err) < 0)
        return -1;
    json_put_str(map, buf_str(&key), buf_str(&value));
    return 0;
}

static int add_pairs(json_t *map, const char *s, struct err *err)
{
    for (;;) {
        size_t len = strcspn(s, "&");
        if (add_pair(map, s, len, err) < 0)
            return -1;
        if (s[len] == '\0')
            return 0;
        s += len + 1;
    }
}

int list_metadata_parse(const char *value, json_t **out, struct err *err)
{
    _cleanup_buf_ struct buf whole = {0};
    json_t *map;

    if (decode(value, strlen(value), &whole, err) < 0)
        return -1;
    map = json_object();
    if (whole.len > 0 && add_pairs(map, buf_str(&whole), err) < 0) {
        json_decref(map);
        return -1;
    }
    *out = map;
    return 0;
}

int list_states_parse(const char *value, struct list_query *out, struct err *err)
{
    bool running = false, paused = false;

    while (value != NULL) {
        size_t len = strcspn(value, ",");
        if (mem_is(value, len, "running"))
            running = true;
        else if (mem_is(value, len, "paused"))
            paused = true;
        else if (len > 0) /* an empty list says nothing */
            return err_set(err, ERR_INVALID,
                           "validation error: parameter 'state' must be 'running' or 'paused'");
        if (value[len] == '\0')
            break;
        value += len + 1;
    }
    out->running = running || !paused;
    out->paused = paused || !running;
    return 0;
}

int list_started_after_parse(const char *value, int64_t *out_us, struct err *err)
{
    int64_t ms;
    uint32_t nanos;

    if (value == NULL)
        return 0;
    if (time_parse_rfc3339(value, strlen(value), &ms, &nanos) < 0)
        return err_set(err, ERR_INVALID,
                       "validation error: parameter 'startedAfter' must be an RFC 3339 date-time");
    *out_us = ms * 1000 + nanos / 1000 % 1000;
    return 0;
}

int list_order_parse(const char *value, bool *ascending, struct err *err)
{
    if (value == NULL || str_eq(value, ORDER_DESC))
        *ascending = false;
    else if (str_eq(value, ORDER_ASC))
        *ascending = true;
    else
        return err_set(err, ERR_INVALID,
                       "validation error: parameter 'order' must be 'asc' or 'desc'");
    return 0;
}

void list_token_format(const struct list_key *key, bool ascending, char out[LIST_TOKEN_SIZE])
{
    char text[TOKEN_TEXT_SIZE];
    int len = snprintf(text, sizeof(text), "%lld__%s__%s", (long long)key->started_unix_ms, key->id,
                       ascending ? ORDER_ASC : ORDER_DESC);

    _Static_assert(BASE64_SIZE(TOKEN_TEXT_SIZE) <= LIST_TOKEN_SIZE, "a token fits");
    base64_encode(BASE64_URL_RAW, text, (size_t)len, out);
}

/* "<ms>__<id>__<order>" */
static int parse_token_text(const char *text, size_t len, bool ascending, struct list_key *out,
                            struct err *err)
{
    const char *id = memmem(text, len, "__", 2);
    const char *order;
    struct list_key key = {0};

    if (id == NULL)
        return -1;
    id += 2;
    order = memmem(id, len - (size_t)(id - text), "__", 2);
    if (order == NULL || str_to_i64(text, (size_t)(id - 2 - text), 0, INT64_MAX, "token",
                                    &key.started_unix_ms, err) < 0)
        return -1;
    if (sandbox_id_parse(id, (size_t)(order - id), key.id, err) < 0)
        return -1;
    order += 2;
    if (!mem_is(order, len - (size_t)(order - text), ascending ? ORDER_ASC : ORDER_DESC))
        return -1;
    *out = key;
    return 0;
}

int list_token_parse(const char *token, bool ascending, struct list_key *out, struct err *err)
{
    size_t len = strlen(token), text_len = 0;
    uint8_t text[LIST_TOKEN_SIZE];
    struct err ignored = {0};

    if (len >= LIST_TOKEN_SIZE || base64_decode(token, len, text, &text_len) < 0 ||
        parse_token_text((const char *)text, text_len, ascending, out, &ignored) < 0)
        return err_set(err, ERR_INVALID, "Invalid next token");
    return 0;
}

static bool metadata_matches(json_t *wanted, const char *text)
{
    struct err err = {0};
    _cleanup_json_ json_t *have = text != NULL ? json_parse(text, strlen(text), &err) : NULL;
    const char *key;
    json_t *value;

    json_object_foreach(wanted, key, value) {
        if (!json_equal(json_object_get(have, key), value))
            return false;
    }
    return true;
}

bool list_matches(const struct list_query *query, const struct sandbox *sandbox)
{
    if (query->started_after_us != INT64_MIN &&
        sandbox->started_unix_ms * 1000 < query->started_after_us)
        return false;
    if (query->template_id != NULL && !str_eq(query->template_id, sandbox->template_id))
        return false;
    return query->metadata == NULL || metadata_matches(query->metadata, sandbox->metadata);
}

bool list_is_after(const struct list_query *query, const struct sandbox *sandbox)
{
    int64_t order;

    if (!query->after_set)
        return true;
    order = sandbox->started_unix_ms != query->after.started_unix_ms
                ? (sandbox->started_unix_ms > query->after.started_unix_ms ? 1 : -1)
                : strcmp(sandbox->id, query->after.id);
    return query->ascending ? order > 0 : order < 0;
}

bool list_wants_state(const struct list_query *query, const struct sandbox *sandbox)
{
    return str_eq(sandbox_state_public(sandbox->state), "running") ? query->running : query->paused;
}

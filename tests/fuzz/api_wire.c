/*
 * The body of POST /v2/sandboxes and the list filters, from untrusted bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/list_query.h"
#include "server/api/wire.h"
#include "server/base/hash.h"
#include "server/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted keeps the promises of wire.h and lifecycle.h. */
static void check_body(json_t *json, bool v2)
{
    struct create_body body;
    struct err err = {0};

    if (wire_create_parse(json, v2, &body, &err) < 0) {
        if (err.msg[0] == '\0' || (err.code != ERR_INVALID && err.code != ERR_UNSUPPORTED))
            abort();
        return;
    }
    if (body.request.template_ref == NULL || body.request.template_ref[0] == '\0' ||
        (v2 && !body.request.secure) || (body.request.private_traffic && !body.request.secure))
        abort();
    create_body_clear(&body);
}

static void check_list(const char *text)
{
    struct list_query query = {.started_after_us = INT64_MIN};
    struct list_key key;
    struct err err = {0};
    int64_t us;

    if (list_metadata_parse(text, &query.metadata, &err) == 0) {
        const struct sandbox bare = {.id = "i1"};
        if (list_matches(&query, &bare) != (json_object_size(query.metadata) == 0))
            abort();
    }
    list_states_parse(text, &query, &err);
    list_started_after_parse(text, &us, &err);
    if (list_token_parse(text, true, &key, &err) == 0 &&
        list_token_parse(text, false, &key, &err) == 0)
        abort(); /* of both orders */
    list_query_clear(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_free_ char *text = mem_strndup((const char *)data, size);
    struct err err = {0};
    json_t *json;

    if (hash_init() < 0)
        abort();
    json = json_parse_object((const char *)data, size, &err);
    if (json != NULL) {
        check_body(json, false);
        check_body(json, true);
        json_decref(json);
    }
    check_list(text);
    return 0;
}

/*
 * server/api/list_query.h - which sandboxes a GET /sandboxes wants, in which order, and pages.
 *
 * Pure. Any thread. Source: platform-api.md section 5, GET /v2/sandboxes.
 */
#ifndef SANDPIT_API_LIST_QUERY_H
#define SANDPIT_API_LIST_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/json.h"
#include "server/model/sandbox.h"

#define LIST_TOKEN_SIZE 96 /* base64url of "<ms>__<id>__<order>" and a NUL */

/* The place after which a page begins. */
struct list_key {
    int64_t started_unix_ms;
    char id[SANDBOX_ID_SIZE];
};

struct list_query {
    bool running, paused; /* wanted states */
    bool ascending;       /* by start; default newest first */
    size_t limit;
    int64_t started_after_us; /* at or after; INT64_MIN: any */
    const char *template_id;  /* borrowed; NULL: any */
    json_t *metadata;         /* owned object of strings, NULL: any; all pairs must match */
    bool after_set;
    struct list_key after;
};

void list_query_clear(struct list_query *query);

/*
 * The metadata filter as it is after the query's own decoding: decoded as a whole, split on '&' and
 * '=', each part decoded again. *OUT is a new object. ERR_INVALID "Error parsing metadata".
 */
int list_metadata_parse(const char *value, json_t **out, struct err *err);
/* "running", "paused" or both with a comma; NULL or "": both. */
int list_states_parse(const char *value, struct list_query *out, struct err *err);
/* RFC 3339, kept at microseconds as clients compare. */
int list_started_after_parse(const char *value, int64_t *out_us, struct err *err);
/* "asc", "desc"; NULL: desc. */
int list_order_parse(const char *value, bool *ascending, struct err *err);

/* A page's token and back. ERR_INVALID "Invalid next token", also for one of the other order. */
void list_token_format(const struct list_key *key, bool ascending, char out[LIST_TOKEN_SIZE]);
int list_token_parse(const char *token, bool ascending, struct list_key *out, struct err *err);

/* All filters but state and page. */
bool list_matches(const struct list_query *query, const struct sandbox *sandbox);
/* SANDBOX comes after the key of the query in its order. */
bool list_is_after(const struct list_query *query, const struct sandbox *sandbox);
/* Its state is one that is wanted. */
bool list_wants_state(const struct list_query *query, const struct sandbox *sandbox);

#endif

/*
 * server/http/router.h - which row of a route table a method and a path mean.
 *
 * Pure: no I/O, no allocation. Any thread. Segments are compared as they came; only parameters are
 * percent-decoded, and after splitting, so that an encoded slash stays inside its parameter.
 */
#ifndef SANDPIT_HTTP_ROUTER_H
#define SANDPIT_HTTP_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/buf.h"
#include "server/http/http.h"

#define ROUTE_PARAMS_MAX 6

struct route_param {
    const char *name; /* in the route's path, not NUL-terminated */
    size_t name_len;
    const char *value; /* in the request's path, not decoded, at least one byte */
    size_t value_len;
};

struct route_match {
    const struct route *route;
    bool head_of_get; /* HEAD, answered by the GET row */
    size_t param_count;
    struct route_param params[ROUTE_PARAMS_MAX];
};

enum route_result {
    ROUTE_FOUND,
    ROUTE_NO_PATH,   /* no row has that path: 404 */
    ROUTE_NO_METHOD, /* some have, with other methods: 405 */
};

/*
 * Find the row for METHOD and PATH (without the query). Where several fit, the one whose first
 * different segment is a word wins over a parameter. ROUTE_FOUND fills *OUT; ROUTE_NO_METHOD
 * appends the methods there are to ALLOW, as in an Allow header.
 */
enum route_result router_match(const struct route *routes, size_t count, const char *method,
                               size_t method_len, const char *path, size_t path_len,
                               struct route_match *out, struct buf *allow);

#endif

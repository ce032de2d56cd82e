/*
 * server/http/router.c - see router.h.
 */
#include "server/http/router.h"

#include <stdint.h>
#include <string.h>

#include "server/base/http_head.h"
#include "server/base/str.h"

#define WEIGHT_BITS 63 /* a word in segment 0 weighs most */

/* The segment that begins at *AT, up to the next '/' or END; *AT moves past the slash. */
static bool next_segment(const char **at, const char *end, const char **segment, size_t *len)
{
    const char *slash;

    if (*at > end)
        return false;
    slash = memchr(*at, '/', (size_t)(end - *at));
    *segment = *at;
    *len = (size_t)((slash == NULL ? end : slash) - *at);
    *at = slash == NULL ? end + 1 : slash + 1;
    return true;
}

static bool is_param(const char *segment, size_t len)
{
    return len > 2 && segment[0] == '{' && segment[len - 1] == '}';
}

/* Does PATH fit the TEMPLATE? Fills the parameters; *WEIGHT is larger the more words come early. */
static bool match_path(const char *template, const char *path, size_t path_len,
                       struct route_match *out, uint64_t *weight)
{
    const char *t_end = template + strlen(template);
    const char *p_end = path + path_len;
    const char *t_segment;
    const char *p_segment;
    size_t t_len;
    size_t p_len;
    unsigned depth = 0;

    out->param_count = 0;
    *weight = 0;
    for (;;) {
        if (!next_segment(&template, t_end, &t_segment, &t_len))
            return !next_segment(&path, p_end, &p_segment, &p_len);
        if (!next_segment(&path, p_end, &p_segment, &p_len))
            return false;
        if (is_param(t_segment, t_len)) {
            if (p_len == 0 || out->param_count == ROUTE_PARAMS_MAX)
                return false;
            out->params[out->param_count++] =
                (struct route_param){t_segment + 1, t_len - 2, p_segment, p_len};
        } else if (t_len != p_len || memcmp(t_segment, p_segment, t_len) != 0) {
            return false;
        } else if (depth < WEIGHT_BITS) {
            *weight |= UINT64_C(1) << (WEIGHT_BITS - depth);
        }
        depth++;
    }
}

/* The best row with METHOD. */
static bool find_row(const struct route *routes, size_t count, const char *method,
                     size_t method_len, const char *path, size_t path_len, struct route_match *out)
{
    uint64_t best = 0;
    bool found = false;

    for (size_t i = 0; i < count; i++) {
        struct route_match match = {.route = &routes[i]};
        uint64_t weight;

        if (!mem_is(method, method_len, routes[i].method) ||
            !match_path(routes[i].path, path, path_len, &match, &weight))
            continue;
        if (!found || weight > best) {
            *out = match;
            best = weight;
            found = true;
        }
    }
    return found;
}

static void add_method(struct buf *allow, const char *method)
{
    if (allow->len > 0)
        buf_add_str(allow, ", ");
    buf_add_str(allow, method);
}

/* Each method that some row has for PATH, once; HEAD follows from GET. */
static void list_methods(const struct route *routes, size_t count, const char *path,
                         size_t path_len, struct buf *allow)
{
    for (size_t i = 0; i < count; i++) {
        struct route_match match;
        uint64_t weight;

        if (!match_path(routes[i].path, path, path_len, &match, &weight) ||
            http_list_has(buf_str(allow), allow->len, routes[i].method))
            continue;
        add_method(allow, routes[i].method);
        if (str_eq(routes[i].method, "GET") && !http_list_has(buf_str(allow), allow->len, "HEAD"))
            add_method(allow, "HEAD");
    }
}

enum route_result router_match(const struct route *routes, size_t count, const char *method,
                               size_t method_len, const char *path, size_t path_len,
                               struct route_match *out, struct buf *allow)
{
    if (find_row(routes, count, method, method_len, path, path_len, out))
        return ROUTE_FOUND;
    if (mem_is(method, method_len, "HEAD") &&
        find_row(routes, count, "GET", strlen("GET"), path, path_len, out)) {
        out->head_of_get = true;
        return ROUTE_FOUND;
    }
    list_methods(routes, count, path, path_len, allow);
    return allow->len > 0 ? ROUTE_NO_METHOD : ROUTE_NO_PATH;
}

/* POST /files/compose: several files become one. Rules: envd API section 7.7. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "envd/files.h"
#include "envd/route.h"
#include "envd/upload.h"
#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define COMPOSE_MAX_BYTES (1 << 20) /* of the request */

struct compose {
    struct files_request request; /* only its user */
    char *destination;
    char **sources;
    size_t count;
};

static void compose_clear(struct compose *compose)
{
    for (size_t i = 0; i < compose->count; i++)
        free(compose->sources[i]);
    free(compose->sources);
    free(compose->destination);
}

static void body_free(void *state)
{
    buf_clear(state);
    free(state);
}

/* The request's body, kept while it is on its way. 0, HTTP_AGAIN, -1. */
static int read_body(struct exchange *ex, struct buf **out, struct err *err)
{
    struct buf *body = http_kept(ex);
    const char *data;
    ssize_t len;

    if (body == NULL) {
        body = mem_zalloc(sizeof(*body));
        buf_init(body, COMPOSE_MAX_BYTES);
        http_keep(ex, body, body_free);
    }
    while ((len = http_body_take(ex, &data, err)) > 0)
        if (buf_add(body, data, (size_t)len) < 0)
            return err_set(err, ERR_INVALID, "the request is larger than %d bytes",
                           COMPOSE_MAX_BYTES);
    *out = body;
    return (int)len;
}

/* Every source is a regular file, and none is the destination. */
static int check_sources(const struct compose *compose, struct err *err)
{
    struct stat to, st;
    bool exists = stat(compose->destination, &to) == 0;
    char text[FS_ERRNO_TEXT_SIZE];

    for (size_t i = 0; i < compose->count; i++) {
        const char *path = compose->sources[i];
        if (stat(path, &st) < 0 && errno == ENOENT)
            return err_set(err, ERR_NOT_FOUND, "source file not found: %s", path);
        if (stat(path, &st) < 0)
            return err_set(err, ERR_INTERNAL, "error getting file info: stat %s: %s", path,
                           fs_errno_text(errno, text));
        if (!S_ISREG(st.st_mode))
            return err_set(err, ERR_INVALID, "source is not a regular file: %s", path);
        if (str_eq(path, compose->destination) ||
            (exists && st.st_dev == to.st_dev && st.st_ino == to.st_ino))
            return err_set(err, ERR_INVALID, "source and destination are the same file: %s", path);
    }
    return 0;
}

static int read_request(struct exchange *ex, const json_t *json, struct compose *out,
                        struct err *err)
{
    const char *destination = "", *username = "";
    json_t *sources = NULL, *source;
    size_t i;

    if (json_get_array(json, "source_paths", &sources, err) < 0 ||
        json_get_str(json, "destination", &destination, err) < 0 ||
        json_get_str(json, "username", &username, err) < 0)
        return -1;
    if (sources == NULL || json_array_size(sources) == 0)
        return err_set(err, ERR_INVALID, "source_paths must not be empty");
    if (destination[0] == '\0')
        return err_set(err, ERR_INVALID, "destination is required");
    if (files_request_user(ex, username, &out->request, err) < 0 ||
        path_expand(destination, &out->request.base, &out->destination, err) < 0)
        return -1;
    out->sources = mem_calloc(json_array_size(sources), sizeof(*out->sources));
    json_array_foreach(sources, i, source) {
        if (!json_is_string(source))
            return err_set(err, ERR_INVALID, "source_paths must hold strings");
        if (path_expand(json_string_value(source), &out->request.base, &out->sources[i], err) < 0)
            return -1;
        out->count++;
    }
    return check_sources(out, err);
}

static int append_source(struct upload *up, const char *path, struct err *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    char text[FS_ERRNO_TEXT_SIZE];
    struct stat st;

    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "source file not found: %s", path);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, ERR_INTERNAL, "error opening file: %s: %s", path,
                       fs_errno_text(errno, text));
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "source is not a regular file: %s", path);
    return upload_append(up, fd, err);
}

/* The sources go only when the destination is whole and in its place. */
static int compose_files(const struct compose *compose, struct err *err)
{
    struct upload up;
    int rc;

    if (upload_begin(&up, compose->destination, &compose->request.owner, -1, err) < 0)
        return -1;
    rc = 0;
    for (size_t i = 0; rc == 0 && i < compose->count; i++)
        rc = append_source(&up, compose->sources[i], err);
    if (rc == 0)
        rc = upload_commit(&up, NULL, 0, err);
    upload_clear(&up);
    for (size_t i = 0; rc == 0 && i < compose->count; i++) {
        char text[FS_ERRNO_TEXT_SIZE];
        if (unlink(compose->sources[i]) < 0 && errno != ENOENT) /* a source may be named twice */
            rc = err_set(err, ERR_INTERNAL, "composed, but a source remains: %s: %s",
                         compose->sources[i], fs_errno_text(errno, text));
    }
    return rc;
}

int handle_files_compose(struct exchange *ex, struct err *err)
{
    _cleanup_json_ json_t *json = NULL;
    _cleanup_(compose_clear) struct compose compose = {0};
    _cleanup_free_ char *name = NULL;
    struct buf *body = NULL;
    json_t *answer;
    int rc = read_body(ex, &body, err);

    if (rc < 0)
        return rc;
    json = json_parse_object(buf_str(body), body->len, err);
    if (json == NULL || read_request(ex, json, &compose, err) < 0 ||
        compose_files(&compose, err) < 0)
        return -1;
    name = path_name(compose.destination);
    answer = json_object();
    json_put_str(answer, "path", compose.destination);
    json_put_str(answer, "name", name);
    json_put_str(answer, "type", "file");
    return http_send_json(ex, 200, answer, err);
}

/* POST /files: uploads, multipart or raw, streamed to disk. Rules: envd API section 7.6. */
#include <string.h>
#include <strings.h>

#include "envd/files.h"
#include "envd/files_body.h"
#include "envd/files_meta.h"
#include "envd/files_pipe.h"
#include "envd/multipart.h"
#include "envd/route.h"
#include "envd/upload.h"
#include "server/base/map.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define PART_NAME "file"
#define SPLICE_MIN_BYTES (256 << 10) /* of a body: below, a pipe costs more than a copy */

/* An upload on its way; kept while the client is slow. */
struct post {
    struct exchange *ex;
    struct files_request request;
    struct files_meta meta;
    struct files_body body;
    struct map done; /* paths written, to themselves; owns them */
    json_t *written; /* the reply */
    char *path;      /* of the file being written */
    bool writing;    /* `upload` is open */
    bool skipping;   /* a part that is no file */
    struct upload upload;
    bool multipart;
    struct multipart parser;
    struct files_pipe pipe; /* while the handler runs */
};

static void post_free(void *state)
{
    struct post *post = state;
    size_t at = 0;
    void *path;

    if (post->writing)
        upload_clear(&post->upload);
    while (map_next(&post->done, &at, &path))
        free(path);
    map_clear(&post->done);
    free(post->path);
    json_decref(post->written);
    multipart_clear(&post->parser);
    files_body_clear(&post->body);
    files_meta_clear(&post->meta);
    files_request_clear(&post->request);
    free(post);
}

/* Start the file that PATH, as the client gave it, means. */
static int file_begin(struct post *post, const char *path, int64_t expected_bytes, struct err *err)
{
    _cleanup_free_ char *full = NULL;

    if (path_expand(path, &post->request.base, &full, err) < 0)
        return -1;
    if (map_get(&post->done, full) != NULL)
        return err_set(err, ERR_INVALID,
                       "you cannot upload multiple files to the same path '%s' in one upload "
                       "request, only the first specified file was uploaded",
                       full);
    if (upload_begin(&post->upload, full, &post->request.owner, expected_bytes, err) < 0)
        return -1;
    post->writing = true;
    post->path = steal_ptr(&full);
    return 0;
}

/* What was written, for the reply. */
static void add_result(struct post *post)
{
    json_t *row = json_object(), *values;
    _cleanup_free_ char *name = path_name(post->path);
    struct entry_meta *meta;
    size_t count = entry_meta_read(post->path, true, &meta);

    json_put_str(row, "path", post->path);
    json_put_str(row, "name", name);
    json_put_str(row, "type", "file");
    if (count > 0) {
        values = json_object();
        for (size_t i = 0; i < count; i++)
            json_put_str(values, meta[i].key, meta[i].value);
        json_put(row, "metadata", values);
    }
    entry_meta_free(meta, count);
    json_array_append_new(post->written, row);
}

static int file_end(struct post *post, struct err *err)
{
    int rc = upload_commit(&post->upload, post->meta.rows, post->meta.count, err);

    upload_clear(&post->upload);
    post->writing = false;
    if (rc < 0)
        return -1;
    add_result(post);
    map_put(&post->done, post->path, post->path);
    post->path = NULL;
    return 0;
}

static int part_begin(void *arg, const struct multipart_part *part, struct err *err)
{
    struct post *post = arg;
    const char *path = post->request.has_path ? buf_str(&post->request.path) : part->filename;

    post->skipping = !str_eq(part->name, PART_NAME);
    if (post->skipping)
        return 0;
    return file_begin(post, path != NULL ? path : "", -1, err);
}

static int part_data(void *arg, const char *data, size_t len, struct err *err)
{
    struct post *post = arg;

    return post->skipping ? 0 : upload_write(&post->upload, data, len, err);
}

static int part_end(void *arg, struct err *err)
{
    struct post *post = arg;

    return post->skipping ? 0 : file_end(post, err);
}

/* 0 at the end of the body, HTTP_AGAIN, -1. */
static int receive_multipart(struct post *post, struct err *err)
{
    const char *data;
    ssize_t len;

    while ((len = files_body_take(&post->body, &data, err)) > 0)
        if (multipart_feed(&post->parser, data, (size_t)len, err) < 0)
            return -1;
    return len < 0 ? (int)len : multipart_finish(&post->parser, err);
}

/* Some bytes from the socket to the file. > 0, 0 at the end, HTTP_AGAIN, -1. */
static ssize_t move_some(struct post *post, struct err *err)
{
    const char *data;
    ssize_t len;

    if (files_body_spliceable(&post->body) >= SPLICE_MIN_BYTES && files_pipe_open(&post->pipe)) {
        len = http_body_splice(post->ex, post->pipe.in, FILES_PIPE_BYTES, err);
        if (len > 0 && upload_write_pipe(&post->upload, post->pipe.out, (size_t)len, err) < 0)
            return -1;
        return len;
    }
    len = files_body_take(&post->body, &data, err);
    if (len > 0 && upload_write(&post->upload, data, (size_t)len, err) < 0)
        return -1;
    return len;
}

static int receive_raw(struct post *post, struct err *err)
{
    ssize_t len;

    while ((len = move_some(post, err)) > 0)
        ;
    return len < 0 ? (int)len : file_end(post, err);
}

/* The media type of CONTENT_TYPE is WORD. */
static bool is_type(const char *content_type, const char *word)
{
    return mem_is_nocase(content_type, strcspn(content_type, "; \t"), word);
}

/* Which kind of body it is, by its type. */
static int begin_body(struct post *post, struct err *err)
{
    static const struct multipart_events events = {part_begin, part_data, part_end};
    const char *type = http_header(post->ex, "content-type");

    if (type == NULL)
        type = "";
    post->multipart = is_type(type, "multipart/form-data");
    if (post->multipart)
        return multipart_init(&post->parser, type, &events, post, err);
    if (!is_type(type, "application/octet-stream"))
        return err_set(err, ERR_INVALID,
                       "unsupported content type: %.200s, expected multipart/form-data or "
                       "application/octet-stream",
                       type);
    if (!post->request.has_path)
        return err_set(err, ERR_INVALID, "path query parameter is required for raw body upload");
    return file_begin(post, buf_str(&post->request.path), files_body_length(&post->body), err);
}

static struct post *post_new(struct exchange *ex)
{
    struct post *post = mem_zalloc(sizeof(*post));

    post->ex = ex;
    map_init(&post->done);
    post->written = json_array();
    http_keep(ex, post, post_free);
    return post;
}

static int begin(struct post *post, struct err *err)
{
    int rc;

    if (files_request_init(post->ex, "write", &post->request, err) < 0 ||
        files_meta_read(post->ex, &post->meta, err) < 0)
        return -1;
    rc = files_body_init(&post->body, post->ex, err);
    return rc < 0 ? rc : begin_body(post, err);
}

int handle_files_post(struct exchange *ex, struct err *err)
{
    struct post *post = http_kept(ex);
    int rc;

    if (post == NULL) {
        post = post_new(ex);
        rc = begin(post, err);
        if (rc == HTTP_AGAIN) { /* from the start, later */
            post_free(post);
            http_keep(ex, NULL, NULL);
        }
        if (rc < 0)
            return rc;
    }
    rc = post->multipart ? receive_multipart(post, err) : receive_raw(post, err);
    files_pipe_close(&post->pipe);
    files_body_rest(&post->body);
    if (rc < 0)
        return rc;
    return http_send_json(ex, 200, steal_ptr(&post->written), err);
}

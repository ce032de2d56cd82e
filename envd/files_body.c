#include "envd/files_body.h"

#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include "server/base/mem.h"

static atomic_int gzip_bodies;

static int bad_gzip(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "error decompressing request body: %s", what);
}

int files_body_init(struct files_body *body, struct exchange *ex, struct err *err)
{
    const char *encoding = http_header(ex, "content-encoding");

    *body = (struct files_body){.ex = ex};
    if (encoding == NULL || encoding[0] == '\0' || strcasecmp(encoding, "identity") == 0)
        return 0;
    if (strcasecmp(encoding, "gzip") != 0)
        return err_set(err, ERR_INVALID,
                       "error decompressing request body: unsupported Content-Encoding: %.100s",
                       encoding);
    if (atomic_fetch_add(&gzip_bodies, 1) >= FILES_BODY_GZIP_MAX ||
        inflateInit2(&body->stream, MAX_WBITS + 16) != Z_OK) {
        atomic_fetch_sub(&gzip_bodies, 1);
        return http_later(ex);
    }
    body->gzip = true;
    return 0;
}

void files_body_clear(struct files_body *body)
{
    if (body->gzip) {
        inflateEnd(&body->stream);
        atomic_fetch_sub(&gzip_bodies, 1);
    }
    scratch_put(&body->unpacked);
    *body = (struct files_body){0};
}

void files_body_rest(struct files_body *body)
{
    scratch_put(&body->unpacked);
}

/* RFC 1952: members follow each other. */
static void next_member(struct files_body *body)
{
    if (body->member_ended)
        inflateReset(&body->stream);
    body->member_ended = false;
}

/* More packed bytes; the last ones are used up. > 0, 0 at the end of the body, or an error. */
static ssize_t refill(struct files_body *body, struct err *err)
{
    const char *data;
    ssize_t len = http_body_take(body->ex, &data, err);

    if (len == 0 && !body->member_ended)
        return bad_gzip(err, "unexpected EOF");
    if (len > 0) {
        body->stream.next_in = (Bytef *)(uintptr_t)data;
        body->stream.avail_in = (uInt)len; /* at most a scratch buffer */
    }
    return len;
}

static ssize_t take_gzip(struct files_body *body, const char **data, struct err *err)
{
    z_stream *stream = &body->stream;
    uInt room;

    scratch_get(&body->unpacked);
    room = (uInt)body->unpacked.size;
    stream->next_out = (Bytef *)body->unpacked.data;
    stream->avail_out = room;
    while (stream->avail_out == room) {
        ssize_t len = stream->avail_in > 0 ? 1 : refill(body, err);
        int rc;

        if (len <= 0)
            return len;
        next_member(body);
        rc = inflate(stream, Z_NO_FLUSH);
        if (rc == Z_STREAM_END)
            body->member_ended = true;
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return bad_gzip(err, stream->msg != NULL ? stream->msg : "invalid data");
    }
    *data = body->unpacked.data;
    return (ssize_t)(room - stream->avail_out);
}

ssize_t files_body_take(struct files_body *body, const char **data, struct err *err)
{
    return body->gzip ? take_gzip(body, data, err) : http_body_take(body->ex, data, err);
}

int64_t files_body_length(const struct files_body *body)
{
    return body->gzip ? -1 : http_body_length(body->ex);
}

uint64_t files_body_spliceable(const struct files_body *body)
{
    return body->gzip ? 0 : http_body_spliceable(body->ex);
}

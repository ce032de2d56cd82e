#include "envd/files_send.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "envd/fs.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"

#define PART_HEAD_MAX_BYTES 512
#define RANGE_TEXT_SIZE 96

static atomic_int gzip_sends;

struct files_send *files_send_new(struct exchange *ex)
{
    struct files_send *send = mem_zalloc(sizeof(*send));

    send->ex = ex;
    send->fd = -1;
    http_keep(ex, send, files_send_free);
    return send;
}

static void end_gzip(struct files_send *send)
{
    if (!send->gzip)
        return;
    deflateEnd(&send->stream);
    send->gzip = false;
    atomic_fetch_sub(&gzip_sends, 1);
}

void files_send_free(void *state)
{
    struct files_send *send = state;

    end_gzip(send);
    scratch_put(&send->scratch);
    fd_close(&send->fd);
    free(send->ranges);
    free(send);
}

static int read_failed(struct err *err, int errnum)
{
    char text[FS_ERRNO_TEXT_SIZE];

    return err_set(err, ERR_INTERNAL, "error reading file: %s", fs_errno_text(errnum, text));
}

/* ---- Ranges ---- */

static void range_text(const struct files_send *send, const struct content_range *range,
                       char out[RANGE_TEXT_SIZE])
{
    snprintf(out, RANGE_TEXT_SIZE, "bytes %lld-%lld/%lld", (long long)range->start,
             (long long)(range->start + range->length - 1), (long long)send->st.st_size);
}

/* The head of part AT of multipart/byteranges. */
static size_t part_head(const struct files_send *send, size_t at, char out[PART_HEAD_MAX_BYTES])
{
    char text[RANGE_TEXT_SIZE];

    range_text(send, &send->ranges[at], text);
    return (size_t)snprintf(out, PART_HEAD_MAX_BYTES,
                            "%s--%s\r\nContent-Range: %s\r\nContent-Type: %s\r\n\r\n",
                            at == 0 ? "" : "\r\n", send->boundary, text, send->type);
}

static size_t parts_tail(const struct files_send *send, char out[PART_HEAD_MAX_BYTES])
{
    return (size_t)snprintf(out, PART_HEAD_MAX_BYTES, "\r\n--%s--\r\n", send->boundary);
}

/* One range after the other, each with its head where there are several. */
static int run_ranges(struct files_send *send, struct err *err)
{
    char text[PART_HEAD_MAX_BYTES];

    for (; send->at < send->count; send->at++, send->head_sent = false) {
        struct content_range *range = &send->ranges[send->at];
        int rc;

        if (send->boundary[0] != '\0' && !send->head_sent &&
            http_write(send->ex, text, part_head(send, send->at, text), err) < 0)
            return -1;
        send->head_sent = true;
        rc = http_send_file(send->ex, send->fd, &range->start, &range->length, err);
        if (rc < 0)
            return rc;
    }
    if (send->boundary[0] != '\0' && http_write(send->ex, text, parts_tail(send, text), err) < 0)
        return -1;
    return 0;
}

static int begin_parts(struct files_send *send, struct err *err)
{
    char type[96], text[PART_HEAD_MAX_BYTES];
    int64_t length = 0;

    hash_random_id(send->boundary, sizeof(send->boundary) - 1);
    snprintf(type, sizeof(type), "multipart/byteranges; boundary=%s", send->boundary);
    for (size_t i = 0; i < send->count; i++)
        length += (int64_t)part_head(send, i, text) + send->ranges[i].length;
    length += (int64_t)parts_tail(send, text);
    return http_begin(send->ex, 206, type, length, err);
}

int files_send_ranges(struct files_send *send, int status, const struct content_range *ranges,
                      size_t count, struct err *err)
{
    char text[RANGE_TEXT_SIZE];

    send->run = run_ranges;
    send->ranges = mem_calloc(count, sizeof(*ranges));
    memcpy(send->ranges, ranges, count * sizeof(*ranges));
    send->count = count;
    if (count > 1)
        return begin_parts(send, err);
    range_text(send, &ranges[0], text);
    if (status == 206 && http_set_header(send->ex, "Content-Range", text) < 0)
        return err_set(err, ERR_INTERNAL, "bad range");
    return http_begin(send->ex, status, send->type, ranges[0].length, err);
}

/* ---- What has to be read ---- */

/* Send what waits, then read up to a scratch full; *LEN 0 at the end. As http_flush. */
static int read_more(struct files_send *send, size_t *len, struct err *err)
{
    int rc = http_flush(send->ex, err);
    ssize_t n;

    if (rc < 0)
        return rc;
    scratch_get(&send->scratch);
    n = read(send->fd, send->scratch.data, send->scratch.size);
    if (n < 0)
        return read_failed(err, errno);
    *len = (size_t)n;
    return 0;
}

static int run_generated(struct files_send *send, struct err *err)
{
    for (;;) {
        size_t len;
        int rc = read_more(send, &len, err);

        if (rc < 0)
            return rc;
        if (len == 0)
            return 0;
        if (http_write(send->ex, send->scratch.data, len, err) < 0)
            return -1;
    }
}

int files_send_generated(struct files_send *send, struct err *err)
{
    ssize_t len;

    send->run = run_generated;
    scratch_get(&send->scratch);
    len = read(send->fd, send->scratch.data, send->scratch.size);
    if (len < 0)
        return read_failed(err, errno); /* in time for an honest status */
    if (http_begin(send->ex, 200, send->type, len == 0 ? 0 : -1, err) < 0)
        return -1;
    return http_write(send->ex, send->scratch.data, (size_t)len, err);
}

/* Pack what stream->next_in has, to the end with FLUSH Z_FINISH, into the answer. */
static int pack(struct files_send *send, int flush, struct err *err)
{
    unsigned char out[16384];
    int rc;

    do {
        send->stream.next_out = out;
        send->stream.avail_out = sizeof(out);
        rc = deflate(&send->stream, flush);
        if (rc == Z_STREAM_ERROR)
            return err_set(err, ERR_INTERNAL, "error compressing file");
        if (http_write(send->ex, out, sizeof(out) - send->stream.avail_out, err) < 0)
            return -1;
    } while (send->stream.avail_out == 0);
    return 0;
}

static int run_gzip(struct files_send *send, struct err *err)
{
    for (;;) {
        size_t len;
        int rc = read_more(send, &len, err);

        if (rc < 0)
            return rc;
        send->stream.next_in = (unsigned char *)send->scratch.data;
        send->stream.avail_in = (uInt)len;
        if (len == 0)
            return pack(send, Z_FINISH, err);
        if (pack(send, Z_NO_FLUSH, err) < 0)
            return -1;
    }
}

int files_send_gzip(struct files_send *send, struct err *err)
{
    if (atomic_fetch_add(&gzip_sends, 1) >= FILES_GZIP_MAX ||
        deflateInit2(&send->stream, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS + 16, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        atomic_fetch_sub(&gzip_sends, 1);
        return http_later(send->ex);
    }
    send->gzip = true;
    send->run = run_gzip;
    if (http_set_header(send->ex, "Content-Encoding", "gzip") < 0)
        return err_set(err, ERR_INTERNAL, "bad header");
    return http_begin(send->ex, 200, send->type, -1, err);
}

int files_send_run(struct files_send *send, struct err *err)
{
    int rc = send->run(send, err);

    scratch_put(&send->scratch);
    return rc < 0 ? rc : http_end(send->ex, err);
}

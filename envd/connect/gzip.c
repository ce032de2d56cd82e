#include "envd/connect/gzip.h"

#include <limits.h>
#include <string.h>
#include <zlib.h>

#include "server/base/str.h"

#define STEP_BYTES (16 << 10)
#define GZIP_WINDOW_BITS (16 + 13) /* 8 KiB: little memory, and the answers are not large */
#define GZIP_MEM_LEVEL 6

static int inflate_all(z_stream *stream, struct buf *out, struct err *err)
{
    int rc;

    do {
        char *to = buf_reserve(out, STEP_BYTES);
        size_t room = STEP_BYTES;

        if (to == NULL) { /* the last bytes before the maximum */
            out->overflow = false;
            room = out->max - out->len;
            to = room > 0 ? buf_reserve(out, room) : NULL;
        }
        if (to == NULL)
            return err_set(err, ERR_LIMIT, "message is larger than configured max %zu", out->max);
        stream->next_out = (Bytef *)to;
        stream->avail_out = (uInt)room;
        rc = inflate(stream, Z_NO_FLUSH);
        buf_commit(out, room - stream->avail_out);
        if (rc != Z_OK && rc != Z_STREAM_END)
            return err_set(err, ERR_INVALID, "decompress: invalid gzip data");
    } while (rc != Z_STREAM_END);
    return 0;
}

int gzip_inflate(const char *data, size_t len, struct buf *out, struct err *err)
{
    z_stream stream = {0};
    int rc;

    if (len > UINT_MAX)
        return err_set(err, ERR_LIMIT, "compressed message is too large");
    if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
        return err_set(err, ERR_INTERNAL, "cannot start to decompress");
    stream.next_in = (Bytef *)(uintptr_t)data;
    stream.avail_in = (uInt)len;
    rc = inflate_all(&stream, out, err);
    inflateEnd(&stream);
    return rc;
}

int gzip_deflate(const char *data, size_t len, struct buf *out)
{
    z_stream stream = {0};
    size_t bound;
    char *to;
    int rc;

    if (len > UINT_MAX / 2 || deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW_BITS,
                                           GZIP_MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return -1;
    bound = deflateBound(&stream, len);
    to = buf_reserve(out, bound);
    stream.next_in = (Bytef *)(uintptr_t)data;
    stream.avail_in = (uInt)len;
    stream.next_out = (Bytef *)to;
    stream.avail_out = to != NULL ? (uInt)bound : 0;
    rc = to != NULL ? deflate(&stream, Z_FINISH) : Z_BUF_ERROR;
    if (rc == Z_STREAM_END)
        buf_commit(out, bound - stream.avail_out);
    deflateEnd(&stream);
    return rc == Z_STREAM_END ? 0 : -1;
}

/* The weight of a list element's parameters is above 0. */
static bool wanted(const char *parameters, size_t len)
{
    const char *end = parameters + len;

    for (const char *at = parameters; at < end; at++) {
        if (*at != ';')
            continue;
        at += 1 + strspn(at + 1, " \t");
        if (end - at < 2 || (*at | 0x20) != 'q' || at[1] != '=')
            continue;
        for (at += 2; at < end && (*at == '0' || *at == '.'); at++)
            ;
        return at < end && *at >= '1' && *at <= '9';
    }
    return true;
}

bool gzip_accepted(const char *header)
{
    bool any = false;

    while (*header != '\0') {
        size_t len, name;

        header += strspn(header, ", \t");
        len = strcspn(header, ",");
        name = strcspn(header, ";, \t");
        if (mem_is_nocase(header, name, "gzip") || mem_is_nocase(header, name, "x-gzip"))
            return wanted(header + name, len - name);
        if (mem_is(header, name, "*"))
            any = wanted(header + name, len - name);
        header += len;
    }
    return any;
}

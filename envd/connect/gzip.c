#include "envd/connect/gzip.h"

#include <limits.h>
#include <zlib.h>

#define STEP_BYTES (16 << 10)

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

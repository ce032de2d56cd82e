/*
 * server/http/stream.c - a file as an answer: workers read it piece by piece, as it is taken.
 *
 * One piece of PIECE_BYTES is in memory. Between a proceed of h2o's and the end of a read the piece
 * is the worker's; the request may end meanwhile, so it is not in the request's pool.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/http/http_private.h"

#define PIECE_BYTES (256 * 1024)

struct stream {
    h2o_generator_t super; /* first */
    struct reply *reply;   /* held while a worker reads */
    h2o_req_t *req;        /* NULL once the request has ended */
    struct work_pool *workers;
    struct work work;
    bool working;
    int fd;
    uint64_t left;
    uint64_t offset;
    char *piece;
    ssize_t got; /* of a read; -1 failed */
};

/* In h2o's pool for the request. */
struct stream_hook {
    struct stream *stream;
};

static void stream_free(struct stream *stream)
{
    fd_close(&stream->fd);
    free(stream->piece);
    free(stream);
}

static void on_request_end(void *data)
{
    struct stream *stream = ((struct stream_hook *)data)->stream;

    stream->req = NULL;
    if (!stream->working)
        stream_free(stream);
}

static void read_run(struct work *work)
{
    struct stream *stream = container_of(work, struct stream, work);
    size_t want = stream->left < PIECE_BYTES ? (size_t)stream->left : PIECE_BYTES;

    do {
        stream->got = pread(stream->fd, stream->piece, want, (off_t)stream->offset);
    } while (stream->got < 0 && errno == EINTR);
}

/* What was promised cannot be kept: the connection ends without the rest. */
static void give_up(struct stream *stream)
{
    log_warn("a file became shorter while it was sent", "request_id", stream->reply->id);
    h2o_send(stream->req, NULL, 0, H2O_SEND_STATE_ERROR);
}

static void read_done(struct work *work)
{
    struct stream *stream = container_of(work, struct stream, work);
    struct reply *reply = stream->reply;
    h2o_iovec_t out;

    stream->working = false;
    if (stream->req == NULL) {
        stream_free(stream);
    } else if (stream->got <= 0) {
        give_up(stream);
    } else {
        stream->offset += (uint64_t)stream->got;
        stream->left -= (uint64_t)stream->got;
        conn_answering(conn_of(stream->req)); /* the timeout is for each piece */
        out = h2o_iovec_init(stream->piece, (size_t)stream->got);
        h2o_send(stream->req, &out, 1,
                 stream->left > 0 ? H2O_SEND_STATE_IN_PROGRESS : H2O_SEND_STATE_FINAL);
    }
    reply_release(reply);
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct stream *stream = (struct stream *)generator;
    struct err err = {0};

    (void)req;
    stream->working = true;
    stream->reply->refs++;
    if (work_submit(stream->workers, &stream->work, read_run, read_done, &err) == 0)
        return;
    stream->working = false;
    give_up(stream);
    reply_release(stream->reply);
}

static void on_stop(h2o_generator_t *generator, h2o_req_t *req)
{
    (void)generator; /* on_request_end follows */
    (void)req;
}

void stream_start(struct reply *reply, int fd, uint64_t len)
{
    h2o_req_t *req = reply->req;
    struct stream *stream = mem_zalloc(sizeof(*stream));
    struct stream_hook *hook = h2o_mem_alloc_shared(&req->pool, sizeof(*hook), on_request_end);

    *stream = (struct stream){
        .super = {on_proceed, on_stop},
        .reply = reply,
        .req = req,
        .workers = reply->server->config->workers,
        .fd = fd,
        .left = len,
        .piece = mem_zalloc(PIECE_BYTES),
    };
    hook->stream = stream;
    h2o_start_response(req, &stream->super);
    if (len == 0 || reply->head_only)
        h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
    else
        on_proceed(&stream->super, req);
}

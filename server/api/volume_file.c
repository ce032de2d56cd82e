/*
 * server/api/volume_file.c - files of a volume, read and written piece by piece.
 *
 * A write goes to a file that has no name until its body is complete: a client that goes away, a
 * full volume or a crash leave what was there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/volume_op.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define FILE_TYPE "application/octet-stream"

static void done_get(struct work *work)
{
    struct content_op *op = container_of(work, struct content_op, work);
    int64_t size = op->rc == 0 && op->answer.count == 1 ? op->answer.entries[0].size : 0;

    if (op->rc == 0)
        reply_file(op->reply, 200, FILE_TYPE, steal_fd(&op->answer.file),
                   size > 0 ? (uint64_t)size : 0);
    else
        reply_err(op->reply, &op->err);
    content_op_free(op);
}

int volume_file_get(struct request *req, struct err *err)
{
    _cleanup_(cleanup_content_op) struct content_op *op = content_op_new(req, VOLUME_READ, err);

    return op == NULL ? -1 : content_op_submit(req, &op, done_get, err);
}

/* --- PUT ------------------------------------------------------------------------------------- */

static int write_piece(void *ctx, const void *data, size_t len, struct err *err)
{
    struct content_op *op = ctx;

    if (fd_write_full(op->answer.file, data, len) == 0)
        return 0;
    if (errno == ENOSPC || errno == EDQUOT)
        return err_set(err, ERR_NO_SPACE, "the volume is full");
    return err_sys(err, errno, "cannot write to the volume");
}

static void commit_run(struct work *work)
{
    struct content_op *op = container_of(work, struct content_op, work);

    op->rc = op->body != NULL ? write_piece(op, op->body, op->body_len, &op->err) : 0;
    if (op->rc == 0)
        op->rc = lifecycle_volume_commit(op->api->lifecycle, &op->answer, &op->err);
}

static void commit_done(struct work *work)
{
    content_op_reply(container_of(work, struct content_op, work), 201);
}

static void commit(struct content_op *op)
{
    struct err err = {0};

    /* once submitted, OP is the worker's */
    if (work_submit(op->workers, &op->work, commit_run, commit_done, &err) == 0)
        return;
    op->rc = -1;
    op->err = err;
    content_op_reply(op, 201);
}

static void received(void *ctx, const struct err *err)
{
    struct content_op *op = ctx;

    if (err == NULL) {
        commit(op);
        return;
    }
    op->rc = -1;
    op->err = *err;
    content_op_reply(op, 201);
}

static void done_open(struct work *work)
{
    struct content_op *op = container_of(work, struct content_op, work);

    if (op->rc < 0)
        content_op_reply(op, 201);
    else if (op->upload != NULL)
        upload_receive(op->upload, write_piece, received, op);
    else
        commit(op);
}

int volume_file_put(struct request *req, struct err *err)
{
    _cleanup_(cleanup_content_op) struct content_op *op = content_op_new(req, VOLUME_WRITE, err);
    const char *body;

    if (op == NULL || content_op_query(req, op, err) < 0)
        return -1;
    op->upload = request_upload(req);
    if (op->upload == NULL) {
        body = request_body(req, &op->body_len);
        op->body = mem_strndup(body, op->body_len);
    }
    return content_op_submit(req, &op, done_open, err);
}

/*
 * server/api/volume_op.h - what volume_content.c and volume_file.c share: one call on the files of
 * a volume, from the request to its answer.
 */
#ifndef SANDPIT_API_VOLUME_OP_H
#define SANDPIT_API_VOLUME_OP_H

#include "server/api/handlers.h"

struct content_op {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct work_pool *workers;
    struct identity who;
    char id[UUID_SIZE];
    struct volume_request request;
    struct volume_answer answer;
    struct upload *upload; /* of a PUT; NULL: body has it */
    char *body;            /* owned */
    size_t body_len;
    bool counted; /* among VOLUME_CALLS_MAX */
    int rc;
    struct err err;
};

/*
 * An op for VERB with the query's "path", and the volume of the path. NULL with ERR_INVALID, or
 * ERR_BUSY when too many are at work.
 */
struct content_op *content_op_new(struct request *req, enum volume_verb verb, struct err *err);
void content_op_free(struct content_op *op);
void cleanup_content_op(struct content_op **op);
/* "uid", "gid", "mode" and "force" of the query. */
int content_op_query(struct request *req, struct content_op *op, struct err *err);
/* Hand *OP to a worker, which calls lifecycle, then DONE; the work's on success. */
int content_op_submit(struct request *req, struct content_op **op, void (*done)(struct work *work),
                      struct err *err);
/* Answer with the one entry there is, or the error, and free OP. */
void content_op_reply(struct content_op *op, int status);

#endif

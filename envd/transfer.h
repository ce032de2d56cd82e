/*
 * envd/transfer.h - a request in the hands of a blocking handler. For http_worker.c and
 * http_blocking.c.
 *
 * It is owned by one thread at a time: the worker that runs the handler, or the loop while the
 * transfer is parked, waiting for its peer without a thread.
 */
#ifndef ENVD_TRANSFER_H
#define ENVD_TRANSFER_H

#include "envd/exchange.h"
#include "envd/scratch.h"

#define TRANSFERS_MAX 512          /* at once; more wait */
#define TRANSFERS_WAITING_MAX 2048 /* more are refused with 503 */
#define TRANSFER_RETRY_MS 50       /* http_later */
#define TRANSFER_GRACE_MS 2   /* a worker with nothing else to do waits that long for the peer */
#define TRANSFER_SLICE_MS 100 /* a worker leaves a fast transfer for others that wait */

struct transfer {
    struct job job;
    struct exchange *ex;
    struct transfer *next; /* of those that wait to be begun */
    void *state;           /* the handler's */
    void (*drop)(void *state);
    int rc; /* what the handler returned */
    struct err err;
    bool begun;           /* the handler has run */
    bool broken;          /* the connection is of no use any more */
    uint32_t wait_events; /* HTTP_AGAIN: EPOLLIN or EPOLLOUT; 0: just later */
    int queued_bytes;     /* parked: what the kernel had not delivered to the client */
    int64_t slice_ends_ms;
    size_t in_used;         /* of conn->in, what has been handed out */
    struct scratch scratch; /* body bytes as they came, while a worker runs the handler */
    size_t at;              /* of scratch, what has been handed out … */
    size_t len;             /* … of what is there */
};

/* A job: run the handler on, or once the client is gone only its clean-up. */
void transfer_run(struct job *job);

#endif

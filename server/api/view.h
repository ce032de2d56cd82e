/*
 * server/api/view.h - GETs that read the journal: parameters, a worker, one JSON answer.
 */
#ifndef SANDPIT_API_VIEW_H
#define SANDPIT_API_VIEW_H

#include "server/api/handlers.h"
#include "server/base/mem.h"

/* One such call. What its parameters mean is its own business. */
struct view {
    struct work work;
    struct reply *reply; /* outlives the client */
    struct api *api;
    struct identity who;
    char id[SANDBOX_ID_SIZE]; /* of the path, checked; "" when it has none */
    int64_t from, to;
    size_t limit, offset;
    uint32_t types;
    unsigned level;
    bool forward;
    char *text; /* owned */
    int status; /* of success; 200 unless set */
    /* Worker. New reference, or NULL with *ERR. */
    json_t *(*make)(struct view *view, struct err *err);
    json_t *answer;
    struct err err;
};

/* For REQ's caller. NULL with ERR_INVALID when the path names a sandbox by a wrong id. */
struct view *view_new(struct request *req, struct err *err);
void view_free(struct view *view);
static inline void cleanup_view(struct view **view)
{
    view_free(*view);
}
#define _cleanup_view_ _cleanup_(cleanup_view)
/* Hand *VIEW to a worker; on success it is the work's. */
int view_submit(struct request *req, struct view **view,
                json_t *(*make)(struct view *view, struct err *err), struct err *err);

/* Parameter NAME as a whole number; *OUT stays when it is not there. */
int view_number(struct request *req, const char *name, int64_t min, int64_t max, int64_t *out,
                struct err *err);

#endif

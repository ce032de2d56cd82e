/*
 * envd/resume.h - the whole state of an envd: written for the next one, and read from the one
 * before.
 *
 * Loop thread. What each part of it is lies with the part: process_handover.h, http_handover.h,
 * watch_handover.h.
 */
#ifndef ENVD_RESUME_H
#define ENVD_RESUME_H

#include <stdbool.h>
#include <stddef.h>

#include "envd/handover.h"
#include "envd/loop.h"

struct http_server;

/* All there is into OUT. INIT: we are pid 1 of the sandbox. */
void resume_save(struct http_server *server, bool init, struct handover_out *out);

struct resume {
    struct loop *loop;
    struct http_server *server;
    bool init;
    bool left_user; /* groups.h */
    size_t processes, processes_failed;
    size_t retained, retained_failed; /* ended processes that are still known */
    size_t watches, watches_failed;
    size_t connections, connections_failed;
};

/*
 * Rebuild what FD (a state) holds. What cannot be is logged and counted; STRICT: it is a failure.
 * Nothing is read from clients or processes, nothing sent, before resume_go_on. Closes FD.
 */
int resume_load(struct loop *loop, int fd, bool strict, struct resume *out, struct err *err);
/* Go on, and tell whoever asked for the upgrade. */
void resume_go_on(struct resume *resume);

#endif

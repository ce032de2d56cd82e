/*
 * envd/files.h - what GET and POST /files share: who asks, for which file.
 *
 * Worker threads. Source: envd API sections 6.3, 7.5, 7.6.
 */
#ifndef SANDPIT_ENVD_FILES_H
#define SANDPIT_ENVD_FILES_H

#include <stdbool.h>

#include "envd/fs.h"
#include "envd/http.h"
#include "envd/path.h"
#include "envd/user.h"

#define FILES_PATH_MAX_BYTES 16384 /* of the query value; the kernel takes 4095 */

struct files_request {
    struct buf path; /* the decoded query value; "" when there is none */
    bool has_path;
    struct user user;
    struct path_base base; /* borrows from `user` and from the settings of the exchange */
    struct fs_owner owner;
};

/*
 * Check token or signature for OPERATION ("read", "write"), then find the user and the path value.
 * Returns 0 (then files_request_clear is due), or -1 with *ERR: ERR_UNAUTHENTICATED, ERR_INVALID.
 */
int files_request_init(struct exchange *ex, const char *operation, struct files_request *out,
                       struct err *err);
void files_request_clear(struct files_request *request);

/* Find the user NAME ("": the default user) and what its paths mean. ERR_UNAUTHENTICATED. */
int files_request_user(struct exchange *ex, const char *name, struct files_request *out,
                       struct err *err);

#endif

/*
 * envd/init_work.h - what a POST /init asks of the disk: certificates and volumes.
 *
 * Source: envd-api section 7.3.
 */
#ifndef ENVD_INIT_WORK_H
#define ENVD_INIT_WORK_H

#include "envd/http.h"
#include "server/base/err.h"
#include "server/base/json.h"

struct init_work;

/*
 * What JSON asks for; *OUT is NULL when that is nothing. ERR_INVALID on what cannot be,
 * ERR_BUSY while another one's is being done. Loop thread, as all here.
 */
int init_work_new(const json_t *json, struct init_work **out, struct err *err);
void init_work_free(struct init_work *work);
/* Do it on a worker, then answer EX. Takes WORK, and frees it on -1 too (ERR_BUSY). */
int init_work_start(struct init_work *work, struct exchange *ex, struct err *err);

static inline void cleanup_init_work(struct init_work **work)
{
    init_work_free(*work);
}
#define _cleanup_init_work_ __attribute__((cleanup(cleanup_init_work)))

#endif

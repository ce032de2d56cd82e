/*
 * server/lifecycle/snapshot_start.c - a new sandbox that begins with a snapshot's file system.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/lifecycle/internal.h"

/* The variables that its sandbox was created with, and those of this create above them. */
static int merge_env(struct lifecycle *lifecycle, const struct snapshot *snapshot,
                     const json_t *above, json_t **out, struct err *err)
{
    json_t *env = NULL;

    if (env_open(lifecycle, snapshot->namespace_, snapshot->env, &env, err) < 0)
        return -1;
    if (above != NULL)
        json_object_update(env, (json_t *)(uintptr_t)above); /* borrows its values, changes none */
    *out = env;
    return 0;
}

int sandbox_from_snapshot(struct lifecycle *lifecycle, const char *snapshot_id,
                          struct sandbox *sandbox, const struct birth *birth, struct sandbox *out,
                          struct err *err)
{
    _cleanup_snapshot_ struct snapshot snapshot = {0};
    _cleanup_json_ json_t *env = NULL;
    struct birth from = *birth;
    int rc;

    if (catalog_use(&lifecycle->catalog, snapshot_id, &snapshot, err) < 0)
        return -1;
    rc = merge_env(lifecycle, &snapshot, birth->env, &env, err);
    if (rc == 0) {
        from.env = env;
        from.snapshot = snapshot.id;
        memcpy(sandbox->base_template_id, snapshot.base_template_id, TEMPLATE_ID_SIZE);
        free(sandbox->env);
        sandbox->env = env_seal(lifecycle, sandbox->namespace_, env);
        rc = sandbox_bring_up(lifecycle, sandbox, &from, out, err);
    }
    catalog_unuse(&lifecycle->catalog, snapshot_id);
    return rc;
}

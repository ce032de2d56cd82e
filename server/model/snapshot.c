#include "server/model/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/base/mem.h"
#include "server/base/str.h"

static const char *const states[] = {
    [SNAPSHOT_CREATING] = "creating",
    [SNAPSHOT_READY] = "ready",
    [SNAPSHOT_DELETING] = "deleting",
};
_Static_assert(array_size(states) == SNAPSHOT_STATE_COUNT, "one name per state");

void snapshot_copy(struct snapshot *out, const struct snapshot *from)
{
    *out = *from;
    out->env = mem_strdup(from->env);
}

void snapshot_clear(struct snapshot *snapshot)
{
    free(snapshot->env);
    *snapshot = (struct snapshot){0};
}

void snapshot_list_free(struct snapshot *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        snapshot_clear(&list[i]);
    free(list);
}

const char *snapshot_state_name(enum snapshot_state state)
{
    return (unsigned)state < SNAPSHOT_STATE_COUNT ? states[state] : "unknown";
}

int snapshot_state_parse(const char *name, enum snapshot_state *out)
{
    for (size_t i = 0; i < array_size(states); i++) {
        if (str_eq(name, states[i])) {
            *out = (enum snapshot_state)i;
            return 0;
        }
    }
    return -1;
}

int snapshot_public_id(const struct snapshot *snapshot, char out[SNAPSHOT_ID_SIZE])
{
    int len;

    if (snapshot->name[0] == '\0')
        len = snprintf(out, SNAPSHOT_ID_SIZE, "%s:%s", snapshot->template_id, snapshot->tag);
    else
        len = snprintf(out, SNAPSHOT_ID_SIZE, "%s/%s:%s", snapshot->namespace_, snapshot->name,
                       snapshot->tag);
    if (len < SNAPSHOT_ID_SIZE)
        return 0;
    out[0] = '\0';
    return -1;
}

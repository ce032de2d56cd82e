/*
 * server/lifecycle/registry_read.c - what readers see of the registry: copies of the sandboxes that
 * clients may know of.
 */
#include "server/lifecycle/registry.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/volume.h"

static bool visible_to(const struct entry *entry, const char *namespace_)
{
    return sandbox_state_visible(entry->sandbox.state) &&
           (namespace_ == NULL || str_eq(entry->sandbox.namespace_, namespace_));
}

int registry_get(struct registry *registry, const char *namespace_, const char *id,
                 struct sandbox *out, struct err *err)
{
    const struct entry *entry;
    bool found;

    pthread_mutex_lock(&registry->lock);
    entry = map_get(&registry->entries, id);
    found = entry != NULL && visible_to(entry, namespace_);
    if (found)
        sandbox_copy(out, &entry->sandbox);
    pthread_mutex_unlock(&registry->lock);
    return found ? 0 : sandbox_not_found(id, err);
}

void registry_list(struct registry *registry, const char *namespace_, struct sandbox **out,
                   size_t *count)
{
    void *entry;

    pthread_mutex_lock(&registry->lock);
    *out = mem_calloc(registry->entries.count + 1, sizeof(**out));
    *count = 0;
    for (size_t at = 0; map_next(&registry->entries, &at, &entry);) {
        if (visible_to(entry, namespace_))
            sandbox_copy(&(*out)[(*count)++], &((struct entry *)entry)->sandbox);
    }
    pthread_mutex_unlock(&registry->lock);
}

bool registry_read(struct registry *registry, const char *id,
                   void (*fn)(const struct entry *entry, void *ctx), void *ctx)
{
    const struct entry *entry;
    bool found;

    pthread_mutex_lock(&registry->lock);
    entry = map_get(&registry->entries, id);
    found = entry != NULL && visible_to(entry, NULL);
    if (found)
        fn(entry, ctx);
    pthread_mutex_unlock(&registry->lock);
    return found;
}

bool registry_volume_user(struct registry *registry, const char *volume_id,
                          char id[SANDBOX_ID_SIZE])
{
    void *item;
    bool found = false;

    pthread_mutex_lock(&registry->lock);
    for (size_t at = 0; !found && map_next(&registry->entries, &at, &item);) {
        const struct sandbox *sandbox = &((struct entry *)item)->sandbox;
        found =
            sandbox->volume_mounts != NULL && volume_mounts_have(sandbox->volume_mounts, volume_id);
        if (found)
            memcpy(id, sandbox->id, SANDBOX_ID_SIZE);
    }
    pthread_mutex_unlock(&registry->lock);
    return found;
}

bool registry_has(struct registry *registry, const char *id)
{
    bool found;

    pthread_mutex_lock(&registry->lock);
    found = map_get(&registry->entries, id) != NULL;
    pthread_mutex_unlock(&registry->lock);
    return found;
}

void registry_count(struct registry *registry, size_t *running, size_t *paused, size_t *starting)
{
    void *entry;

    *running = *paused = *starting = 0;
    pthread_mutex_lock(&registry->lock);
    for (size_t at = 0; map_next(&registry->entries, &at, &entry);) {
        enum sandbox_state state = ((struct entry *)entry)->sandbox.state;
        if (sandbox_state_visible(state))
            ++*(state == SANDBOX_RUNNING ? running : paused);
        else
            *starting += state == SANDBOX_CREATING;
    }
    pthread_mutex_unlock(&registry->lock);
}

#include "server/lifecycle/registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

int sandbox_not_found(const char *id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND,
                   "Sandbox \"%s\" doesn't exist or you don't have access to it", id);
}

void registry_init(struct registry *registry)
{
    pthread_condattr_t attr;

    *registry = (struct registry){0};
    pthread_mutex_init(&registry->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&registry->released, &attr);
    pthread_cond_init(&registry->due, &attr);
    pthread_condattr_destroy(&attr);
    map_init(&registry->entries);
}

void registry_clear(struct registry *registry)
{
    void *entry;

    for (size_t at = 0; map_next(&registry->entries, &at, &entry);)
        entry_free(entry);
    map_clear(&registry->entries);
    deadline_heap_clear(&registry->deadlines);
    pthread_cond_destroy(&registry->due);
    pthread_cond_destroy(&registry->released);
    pthread_mutex_destroy(&registry->lock);
}

struct entry *entry_new(struct sandbox *sandbox)
{
    struct entry *entry = mem_zalloc(sizeof(*entry));

    entry->sandbox = *sandbox;
    entry->started_mono_ms = time_mono_ms();
    *sandbox = (struct sandbox){0};
    return entry;
}

void entry_free(struct entry *entry)
{
    if (entry == NULL)
        return;
    sandbox_clear(&entry->sandbox);
    secret_wipe(entry, sizeof(*entry));
    free(entry);
}

/* Under the lock. */
static void unref(struct entry *entry)
{
    if (--entry->refs == 0)
        entry_free(entry);
}

/* Under the lock: the entry of ID, if NAMESPACE_ may know of it. */
static struct entry *find(struct registry *registry, const char *namespace_, const char *id)
{
    struct entry *entry = map_get(&registry->entries, id);

    if (entry == NULL || (namespace_ != NULL && !str_eq(entry->sandbox.namespace_, namespace_)))
        return NULL;
    return entry;
}

/* Under the lock: those that run and are of ENTRY's namespace, and of its key, without it. */
static void count_running(const struct registry *registry, const struct entry *entry,
                          int64_t *space, int64_t *key)
{
    void *value;

    *space = *key = 0;
    for (size_t at = 0; map_next(&registry->entries, &at, &value);) {
        const struct entry *other = value;
        if (other == entry || (other->sandbox.state == SANDBOX_PAUSED && !other->waking) ||
            other->sandbox.state == SANDBOX_KILLING ||
            !str_eq(other->sandbox.namespace_, entry->sandbox.namespace_))
            continue;
        ++*space;
        *key += str_eq(other->sandbox.key_id, entry->sandbox.key_id);
    }
}

static int no_room(int64_t max, const char *whose, struct err *err)
{
    return err_set(err, ERR_LIMIT,
                   "you have reached the maximum number of concurrent E2B sandboxes (%lld)%s: kill "
                   "one or wait for a timeout",
                   (long long)max, whose);
}

/* Under the lock. */
static int check_room(const struct registry *registry, const struct entry *entry,
                      const struct room *room, struct err *err)
{
    int64_t space, key;

    if (room == NULL || (room->space <= 0 && room->key <= 0))
        return 0;
    count_running(registry, entry, &space, &key);
    if (room->space > 0 && space >= room->space)
        return no_room(room->space, "", err);
    if (room->key > 0 && key >= room->key)
        return no_room(room->key, " of this API key", err);
    return 0;
}

int registry_add(struct registry *registry, struct entry *entry, const struct room *room,
                 struct err *err)
{
    int rc;

    pthread_mutex_lock(&registry->lock);
    if (registry->refusing)
        rc = err_set(err, ERR_BUSY, "this node takes no new sandboxes: an operator drains it");
    else if (room != NULL && registry->entries.count >= room->total)
        rc = no_room((int64_t)room->total, "", err);
    else if (map_get(&registry->entries, entry->sandbox.id) != NULL)
        rc = err_set(err, ERR_INTERNAL, "sandbox id %s is taken", entry->sandbox.id);
    else
        rc = check_room(registry, entry, room, err);
    if (rc == 0) {
        entry->busy = true;
        entry->refs = 2; /* the table's and the caller's */
        map_put(&registry->entries, entry->sandbox.id, entry);
    }
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

int registry_reserve(struct registry *registry, struct entry *entry, const struct room *room,
                     struct err *err)
{
    int rc;

    pthread_mutex_lock(&registry->lock);
    rc = check_room(registry, entry, room, err);
    if (rc == 0)
        entry->waking = true;
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

void registry_refuse(struct registry *registry, bool refuse)
{
    pthread_mutex_lock(&registry->lock);
    registry->refusing = refuse;
    pthread_mutex_unlock(&registry->lock);
}

static struct timespec mono_timespec(int64_t ms)
{
    return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
}

/* Under the lock. False when somebody else still holds ENTRY after REGISTRY_WAIT_MS. */
static bool wait_free(struct registry *registry, struct entry *entry)
{
    struct timespec until = mono_timespec(time_mono_ms() + REGISTRY_WAIT_MS);

    while (entry->busy && !entry->removed) {
        if (pthread_cond_timedwait(&registry->released, &registry->lock, &until) == ETIMEDOUT)
            return !entry->busy || entry->removed;
    }
    return true;
}

static int being_killed(const char *id, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "Sandbox \"%s\" is being killed", id);
}

/* Under the lock, with a reference of ours on ENTRY. */
static int hold(struct registry *registry, struct entry *entry, bool to_end, const char *id,
                struct err *err)
{
    if (!to_end && entry->sandbox.state == SANDBOX_KILLING)
        return being_killed(id, err);
    if (!wait_free(registry, entry))
        return err_set(err, ERR_BUSY, "another operation on sandbox \"%s\" is still running", id);
    if (entry->removed)
        return to_end ? 0 : sandbox_not_found(id, err);
    if (!to_end && entry->sandbox.state == SANDBOX_KILLING) /* began and failed meanwhile */
        return being_killed(id, err);
    entry->busy = true;
    return 0;
}

static int find_and_hold(struct registry *registry, const char *namespace_, const char *id,
                         bool to_end, struct entry **out, struct err *err)
{
    struct entry *entry;
    int rc;

    pthread_mutex_lock(&registry->lock);
    entry = find(registry, namespace_, id);
    if (entry == NULL || entry->sandbox.state == SANDBOX_CREATING) {
        rc = sandbox_not_found(id, err);
    } else {
        entry->refs++;
        rc = hold(registry, entry, to_end, id, err);
        if (rc == 0)
            *out = entry->removed ? NULL : entry;
        if (rc < 0 || entry->removed)
            unref(entry);
    }
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

int registry_hold(struct registry *registry, const char *namespace_, const char *id,
                  struct entry **out, struct err *err)
{
    return find_and_hold(registry, namespace_, id, false, out, err);
}

int registry_hold_to_end(struct registry *registry, const char *namespace_, const char *id,
                         struct entry **out, struct err *err)
{
    return find_and_hold(registry, namespace_, id, true, out, err);
}

void registry_release(struct registry *registry, struct entry *entry)
{
    pthread_mutex_lock(&registry->lock);
    entry->busy = entry->waking = false;
    pthread_cond_broadcast(&registry->released);
    unref(entry);
    pthread_mutex_unlock(&registry->lock);
}

void registry_remove(struct registry *registry, struct entry *entry)
{
    pthread_mutex_lock(&registry->lock);
    map_remove(&registry->entries, entry->sandbox.id);
    deadline_cancel(&registry->deadlines, &entry->deadline);
    entry->removed = true;
    entry->busy = false;
    pthread_cond_broadcast(&registry->released);
    entry->refs--; /* the table's */
    unref(entry);  /* the holder's */
    pthread_mutex_unlock(&registry->lock);
}

void entry_set_state(struct registry *registry, struct entry *entry, enum sandbox_state state)
{
    pthread_mutex_lock(&registry->lock);
    entry->sandbox.state = state;
    pthread_mutex_unlock(&registry->lock);
}

void entry_set_pause(struct registry *registry, struct entry *entry,
                     const struct pause_marks *marks)
{
    pthread_mutex_lock(&registry->lock);
    entry->sandbox.state = marks->state;
    entry->sandbox.paused_files = marks->files;
    entry->sandbox.paused_deaf = marks->deaf;
    pthread_mutex_unlock(&registry->lock);
}

void entry_not_exited(struct registry *registry, struct entry *entry)
{
    pthread_mutex_lock(&registry->lock);
    entry->exited = false;
    pthread_mutex_unlock(&registry->lock);
}

void entry_set_engine_data(struct registry *registry, struct entry *entry, char *owned)
{
    pthread_mutex_lock(&registry->lock);
    free(entry->sandbox.engine_data);
    entry->sandbox.engine_data = owned;
    pthread_mutex_unlock(&registry->lock);
}

void entry_set_envd(struct registry *registry, struct entry *entry, const char *version,
                    const char *build)
{
    pthread_mutex_lock(&registry->lock);
    str_copy(entry->sandbox.envd_version, ENVD_VERSION_SIZE, version, strlen(version));
    str_copy(entry->sandbox.envd_build, ENVD_BUILD_SIZE, build, strlen(build));
    pthread_mutex_unlock(&registry->lock);
}

void entry_set_network(struct registry *registry, struct entry *entry, char *owned, bool internet,
                       bool internet_set)
{
    char *old = entry->sandbox.network;

    pthread_mutex_lock(&registry->lock);
    entry->sandbox.network = owned;
    entry->sandbox.internet = internet;
    entry->sandbox.internet_set = internet_set;
    pthread_mutex_unlock(&registry->lock);
    free(old);
}

void entry_set_times(struct registry *registry, struct entry *entry, int64_t started_unix_ms,
                     int64_t end_unix_ms, int64_t end_mono_ms)
{
    pthread_mutex_lock(&registry->lock);
    if (started_unix_ms != 0 && started_unix_ms != entry->sandbox.started_unix_ms) {
        entry->sandbox.started_unix_ms = started_unix_ms;
        entry->started_mono_ms = time_mono_ms();
    }
    entry->sandbox.end_unix_ms = end_unix_ms;
    entry->end_mono_ms = end_mono_ms;
    pthread_mutex_unlock(&registry->lock);
}

/* Under the lock. */
static void arm(struct registry *registry, struct entry *entry, int64_t when_mono_ms)
{
    deadline_set(&registry->deadlines, &entry->deadline, when_mono_ms);
    if (deadline_first(&registry->deadlines) == &entry->deadline)
        pthread_cond_signal(&registry->due);
}

void entry_arm(struct registry *registry, struct entry *entry, int64_t when_mono_ms)
{
    pthread_mutex_lock(&registry->lock);
    arm(registry, entry, entry->exited ? 0 : when_mono_ms);
    pthread_mutex_unlock(&registry->lock);
}

void entry_retry(struct registry *registry, struct entry *entry, int64_t after_ms)
{
    pthread_mutex_lock(&registry->lock);
    arm(registry, entry, time_mono_ms() + after_ms);
    pthread_mutex_unlock(&registry->lock);
}

void entry_disarm(struct registry *registry, struct entry *entry)
{
    pthread_mutex_lock(&registry->lock);
    if (!entry->exited)
        deadline_cancel(&registry->deadlines, &entry->deadline);
    pthread_mutex_unlock(&registry->lock);
}

bool entry_exited(struct registry *registry, const struct entry *entry)
{
    bool exited;

    pthread_mutex_lock(&registry->lock);
    exited = entry->exited;
    pthread_mutex_unlock(&registry->lock);
    return exited;
}

void registry_arm_id(struct registry *registry, const char *id, int64_t when_mono_ms)
{
    struct entry *entry;

    pthread_mutex_lock(&registry->lock);
    entry = map_get(&registry->entries, id);
    if (entry != NULL)
        arm(registry, entry, when_mono_ms);
    pthread_mutex_unlock(&registry->lock);
}

void registry_exited(struct registry *registry, const char *id)
{
    struct entry *entry;

    pthread_mutex_lock(&registry->lock);
    entry = map_get(&registry->entries, id);
    if (entry != NULL) {
        entry->exited = true;
        /* being created: armed when that is over; being killed: who kills it knows */
        if (sandbox_state_visible(entry->sandbox.state))
            arm(registry, entry, 0);
    }
    pthread_mutex_unlock(&registry->lock);
}

/* Under the lock. */
static bool take_due(struct registry *registry, char id[SANDBOX_ID_SIZE])
{
    struct deadline *first = deadline_first(&registry->deadlines);
    const struct entry *entry;

    if (first == NULL || first->when_mono_ms > time_mono_ms())
        return false;
    entry = container_of(first, struct entry, deadline);
    memcpy(id, entry->sandbox.id, SANDBOX_ID_SIZE);
    deadline_cancel(&registry->deadlines, first);
    return true;
}

bool registry_wait_due(struct registry *registry, char id[SANDBOX_ID_SIZE])
{
    bool found = false;

    pthread_mutex_lock(&registry->lock);
    while (!registry->stopping && !(found = take_due(registry, id))) {
        const struct deadline *first = deadline_first(&registry->deadlines);
        if (first == NULL) {
            pthread_cond_wait(&registry->due, &registry->lock);
        } else {
            struct timespec until = mono_timespec(first->when_mono_ms);
            pthread_cond_timedwait(&registry->due, &registry->lock, &until);
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return found;
}

void registry_stop(struct registry *registry)
{
    pthread_mutex_lock(&registry->lock);
    registry->stopping = true;
    pthread_cond_broadcast(&registry->due);
    pthread_mutex_unlock(&registry->lock);
}

/*
 * server/lifecycle/snapshot.c - snapshots: kept copies of the file systems of running sandboxes,
 * with a name or without.
 */
#include <stdlib.h>
#include <string.h>

#include "mapper/template_id.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

/* --- names ----------------------------------------------------------------------------------- */

/* Whether TEXT has the form of a UUID: a tag that is one would hide a build. */
static bool is_uuid(const char *text)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    if (strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; i < sizeof(form) - 1; i++) {
        if (form[i] == '-' ? text[i] != '-' : strchr("0123456789abcdef", text[i]) == NULL)
            return false;
    }
    return true;
}

/* The template_id errors speak of references; here it is a name. */
static int bad_name(struct err *err)
{
    static const char prefix[] = "Invalid template reference: ";
    const char *why = err->msg;
    char text[ERR_MSG_SIZE];

    if (strncmp(why, prefix, sizeof(prefix) - 1) == 0)
        why += sizeof(prefix) - 1;
    str_copy(text, sizeof(text), why, strlen(why));
    return err_set(err, ERR_INVALID, "Invalid name: %s", text);
}

/* What the client called it, into *ROW. */
static int set_name(const char *name, struct snapshot *row, struct err *err)
{
    struct template_id id;
    char public_id[SNAPSHOT_ID_SIZE];

    _Static_assert(SNAPSHOT_NAME_SIZE == TEMPLATE_NAME_SIZE &&
                       SNAPSHOT_TAG_SIZE == TEMPLATE_TAG_SIZE,
                   "what was parsed fits");
    memcpy(row->tag, SNAPSHOT_TAG_DEFAULT, sizeof(SNAPSHOT_TAG_DEFAULT));
    if (name == NULL)
        return 0;
    if (template_id_parse(name, strlen(name), &id, err) < 0)
        return bad_name(err);
    if (id.namespace_[0] != '\0' && !str_eq(id.namespace_, row->namespace_))
        return err_set(err, ERR_INVALID, "namespace '%s' must match your team '%s'", id.namespace_,
                       row->namespace_);
    if (is_uuid(id.tag))
        return err_set(err, ERR_INVALID, "Invalid name: a tag must not be a UUID");
    memcpy(row->name, id.name, sizeof(row->name));
    if (id.tag[0] != '\0')
        memcpy(row->tag, id.tag, sizeof(row->tag));
    if (snapshot_public_id(row, public_id) < 0)
        return err_set(err, ERR_INVALID,
                       "Invalid name: with namespace and tag it must be shorter than %d characters",
                       SNAPSHOT_ID_SIZE);
    return 0;
}

/* --- capture --------------------------------------------------------------------------------- */

void snapshot_fill(const struct entry *entry, const char *client, struct snapshot *row)
{
    const struct sandbox *sandbox = &entry->sandbox;
    const char *base =
        sandbox->base_template_id[0] != '\0' ? sandbox->base_template_id : sandbox->template_id;

    sandbox_id_new(row->id);
    memcpy(row->namespace_, sandbox->namespace_, sizeof(row->namespace_));
    str_copy(row->client, sizeof(row->client), client, strlen(client));
    hash_random_id(row->template_id, SNAPSHOT_TEMPLATE_CHARS);
    hash_random_uuid(row->build_id);
    memcpy(row->sandbox_id, sandbox->id, sizeof(row->sandbox_id));
    str_copy(row->base_template_id, sizeof(row->base_template_id), base, strlen(base));
    row->state = SNAPSHOT_CREATING;
    row->created_unix_ms = time_unix_ms();
    row->cpu_count = sandbox->cpu_count;
    row->memory_mb = sandbox->memory_mb;
    row->disk_mb = sandbox->disk_mb;
    memcpy(row->envd_version, sandbox->envd_version, sizeof(row->envd_version));
    row->env = mem_strdup(sandbox->env);
}

int snapshot_discard(struct lifecycle *lifecycle, const struct snapshot *row, struct err *err)
{
    struct engine *engine = lifecycle->config.engine;

    if (engine->ops->snapshot_delete(engine, row->id, err) < 0)
        return engine_failed("delete snapshot", row->id, err);
    fault_point("snapshot.deleted");
    return store_snapshot_delete(lifecycle->config.store, row->id, err);
}

int snapshot_capture(struct lifecycle *lifecycle, const struct entry *entry, struct snapshot *row,
                     struct err *err)
{
    struct engine *engine = lifecycle->config.engine;
    const char *id = entry->sandbox.id;
    struct err undo = {0};

    if (engine->ops->snapshot == NULL || engine->ops->snapshot_delete == NULL)
        return err_set(err, ERR_UNSUPPORTED, "the %s engine cannot make snapshots of sandboxes",
                       engine->ops->name);
    if (store_snapshot_put(lifecycle->config.store, row, err) < 0)
        return err_wrap(err, "intent of a snapshot of %s", id);
    fault_point("snapshot.intended");
    if (engine->ops->snapshot(engine, id, row->id, &row->size_bytes, err) == 0) {
        fault_point("snapshot.made");
        entry_tell(lifecycle, entry, LIFECYCLE_CHECKPOINTED, SANDBOX_END_NONE);
        return 0;
    }
    engine_failed("snapshot", id, err);
    if (snapshot_discard(lifecycle, row, &undo) < 0)
        log_err(LOG_ERROR, "a snapshot that failed stays until the next start", id, &undo);
    return -1;
}

/* Intent, act, outcome for the held ENTRY. *ROW is named and in the catalog. */
static int keep(struct lifecycle *lifecycle, const struct entry *entry, struct snapshot *row,
                struct err *err)
{
    struct err undo = {0};

    if (snapshot_capture(lifecycle, entry, row, err) < 0)
        return -1;
    row->state = SNAPSHOT_READY;
    if (store_snapshot_put(lifecycle->config.store, row, err) == 0)
        return 0;
    if (snapshot_discard(lifecycle, row, &undo) < 0)
        log_err(LOG_ERROR, "a snapshot that failed stays until the next start", row->id, &undo);
    return -1;
}

/* A snapshot of the held ENTRY. *ROW is to clear, whatever happens. */
static int take(struct lifecycle *lifecycle, const struct entry *entry,
                const struct lifecycle_snapshot *request, struct snapshot *row, struct err *err)
{
    if (entry->sandbox.state != SANDBOX_RUNNING)
        return err_set(err, ERR_CONFLICT,
                       "Sandbox '%s' is paused and no snapshot can be made of it; resume it first",
                       entry->sandbox.id);
    snapshot_fill(entry, request->client, row);
    if (set_name(request->name, row, err) < 0 ||
        catalog_add(&lifecycle->catalog, row, SNAPSHOT_COUNT_MAX, err) < 0)
        return -1;
    if (keep(lifecycle, entry, row, err) < 0) {
        catalog_remove(&lifecycle->catalog, row->id);
        return -1;
    }
    catalog_ready(&lifecycle->catalog, row->id, row->size_bytes);
    return 0;
}

int lifecycle_snapshot(struct lifecycle *lifecycle, const struct lifecycle_snapshot *request,
                       struct snapshot *out, struct err *err)
{
    _cleanup_snapshot_ struct snapshot row = {0};
    struct entry *entry = NULL;
    int64_t begun = time_mono_ms();
    int rc;

    if (registry_hold(&lifecycle->registry, request->namespace_, request->sandbox_id, &entry, err) <
        0)
        return -1;
    rc = take(lifecycle, entry, request, &row, err);
    registry_release(&lifecycle->registry, entry);
    if (rc < 0)
        return -1;
    log_info("snapshot made", "sandbox_id", request->sandbox_id, "snapshot_id", row.id, "template",
             row.template_id, "size_bytes", log_num((int64_t)row.size_bytes), "took_ms",
             log_num(time_mono_ms() - begun));
    *out = row;
    row = (struct snapshot){0};
    return 0;
}

/* --- list and delete ------------------------------------------------------------------------- */

/* Newest first; equal times by id, so that pages have one order. */
static int by_time_descending(const void *a, const void *b)
{
    const struct snapshot *x = a, *y = b;

    if (x->created_unix_ms != y->created_unix_ms)
        return x->created_unix_ms < y->created_unix_ms ? 1 : -1;
    return strcmp(y->id, x->id);
}

void lifecycle_snapshot_list(struct lifecycle *lifecycle, const char *namespace_,
                             struct snapshot **out, size_t *count)
{
    catalog_list(&lifecycle->catalog, namespace_, out, count);
    qsort(*out, *count, sizeof(**out), by_time_descending);
}

/* Intent, act, outcome. */
static int delete_one(struct lifecycle *lifecycle, const struct snapshot *row, struct err *err)
{
    if (store_snapshot_put(lifecycle->config.store, row, err) < 0 ||
        snapshot_discard(lifecycle, row, err) < 0) {
        catalog_give_back(&lifecycle->catalog, row->id);
        return -1;
    }
    catalog_remove(&lifecycle->catalog, row->id);
    log_info("snapshot deleted", "snapshot_id", row->id, "template", row->template_id);
    return 0;
}

int lifecycle_snapshot_delete(struct lifecycle *lifecycle, const char *namespace_, const char *ref,
                              struct err *err)
{
    struct snapshot *list = NULL;
    struct template_id id;
    size_t count = 0;
    int rc = 0;

    if (template_id_parse(ref, strlen(ref), &id, err) < 0)
        return -1;
    catalog_condemn(&lifecycle->catalog, namespace_, &id, &list, &count);
    for (size_t i = 0; i < count; i++) { /* one that fails does not keep the others */
        if (delete_one(lifecycle, &list[i], err) < 0)
            rc = -1;
    }
    snapshot_list_free(list, count);
    if (count == 0)
        return err_set(err, ERR_NOT_FOUND, "template '%.200s' not found", ref);
    return rc;
}

/* --- start-up -------------------------------------------------------------------------------- */

/* A capture was running, perhaps: its sandbox goes on, the copy goes. */
static void clean_up(struct lifecycle *lifecycle, const struct snapshot *row)
{
    struct engine *engine = lifecycle->config.engine;
    _cleanup_sandbox_ struct sandbox source = {0};
    struct err err = {0};

    if (row->state == SNAPSHOT_CREATING && engine->ops->thaw != NULL &&
        registry_get(&lifecycle->registry, NULL, row->sandbox_id, &source, &err) == 0 &&
        source.state == SANDBOX_RUNNING && engine->ops->thaw(engine, source.id, &err) < 0)
        log_err(LOG_ERROR, "cannot let a sandbox go on after its snapshot", source.id, &err);
    if (engine->ops->snapshot_delete == NULL)
        return;
    if (snapshot_discard(lifecycle, row, &err) < 0)
        log_err(LOG_ERROR, "what is left of a snapshot stays", row->id, &err);
    else
        log_warn("removed what was left of a snapshot", "snapshot_id", row->id, "state",
                 snapshot_state_name(row->state));
}

struct found {
    struct lifecycle *lifecycle;
    const struct snapshot *rows;
    size_t count;
    char (*strays)[SANDBOX_ID_SIZE];
    size_t stray_count;
};

static void note_stray(void *ctx, const char *snapshot_id, uint64_t size_bytes)
{
    struct found *found = ctx;
    char id[SANDBOX_ID_SIZE] = {0};

    (void)size_bytes;
    for (size_t i = 0; i < found->count; i++) {
        if (str_eq(found->rows[i].id, snapshot_id))
            return;
    }
    if (str_copy(id, sizeof(id), snapshot_id, strlen(snapshot_id)) < 0)
        return;
    found->strays = mem_realloc_array(found->strays, found->stray_count + 1, sizeof(id));
    memcpy(found->strays[found->stray_count++], id, sizeof(id));
}

/* What the engine has and no row names. */
static int delete_strays(struct lifecycle *lifecycle, const struct snapshot *rows, size_t count,
                         struct err *err)
{
    struct found found = {.lifecycle = lifecycle, .rows = rows, .count = count};
    struct engine *engine = lifecycle->config.engine;
    int rc;

    if (engine->ops->snapshot_list == NULL || engine->ops->snapshot_delete == NULL)
        return 0;
    rc = engine->ops->snapshot_list(engine, note_stray, &found, err);
    for (size_t i = 0; i < found.stray_count; i++) {
        struct err failed = {0};
        if (engine->ops->snapshot_delete(engine, found.strays[i], &failed) < 0)
            log_err(LOG_ERROR, "cannot delete a stray snapshot", found.strays[i], &failed);
        else
            log_warn("deleted a stray snapshot", "snapshot_id", found.strays[i]);
    }
    free(found.strays);
    return rc < 0 && err->code != ERR_UNSUPPORTED ? -1
                                                  : 0; /* an engine without any has no strays */
}

int snapshots_reconcile(struct lifecycle *lifecycle, struct err *err)
{
    struct snapshot *rows = NULL;
    size_t count = 0;
    int rc = 0;

    if (store_snapshot_list(lifecycle->config.store, &rows, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (rows[i].state != SNAPSHOT_READY)
            clean_up(lifecycle, &rows[i]);
        else
            rc = catalog_add(&lifecycle->catalog, &rows[i], SIZE_MAX, err);
    }
    if (rc == 0)
        rc = delete_strays(lifecycle, rows, count, err);
    snapshot_list_free(rows, count);
    return rc;
}

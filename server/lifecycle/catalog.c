#include "server/lifecycle/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

void catalog_init(struct catalog *catalog)
{
    *catalog = (struct catalog){0};
    pthread_mutex_init(&catalog->lock, NULL);
    pthread_cond_init(&catalog->unused, NULL);
}

void catalog_clear(struct catalog *catalog)
{
    for (size_t i = 0; i < catalog->count; i++)
        snapshot_clear(&catalog->rows[i].snapshot);
    free(catalog->rows);
    pthread_cond_destroy(&catalog->unused);
    pthread_mutex_destroy(&catalog->lock);
}

/* Under the lock. */
static struct catalog_row *row_of(struct catalog *catalog, const char *id)
{
    for (size_t i = 0; i < catalog->count; i++) {
        if (str_eq(catalog->rows[i].snapshot.id, id))
            return &catalog->rows[i];
    }
    return NULL;
}

/* Under the lock: *SNAPSHOT becomes a build of the template of its name. */
static int adopt_name(struct catalog *catalog, struct snapshot *snapshot, struct err *err)
{
    for (size_t i = 0; i < catalog->count; i++) {
        const struct snapshot *row = &catalog->rows[i].snapshot;
        if (!str_eq(row->namespace_, snapshot->namespace_))
            continue;
        if (str_eq(row->template_id, snapshot->name))
            return err_set(err, ERR_EXISTS, "Alias '%s' is already used", snapshot->name);
        if (str_eq(row->name, snapshot->name) && row->state != SNAPSHOT_DELETING)
            memcpy(snapshot->template_id, row->template_id, sizeof(row->template_id));
    }
    return 0;
}

/* Under the lock. */
static size_t count_of(const struct catalog *catalog, const char *namespace_)
{
    size_t count = 0;

    for (size_t i = 0; i < catalog->count; i++)
        count += str_eq(catalog->rows[i].snapshot.namespace_, namespace_);
    return count;
}

int catalog_add(struct catalog *catalog, struct snapshot *snapshot, size_t max, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&catalog->lock);
    if (count_of(catalog, snapshot->namespace_) >= max)
        rc = err_set(err, ERR_LIMIT,
                     "you have reached the maximum number of snapshots (%zu): delete one", max);
    else if (snapshot->name[0] != '\0')
        rc = adopt_name(catalog, snapshot, err);
    if (rc == 0) {
        struct catalog_row row = {0};
        snapshot_copy(&row.snapshot, snapshot);
        if (catalog->count == catalog->cap) {
            catalog->cap = catalog->cap > 0 ? 2 * catalog->cap : 16;
            catalog->rows = mem_realloc_array(catalog->rows, catalog->cap, sizeof(*catalog->rows));
        }
        catalog->rows[catalog->count++] = row;
    }
    pthread_mutex_unlock(&catalog->lock);
    return rc;
}

void catalog_ready(struct catalog *catalog, const char *id, uint64_t size_bytes)
{
    struct catalog_row *row;

    pthread_mutex_lock(&catalog->lock);
    row = row_of(catalog, id);
    if (row != NULL) {
        row->snapshot.state = SNAPSHOT_READY;
        row->snapshot.size_bytes = size_bytes;
    }
    pthread_mutex_unlock(&catalog->lock);
}

void catalog_remove(struct catalog *catalog, const char *id)
{
    struct catalog_row *row;

    pthread_mutex_lock(&catalog->lock);
    row = row_of(catalog, id);
    if (row != NULL) {
        size_t at = (size_t)(row - catalog->rows);
        snapshot_clear(&row->snapshot);
        memmove(row, row + 1, (catalog->count - at - 1) * sizeof(*row));
        catalog->count--;
    }
    pthread_mutex_unlock(&catalog->lock);
}

/* --- what a reference means ------------------------------------------------------------------ */

/* SNAPSHOT is a build of the template that REF names to NAMESPACE_. */
static bool is_template(const struct snapshot *snapshot, const char *namespace_,
                        const struct template_id *ref)
{
    if (!str_eq(snapshot->namespace_, namespace_) ||
        (ref->namespace_[0] != '\0' && !str_eq(ref->namespace_, namespace_)))
        return false;
    if (snapshot->name[0] != '\0' && str_eq(snapshot->name, ref->name))
        return true;
    return ref->namespace_[0] == '\0' && str_eq(snapshot->template_id, ref->name);
}

static bool is_build(const struct snapshot *snapshot, const char *tag)
{
    return str_eq(snapshot->tag, tag) || str_eq(snapshot->build_id, tag);
}

int catalog_find(struct catalog *catalog, const char *namespace_, const struct template_id *ref,
                 struct snapshot *out, struct err *err)
{
    const char *tag = ref->tag[0] != '\0' ? ref->tag : SNAPSHOT_TAG_DEFAULT;
    const struct snapshot *found = NULL;
    bool known = false;

    pthread_mutex_lock(&catalog->lock);
    for (size_t i = catalog->count; i-- > 0 && found == NULL;) { /* the newest first */
        const struct snapshot *row = &catalog->rows[i].snapshot;
        if (row->state != SNAPSHOT_READY || !is_template(row, namespace_, ref))
            continue;
        known = true;
        if (is_build(row, tag))
            found = row;
    }
    if (found != NULL)
        snapshot_copy(out, found);
    pthread_mutex_unlock(&catalog->lock);
    if (found != NULL)
        return 0;
    if (known)
        return err_set(err, ERR_NOT_FOUND, "tag '%s' does not exist for template '%s'", tag,
                       ref->name);
    return err_set(err, ERR_NOT_FOUND, "%s", "");
}

int catalog_use(struct catalog *catalog, const char *id, struct snapshot *out, struct err *err)
{
    struct catalog_row *row;
    bool found;

    pthread_mutex_lock(&catalog->lock);
    row = row_of(catalog, id);
    found = row != NULL && row->snapshot.state == SNAPSHOT_READY;
    if (found) {
        row->users++;
        snapshot_copy(out, &row->snapshot);
    }
    pthread_mutex_unlock(&catalog->lock);
    return found ? 0 : err_set(err, ERR_NOT_FOUND, "the snapshot has been deleted");
}

void catalog_unuse(struct catalog *catalog, const char *id)
{
    struct catalog_row *row;

    pthread_mutex_lock(&catalog->lock);
    row = row_of(catalog, id);
    if (row != NULL && --row->users == 0)
        pthread_cond_broadcast(&catalog->unused);
    pthread_mutex_unlock(&catalog->lock);
}

/* --- deletion and lists ---------------------------------------------------------------------- */

/* Under the lock. */
static bool is_condemned(const struct catalog_row *row, const char *namespace_,
                         const struct template_id *ref)
{
    return !row->deleting && row->snapshot.state != SNAPSHOT_CREATING &&
           is_template(&row->snapshot, namespace_, ref) &&
           (ref->tag[0] == '\0' || is_build(&row->snapshot, ref->tag));
}

/* Under the lock, which it lets go meanwhile: rows may move. */
static void wait_unused(struct catalog *catalog, const char *id)
{
    const struct catalog_row *row;

    while ((row = row_of(catalog, id)) != NULL && row->users > 0)
        pthread_cond_wait(&catalog->unused, &catalog->lock);
}

void catalog_condemn(struct catalog *catalog, const char *namespace_, const struct template_id *ref,
                     struct snapshot **out, size_t *count)
{
    struct snapshot *list;
    size_t used = 0;

    pthread_mutex_lock(&catalog->lock);
    list = mem_calloc(catalog->count + 1, sizeof(*list));
    for (size_t i = 0; i < catalog->count; i++) {
        struct catalog_row *row = &catalog->rows[i];
        if (!is_condemned(row, namespace_, ref))
            continue;
        row->deleting = true;
        row->snapshot.state = SNAPSHOT_DELETING;
        snapshot_copy(&list[used++], &row->snapshot);
    }
    for (size_t i = 0; i < used; i++)
        wait_unused(catalog, list[i].id);
    pthread_mutex_unlock(&catalog->lock);
    *out = list;
    *count = used;
}

void catalog_give_back(struct catalog *catalog, const char *id)
{
    struct catalog_row *row;

    pthread_mutex_lock(&catalog->lock);
    row = row_of(catalog, id);
    if (row != NULL)
        row->deleting = false;
    pthread_mutex_unlock(&catalog->lock);
}

/* Under the lock: no later row is the same tag of the same template. */
static bool is_newest(const struct catalog *catalog, size_t at)
{
    const struct snapshot *one = &catalog->rows[at].snapshot;

    for (size_t i = at + 1; i < catalog->count; i++) {
        const struct snapshot *row = &catalog->rows[i].snapshot;
        if (row->state == SNAPSHOT_READY && str_eq(row->template_id, one->template_id) &&
            str_eq(row->tag, one->tag))
            return false;
    }
    return true;
}

void catalog_list(struct catalog *catalog, const char *namespace_, struct snapshot **out,
                  size_t *count)
{
    struct snapshot *list;
    size_t used = 0;

    pthread_mutex_lock(&catalog->lock);
    list = mem_calloc(catalog->count + 1, sizeof(*list));
    for (size_t i = catalog->count; i-- > 0;) {
        const struct snapshot *row = &catalog->rows[i].snapshot;
        if (row->state == SNAPSHOT_READY && str_eq(row->namespace_, namespace_) &&
            is_newest(catalog, i))
            snapshot_copy(&list[used++], row);
    }
    pthread_mutex_unlock(&catalog->lock);
    *out = list;
    *count = used;
}

#include <string.h>

#include "mapper/template_id.h"
#include "server/base/str.h"
#include "server/lifecycle/internal.h"

/* The tag or build that REF asks for is the one that BASE has. */
static int check_tag(const struct template_id *ref, const struct template *base, struct err *err)
{
    if (ref->tag[0] == '\0' || str_eq(ref->tag, TEMPLATE_TAG_DEFAULT) ||
        str_eq(ref->tag, base->build_id))
        return 0;
    return err_set(err, ERR_NOT_FOUND, "tag '%s' does not exist for template '%s'", ref->tag,
                   ref->name);
}

/* A snapshot as the template that it is. Its public id was checked when it was named. */
static void from_snapshot(const struct snapshot *snapshot, struct template *out)
{
    struct template_id name = {0};
    struct err ignored = {0};

    memset(out, 0, sizeof(*out));
    memcpy(out->id, snapshot->template_id, sizeof(snapshot->template_id));
    memcpy(out->alias, snapshot->name, sizeof(snapshot->name));
    if (snapshot->name[0] != '\0') {
        memcpy(name.namespace_, snapshot->namespace_, sizeof(name.namespace_));
        memcpy(name.name, snapshot->name, sizeof(name.name));
        template_id_format(&name, out->name, &ignored);
    }
    memcpy(out->build_id, snapshot->build_id, sizeof(out->build_id));
    memcpy(out->snapshot_id, snapshot->id, sizeof(out->snapshot_id));
    out->cpu_count = snapshot->cpu_count;
    out->memory_mb = snapshot->memory_mb;
    out->disk_mb = snapshot->disk_mb;
    out->created_unix_ms = out->updated_unix_ms = snapshot->created_unix_ms;
}

/* The snapshot or the global template of that name. 1: neither. */
static int find(struct lifecycle *lifecycle, const char *namespace_, const struct template_id *id,
                struct template *out, struct err *err)
{
    _cleanup_snapshot_ struct snapshot snapshot = {0};
    struct template base;

    if (namespace_ != NULL) {
        if (catalog_find(&lifecycle->catalog, namespace_, id, &snapshot, err) == 0) {
            from_snapshot(&snapshot, out);
            return 0;
        }
        if (err->msg[0] != '\0') /* the name is there, its tag is not */
            return -1;
    }
    template_base(&base, lifecycle->installed_unix_ms);
    if (id->namespace_[0] != '\0' || !str_eq(id->name, base.alias))
        return 1;
    if (check_tag(id, &base, err) < 0)
        return -1;
    *out = base;
    return 0;
}

int lifecycle_template_get(struct lifecycle *lifecycle, const char *namespace_, const char *ref,
                           struct template *out, struct err *err)
{
    struct template_id id;
    int rc;

    if (template_id_parse(ref, strlen(ref), &id, err) < 0)
        return -1;
    rc = find(lifecycle, namespace_, &id, out, err);
    if (rc > 0)
        return err_set(err, ERR_NOT_FOUND, "template '%.200s' not found", ref);
    return rc;
}

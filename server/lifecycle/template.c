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

int lifecycle_template_get(struct lifecycle *lifecycle, const char *namespace_, const char *ref,
                           struct template *out, struct err *err)
{
    struct template_id id, candidates[2];
    struct template base;
    size_t count;

    if (template_id_parse(ref, strlen(ref), &id, err) < 0)
        return -1;
    template_base(&base, lifecycle->installed_unix_ms);
    count = template_id_candidates(&id, namespace_, candidates);
    for (size_t i = 0; i < count; i++) {
        if (candidates[i].namespace_[0] != '\0' || !str_eq(candidates[i].name, base.alias))
            continue;
        if (check_tag(&candidates[i], &base, err) < 0)
            return -1;
        *out = base;
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "template '%.200s' not found", ref);
}

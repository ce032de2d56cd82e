#include "envd/files_meta.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

#define HEADER_PREFIX "x-metadata-"

static bool is_printable(const char *s)
{
    for (; *s != '\0'; s++)
        if (*s < ' ' || *s > '~')
            return false;
    return true;
}

int files_meta_check(const char *key, const char *value, struct err *err)
{
    if (key[0] == '\0')
        return err_set(err, ERR_INVALID, "invalid metadata: a key is empty");
    if (strlen(key) > FILES_META_KEY_MAX_BYTES)
        return err_set(err, ERR_INVALID, "invalid metadata: key '%.64s…' is longer than %d bytes",
                       key, FILES_META_KEY_MAX_BYTES);
    if (!is_printable(key) || !is_printable(value))
        return err_set(err, ERR_INVALID,
                       "invalid metadata: '%.64s' has characters other than printable ASCII", key);
    return 0;
}

static bool has_key(const struct files_meta *meta, const char *key)
{
    for (size_t i = 0; i < meta->count; i++)
        if (str_eq(meta->rows[i].key, key))
            return true;
    return false;
}

int files_meta_read(const struct exchange *ex, struct files_meta *out, struct err *err)
{
    const char *name, *value;
    size_t at = 0, total = 0;

    *out = (struct files_meta){0};
    while (http_header_next(ex, &at, &name, &value)) {
        const char *key = name + strlen(HEADER_PREFIX);
        if (!str_starts(name, HEADER_PREFIX) || has_key(out, key))
            continue;
        total += strlen(ENTRY_XATTR_PREFIX) + strlen(key) + strlen(value);
        if (files_meta_check(key, value, err) < 0) {
            files_meta_clear(out);
            return -1;
        }
        out->rows = mem_realloc_array(out->rows, out->count + 1, sizeof(*out->rows));
        out->rows[out->count++] = (struct entry_meta){mem_strdup(key), mem_strdup(value)};
    }
    if (total <= FILES_META_TOTAL_MAX_BYTES)
        return 0;
    files_meta_clear(out);
    return err_set(err, ERR_INVALID, "invalid metadata: %zu bytes in all, at most %d are allowed",
                   total, FILES_META_TOTAL_MAX_BYTES);
}

void files_meta_clear(struct files_meta *meta)
{
    entry_meta_free(meta->rows, meta->count);
    *meta = (struct files_meta){0};
}

#include "envd/entry_proto.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD in UTF-8 */

/* The length of the well-formed character at S (at most LEFT bytes); 0 when there is none. */
static size_t character_length(const char *s, size_t left)
{
    for (size_t len = 1; len <= 4 && len <= left; len++)
        if (str_is_utf8(s, len))
            return len;
    return 0;
}

char *entry_proto_text(char *text)
{
    size_t len = strlen(text), size = 0;
    char *out;

    if (str_is_utf8(text, len))
        return text;
    out = mem_zalloc(len * strlen(REPLACEMENT) + 1);
    for (size_t at = 0; at < len;) {
        size_t step = character_length(text + at, len - at);
        memcpy(out + size, step > 0 ? text + at : REPLACEMENT,
               step > 0 ? step : strlen(REPLACEMENT));
        size += step > 0 ? step : strlen(REPLACEMENT);
        at += step > 0 ? step : 1;
    }
    free(text);
    return out;
}

static void move_meta(struct entry *entry, Filesystem__EntryInfo *info)
{
    if (entry->meta_count == 0)
        return;
    info->metadata = mem_calloc(entry->meta_count, sizeof(*info->metadata));
    info->n_metadata = entry->meta_count;
    for (size_t i = 0; i < entry->meta_count; i++) {
        info->metadata[i] = mem_zalloc(sizeof(**info->metadata));
        filesystem__entry_info__metadata_entry__init(info->metadata[i]);
        info->metadata[i]->key = steal_ptr(&entry->meta[i].key);
        info->metadata[i]->value = steal_ptr(&entry->meta[i].value);
    }
}

Filesystem__EntryInfo *entry_to_proto(struct entry *entry)
{
    Filesystem__EntryInfo *info = mem_zalloc(sizeof(*info));

    filesystem__entry_info__init(info);
    info->name = entry_proto_text(steal_ptr(&entry->name));
    info->path = entry_proto_text(steal_ptr(&entry->path));
    info->type = (Filesystem__FileType)entry->type;
    info->size = entry->size_bytes;
    info->mode = entry->mode;
    info->permissions = mem_strdup(entry->permissions);
    info->owner = entry_proto_text(steal_ptr(&entry->owner));
    info->group = entry_proto_text(steal_ptr(&entry->group));
    info->modified_time = mem_zalloc(sizeof(*info->modified_time));
    filesystem__timestamp__init(info->modified_time);
    info->modified_time->seconds = entry->mtime_s;
    info->modified_time->nanos = entry->mtime_ns;
    info->is_symlink = entry->is_symlink;
    if (entry->symlink_target != NULL) {
        info->optional_symlink_target_case =
            FILESYSTEM__ENTRY_INFO__OPTIONAL_SYMLINK_TARGET_SYMLINK_TARGET;
        info->symlink_target = entry_proto_text(steal_ptr(&entry->symlink_target));
    }
    move_meta(entry, info);
    entry_clear(entry);
    return info;
}

#include "server/engine/local/volume_proto.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/mem.h"

/* Fixed part of a record; the path's and the target's bytes follow, without NUL. */
struct record_head {
    uint32_t type, mode, uid, gid;
    int64_t size, atime_unix_ms, mtime_unix_ms, ctime_unix_ms;
    uint32_t path_len, target_len; /* target_len: UINT32_MAX for none */
};

/* In whole: NUL-terminated within SIZE bytes, zeros after it. */
static bool text_ok(const char *s, size_t size)
{
    size_t len = strnlen(s, size);

    for (size_t i = len; i < size; i++) {
        if (s[i] != '\0')
            return false;
    }
    return len < size;
}

static bool path_ok(const char *path)
{
    char clean[VOLUME_PATH_SIZE];
    struct err ignored = {0};

    return volume_path_clean(path, clean, &ignored) == 0 && strcmp(clean, path) == 0;
}

static bool id_ok(const struct volume_call *call)
{
    bool none = call->verb == VOLUME_CALL_NAMES || call->verb == VOLUME_CALL_COMMIT;
    char id[UUID_SIZE];
    struct err ignored = {0};

    if (none)
        return call->volume_id[0] == '\0';
    return volume_id_parse(call->volume_id, id, &ignored) == 0 && strcmp(id, call->volume_id) == 0;
}

int volume_call_check(const struct volume_call *call, size_t len, struct err *err)
{
    if (len != sizeof(*call) || call->magic != VOLUME_MAGIC || call->verb >= VOLUME_CALL_COUNT)
        return err_set(err, ERR_INVALID, "not a call of a volume helper");
    if (!text_ok(call->volume_id, sizeof(call->volume_id)) || !id_ok(call))
        return err_set(err, ERR_INVALID, "Invalid volume ID");
    if (!text_ok(call->path, sizeof(call->path)) || !path_ok(call->path))
        return err_set(err, ERR_INVALID, "Invalid path");
    if (call->uid < -1 || call->uid > VOLUME_ID_MAX || call->gid < -1 ||
        call->gid > VOLUME_ID_MAX || call->mode < -1 || call->mode > 07777 || call->force > 1 ||
        call->zero[0] != 0 || call->zero[1] != 0)
        return err_set(err, ERR_INVALID, "a number is out of its range");
    if ((call->verb == VOLUME_LIST) != (call->depth > 0) || call->depth > VOLUME_DEPTH_MAX)
        return err_set(err, ERR_INVALID, "depth must be between 1 and %d", VOLUME_DEPTH_MAX);
    return 0;
}

int volume_record_add(struct buf *buf, const struct volume_entry *entry)
{
    struct record_head head = {
        .type = entry->type,
        .mode = entry->mode,
        .uid = entry->uid,
        .gid = entry->gid,
        .size = entry->size,
        .atime_unix_ms = entry->atime_unix_ms,
        .mtime_unix_ms = entry->mtime_unix_ms,
        .ctime_unix_ms = entry->ctime_unix_ms,
        .path_len = (uint32_t)strlen(entry->path),
        .target_len = entry->target != NULL ? (uint32_t)strlen(entry->target) : UINT32_MAX,
    };

    if (buf_add(buf, &head, sizeof(head)) < 0 || buf_add(buf, entry->path, head.path_len) < 0)
        return -1;
    return entry->target != NULL ? buf_add(buf, entry->target, head.target_len) : 0;
}

/* LEN bytes at *AT as a string to free; NULL when they are not there or hold a NUL. */
static char *take_text(const char **at, const char *end, uint32_t len)
{
    const char *text = *at;

    if (len >= VOLUME_PATH_SIZE || (size_t)(end - text) < len || memchr(text, '\0', len) != NULL)
        return NULL;
    *at += len;
    return mem_strndup(text, len);
}

static int parse_record(const char **at, const char *end, struct volume_entry *out)
{
    struct record_head head;

    if ((size_t)(end - *at) < sizeof(head))
        return -1;
    memcpy(&head, *at, sizeof(head));
    *at += sizeof(head);
    if (head.type >= VOLUME_FILE_TYPE_COUNT || head.mode > 07777)
        return -1;
    *out = (struct volume_entry){
        .type = (enum volume_file_type)head.type,
        .mode = head.mode,
        .uid = head.uid,
        .gid = head.gid,
        .size = head.size,
        .atime_unix_ms = head.atime_unix_ms,
        .mtime_unix_ms = head.mtime_unix_ms,
        .ctime_unix_ms = head.ctime_unix_ms,
    };
    out->path = take_text(at, end, head.path_len);
    if (out->path == NULL)
        return -1;
    if (head.target_len == UINT32_MAX)
        return 0;
    out->target = take_text(at, end, head.target_len);
    return out->target != NULL ? 0 : -1;
}

static void free_entries(struct volume_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(entries[i].path);
        free(entries[i].target);
    }
    free(entries);
}

int volume_records_parse(const void *data, size_t len, uint32_t count, struct volume_entry **out)
{
    const char *at = data, *end = at + len;
    struct volume_entry *entries;

    if (count > len / sizeof(struct record_head))
        return -1;
    entries = mem_calloc((size_t)count + 1, sizeof(*entries));
    for (uint32_t i = 0; i < count; i++) {
        if (parse_record(&at, end, &entries[i]) == 0)
            continue;
        free_entries(entries, (size_t)i + 1);
        return -1;
    }
    if (at != end) {
        free_entries(entries, count);
        return -1;
    }
    *out = entries;
    return 0;
}

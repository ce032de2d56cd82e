/* An entry of a volume as the content API's JSON. */
#include <string.h>

#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

/* TEXT, from a file system, as JSON, which takes UTF-8 alone: else every byte above 127 is '?'. */
static json_t *file_text(const char *text)
{
    _cleanup_free_ char *copy = NULL;

    if (str_is_utf8(text, strlen(text)))
        return json_string(text);
    copy = mem_strdup(text);
    for (char *c = copy; *c != '\0'; c++) {
        if ((unsigned char)*c > 127)
            *c = '?';
    }
    return json_string(copy);
}

static void put_time(json_t *object, const char *key, int64_t unix_ms)
{
    char text[TIME_RFC3339_SIZE];

    time_rfc3339_ms(unix_ms > 0 ? unix_ms : 0, text);
    json_put_str(object, key, text);
}

json_t *wire_volume_entry(const struct volume_entry *entry)
{
    static const char *const types[] = {
        [VOLUME_FILE_UNKNOWN] = "unknown",
        [VOLUME_FILE_REGULAR] = "file",
        [VOLUME_FILE_DIRECTORY] = "directory",
        [VOLUME_FILE_SYMLINK] = "symlink",
    };
    _Static_assert(array_size(types) == VOLUME_FILE_TYPE_COUNT, "a word for each type");
    _cleanup_free_ char *path = mem_asprintf("/%s", entry->path);
    const char *slash = strrchr(path, '/');
    json_t *object = json_object();

    json_put(object, "name", file_text(slash[1] != '\0' ? slash + 1 : "/"));
    json_put_str(object, "type", types[entry->type]);
    json_put(object, "path", file_text(path));
    json_put_i64(object, "size", entry->size);
    json_put_i64(object, "mode", entry->mode);
    json_put_i64(object, "uid", entry->uid);
    json_put_i64(object, "gid", entry->gid);
    put_time(object, "atime", entry->atime_unix_ms);
    put_time(object, "mtime", entry->mtime_unix_ms);
    put_time(object, "ctime", entry->ctime_unix_ms);
    if (entry->target != NULL)
        json_put(object, "target", file_text(entry->target));
    return object;
}

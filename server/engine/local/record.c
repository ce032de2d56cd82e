#include "server/engine/local/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/json.h"
#include "server/base/str.h"

#define RECORD_MAX_BYTES 1024
#define SLOT_MAX 65534

int record_write(const struct context *ctx, const char *id, const struct record *record,
                 struct err *err)
{
    _cleanup_json_ json_t *json = json_object();
    _cleanup_free_ char *text = NULL;
    _cleanup_close_ int fd = -1;
    char fresh[SANDBOX_ID_SIZE + 1]; /* not an id, and not listed */

    snprintf(fresh, sizeof(fresh), ".%s", id);
    json_put_i64(json, "pid", record->pid);
    json_put_i64(json, "startTicks", (int64_t)record->start_ticks);
    json_put_i64(json, "slot", record->slot);
    json_put_bool(json, "internet", record->internet);
    json_put_str(json, "rules", record->rules);
    if (record->frozen)
        json_put_bool(json, "frozen", true);
    if (record->thaw)
        json_put_bool(json, "thaw", true);
    json_put_str(json, "boot", ctx->boot_id);
    text = json_text(json);
    /* A launcher that is killed meanwhile leaves the old one or the new one. */
    fd = openat(ctx->records_dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                0600);
    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0 ||
        renameat(ctx->records_dir, fresh, ctx->records_dir, id) < 0)
        return err_sys(err, errno, "cannot write %s/%s", ctx->records_path, id);
    return 0;
}

int record_parse(const char *text, size_t len, const char *boot_id, struct record *out,
                 struct err *err)
{
    _cleanup_json_ json_t *json = json_parse_object(text, len, err);
    int64_t pid = 0, slot = -1, start = -1;
    const char *boot = "", *rules = "";
    bool internet = false, thaw = false, frozen = false;

    if (json == NULL || json_get_i64(json, "pid", 2, INT32_MAX, &pid, err) < 0 ||
        json_get_i64(json, "startTicks", 0, INT64_MAX, &start, err) < 0 ||
        json_get_i64(json, "slot", 0, SLOT_MAX, &slot, err) < 0 ||
        json_get_bool(json, "internet", &internet, err) < 0 ||
        json_get_bool(json, "thaw", &thaw, err) < 0 ||
        json_get_bool(json, "frozen", &frozen, err) < 0 ||
        json_get_str(json, "rules", &rules, err) < 0 || json_get_str(json, "boot", &boot, err) < 0)
        return -1;
    if (pid == 0 || slot < 0 || start < 0 ||
        str_copy(out->rules, sizeof(out->rules), rules, strlen(rules)) < 0)
        return err_set(err, ERR_INVALID, "a sandbox's record is incomplete");
    bool now = str_eq(boot, boot_id);
    out->slot = now ? (uint32_t)slot : SLOT_NONE;
    out->pid = now ? (pid_t)pid : 0;
    out->start_ticks = (uint64_t)start;
    out->internet = internet;
    out->thaw = thaw;
    out->frozen = frozen;
    return 0;
}

/* The slot that owns ID's folder of an earlier version. Returns 0, 1 when there is none, or -1. */
static int legacy_slot(const struct context *ctx, const char *id, uint32_t *slot, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/root", id);
    struct stat st;

    if (ctx->legacy_dir < 0)
        return 1;
    if (fstatat(ctx->legacy_dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        uint32_t base = ctx->config->id_base;
        if (st.st_uid >= base && (st.st_uid - base) % 65536u == 0)
            *slot = (st.st_uid - base) / 65536u;
        return 0;
    }
    if (errno == ENOENT && fstatat(ctx->legacy_dir, id, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0; /* nothing in it yet, so no slot was in use */
    if (errno == ENOENT)
        return 1;
    return err_sys(err, errno, "cannot look at %s in the state folder", id);
}

/* "spare-7": 7. A copy in the making, "spare-7c", is nobody's. */
static uint32_t spare_slot(const char *id)
{
    struct err ignored = {0};
    uint64_t slot;

    if (!str_starts(id, SPARE_PREFIX) ||
        str_to_u64(id + strlen(SPARE_PREFIX), strlen(id + strlen(SPARE_PREFIX)), 0, SLOT_MAX,
                   "slot", &slot, &ignored) < 0)
        return SLOT_NONE;
    return (uint32_t)slot;
}

/* Where its files are. */
static int find_files(const struct context *ctx, const char *id, struct record *record,
                      struct err *err)
{
    struct stat st;
    int legacy;

    if (fstatat(ctx->storage.sandboxes, id, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        record->files = true;
        record->slot = spare_slot(id);
        return 0;
    }
    if (errno != ENOENT)
        return err_sys(err, errno, "cannot look at %s/%s", ctx->sandboxes_path, id);
    legacy = legacy_slot(ctx, id, &record->slot, err);
    record->files = record->legacy = legacy == 0;
    return legacy < 0 ? -1 : 0;
}

int record_read(const struct context *ctx, const char *id, struct record *out, struct err *err)
{
    struct record record = {.slot = SLOT_NONE};
    _cleanup_free_ char *text = NULL;
    struct err ignored = {0};
    uint64_t start;
    size_t len;
    int rc;

    if (find_files(ctx, id, &record, err) < 0)
        return -1;
    rc = file_read(ctx->records_dir, id, RECORD_MAX_BYTES, &text, &len, &ignored);
    if (rc < 0 && !record.files)
        return err_set(err, ERR_NOT_FOUND, "sandbox %s does not exist", id);
    if (rc == 0)
        record_parse(text, len, ctx->boot_id, &record, &ignored); /* torn: as if there were none */
    if (record.pid > 0 &&
        (sys_start_ticks(record.pid, &start, &ignored) < 0 || start != record.start_ticks))
        record.pid = 0;
    *out = record;
    return 0;
}

int record_remove(const struct context *ctx, const char *id, struct err *err)
{
    if (unlinkat(ctx->records_dir, id, 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove %s/%s", ctx->records_path, id);
    return 0;
}

static void each_in(int dirfd, void (*fn)(void *ctx, const char *id), void *fn_ctx)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (dir == NULL) {
        fd_close(&fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < SANDBOX_ID_SIZE)
            fn(fn_ctx, entry->d_name);
    }
    closedir(dir);
}

void record_each(const struct context *ctx, void (*fn)(void *ctx, const char *id), void *fn_ctx)
{
    each_in(ctx->storage.sandboxes, fn, fn_ctx);
    if (ctx->legacy_dir >= 0)
        each_in(ctx->legacy_dir, fn, fn_ctx);
    each_in(ctx->records_dir, fn, fn_ctx);
}

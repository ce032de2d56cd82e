#include "server/engine/local/volume_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"

#define FOLDER_MODE 0755

int volume_store_open(struct context *ctx, struct err *err)
{
    ctx->volumes_path = mem_asprintf("%s/volumes", ctx->storage.path);
    if (dir_make(ctx->volumes_path, 0700, err) < 0)
        return -1;
    ctx->volumes_dir = open(ctx->volumes_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (ctx->volumes_dir < 0)
        return err_sys(err, errno, "cannot open %s", ctx->volumes_path);
    if (fchown(ctx->volumes_dir, 0, 0) < 0 || fchmod(ctx->volumes_dir, 0700) < 0)
        return err_sys(err, errno, "cannot protect %s", ctx->volumes_path);
    return 0;
}

int volume_store_folder(const struct context *ctx, const char *id, int flags, struct err *err)
{
    int fd = openat(ctx->volumes_dir, id, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
        err_set(err, ERR_NOT_FOUND, "Volume not found");
    else
        err_sys(err, errno, "cannot open volume %s", id);
    return -1;
}

int volume_store_create(const struct context *ctx, const char *id, uint64_t size_mb,
                        struct err *err)
{
    const struct storage *storage = &ctx->storage;
    _cleanup_close_ int fd = -1;

    if (storage_room(storage, err) < 0)
        return -1;
    if (faccessat(ctx->volumes_dir, id, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
        storage_tree_make(storage, ctx->volumes_dir, id, err) < 0)
        return -1;
    if (size_mb > UINT64_MAX >> 20)
        return err_set(err, ERR_INVALID, "the size of a volume is out of range");
    if (storage_tree_limit(storage, ctx->volumes_dir, id, size_mb << 20, err) < 0)
        return -1;
    fd = volume_store_folder(ctx, id, O_RDONLY, err);
    if (fd < 0)
        return -1;
    if (fchown(fd, VOLUME_OWNER, VOLUME_OWNER) < 0 || fchmod(fd, FOLDER_MODE) < 0)
        return err_sys(err, errno, "cannot give away volume %s", id);
    return 0;
}

int volume_store_delete(const struct context *ctx, const char *id, struct err *err)
{
    return storage_tree_remove(&ctx->storage, ctx->volumes_dir, id, err);
}

int volume_store_names(const struct context *ctx, struct volume_result *out, struct err *err)
{
    int fd = openat(ctx->volumes_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *found;
    int rc = 0;

    if (dir == NULL) {
        fd_close(&fd);
        return err_sys(err, errno, "cannot read %s", ctx->volumes_path);
    }
    while (rc == 0 && (found = readdir(dir)) != NULL) {
        struct volume_entry entry = {.path = found->d_name, .type = VOLUME_FILE_DIRECTORY};
        char id[UUID_SIZE];
        struct err ignored = {0};
        if (volume_id_parse(found->d_name, id, &ignored) < 0 || strcmp(id, found->d_name) != 0)
            continue;
        if (volume_record_add(&out->records, &entry) < 0)
            rc = err_set(err, ERR_LIMIT, "there are too many volumes to list");
        out->count++;
    }
    closedir(dir);
    return rc;
}

#include "envd/watch_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "envd/fs.h"
#include "envd/tree.h"
#include "envd/upload.h"
#include "server/base/buf.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define WATCH_MASK                                                                                 \
    (IN_CREATE | IN_MOVED_TO | IN_MODIFY | IN_DELETE | IN_DELETE_SELF | IN_MOVED_FROM |            \
     IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR)
#define READ_BYTES 65536
#define WD_KEY_SIZE 12

struct watch_dir {
    char key[WD_KEY_SIZE];
    int wd;
    char *rel;       /* "" is the watched folder itself */
    struct map seen; /* names told by a walk, whose own events may still come; owns them */
};

void watch_event_clear(struct watch_event *event)
{
    free(event->name);
    if (event->has_entry)
        entry_clear(&event->entry);
    *event = (struct watch_event){0};
}

int watch_tree_check(const char *path, bool allow_network, struct err *err)
{
    /* NFS, CIFS, SMB, SMB2, FUSE: others' changes are not seen there */
    static const uint32_t network[] = {0x6969, 0xff534d42, 0x517b, 0xfe534d42, 0x65735546};
    char text[FS_ERRNO_TEXT_SIZE];
    struct statfs fs;
    struct stat st;

    if (stat(path, &st) < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INTERNAL,
                       "path %s not found: stat %s: %s", path, path, fs_errno_text(errno, text));
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "path %s not a directory: %%!w(<nil>)", path);
    if (allow_network || statfs(path, &fs) < 0)
        return 0;
    for (size_t i = 0; i < array_size(network); i++)
        if ((uint32_t)fs.f_type == network[i])
            return err_set(err, ERR_INVALID, "cannot watch path on network filesystem: %s", path);
    return 0;
}

static char *join(const char *dir, const char *name)
{
    return dir[0] == '\0' ? mem_strdup(name) : mem_asprintf("%s/%s", dir, name);
}

static char *full_path(const struct watch_tree *tree, const char *rel)
{
    return rel[0] == '\0' ? mem_strdup(tree->path) : mem_asprintf("%s/%s", tree->path, rel);
}

static struct watch_dir *dir_of(const struct watch_tree *tree, int wd)
{
    char key[WD_KEY_SIZE];

    snprintf(key, sizeof(key), "%d", wd);
    return map_get(&tree->by_wd, key);
}

static void forget_name(struct watch_dir *dir, const char *name)
{
    free(map_remove(&dir->seen, name));
}

static void dir_free(struct watch_dir *dir)
{
    size_t at = 0;
    void *name;

    while (map_next(&dir->seen, &at, &name))
        free(name);
    map_clear(&dir->seen);
    free(dir->rel);
    free(dir);
}

static void dir_forget(struct watch_tree *tree, struct watch_dir *dir)
{
    map_remove(&tree->by_wd, dir->key);
    if (map_get(&tree->by_rel, dir->rel) == dir)
        map_remove(&tree->by_rel, dir->rel);
    dir_free(dir);
}

/* Watch the folder REL. NULL with *ERR, or, when it is gone or too long a path, with no error. */
static struct watch_dir *add_watch(struct watch_tree *tree, const char *rel, struct err *err)
{
    _cleanup_free_ char *path = full_path(tree, rel);
    uint32_t mask = WATCH_MASK | (rel[0] != '\0' ? IN_DONT_FOLLOW : 0);
    int wd = inotify_add_watch(tree->fd, path, mask);
    char text[FS_ERRNO_TEXT_SIZE];
    struct watch_dir *dir;

    if (wd < 0) {
        if (errno == ENOSPC || errno == ENOMEM || rel[0] == '\0')
            err_set(err, ERR_INTERNAL, "error adding path %s to watcher: %s", path,
                    fs_errno_text(errno, text));
        return NULL;
    }
    dir = dir_of(tree, wd);
    if (dir != NULL) { /* known by another name: it was moved */
        if (map_get(&tree->by_rel, dir->rel) == dir)
            map_remove(&tree->by_rel, dir->rel);
        free(dir->rel);
    } else {
        dir = mem_zalloc(sizeof(*dir));
        dir->wd = wd;
        snprintf(dir->key, sizeof(dir->key), "%d", wd);
        map_init(&dir->seen);
        map_put(&tree->by_wd, dir->key, dir);
    }
    dir->rel = mem_strdup(rel);
    map_put(&tree->by_rel, dir->rel, dir);
    return dir;
}

static void emit(struct watch_tree *tree, enum watch_kind kind, const char *rel)
{
    struct watch_event event = {.kind = kind, .name = mem_strdup(rel)};

    if (tree->include_entry && kind != WATCH_REMOVE && kind != WATCH_RENAME) {
        _cleanup_user_db_ struct user_db *users = user_db_get();
        _cleanup_free_ char *path = full_path(tree, str_eq(rel, ".") ? "" : rel);
        event.has_entry = entry_read(AT_FDCWD, path, path, users, &event.entry) == 0;
    }
    tree->emit(tree->arg, &event);
}

static bool is_dir(int dirfd, const struct tree_item *item)
{
    struct stat st;

    if (item->kind != DT_UNKNOWN)
        return item->kind == DT_DIR;
    return fstatat(dirfd, item->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* What a walk is in: the path below the watched folder. */
struct walk {
    struct tree tree;
    struct buf rel;
};

static void walk_clear(struct walk *walk)
{
    tree_clear(&walk->tree);
    buf_clear(&walk->rel);
}

static void cut(struct buf *rel)
{
    while (rel->len > 0 && rel->data[rel->len - 1] != '/')
        rel->len--;
    if (rel->len > 0)
        rel->len--;
    if (rel->data != NULL)
        rel->data[rel->len] = '\0';
}

/* One entry of the innermost folder, DIR: tell it if asked, go into it if it is a folder. */
static int walk_visit(struct watch_tree *tree, struct walk *walk, const struct tree_item *item,
                      bool report, struct err *err)
{
    struct watch_dir *dir = map_get(&tree->by_rel, buf_str(&walk->rel));
    bool folder = is_dir(walk->tree.fd, item);

    if (!folder && !report)
        return 0;
    if ((walk->rel.len > 0 && buf_add_char(&walk->rel, '/') < 0) ||
        buf_add_str(&walk->rel, item->name) < 0)
        return err_set(err, ERR_INTERNAL, "error walking %s: file name too long", tree->path);
    if (report) {
        if (dir != NULL && map_get(&dir->seen, item->name) == NULL) {
            char *name = mem_strdup(item->name);
            map_put(&dir->seen, name, name);
        }
        emit(tree, WATCH_CREATE, buf_str(&walk->rel));
    }
    /* watched before it is read, so that nothing falls in between */
    if (folder && add_watch(tree, buf_str(&walk->rel), err) != NULL &&
        tree_down(&walk->tree, AT_FDCWD, item->name, false) == 0)
        return 0;
    cut(&walk->rel);
    return err->code != ERR_NONE ? -1 : 0;
}

/* Watch the folder REL and, when recursive, all below it; REPORT what is there already. */
static int add_subtree(struct watch_tree *tree, const char *rel, bool report, struct err *err)
{
    _cleanup_(walk_clear) struct walk walk = {0};
    _cleanup_free_ char *path = full_path(tree, rel);
    struct err inner = {0};
    struct tree_item item;

    tree_init(&walk.tree, true);
    buf_init(&walk.rel, PATH_MAX);
    if (add_watch(tree, rel, &inner) == NULL) {
        if (inner.code != ERR_NONE)
            *err = inner;
        return inner.code != ERR_NONE ? -1 : 0;
    }
    if (!tree->recursive || tree_down(&walk.tree, AT_FDCWD, path, rel[0] == '\0') < 0)
        return 0;
    buf_add_str(&walk.rel, rel);
    while (walk.tree.depth > 0) {
        if (tree_next(&walk.tree, &item)) {
            if (walk_visit(tree, &walk, &item, report, &inner) < 0) {
                *err = inner;
                return -1;
            }
            continue;
        }
        if (tree_up(&walk.tree) < 0)
            return 0; /* moved meanwhile: its own events tell where to */
        cut(&walk.rel);
    }
    return 0;
}

/* A folder left the tree, or its place in it: events under its old name would be wrong. */
static void drop_subtree(struct watch_tree *tree, const char *rel)
{
    size_t at = 0, count = 0, len = strlen(rel);
    _cleanup_free_ struct watch_dir **dirs = mem_calloc(tree->by_wd.count + 1, sizeof(*dirs));
    void *value;

    while (map_next(&tree->by_wd, &at, &value)) {
        struct watch_dir *dir = value;
        if (strncmp(dir->rel, rel, len) == 0 && (dir->rel[len] == '\0' || dir->rel[len] == '/'))
            dirs[count++] = dir;
    }
    for (size_t i = 0; i < count; i++) {
        inotify_rm_watch(tree->fd, dirs[i]->wd);
        dir_forget(tree, dirs[i]);
    }
}

/* "#123": the kernel's word for a file without a name, such as an upload on its way. */
static bool is_unnamed(const struct watch_tree *tree, const char *name, const char *rel)
{
    _cleanup_free_ char *path = NULL;
    struct stat st;

    if (name[0] != '#' || name[1] == '\0' || name[1 + strspn(name + 1, "0123456789")] != '\0')
        return false;
    path = full_path(tree, rel);
    return lstat(path, &st) < 0 && errno == ENOENT;
}

static void on_self(struct watch_tree *tree, uint32_t mask)
{
    if (mask & IN_MOVE_SELF)
        emit(tree, WATCH_RENAME, ".");
    if (mask & IN_ATTRIB)
        emit(tree, WATCH_CHMOD, ".");
    if (mask & IN_DELETE_SELF)
        emit(tree, WATCH_REMOVE, ".");
}

static int on_new_name(struct watch_tree *tree, struct watch_dir *dir,
                       const struct inotify_event *event, const char *rel, struct err *err)
{
    bool told = map_get(&dir->seen, event->name) != NULL;

    forget_name(dir, event->name);
    if (told && event->mask & IN_CREATE)
        return 0; /* a walk found it first */
    emit(tree, WATCH_CREATE, rel);
    if (!(event->mask & IN_ISDIR) || !tree->recursive)
        return 0;
    return add_subtree(tree, rel, (event->mask & IN_CREATE) != 0, err);
}

static int on_name(struct watch_tree *tree, struct watch_dir *dir,
                   const struct inotify_event *event, struct err *err)
{
    _cleanup_free_ char *rel = join(dir->rel, event->name);
    uint32_t mask = event->mask;

    if (str_starts(event->name, UPLOAD_TEMP_PREFIX)) {
        if (mask & IN_MOVED_FROM)
            tree->upload_cookie = event->cookie;
        return 0;
    }
    if (mask & (IN_MODIFY | IN_ATTRIB) && is_unnamed(tree, event->name, rel))
        return 0;
    if (mask & IN_MOVED_TO && event->cookie != 0 && event->cookie == tree->upload_cookie) {
        emit(tree, WATCH_CHMOD, rel); /* an upload over an old file: a write follows */
        return 0;
    }
    if (mask & (IN_DELETE | IN_MOVED_FROM))
        forget_name(dir, event->name);
    if (mask & (IN_CREATE | IN_MOVED_TO))
        return on_new_name(tree, dir, event, rel, err);
    if (mask & IN_MOVED_FROM) {
        emit(tree, WATCH_RENAME, rel);
        if (mask & IN_ISDIR)
            drop_subtree(tree, rel);
    }
    if (mask & IN_ATTRIB)
        emit(tree, WATCH_CHMOD, rel);
    if (mask & IN_MODIFY)
        emit(tree, WATCH_WRITE, rel);
    if (mask & IN_DELETE)
        emit(tree, WATCH_REMOVE, rel);
    return 0;
}

static int on_event(struct watch_tree *tree, const struct inotify_event *event, struct err *err)
{
    struct watch_dir *dir;

    if (event->mask & IN_Q_OVERFLOW)
        return err_set(err, ERR_INTERNAL, "watcher error: fsnotify: queue or buffer overflow");
    dir = dir_of(tree, event->wd);
    if (dir == NULL)
        return 0;
    if (event->mask & IN_IGNORED) {
        dir_forget(tree, dir);
        return 0;
    }
    if (event->len > 0)
        return on_name(tree, dir, event, err);
    if (dir->rel[0] == '\0') /* of others the parent's watch tells */
        on_self(tree, event->mask);
    return 0;
}

int watch_tree_open(struct watch_tree *tree, const char *path, bool recursive, bool include_entry,
                    watch_emit_fn emit_fn, void *arg, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];

    *tree = (struct watch_tree){
        .fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC),
        .path = path,
        .recursive = recursive,
        .include_entry = include_entry,
        .emit = emit_fn,
        .arg = arg,
    };
    map_init(&tree->by_wd);
    map_init(&tree->by_rel);
    if (tree->fd < 0)
        return err_set(err, ERR_INTERNAL, "error creating watcher: %s", fs_errno_text(errno, text));
    if (add_subtree(tree, "", false, err) == 0)
        return 0;
    watch_tree_clear(tree);
    return -1;
}

void watch_tree_clear(struct watch_tree *tree)
{
    size_t at = 0;
    void *dir;

    while (map_next(&tree->by_wd, &at, &dir))
        dir_free(dir);
    map_clear(&tree->by_wd);
    map_clear(&tree->by_rel);
    fd_close(&tree->fd);
}

int watch_tree_read(struct watch_tree *tree, struct err *err)
{
    _cleanup_free_ char *data = mem_zalloc(READ_BYTES);
    ssize_t len;

    while ((len = read(tree->fd, data, READ_BYTES)) > 0) {
        for (ssize_t at = 0; at < len;) {
            const struct inotify_event *event = (const void *)(data + at);
            if (on_event(tree, event, err) < 0)
                return -1;
            at += (ssize_t)(sizeof(*event) + event->len);
        }
    }
    if (len < 0 && errno != EAGAIN && errno != EINTR)
        return err_set(err, ERR_INTERNAL, "watcher error: %s", strerror(errno));
    return 0;
}

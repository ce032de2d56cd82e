#include "envd/watch_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "envd/entry_proto.h"
#include "envd/fs.h"
#include "envd/path.h"
#include "envd/tree.h"
#include "envd/upload.h"
#include "envd/watch_tree.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define WATCH_MASK                                                                                 \
    (IN_CREATE | IN_MOVED_TO | IN_MODIFY | IN_DELETE | IN_DELETE_SELF | IN_MOVED_FROM |            \
     IN_MOVE_SELF | IN_ATTRIB)
#define SOAK_EVERY 32        /* folders of a walk */
#define RETRIES_MAX 10000    /* folders that are noted at a time */
#define ROOT_TRIES_MAX 20    /* until a watched folder that is not at its path is given up */
#define PIECE_MAX_BYTES 4000 /* of a path for one openat */

void watch_walk_fail(struct watch *watch, const struct err *err)
{
    struct err out;

    err_set(&out, ERR_INTERNAL, "watcher error: %.480s", err->msg);
    watch_tree_close(watch);
    watch_fail(watch, &out);
}

/* ---- Telling ---- */

static int make_path(struct buf *path, const struct watch_node *node, const char *name)
{
    buf_reset(path);
    if (watch_node_path(node, path) < 0)
        return -1;
    if (name == NULL)
        return 0;
    if (path->len > 0 && buf_add_char(path, '/') < 0)
        return -1;
    return buf_add_str(path, name);
}

static Filesystem__EntryInfo *entry_of(const struct watch *watch, const char *rel)
{
    _cleanup_user_db_ struct user_db *users = user_db_get();
    _cleanup_free_ char *path = path_join(watch->path, rel);
    struct entry entry;

    if (entry_read(AT_FDCWD, path, path, users, &entry) < 0)
        return NULL;
    return entry_to_proto(&entry);
}

void watch_emit(struct watch_hub *hub, struct watch_node *node, Filesystem__EventType type,
                const char *name)
{
    Filesystem__FilesystemEvent event = FILESYSTEM__FILESYSTEM_EVENT__INIT;
    bool gone = type == FILESYSTEM__EVENT_TYPE__EVENT_TYPE_REMOVE ||
                type == FILESYSTEM__EVENT_TYPE__EVENT_TYPE_RENAME;
    struct watch *watch = node->watch;
    _cleanup_free_ char *text = NULL;
    struct err err;

    if (make_path(&hub->path, node, name) < 0) {
        err_set(&err, ERR_INTERNAL, "a path is longer than %d bytes", WATCH_PATH_MAX_BYTES);
        watch_walk_fail(watch, &err);
        return;
    }
    event.type = type;
    if (watch->include_entry && !gone)
        event.entry = entry_of(watch, buf_str(&hub->path));
    if (hub->path.len == 0)
        buf_add_char(&hub->path, '.');
    event.name = hub->path.data;
    if (!str_is_utf8(hub->path.data, hub->path.len))
        event.name = text = entry_proto_text(mem_strdup(hub->path.data));
    watch_push(watch, &event);
    if (event.entry != NULL)
        protobuf_c_message_free_unpacked(&event.entry->base, NULL);
}

/* ---- Opening ---- */

/* The folder REL (as long as it may be) below ROOT; an O_PATH descriptor, or -1 with errno. */
static int open_below(const char *root, char *rel)
{
    int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    _cleanup_close_ int fd = open(root, flags);

    while (fd >= 0 && *rel != '\0') {
        size_t len = strlen(rel), cut = len;
        int next;

        if (len > PIECE_MAX_BYTES)
            for (cut = PIECE_MAX_BYTES; cut > 0 && rel[cut] != '/'; cut--)
                ;
        rel[cut] = '\0';
        next = openat(fd, rel, flags | O_NOFOLLOW);
        fd_close(&fd);
        fd = next;
        rel += cut < len ? cut + 1 : cut;
    }
    return steal_fd(&fd);
}

/* Watch the open folder FD: the descriptor of it that this hub has, new or not; -1 with errno. */
static int add_watch(const struct watch_hub *hub, int fd)
{
    char link[40];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return inotify_add_watch(hub->fd, link, WATCH_MASK);
}

/*
 * The folder that NODE stands for, opened by its path. The kernel says whether it is the same one:
 * adding it again gives the same watch descriptor. -1 when something else is there now.
 */
static int open_node(struct watch_hub *hub, const struct watch_node *node)
{
    _cleanup_close_ int fd = -1;
    int wd;

    if (make_path(&hub->path, node, NULL) < 0)
        return -1;
    fd = open_below(node->watch->path, hub->path.len > 0 ? hub->path.data : (char[1]){""});
    wd = fd >= 0 ? add_watch(hub, fd) : -1;
    if (wd == node->inode->wd)
        return steal_fd(&fd);
    if (wd >= 0 && watch_inode_find(&hub->index, wd) == NULL)
        inotify_rm_watch(hub->fd, wd);
    return -1;
}

/*
 * A folder could not be opened, read or watched for ERRNUM. That it is gone is fine, its events
 * tell. So is one that root may not enter (a FUSE mount of somebody else): nothing is known of it.
 */
static int cannot(const struct watch *watch, const char *name, int errnum, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];

    if (errnum != ENOSPC && errnum != ENOMEM && errnum != EMFILE && errnum != ENFILE &&
        errnum != EOVERFLOW)
        return 0;
    return err_set(err, ERR_INTERNAL, "error adding path %.200s (%.100s) to watcher: %s",
                   watch->path, name, fs_errno_text(errnum, text));
}

/* The node of the open folder FD, called NAME below PARENT. NULL with errno. */
static struct watch_node *follow(struct watch_node *parent, const char *name, int fd)
{
    struct watch_hub *hub = parent->watch->hub;
    struct watch_node *node;
    int wd = add_watch(hub, fd);

    if (wd < 0)
        return NULL;
    node = watch_node_child(&hub->index, parent, name);
    if (node != NULL && node->inode->wd == wd)
        return node;
    if (node != NULL) /* another folder had that name */
        watch_node_drop(&hub->index, node);
    return watch_node_add(&hub->index, parent->watch, parent, name, wd);
}

/* ---- Walking ---- */

struct walk {
    struct tree tree;
    struct watch_node **nodes; /* of its levels */
    size_t cap;
    unsigned count;
    bool report;
};

static void walk_clear(struct walk *walk)
{
    tree_clear(&walk->tree);
    free(walk->nodes);
}

static bool is_dir(int dirfd, const struct tree_item *item)
{
    struct stat st;

    if (item->kind != DT_UNKNOWN)
        return item->kind == DT_DIR;
    return fstatat(dirfd, item->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int open_dir(int dirfd, const char *name)
{
    return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* Go into the open folder FD, called NAME below PARENT; it is watched before it is read. */
static int walk_enter(struct walk *walk, struct watch_node *parent, const char *name, int *fd,
                      struct err *err)
{
    struct watch *watch = parent->watch;
    size_t level = walk->tree.depth;
    struct watch_node *node = follow(parent, name, *fd);

    if (node == NULL || tree_enter(&walk->tree, fd) < 0)
        return cannot(watch, name, errno, err);
    if (level >= walk->cap) {
        walk->cap = level * 2 + 8;
        walk->nodes = mem_realloc_array(walk->nodes, walk->cap, sizeof(struct watch_node *));
    }
    walk->nodes[level] = node;
    if (++walk->count % SOAK_EVERY == 0)
        watch_hub_soak(watch->hub);
    return 0;
}

static int walk_visit(struct walk *walk, const struct tree_item *item, struct err *err)
{
    struct watch_node *node = walk->nodes[walk->tree.depth - 1];
    struct watch_hub *hub = node->watch->hub;
    _cleanup_close_ int fd = -1;

    if (str_starts(item->name, UPLOAD_TEMP_PREFIX))
        return 0;
    if (walk->report && watch_told_add(&hub->index, node, item->name)) {
        watch_emit(hub, node, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_CREATE, item->name);
        if (node->dead)
            return 0; /* the watch has failed */
    }
    if (!is_dir(walk->tree.fd, item))
        return 0;
    fd = open_dir(walk->tree.fd, item->name);
    if (fd < 0)
        return cannot(node->watch, item->name, errno, err);
    return walk_enter(walk, node, item->name, &fd, err);
}

/* All below the open folder FD. It may be renamed meanwhile; its events wait for the walk's end. */
static int walk_run(struct walk *walk, struct watch_node *parent, const char *name, int *fd,
                    struct err *err)
{
    struct watch *watch = parent->watch;
    struct tree_item item;

    if (walk_enter(walk, parent, name, fd, err) < 0)
        return -1;
    while (walk->tree.depth > 0 && !watch_is_stopped(watch) && watch->root != NULL) {
        if (tree_next(&walk->tree, &item)) {
            if (walk_visit(walk, &item, err) < 0)
                return -1;
        } else if (tree_up(&walk->tree) < 0) {
            return err_set(err, ERR_INTERNAL, "%.200s: folders were moved while they were read",
                           watch->path);
        }
    }
    return 0;
}

static void note_retry(struct watch_hub *hub, struct watch_node *parent, const char *name,
                       bool report)
{
    if (hub->retry_count == hub->retry_cap) {
        hub->retry_cap = hub->retry_cap > 0 ? hub->retry_cap * 2 : 16;
        hub->retries = mem_realloc_array(hub->retries, hub->retry_cap, sizeof(*hub->retries));
    }
    hub->retries[hub->retry_count++] =
        (struct watch_retry){.parent = parent, .name = mem_strdup(name), .report = report};
}

int watch_walk_below(struct watch_node *parent, const char *name, bool report, struct err *err)
{
    struct watch *watch = parent->watch;
    struct watch_hub *hub = watch->hub;
    _cleanup_(walk_clear) struct walk walk = {.report = report};
    _cleanup_close_ int parent_fd = open_node(hub, parent);
    _cleanup_close_ int fd = -1;
    int rc;

    tree_init(&walk.tree, false);
    if (parent_fd < 0 && hub->retry_count >= RETRIES_MAX)
        return err_set(err, ERR_INTERNAL, "%.200s: too many folders moved at once", watch->path);
    if (parent_fd < 0) {
        note_retry(hub, parent, name, report);
        return 0;
    }
    fd = open_dir(parent_fd, name);
    if (fd < 0)
        return cannot(watch, name, errno, err);
    rc = walk_run(&walk, parent, name, &fd, err);
    watch_told_mark(&hub->index, watch_hub_horizon(hub));
    return rc;
}

/* The subfolders of the watched folder, which is open as FD. */
static int walk_first(struct watch *watch, int fd, struct err *err)
{
    struct walk walk = {0};
    _cleanup_tree_ struct tree top;
    struct tree_item item;
    int rc = 0;

    tree_init(&top, false);
    if (tree_down(&top, fd, ".", false) < 0)
        return cannot(watch, "", errno, err);
    tree_init(&walk.tree, false);
    while (rc == 0 && !watch_is_stopped(watch) && tree_next(&top, &item)) {
        _cleanup_close_ int below = -1;

        if (!is_dir(top.fd, &item))
            continue;
        below = open_dir(top.fd, item.name);
        rc = below < 0 ? cannot(watch, item.name, errno, err)
                       : walk_run(&walk, watch->root, item.name, &below, err);
    }
    walk_clear(&walk);
    return rc;
}

int watch_walk_root(struct watch *watch, struct err *err)
{
    struct watch_hub *hub = watch->hub;
    _cleanup_close_ int fd = open(watch->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char text[FS_ERRNO_TEXT_SIZE];
    int wd = fd >= 0 ? add_watch(hub, fd) : -1;

    if (wd < 0)
        return err_set(err, ERR_INTERNAL, "error adding path %.300s to watcher: %s", watch->path,
                       fs_errno_text(errno, text));
    watch->root = watch_node_add(&hub->index, watch, NULL, NULL, wd);
    return watch->recursive ? walk_first(watch, fd, err) : 0;
}

/* ---- Folders that could not be reached ---- */

/* The path of the watched folder leads elsewhere: something above it was moved. */
static bool root_is_lost(struct watch_hub *hub, struct watch *watch)
{
    _cleanup_close_ int fd = open_node(hub, watch->root);

    return fd < 0;
}

static void retry(struct watch_hub *hub, struct watch_retry *retry)
{
    struct watch_node *parent = retry->parent;
    struct err err = {0};

    if (parent->dead || watch_is_stopped(parent->watch))
        return;
    if (watch_walk_below(parent, retry->name, retry->report, &err) < 0) {
        watch_walk_fail(parent->watch, &err);
    } else if (hub->retry_count > 0 && hub->retries[hub->retry_count - 1].parent == parent &&
               root_is_lost(hub, parent->watch)) {
        hub->retries[hub->retry_count - 1].tries = retry->tries + 1;
        if (retry->tries < ROOT_TRIES_MAX)
            return;
        err_set(&err, ERR_INTERNAL, "%.300s is no longer where it was", parent->watch->path);
        watch_walk_fail(parent->watch, &err);
    }
}

void watch_walk_retry(struct watch_hub *hub)
{
    struct watch_retry *retries = hub->retries;
    size_t count = hub->retry_count;

    if (count == 0)
        return;
    hub->retries = NULL;
    hub->retry_count = hub->retry_cap = 0;
    for (size_t i = 0; i < count; i++) {
        retry(hub, &retries[i]);
        free(retries[i].name);
    }
    free(retries);
}

void watch_walk_forget(struct watch_hub *hub)
{
    size_t kept = 0;

    for (size_t i = 0; i < hub->retry_count; i++) {
        if (hub->retries[i].parent->dead)
            free(hub->retries[i].name);
        else
            hub->retries[kept++] = hub->retries[i];
    }
    hub->retry_count = kept;
    if (kept == 0) {
        free(steal_ptr(&hub->retries));
        hub->retry_cap = 0;
    }
}

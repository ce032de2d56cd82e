#include "envd/watch_tree.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "envd/fs.h"
#include "envd/path.h"
#include "envd/upload.h"
#include "envd/watch_walk.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define CREATED FILESYSTEM__EVENT_TYPE__EVENT_TYPE_CREATE
#define WRITTEN FILESYSTEM__EVENT_TYPE__EVENT_TYPE_WRITE
#define REMOVED FILESYSTEM__EVENT_TYPE__EVENT_TYPE_REMOVE
#define RENAMED FILESYSTEM__EVENT_TYPE__EVENT_TYPE_RENAME
#define CHANGED FILESYSTEM__EVENT_TYPE__EVENT_TYPE_CHMOD

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

int watch_tree_open(struct watch *watch, struct err *err)
{
    return watch_walk_root(watch, err);
}

/* What only matters while NODE's events come. */
static void drop(struct watch_node *node)
{
    struct watch *watch = node->watch;

    if (node == watch->root)
        watch->root = NULL;
    watch_node_drop(&watch->hub->index, node);
}

void watch_tree_close(struct watch *watch)
{
    struct watch_hub *hub = watch->hub;
    size_t kept = 0;

    for (size_t i = 0; i < hub->rename_count; i++)
        if (hub->renames[i].watch != watch)
            hub->renames[kept++] = hub->renames[i];
    hub->rename_count = kept;
    if (watch->root != NULL)
        drop(watch->root);
}

void watch_tree_reap(struct watch_hub *hub)
{
    if (hub->index.dead == NULL)
        return;
    watch_walk_forget(hub);
    watch_index_reap(&hub->index);
}

void watch_tree_retry(struct watch_hub *hub)
{
    watch_walk_retry(hub);
}

static void walk_below(struct watch_node *parent, const char *name)
{
    struct watch *watch = parent->watch;
    struct err err = {0};

    if (watch->recursive && !parent->dead && watch_walk_below(parent, name, true, &err) < 0)
        watch_walk_fail(watch, &err);
}

/* ---- Uploads ---- */

static bool is_upload(const struct watch_hub *hub, uint32_t cookie)
{
    for (size_t i = 0; cookie != 0 && i < WATCH_UPLOADS; i++)
        if (hub->uploads[i] == cookie)
            return true;
    return false;
}

/* "#123": the kernel's word for a file without a name, such as an upload on its way. */
static bool is_unnamed(const struct watch_node *node, const char *name)
{
    _cleanup_(buf_clear) struct buf rel = {.max = WATCH_PATH_MAX_BYTES};
    _cleanup_free_ char *path = NULL;
    struct stat st;

    if (name[0] != '#' || name[1] == '\0' || name[1 + strspn(name + 1, "0123456789")] != '\0')
        return false;
    watch_node_path(node, &rel);
    path = mem_asprintf("%s/%s/%s", node->watch->path, buf_str(&rel), name);
    return lstat(path, &st) < 0 && errno == ENOENT;
}

/* ---- Renames ---- */

/* Where a folder went: asked for once an event, when the first watch wants to know. */
struct target {
    bool asked, found;
    union watch_hub_event to;
};

/* The node of the folder that CHILD went to, if its watch sees it. */
static struct watch_node *target_node(struct watch_node *from, struct watch_node *child,
                                      uint32_t cookie, struct target *target)
{
    struct watch_hub *hub = from->watch->hub;
    struct watch_inode *inode;
    struct watch_node *node;

    if (!target->asked)
        target->found = watch_hub_find_target(hub, cookie, child->inode->wd, &target->to);
    target->asked = true;
    if (!target->found)
        return NULL;
    if (target->to.event.wd == from->inode->wd)
        return from;
    inode = watch_inode_find(&hub->index, target->to.event.wd);
    for (node = inode != NULL ? inode->nodes : NULL; node != NULL; node = node->next_here)
        if (node->watch == from->watch)
            return watch_node_is_below(node, child) ? NULL : node;
    return NULL;
}

static void note_rename(struct watch_hub *hub, struct watch *watch, uint32_t cookie)
{
    if (hub->rename_count == hub->rename_cap) {
        hub->rename_cap = hub->rename_cap > 0 ? hub->rename_cap * 2 : 8;
        hub->renames = mem_realloc_array(hub->renames, hub->rename_cap, sizeof(*hub->renames));
    }
    hub->renames[hub->rename_count++] = (struct watch_rename){watch, cookie};
}

static bool take_rename(struct watch_hub *hub, const struct watch *watch, uint32_t cookie)
{
    for (size_t i = 0; i < hub->rename_count; i++) {
        if (hub->renames[i].watch == watch && hub->renames[i].cookie == cookie) {
            hub->renames[i] = hub->renames[--hub->rename_count];
            return true;
        }
    }
    return false;
}

/* CHILD is NAME below TO from now on. True when its watch has been told of that name by a walk. */
static bool move_node(struct watch_hub *hub, struct watch_node *child, struct watch_node *to,
                      const char *name)
{
    struct watch_node *there = watch_node_child(&hub->index, to, name);
    bool told = watch_told_take(&hub->index, to, name);

    if (there != NULL && there != child && there->inode == child->inode) {
        watch_node_drop(&hub->index, child); /* a walk came to it under the new name */
        return told;
    }
    if (there != NULL && there != child)
        watch_node_drop(&hub->index, there);
    watch_node_move(&hub->index, child, to, name);
    return false;
}

/*
 * A folder that moves inside the tree keeps its watches and gets its new name at once: both names
 * are told here, and the second event of the pair is left out. A folder that left is dropped.
 */
static void on_moved_from(struct watch_node *node, const struct inotify_event *event,
                          struct target *target)
{
    struct watch_hub *hub = node->watch->hub;
    struct watch_node *child = watch_node_child(&hub->index, node, event->name), *to;

    watch_told_take(&hub->index, node, event->name);
    watch_emit(hub, node, RENAMED, event->name);
    if (!(event->mask & IN_ISDIR) || child == NULL || child->dead)
        return;
    to = target_node(node, child, event->cookie, target);
    if (to == NULL) {
        watch_node_drop(&hub->index, child);
        return;
    }
    if (!move_node(hub, child, to, target->to.event.name))
        watch_emit(hub, to, CREATED, target->to.event.name);
    if (!to->dead)
        note_rename(hub, to->watch, event->cookie);
}

static void on_moved_to(struct watch_node *node, const struct inotify_event *event)
{
    struct watch_hub *hub = node->watch->hub;

    if (is_upload(hub, event->cookie)) {
        watch_emit(hub, node, CHANGED, event->name); /* over an old file: a write follows */
        return;
    }
    if (event->mask & IN_ISDIR && take_rename(hub, node->watch, event->cookie))
        return;
    watch_told_take(&hub->index, node, event->name);
    watch_emit(hub, node, CREATED, event->name);
    if (event->mask & IN_ISDIR)
        walk_below(node, event->name);
}

/*
 * A walk may know the next folder of that name already. With the name, all that was told below it
 * is gone for the client, so that folder is looked at afresh when its own event comes.
 */
static void on_delete(struct watch_node *node, const struct inotify_event *event)
{
    struct watch_hub *hub = node->watch->hub;
    struct watch_node *child = watch_node_child(&hub->index, node, event->name);

    watch_told_take(&hub->index, node, event->name);
    if (event->mask & IN_ISDIR && child != NULL && !child->dead)
        watch_node_drop(&hub->index, child);
    watch_emit(hub, node, REMOVED, event->name);
}

/* ---- Events ---- */

static void on_self(struct watch_node *node, uint32_t mask)
{
    struct watch_hub *hub = node->watch->hub;
    struct err err;

    if (mask & IN_MOVE_SELF)
        watch_emit(hub, node, RENAMED, NULL);
    if (mask & IN_ATTRIB)
        watch_emit(hub, node, CHANGED, NULL);
    if (mask & IN_DELETE_SELF)
        watch_emit(hub, node, REMOVED, NULL);
    if (mask & IN_MOVE_SELF && !node->dead) /* its path is somebody else's now */
        watch_tree_close(node->watch);
    if (mask & IN_UNMOUNT && !node->dead) {
        err_set(&err, ERR_INTERNAL, "%.300s was unmounted", node->watch->path);
        watch_walk_fail(node->watch, &err);
    }
}

static void on_name(struct watch_node *node, const struct inotify_event *event,
                    struct target *target)
{
    struct watch_hub *hub = node->watch->hub;
    uint32_t mask = event->mask;

    if (mask & (IN_MODIFY | IN_ATTRIB) && is_unnamed(node, event->name))
        return;
    if (mask & IN_CREATE && !watch_told_take(&hub->index, node, event->name)) {
        watch_emit(hub, node, CREATED, event->name);
        if (mask & IN_ISDIR)
            walk_below(node, event->name);
    }
    if (mask & IN_MOVED_TO)
        on_moved_to(node, event);
    if (mask & IN_MOVED_FROM)
        on_moved_from(node, event, target);
    if (mask & IN_ATTRIB)
        watch_emit(hub, node, CHANGED, event->name);
    if (mask & IN_MODIFY)
        watch_emit(hub, node, WRITTEN, event->name);
    if (mask & IN_DELETE)
        on_delete(node, event);
}

/* The kernel has no such watch any more. */
static void on_ignored(struct watch_hub *hub, int wd)
{
    struct watch_inode *inode;

    while ((inode = watch_inode_find(&hub->index, wd)) != NULL)
        drop(inode->nodes);
}

/* A file system below the watched folder was unmounted: look at what it covered. */
static void on_unmounted(struct watch_node *node)
{
    _cleanup_free_ char *name = mem_strdup(node->name);
    struct watch_node *parent = node->parent;

    drop(node);
    walk_below(parent, name);
}

void watch_tree_event(struct watch_hub *hub, const struct inotify_event *event)
{
    struct watch_inode *inode = watch_inode_find(&hub->index, event->wd);
    struct target target = {0};

    if (inode == NULL)
        return;
    if (event->mask & IN_IGNORED) {
        on_ignored(hub, event->wd);
        return;
    }
    if (event->len > 0 && str_starts(event->name, UPLOAD_TEMP_PREFIX)) {
        if (event->mask & IN_MOVED_FROM)
            hub->uploads[hub->upload_next++ % WATCH_UPLOADS] = event->cookie;
        return;
    }
    /* dead nodes stay in memory, and in this chain, until the event is over */
    for (struct watch_node *node = inode->nodes; node != NULL; node = node->next_here) {
        if (node->dead)
            continue;
        if (event->len > 0)
            on_name(node, event, &target);
        else if (node->parent == NULL)
            on_self(node, event->mask);
        else if (event->mask & IN_UNMOUNT)
            on_unmounted(node);
    }
}

/* envd/fs.h: the calls that walk a tree, fs_list and fs_remove. */
#include "envd/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "envd/path.h"
#include "envd/tree.h"
#include "server/base/buf.h"
#include "server/base/mem.h"

void fs_list_clear(struct fs_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        entry_clear(&list->rows[i]);
    free(list->rows);
    *list = (struct fs_list){0};
}

static int list_add(struct fs_list *list, const struct entry *entry, struct err *err)
{
    list->bytes += strlen(entry->path) + strlen(entry->name);
    if (list->count >= FS_LIST_MAX_ENTRIES || list->bytes > FS_LIST_MAX_BYTES)
        return err_set(err, ERR_LIMIT,
                       "more than %d entries (or their names %u MiB): list fewer at a time",
                       FS_LIST_MAX_ENTRIES, FS_LIST_MAX_BYTES >> 20);
    if (list->count == list->cap) {
        list->cap = list->cap > 0 ? list->cap * 2 : 64;
        list->rows = mem_realloc_array(list->rows, list->cap, sizeof(*list->rows));
    }
    list->rows[list->count++] = *entry;
    return 0;
}

/* Why the requested folder cannot be listed. */
static int list_open_error(const char *path, int errnum, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];
    struct stat st;

    fs_errno_text(errnum, text);
    if (errnum == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "path not found: lstat %s: %s", path, text);
    if (errnum == ELOOP)
        return err_set(err, ERR_CONFLICT, "cyclic symlink or chain >255 links at \"%s\"", path);
    if (errnum == ENOTDIR && stat(path, &st) == 0)
        return err_set(err, ERR_INVALID, "path is not a directory: %s", path);
    return err_set(err, ERR_INTERNAL, "error reading directory: open %s: %s", path, text);
}

struct lister {
    struct tree tree;
    struct buf path; /* of the innermost folder */
    size_t *lengths; /* of `path`, per level */
    size_t lengths_cap;
    uint32_t depth;
    const struct user_db *users;
    struct fs_list list;
};

static void lister_clear(struct lister *lister)
{
    tree_clear(&lister->tree);
    buf_clear(&lister->path);
    free(lister->lengths);
    fs_list_clear(&lister->list);
}

static void cut_path(struct buf *path, size_t len)
{
    path->len = len;
    path->data[len] = '\0';
}

/* Go into the folder NAME, whose path is lister->path already. 0 also when it has gone. */
static int lister_descend(struct lister *lister, const char *name, size_t parent_len,
                          struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];
    size_t level = lister->tree.depth;

    if (tree_down(&lister->tree, AT_FDCWD, name, false) < 0) {
        if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
            return err_set(err, ERR_INTERNAL, "error reading directory: open %s: %s",
                           buf_str(&lister->path), fs_errno_text(errno, text));
        cut_path(&lister->path, parent_len);
        return 0;
    }
    if (level >= lister->lengths_cap) {
        lister->lengths_cap = level * 2 + 16;
        lister->lengths = mem_realloc_array(lister->lengths, lister->lengths_cap, sizeof(size_t));
    }
    lister->lengths[level] = parent_len;
    return 0;
}

static int lister_visit(struct lister *lister, const struct tree_item *item, struct err *err)
{
    size_t parent_len = lister->path.len;
    struct entry entry;
    bool is_dir;

    if ((parent_len > 1 && buf_add_char(&lister->path, '/') < 0) ||
        buf_add_str(&lister->path, item->name) < 0)
        return err_set(err, ERR_INTERNAL, "error reading directory: %s: file name too long",
                       buf_str(&lister->path));
    if (entry_read(lister->tree.fd, item->name, buf_str(&lister->path), lister->users, &entry) <
        0) {
        cut_path(&lister->path, parent_len);
        return 0; /* gone since the folder was read */
    }
    is_dir = entry.type == ENTRY_DIRECTORY && !entry.is_symlink;
    if (list_add(&lister->list, &entry, err) < 0) {
        entry_clear(&entry);
        return -1;
    }
    if (is_dir && lister->tree.depth < lister->depth)
        return lister_descend(lister, item->name, parent_len, err);
    cut_path(&lister->path, parent_len);
    return 0;
}

int fs_list(const char *path, uint32_t depth, const struct user_db *users, struct fs_list *out,
            struct err *err)
{
    _cleanup_(lister_clear) struct lister lister = {.depth = depth > 0 ? depth : 1, .users = users};
    _cleanup_free_ char *clean = path_clean(path);
    struct tree_item item;

    tree_init(&lister.tree, true);
    buf_init(&lister.path, PATH_MAX - 1);
    if (buf_add_str(&lister.path, clean) < 0)
        return list_open_error(path, ENAMETOOLONG, err);
    if (tree_down(&lister.tree, AT_FDCWD, path, true) < 0)
        return list_open_error(path, errno, err);
    while (lister.tree.depth > 0) {
        if (tree_next(&lister.tree, &item)) {
            if (lister_visit(&lister, &item, err) < 0)
                return -1;
            continue;
        }
        size_t level = lister.tree.depth - 1;
        if (tree_up(&lister.tree) < 0)
            return err_set(err, ERR_INTERNAL, "error reading directory: %s was moved meanwhile",
                           buf_str(&lister.path));
        if (level > 0)
            cut_path(&lister.path, lister.lengths[level]);
    }
    *out = lister.list;
    lister.list = (struct fs_list){0};
    return 0;
}

/* Remember the first failure of a removal; later ones are left alone. */
static void note_failure(const char *path, const char *name, int errnum, int *rc, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];

    if (*rc == 0)
        *rc = err_set(err, ERR_INTERNAL, "error removing file or directory: unlinkat %s%s%s: %s",
                      path, name != NULL ? " at " : "", name != NULL ? name : "",
                      fs_errno_text(errnum, text));
}

/* Take NAME away unless it is a folder with something in it: then *FULL. errno on -1. */
static int remove_one(int dirfd, const char *name, unsigned char kind, bool *full)
{
    *full = false;
    if (kind != DT_DIR) {
        if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
            return 0;
        if (errno != EISDIR && errno != EPERM)
            return -1;
        int failed = errno;
        struct stat st;
        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode)) {
            errno = failed;
            return -1;
        }
    }
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    *full = errno == ENOTEMPTY || errno == EEXIST;
    return *full ? 0 : -1;
}

/*
 * Empty the folder NAME and remove it. `names` of the levels on the way are borrowed from the tree:
 * the entry a level went into stays valid until that level is left.
 */
static int remove_tree(const char *path, struct err *err)
{
    _cleanup_(tree_clear) struct tree tree;
    struct tree_item item;
    bool full;
    int rc = 0;

    tree_init(&tree, false);
    if (tree_down(&tree, AT_FDCWD, path, false) < 0) {
        if (errno != ENOENT)
            note_failure(path, NULL, errno, &rc, err);
        return rc;
    }
    while (tree.depth > 0) {
        if (tree_next(&tree, &item)) {
            if (remove_one(tree.fd, item.name, item.kind, &full) < 0 ||
                (full && tree_down(&tree, AT_FDCWD, item.name, false) < 0 && errno != ENOENT))
                note_failure(path, item.name, errno, &rc, err);
            continue;
        }
        if (tree_up(&tree) < 0) {
            note_failure(path, NULL, errno, &rc, err);
            return rc;
        }
        if (tree.depth == 0)
            break;
        struct tree_level *level = &tree.levels[tree.depth - 1];
        const char *name = level->rows[level->next - 1] + 1;
        if (unlinkat(tree.fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            note_failure(path, name, errno, &rc, err);
    }
    if (rc == 0 && rmdir(path) < 0 && errno != ENOENT)
        note_failure(path, NULL, errno, &rc, err);
    return rc;
}

/* PATH without trailing slashes: "link/" names the link, not the folder behind it. To free(). */
static char *trim(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    return mem_strndup(path, len);
}

/* Is PATH the root folder by another name, or does it end in ".."? Neither can be meant. */
static bool is_never_removed(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct stat root, st;

    if (strcmp(slash != NULL ? slash + 1 : path, "..") == 0)
        return true;
    return lstat(path, &st) == 0 && stat("/", &root) == 0 && st.st_dev == root.st_dev &&
           st.st_ino == root.st_ino;
}

int fs_remove_one(const char *path, bool *full, struct err *err)
{
    _cleanup_free_ char *trimmed = trim(path);
    int rc = 0;

    *full = false;
    if (is_never_removed(trimmed))
        note_failure(trimmed, NULL, EBUSY, &rc, err);
    else if (remove_one(AT_FDCWD, trimmed, DT_UNKNOWN, full) < 0)
        note_failure(trimmed, NULL, errno, &rc, err);
    return rc;
}

int fs_remove(const char *path, struct err *err)
{
    _cleanup_free_ char *trimmed = trim(path);
    bool full;

    if (fs_remove_one(trimmed, &full, err) < 0)
        return -1;
    return full ? remove_tree(trimmed, err) : 0;
}

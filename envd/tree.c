#include "envd/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/buf.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

#define TREE_READ_BYTES 65536           /* per getdents64 */
#define TREE_LEVEL_MAX_BYTES (1u << 30) /* names of one folder */

void tree_init(struct tree *tree, bool sorted)
{
    *tree = (struct tree){.fd = -1, .sorted = sorted};
}

static void level_clear(struct tree_level *level)
{
    fd_close(&level->fd);
    free(level->text);
    free(level->rows);
}

void tree_clear(struct tree *tree)
{
    while (tree->depth > 0)
        level_clear(&tree->levels[--tree->depth]);
    free(tree->levels);
    fd_close(&tree->fd);
    tree_init(tree, tree->sorted);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a + 1, *(char *const *)b + 1);
}

/* Append the entries of one getdents64 answer to TEXT, without "." and "..". */
static int text_add(struct buf *text, const char *data, size_t len, size_t *count)
{
    for (size_t at = 0; at < len;) {
        const struct dirent64 *entry = (const struct dirent64 *)(const void *)(data + at);
        const char *name = data + at + offsetof(struct dirent64, d_name);
        at += entry->d_reclen;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (buf_add_char(text, (char)entry->d_type) < 0 ||
            buf_add(text, name, strlen(name) + 1) < 0) {
            errno = EOVERFLOW;
            return -1;
        }
        ++*count;
    }
    return 0;
}

static int level_read(int fd, bool sorted, struct tree_level *level)
{
    _cleanup_free_ char *data = mem_zalloc(TREE_READ_BYTES);
    _cleanup_(buf_clear) struct buf text;
    size_t count = 0, at = 0;
    ssize_t len;

    buf_init(&text, TREE_LEVEL_MAX_BYTES);
    while ((len = getdents64(fd, data, TREE_READ_BYTES)) != 0)
        if (len < 0 || text_add(&text, data, (size_t)len, &count) < 0)
            return -1;
    level->text = buf_steal(&text);
    level->rows = mem_calloc(count > 0 ? count : 1, sizeof(*level->rows));
    level->count = count;
    for (size_t i = 0; i < count; i++) {
        level->rows[i] = level->text + at;
        at += 1 + strlen(level->text + at + 1) + 1;
    }
    if (sorted)
        qsort(level->rows, count, sizeof(*level->rows), by_name);
    return 0;
}

int tree_enter(struct tree *tree, int *fd)
{
    struct tree_level level = {.fd = -1};
    struct stat st;

    if (fstat(*fd, &st) < 0 || level_read(*fd, tree->sorted, &level) < 0)
        return -1;
    level.dev = st.st_dev;
    level.ino = st.st_ino;
    if (tree->depth == tree->cap) {
        tree->cap = tree->cap > 0 ? tree->cap * 2 : 16;
        tree->levels = mem_realloc_array(tree->levels, tree->cap, sizeof(*tree->levels));
    }
    if (tree->depth > 0 && tree->depth < TREE_FDS_MAX)
        tree->levels[tree->depth - 1].fd = steal_fd(&tree->fd);
    tree->levels[tree->depth++] = level;
    fd_close(&tree->fd);
    tree->fd = steal_fd(fd);
    return 0;
}

int tree_down(struct tree *tree, int dirfd, const char *name, bool follow)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);
    _cleanup_close_ int fd = openat(tree->depth > 0 ? tree->fd : dirfd, name, flags);

    return fd < 0 ? -1 : tree_enter(tree, &fd);
}

int tree_up(struct tree *tree)
{
    struct tree_level *parent;
    struct stat st;

    level_clear(&tree->levels[--tree->depth]);
    if (tree->depth == 0) {
        fd_close(&tree->fd);
        return 0;
    }
    parent = &tree->levels[tree->depth - 1];
    if (parent->fd >= 0) {
        fd_close(&tree->fd);
        tree->fd = steal_fd(&parent->fd);
        return 0;
    }
    _cleanup_close_ int fd = openat(tree->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    if (st.st_dev != parent->dev || st.st_ino != parent->ino) {
        errno = ESTALE;
        return -1;
    }
    fd_close(&tree->fd);
    tree->fd = steal_fd(&fd);
    return 0;
}

bool tree_next(struct tree *tree, struct tree_item *out)
{
    struct tree_level *level = &tree->levels[tree->depth - 1];
    const char *row;

    if (level->next == level->count)
        return false;
    row = level->rows[level->next++];
    *out = (struct tree_item){.name = row + 1, .kind = (unsigned char)row[0]};
    return true;
}

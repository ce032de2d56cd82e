/*
 * envd/tree.h - a walk through a folder tree of any depth.
 *
 * An explicit stack and at most TREE_FDS_MAX descriptors, whatever the depth: a step down is openat
 * of the child without following a symlink, a step up goes back to the parent's descriptor. Below
 * TREE_FDS_MAX levels it is ".." instead, whose identity is checked, so a rename while the walk is
 * on the way cannot lead it out. Blocking; belongs to one thread.
 */
#ifndef SANDPIT_ENVD_TREE_H
#define SANDPIT_ENVD_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define TREE_FDS_MAX 32

struct tree_level {
    int fd; /* while a level below is being walked; -1: too deep to be kept */
    dev_t dev;
    ino_t ino;
    char *text;  /* per entry: its d_type byte, its name, a NUL */
    char **rows; /* into text; sorted by name when asked */
    size_t count;
    size_t next;
};

struct tree {
    int fd; /* the folder of the innermost level; -1 before the first */
    bool sorted;
    struct tree_level *levels;
    size_t depth, cap;
};

struct tree_item {
    const char *name;   /* borrowed, until tree_up leaves its folder */
    unsigned char kind; /* DT_DIR, DT_LNK …, DT_UNKNOWN */
};

/* An empty walk: tree_clear is allowed on it. SORTED: names come in byte order. */
void tree_init(struct tree *tree, bool sorted);
void tree_clear(struct tree *tree);
#define _cleanup_tree_ __attribute__((cleanup(tree_clear)))

/*
 * Enter the folder NAME (below DIRFD for the first level, else below the innermost one) and read
 * its names. FOLLOW lets the last element be a symlink. Returns 0, or -1 with errno and the walk
 * where it was.
 */
int tree_down(struct tree *tree, int dirfd, const char *name, bool follow);
/* The same for an open folder below the innermost one. *FD is taken on success. */
int tree_enter(struct tree *tree, int *fd);
/* Leave the innermost level. 0, or -1 with errno: ESTALE when the parent is another folder now. */
int tree_up(struct tree *tree);
/* The next entry of the innermost level; false when there are no more. */
bool tree_next(struct tree *tree, struct tree_item *out);

#endif

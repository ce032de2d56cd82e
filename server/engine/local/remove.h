/*
 * server/engine/local/remove.h - rm -rf of a tree that an enemy made.
 */
#ifndef SANDPIT_ENGINE_LOCAL_REMOVE_H
#define SANDPIT_ENGINE_LOCAL_REMOVE_H

#include "server/base/err.h"

/*
 * Remove NAME below DIRFD with all that is in it: by descriptors, never through a symlink, onto
 * another file system only if empty there, and with bounded stack and descriptors however deep it
 * is. No such name is no error. Nobody may be changing the tree. Blocking.
 */
int remove_tree(int dirfd, const char *name, struct err *err);

#endif

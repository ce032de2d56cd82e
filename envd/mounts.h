/*
 * envd/mounts.h - which mounts keep their inodes in this machine's memory, so that asking for a
 * file's attributes never waits for somebody else.
 *
 * From /proc/self/mountinfo, read again when poll(2) says that mounts have changed.
 * Source: proc(5).
 */
#ifndef SANDPIT_ENVD_MOUNTS_H
#define SANDPIT_ENVD_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is the mount ID known to be local? Never blocks. False also while the table is out of date. */
bool mounts_is_local(uint64_t id);
/* Worker: bring the table up to date if it is not. */
void mounts_refresh(void);

/*
 * Fill OUT with the ids of the local mounts that TEXT (LEN bytes of mountinfo) names, at most MAX.
 * Returns how many. Lines of another form are skipped. Pure.
 */
size_t mounts_parse(const char *text, size_t len, uint64_t *out, size_t max);

#endif

/*
 * server/privsep.h - how `serve` gives up root: another user, no capabilities, its own mounts.
 *
 * Start-up thread, in this order and before any other thread: privsep_find_user, privsep_mounts,
 * privsep_drop.
 */
#ifndef SANDPIT_PRIVSEP_H
#define SANDPIT_PRIVSEP_H

#include <sys/types.h>

#include "server/base/err.h"
#include "server/config.h"

#define PRIVSEP_ROOT "/run/.sandpit-ns"
#define PRIVSEP_STATE PRIVSEP_ROOT "/state" /* the state folder, as the server sees it */

struct privsep_user {
    uid_t uid;
    gid_t gid;
};

/*
 * Who serves the network: --user, else the account "sandpit", else the ids just below --id-base,
 * which no sandbox has. ERR_INVALID for an unknown account or root.
 */
int privsep_find_user(const struct settings *settings, struct privsep_user *out, struct err *err);

/*
 * A mount namespace of this process alone, with STATE_DIR also at PRIVSEP_STATE: USER may be
 * unable to reach it by its own path (below /root, say). Mounts that exist below RUN_DIR and
 * STATE_DIR are let go here, so that this process does not keep sandboxes' file systems alive.
 */
int privsep_mounts(const char *state_dir, const char *run_dir, struct err *err);

/*
 * Become USER for good: groups, ids, capabilities, no_new_privs, not dumpable; no core files, as
 * many descriptors as are allowed.
 */
int privsep_drop(const struct privsep_user *user, struct err *err);

#endif

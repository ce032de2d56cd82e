/*
 * server/state.h - the state folder: what is in it, who owns it, who uses it.
 *
 *   <state-dir>/            root:<gid>, 0710 (0700 before the first serve)
 *     server.lock           of the running server
 *     db/                   the unprivileged server's: sandpit.db, master.key
 *     tls/                  certificates of --dev; ca.pem and bundle.pem are for clients
 *     gateway/              root's: ca.pem and ca.key of the egress gateway (gateway/ca.h)
 *     dev.env dev-plain.env of whoever started --dev
 *
 * What the launcher keeps beside them stays root's. Start-up thread and subcommands.
 */
#ifndef SANDPIT_STATE_H
#define SANDPIT_STATE_H

#include <sys/types.h>

#include "server/base/err.h"
#include "server/config.h"
#include "server/store/store.h"

/* Make <state-dir> and <state-dir>/db, where they are missing. */
int state_make(const struct settings *settings, struct err *err);
/* "<state-dir>/db", to free(). */
char *state_db_dir(const struct settings *settings);
/* Open the store. CREATE false: ERR_NOT_FOUND when this folder has never been used. */
int state_store(const struct settings *settings, bool create, struct store **out, struct err *err);
/*
 * Take the lock that only one server holds; it ends with this process. *FD stays open until then.
 * ERR_BUSY naming the process that has it.
 */
int state_lock(const struct settings *settings, int *fd, struct err *err);
/* The process that has the lock, or 0. */
pid_t state_lock_holder(const struct settings *settings);
/* Give db/ and tls/ to UID and GID, and let GID pass through <state-dir>. As root. */
int state_give(const struct settings *settings, uid_t uid, gid_t gid, struct err *err);

/*
 * For a command that takes only --state-dir and --config (NULL: not given): its settings, and the
 * store they name, made when CREATES. 0, or the exit code of what was printed. SETTINGS is
 * initialised; *STORE is to store_close.
 */
int cmd_open_state(const char *state_dir, const char *config, bool creates,
                   struct settings *settings, struct store **store);

#endif

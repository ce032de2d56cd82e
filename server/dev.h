/*
 * server/dev.h - `serve --dev`: a first key, and files of `export` lines for people and scripts.
 *
 * Start-up thread, as root: the files belong to whoever started the server.
 */
#ifndef SANDPIT_DEV_H
#define SANDPIT_DEV_H

#include <stdint.h>

#include "server/base/err.h"
#include "server/config.h"

struct dev_ports { /* in use, which is not what was asked for when that was 0 */
    uint16_t api;
    uint16_t traffic;
    uint16_t tls;
};

/*
 * Write <state-dir>/dev.env and dev-plain.env (0600). The key in dev.env is kept while it is valid;
 * otherwise one is made: namespace "default", client "dev", scopes read and write.
 */
int dev_write_env(const struct settings *settings, const struct dev_ports *ports, struct err *err);

/* How to use them, for standard output; holds the key if that is a terminal. As root; to free(). */
char *dev_help(const struct settings *settings);

#endif

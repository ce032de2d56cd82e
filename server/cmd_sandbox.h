/*
 * server/cmd_sandbox.h - the subcommands of `sandpit sandbox` that talk to a running server.
 */
#ifndef SANDPIT_CMD_SANDBOX_H
#define SANDPIT_CMD_SANDBOX_H

#include <stdbool.h>

#include "server/base/err.h"

/* cmd_sandbox_remote.c */
int sandbox_list_remote(bool json);
int sandbox_kill(int argc, char **argv);

/* cmd_sandbox_logs.c */
int sandbox_logs(int argc, char **argv);
int sandbox_use(int argc, char **argv);

/* cmd_sandbox_exec.c */
int sandbox_exec(int argc, char **argv);
int sandbox_connect(int argc, char **argv);

/* Print ERR and how these commands are used; EXIT_USAGE. */
int sandbox_usage(const struct err *err);

#endif

/*
 * server/client/console.h - a process of a sandbox at our standard streams: exec, or attaching.
 *
 * Follows the process through a connection that breaks, even when the server is killed and started
 * again: it holds the process's output (Sandpit-Hold), says what it has written
 * (Sandpit-Acknowledge) and comes back for the rest (Sandpit-Replay-From). Output is byte for byte
 * what the process wrote.
 * One console a program: it takes the terminal and signals.
 */
#ifndef SANDPIT_CONSOLE_H
#define SANDPIT_CONSOLE_H

#include "server/client/client.h"

#define CONSOLE_LOST_S 60    /* how long a lost server is looked for */
#define EXIT_CONSOLE 125     /* the console's own failures */
#define EXIT_SIGNAL_BASE 128 /* and the signal that ended the process */

struct console_spec {
    const struct client *client;
    const struct client_sandbox *sandbox;
    /* Either a command to start … */
    char *const *command; /* NULL-terminated; NULL: attach */
    const char *cwd;
    json_t *envs; /* object of strings, borrowed */
    bool tty;
    /* … or a process to attach to. */
    uint32_t pid;
    bool replay; /* with what is kept of its output */

    const char *user; /* NULL: the sandbox's default */
};

/*
 * Run until the process has ended or the console has to leave it. Returns the exit code: the
 * process's own, EXIT_SIGNAL_BASE + N after signal N, or EXIT_CONSOLE with *ERR set.
 */
int console_run(const struct console_spec *spec, struct err *err);

#endif

/*
 * tests/integration/engine_lib.h - a local engine to test, and commands run in its sandboxes.
 *
 * The tests run in network namespaces of their own: "host" (lo, and 198.51.100.1 on a link) and
 * "internet" (203.0.113.1 behind it), so that no packet leaves the machine.
 */
#ifndef SANDPIT_TESTS_ENGINE_LIB_H
#define SANDPIT_TESTS_ENGINE_LIB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/engine/local/local.h"

#define OUTPUT_MAX 65536
#define INTERNET_ADDRESS "203.0.113.1"
#define HOST_ADDRESS "198.51.100.1"

extern struct engine *engine;
extern struct local_config config;
extern pid_t launcher_pid;
extern char output[OUTPUT_MAX]; /* of the last run_in */

/* Count a check. WHAT is a sentence that is true when it passes. */
void check(bool ok, const char *what);
/* RC is 0; prints ERR otherwise. */
void check_err(int rc, const struct err *err, const char *what);
/* Print "N passed, N failed"; the exit status. */
int check_summary(void);

/* Namespaces, folders below a new temporary one, loop thread. Aborts when it cannot. */
void lib_start(const char *envd_path);
void lib_end(void);
/* A launcher and an engine on it. Returns 0 or -1. */
int engine_up(uint32_t spares, struct err *err);
/* Close the engine; waits for the launcher to end. */
void engine_down(void);
/* SIGKILL to the launcher, then close. */
void engine_crash(void);

int create(const char *id, struct err *err);
int create_with(const struct engine_spec *spec, struct err *err);
extern const struct engine_spec spec_default;

/* Connect to PORT in sandbox ID. Returns a connected socket, or -1 with ERR set. */
int dial(const char *id, uint16_t port, bool ipv6, struct err *err);
/* Run COMMAND by sh in ID; its exit status, -1 when there is no connection. Fills `output`. */
int run_in(const char *id, const char *command);
/* The same on this side, in the "host" namespace. */
int run_here(const char *command);
/* The id whose init ended last, "" for none yet; and forget it. */
void exit_seen(char out[SANDBOX_ID_SIZE]);

/* What a list gives: how many, and whether ID is among them. */
int list_count(const char *id, bool *found);
/* Destroy whatever a list gives. */
void destroy_all(void);

#endif

/*
 * envd/upgrade.h - POST /upgrade: another envd takes over, in this process.
 *
 *   try ──▶ quiesce ──▶ rehearse ──▶ become
 *
 * The new program is asked which states it reads; then what runs on worker threads is waited for,
 * while new file calls wait; then everything is written down, the new program reads it in a child
 * process that changes nothing, and only when it has said that it can does this process become it.
 * Whatever fails before that last step leaves all as it was. Loop thread; at most one at a time.
 */
#ifndef ENVD_UPGRADE_H
#define ENVD_UPGRADE_H

#include <stdbool.h>

#include "server/base/err.h"

#define UPGRADE_MAX_BYTES (64 << 20) /* of a program */

/* INIT: we are pid 1 of the sandbox. Once. */
void upgrade_init(bool init);

/* The head of the request is there: false when it is answered, else its body is taken. */
struct exchange;
bool upgrade_begin(struct exchange *ex);

/* `envd --handover-format`: the line by which a program says which states it reads. */
void upgrade_print_format(void);
/* The end of a rehearsal. */
void upgrade_print_ready(void) __attribute__((noreturn));
void upgrade_print_refusal(const struct err *err) __attribute__((noreturn));

#endif

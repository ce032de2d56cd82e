/*
 * envd/replay.h - the headers that ask for, and tell, offsets of a process's outputs.
 *
 *   Sandpit-Replay-From: stdout=123, stderr=0     (request of Connect)
 *   Sandpit-Offsets: stdout=123, stderr=0         (its answer: where each output begins)
 *
 * An offset counts the bytes of that output since the process began; "earliest" is the oldest that
 * is kept; an output that is not named begins now. One value without a name is for standard output
 * or the terminal; when it is 0 or "earliest" it is for standard error too.
 *   Sandpit-Hold: 60                              (request of Start and Connect: seconds)
 *   Sandpit-Input-Offset: 70000                   (request of SendInput: where it begins)
 *   Sandpit-Acknowledge: stdout=123, stderr=0     (request of Update: received before that)
 *
 * Pure. Source: ours, docs/processes.md.
 */
#ifndef ENVD_REPLAY_H
#define ENVD_REPLAY_H

#include <stdbool.h>

#include "envd/process.h"

#define REPLAY_HEADER "sandpit-replay-from"
#define REPLAY_HOLD_HEADER "sandpit-hold"
#define REPLAY_ACKNOWLEDGE_HEADER "sandpit-acknowledge"
#define REPLAY_INPUT_HEADER "sandpit-input-offset"
#define REPLAY_HOLD_MAX_S 3600
#define REPLAY_OFFSETS_HEADER "Sandpit-Offsets"
#define REPLAY_OFFSETS_SIZE 64 /* bytes with the NUL */

struct replay {
    uint64_t from[OUTPUT_KINDS]; /* PROCESS_FROM_NOW: not asked for */
    bool bare;                   /* from[OUTPUT_STDOUT] had no name */
};

/* -1 with ERR_INVALID: not that form. */
int replay_parse(const char *text, struct replay *out, struct err *err);

/* The seconds of Sandpit-Hold, 1 to REPLAY_HOLD_MAX_S. */
int replay_hold_parse(const char *text, int64_t *ms, struct err *err);

/*
 * The offsets of TEXT, of Sandpit-Acknowledge, for a process with these COUNT outputs;
 * PROCESS_FROM_NOW for what is not named. ERR_INVALID: not that form, or an output it has not.
 */
int replay_acknowledged(const char *text, const struct process_range *ranges, size_t count,
                        uint64_t at[PROCESS_OUTPUTS], struct err *err);

/*
 * What REPLAY means for a process with these COUNT outputs. Returns 0 and fills FROM; -1 with
 * ERR_INVALID for an output it does not have, or with *OUT_OF_RANGE set for bytes that are not
 * kept.
 */
int replay_resolve(const struct replay *replay, const struct process_range *ranges, size_t count,
                   uint64_t from[PROCESS_OUTPUTS], bool *out_of_range, struct err *err);

/* The value of Sandpit-Offsets. */
void replay_offsets(const struct process_range *ranges, size_t count,
                    const uint64_t from[PROCESS_OUTPUTS], char out[REPLAY_OFFSETS_SIZE]);

#endif

/*
 * server/base/sig.h - signals as a new process expects them.
 */
#ifndef SANDPIT_BASE_SIG_H
#define SANDPIT_BASE_SIG_H

/*
 * Every disposition to its default and an empty mask. Includes the two signals that libc keeps for
 * itself and sigaction(2) refuses: a parent such as make may hand them down ignored, and what is
 * ignored passes through every exec. Single-threaded processes only. Async-signal-safe.
 */
void sig_defaults(void);

#endif

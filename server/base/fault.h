/*
 * server/base/fault.h - places where a test may let this program die.
 *
 * Only in builds with SANDPIT_FAULTS (debug, asan, tsan, cov); elsewhere nothing is left of it. The
 * variable SANDPIT_FAULT names one place; it is read once. Any thread.
 */
#ifndef SANDPIT_BASE_FAULT_H
#define SANDPIT_BASE_FAULT_H

#ifdef SANDPIT_FAULTS
/* SIGKILL to this process when NAME is the place. */
void fault_point(const char *name);
#else
#define fault_point(name) ((void)(name))
#endif

#endif

/*
 * server/base/trace.h - which trace a request belongs to.
 *
 * Pure but for trace_new. Any thread. Source: W3C Trace Context, section 3.2 (traceparent).
 */
#ifndef SANDPIT_BASE_TRACE_H
#define SANDPIT_BASE_TRACE_H

#include <stddef.h>

#define TRACE_ID_SIZE 33 /* 32 lower-case hex digits and a NUL */

/*
 * The trace id of a traceparent header (LEN bytes, untrusted). 0, or -1 when it is not valid: OUT
 * is untouched then, and the sender counts as having sent none.
 */
int trace_parse(const char *text, size_t len, char out[TRACE_ID_SIZE]);
/* A new, random one. */
void trace_new(char out[TRACE_ID_SIZE]);

#endif

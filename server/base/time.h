/*
 * server/base/time.h - clocks in milliseconds and RFC 3339.
 *
 * Monotonic for deadlines, real time only for what users see. Any thread.
 */
#ifndef SANDPIT_BASE_TIME_H
#define SANDPIT_BASE_TIME_H

#include <stddef.h>
#include <stdint.h>

#define TIME_RFC3339_SIZE 32 /* "2026-01-02T03:04:05.678901234Z" and a NUL */

int64_t time_unix_ms(void);
int64_t time_mono_ms(void);
int64_t time_mono_us(void);

/* UTC with three fraction digits: "2026-01-02T03:04:05.678Z". OUT holds TIME_RFC3339_SIZE. */
void time_rfc3339_ms(int64_t unix_ms, char *out);
/*
 * Parse an RFC 3339 date-time with any fraction and zone. Returns 0, *UNIX_MS (cut, not rounded)
 * and, unless NULL, *NANOS (0..999999999 within the second); -1 otherwise.
 */
int time_parse_rfc3339(const char *s, size_t len, int64_t *unix_ms, uint32_t *nanos);

#endif

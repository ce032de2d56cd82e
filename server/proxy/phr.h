/*
 * server/proxy/phr.h - what libh2o exports of picohttpparser; Debian ships no header for it.
 *
 * Pure. Any thread. Source: picohttpparser as bundled with h2o 2.2.5 (the symbols of
 * libh2o-evloop.so.0.13).
 */
#ifndef SANDPIT_PROXY_PHR_H
#define SANDPIT_PROXY_PHR_H

#include <stddef.h>

struct phr_header {
    const char *name; /* NULL for a folded line */
    size_t name_len;
    const char *value;
    size_t value_len;
};

/*
 * Parse a response head of LEN bytes. *NUM_HEADERS is the room in HEADERS and then the number
 * found. LAST_LEN is the length of the previous, incomplete try (0 at first). Returns the length
 * of the head, -1 when it is malformed, -2 when it is incomplete.
 */
int phr_parse_response(const char *buf, size_t len, int *minor_version, int *status,
                       const char **msg, size_t *msg_len, struct phr_header *headers,
                       size_t *num_headers, size_t last_len);

#endif

/*
 * envd/ring.h - the last bytes of one output, at their absolute offsets.
 *
 * Plain memory, no policy: who grows it and when is process_ring.c's business. Byte N of a stream
 * is the (N+1)th it ever produced; kept are those of [ring_start, end). Loop thread.
 */
#ifndef ENVD_RING_H
#define ENVD_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring {
    uint8_t *data; /* NULL while CAP is 0 */
    size_t cap;
    size_t len;   /* bytes kept */
    size_t at;    /* where the next byte goes */
    uint64_t end; /* bytes since the stream began */
};

/* The offset of the oldest byte that is kept. */
uint64_t ring_start(const struct ring *ring);
/* Have CAP bytes (0: none); the newest of those kept stay. -1: no memory, nothing changed. */
int ring_resize(struct ring *ring, size_t cap);
/* Append, over the oldest. */
void ring_write(struct ring *ring, const uint8_t *data, size_t len);
/* Where bytes may be put directly: *LEN in one piece, over the oldest. Then ring_commit. */
uint8_t *ring_room(struct ring *ring, size_t *len);
void ring_commit(struct ring *ring, size_t len);
/* The bytes from OFFSET, which is kept, that lie in one piece. Returns how many, 0 at the end. */
size_t ring_peek(const struct ring *ring, uint64_t offset, const uint8_t **data);

#endif

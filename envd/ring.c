#include "envd/ring.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

uint64_t ring_start(const struct ring *ring)
{
    return ring->end - ring->len;
}

uint8_t *ring_room(struct ring *ring, size_t *len)
{
    *len = ring->cap - ring->at;
    return ring->data + ring->at;
}

void ring_commit(struct ring *ring, size_t len)
{
    assert(len <= ring->cap - ring->at);
    ring->at += len;
    if (ring->at == ring->cap)
        ring->at = 0;
    ring->len = len < ring->cap - ring->len ? ring->len + len : ring->cap;
    ring->end += len;
}

void ring_write(struct ring *ring, const uint8_t *data, size_t len)
{
    if (len > ring->cap) { /* only its tail will be kept */
        size_t skip = len - ring->cap;

        ring->end += skip;
        ring->len = 0; /* what was there is older than what is skipped */
        ring->at = 0;
        data += skip;
        len = ring->cap;
    }
    while (len > 0) {
        size_t room;
        uint8_t *to = ring_room(ring, &room);

        if (room > len)
            room = len;
        memcpy(to, data, room);
        ring_commit(ring, room);
        data += room;
        len -= room;
    }
}

size_t ring_peek(const struct ring *ring, uint64_t offset, const uint8_t **data)
{
    size_t back, from;

    assert(offset >= ring_start(ring) && offset <= ring->end);
    back = (size_t)(ring->end - offset);
    if (back == 0)
        return 0;
    from = ring->at >= back ? ring->at - back : ring->at + ring->cap - back;
    *data = ring->data + from;
    return back < ring->cap - from ? back : ring->cap - from;
}

int ring_resize(struct ring *ring, size_t cap)
{
    struct ring to = {.cap = cap, .data = cap > 0 ? malloc(cap) : NULL};
    size_t keep = ring->len < cap ? ring->len : cap, len;
    const uint8_t *data;

    if (cap > 0 && to.data == NULL)
        return -1;
    for (to.end = ring->end - keep; (len = ring_peek(ring, to.end, &data)) > 0;)
        ring_write(&to, data, len);
    free(ring->data);
    *ring = to;
    return 0;
}

#include "envd/config.h"
#include "envd/process_inner.h"
#include "server/base/mem.h"

#define RING_FIRST_BYTES 1024
#define RING_SURE_BYTES (16 << 10) /* an output has these even when the total is spent */

static size_t total_max = CONFIG_REPLAY_TOTAL_BYTES;
static size_t total; /* bytes all rings have */

void process_replay_total(size_t bytes)
{
    total_max = bytes;
}

size_t rings_bytes(void)
{
    return total;
}

static void resize(struct ring *ring, size_t cap)
{
    size_t was = ring->cap;

    if (ring_resize(ring, cap) == 0)
        total = total - was + cap;
}

/* The ended process, if any, that was started first and whose rings nobody reads. */
static struct process *oldest_ended(void)
{
    struct process *oldest = NULL;

    for (struct process *p = processes; p != NULL; p = p->next) {
        if (p->done && p->watchers == NULL && !p->hold.on &&
            (p->streams[0].ring.cap | p->streams[1].ring.cap))
            oldest = p;
    }
    return oldest;
}

/* The output with the largest ring, of those that could do with half of it. */
static struct ring *largest(size_t at_least)
{
    struct ring *found = NULL;

    for (struct process *p = processes; p != NULL; p = p->next) {
        for (size_t i = 0; i < array_size(p->streams); i++) {
            struct ring *ring = &p->streams[i].ring;

            if (ring->cap >= at_least && (found == NULL || ring->cap > found->cap) &&
                ring->end - watch_oldest(p, i) <= ring->cap / 2)
                found = ring;
        }
    }
    return found;
}

/*
 * Within the total, a ring may grow by MORE bytes to CAP: first ended processes lose theirs, then
 * rings twice as large as this one would be lose half, so that all come to the same size.
 */
static bool claim(size_t more, size_t cap)
{
    while (total + more > total_max) {
        struct process *ended = oldest_ended();
        struct ring *big = ended == NULL ? largest(2 * cap) : NULL;
        size_t was = total;

        if (ended != NULL)
            ring_free(ended);
        else if (big != NULL)
            resize(big, big->cap / 2);
        if (total == was)
            return cap <= RING_SURE_BYTES;
    }
    return true;
}

/* Let RING have LEN bytes, doubling, at most MAX. */
static void grow(struct ring *ring, size_t len, size_t max)
{
    size_t cap = ring->cap > 0 ? ring->cap : RING_FIRST_BYTES;

    while (cap < len && cap < max)
        cap *= 2;
    if (cap > max)
        cap = max;
    for (; cap > ring->cap; cap /= 2) { /* less is better than none */
        if (claim(cap - ring->cap, cap)) {
            resize(ring, cap);
            return;
        }
    }
}

size_t ring_make_room(struct process *process, size_t stream, uint64_t keep, size_t want, bool must)
{
    struct ring *ring = &process->streams[stream].ring;
    size_t kept = (size_t)(ring->end - keep), room;

    if (kept == 0 && !process->hold.on)
        return want; /* nobody is behind: what does not fit is not kept */
    if (ring->cap < kept + want)
        grow(ring, kept + want, process->replay_bytes);
    if (must && ring->cap < kept + want)
        resize(ring, kept + want);
    room = ring->cap > kept ? ring->cap - kept : 0;
    return room < want ? room : want;
}

void ring_append(struct process *process, size_t stream, const uint8_t *data, size_t len)
{
    struct ring *ring = &process->streams[stream].ring;

    if (ring->cap < ring->len + len && ring->cap < process->replay_bytes)
        grow(ring, ring->len + len, process->replay_bytes);
    ring_write(ring, data, len);
}

void ring_trim(struct process *process)
{
    for (size_t i = 0; i < array_size(process->streams); i++) {
        struct ring *ring = &process->streams[i].ring;

        if (ring->len < ring->cap)
            resize(ring, ring->len);
    }
}

void ring_free(struct process *process)
{
    for (size_t i = 0; i < array_size(process->streams); i++)
        resize(&process->streams[i].ring, 0);
}

int ring_restore(struct process *process, size_t stream, uint64_t end, const uint8_t *data,
                 size_t len)
{
    struct ring *ring = &process->streams[stream].ring;

    ring->end = end - len;
    resize(ring, len);
    if (ring->cap < len)
        return -1;
    ring_write(ring, data, len);
    return 0;
}

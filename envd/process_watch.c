#include "envd/process_inner.h"
#include "server/base/mem.h"

void process_watch(struct process *process, struct watcher *watcher, const uint64_t *from)
{
    for (size_t i = 0; i < array_size(process->streams); i++) {
        const struct ring *ring = &process->streams[i].ring;

        watcher->at[i] = from == NULL || from[i] == PROCESS_FROM_NOW ? ring->end
                         : from[i] == PROCESS_FROM_EARLIEST          ? ring_start(ring)
                                                                     : from[i];
    }
    watcher->process = process;
    watcher->full = false;
    watcher->next = process->watchers;
    watcher->link = &process->watchers;
    if (watcher->next != NULL)
        watcher->next->link = &watcher->next;
    process->watchers = watcher;
    hold_update(process);
}

static void unlink_watcher(struct watcher *watcher)
{
    *watcher->link = watcher->next;
    if (watcher->next != NULL)
        watcher->next->link = watcher->link;
    hold_update(watcher->process);
    watcher->process = NULL;
    watcher->next = NULL;
}

/* After a watcher left, or takes more again. PROCESS may be gone on return. */
static void changed(struct process *process)
{
    if (!process->done)
        output_update(process);
    else
        process_release(process);
}

void process_unwatch(struct watcher *watcher)
{
    struct process *process = watcher->process;

    if (process == NULL)
        return;
    unlink_watcher(watcher);
    changed(process);
}

static int send_chunk(struct watcher *watcher, size_t i, const uint8_t *data, size_t len)
{
    int rc;

    watcher->at[i] += len;
    rc = watcher->output(watcher, watcher->process->streams[i].kind, data, len);
    if (rc == 0)
        watcher->full = true;
    return rc;
}

/* What one output keeps for WATCHER, until it is full. Returns -1 when it is gone. */
static int feed_stream(struct watcher *watcher, size_t i)
{
    const struct stream *stream = &watcher->process->streams[i];
    const uint8_t *data;
    size_t len;

    while (!watcher->full && (len = ring_peek(&stream->ring, watcher->at[i], &data)) > 0) {
        if (len > output_chunk_bytes(stream->kind))
            len = output_chunk_bytes(stream->kind);
        if (send_chunk(watcher, i, data, len) < 0)
            return -1;
    }
    return 0;
}

static bool has_all(const struct watcher *watcher)
{
    const struct process *process = watcher->process;

    for (size_t i = 0; i < array_size(process->streams); i++) {
        if (watcher->at[i] < process->streams[i].ring.end)
            return false;
    }
    return true;
}

/* Feed WATCHER; when it has all of an ended process, tell it. It may be gone on return. */
static void feed(struct watcher *watcher)
{
    struct process *process = watcher->process;

    for (size_t i = 0; i < array_size(process->streams); i++) {
        if (feed_stream(watcher, i) < 0)
            return;
    }
    if (!process->done || !has_all(watcher))
        return;
    unlink_watcher(watcher);
    watcher->end(watcher, &process->end);
}

void process_watcher_ready(struct watcher *watcher)
{
    struct process *process = watcher->process;

    watcher->full = false;
    if (process == NULL)
        return;
    process->busy++;
    feed(watcher);
    process->busy--;
    changed(process);
}

uint64_t watch_oldest(const struct process *process, size_t stream)
{
    uint64_t oldest = process->streams[stream].ring.end;

    if (process->hold.on && process->hold.at[stream] < oldest)
        oldest = process->hold.at[stream];
    for (const struct watcher *w = process->watchers; w != NULL; w = w->next) {
        if (w->at[stream] < oldest)
            oldest = w->at[stream];
    }
    return oldest;
}

bool watch_all_full(const struct process *process)
{
    for (const struct watcher *w = process->watchers; w != NULL; w = w->next) {
        if (!w->full)
            return false;
    }
    return process->watchers != NULL;
}

void watch_deliver(struct process *process, size_t stream, const uint8_t *data, size_t len)
{
    uint64_t was = process->streams[stream].ring.end - len;
    struct watcher *watcher = process->watchers, *next;

    for (; watcher != NULL; watcher = next) {
        next = watcher->next;
        if (!watcher->full && watcher->at[stream] == was)
            send_chunk(watcher, stream, data, len);
    }
}

void watch_deadline(struct process *process)
{
    struct watcher *watcher = process->watchers, *next;

    for (; watcher != NULL; watcher = next) {
        next = watcher->next;
        if (watcher->deadline == NULL)
            continue;
        unlink_watcher(watcher);
        watcher->deadline(watcher);
    }
}

void watch_end(struct process *process)
{
    struct watcher *watcher = process->watchers, *next;

    for (; watcher != NULL; watcher = next) {
        next = watcher->next;
        feed(watcher);
    }
}

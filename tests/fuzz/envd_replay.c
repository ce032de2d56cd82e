/* Sandpit-Replay-From: what is accepted resolves to offsets that are kept, or is refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "envd/replay.h"
#include "server/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct replay *replay, const struct process_range *ranges, size_t count)
{
    uint64_t from[PROCESS_OUTPUTS];
    char text[REPLAY_OFFSETS_SIZE];
    bool out_of_range = false;
    struct replay again;
    struct err err;

    if (replay_resolve(replay, ranges, count, from, &out_of_range, &err) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        if (from[i] < ranges[i].start || from[i] > ranges[i].end)
            abort();
    }
    replay_offsets(ranges, count, from, text);
    if (replay_parse(text, &again, &err) < 0 || again.bare)
        abort();
    for (size_t i = 0; i < count; i++) {
        if (again.from[ranges[i].kind] != from[i])
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct process_range pipes[] = {{OUTPUT_STDOUT, 1, 5}, {OUTPUT_STDERR, 0, 9}};
    static const struct process_range terminal[] = {{OUTPUT_PTY, 0, INT64_MAX}};
    _cleanup_free_ char *text = mem_strndup((const char *)data, size);
    struct replay replay;
    struct err err;

    if (replay_parse(text, &replay, &err) < 0)
        return 0;
    check(&replay, pipes, 2);
    check(&replay, terminal, 1);
    return 0;
}

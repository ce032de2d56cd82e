#include "envd/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

#define OFFSET_MAX INT64_MAX

static const char *const names[OUTPUT_KINDS] = {
    [OUTPUT_STDOUT] = "stdout",
    [OUTPUT_STDERR] = "stderr",
    [OUTPUT_PTY] = "pty",
};

static int wrong(struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "Sandpit-Replay-From must be an offset, \"earliest\", or a list such as "
                   "\"stdout=123, stderr=0\"");
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static int parse_value(const char *text, size_t len, uint64_t *out, struct err *err)
{
    struct err ignored;

    if (mem_is(text, len, "earliest")) {
        *out = PROCESS_FROM_EARLIEST;
        return 0;
    }
    return str_to_u64(text, len, 0, OFFSET_MAX, "offset", out, &ignored) < 0 ? wrong(err) : 0;
}

/* "stdout=123". */
static int parse_pair(const char *text, size_t len, struct replay *out, struct err *err)
{
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals != NULL ? (size_t)(equals - text) : len;

    for (size_t i = 0; equals != NULL && i < OUTPUT_KINDS; i++) {
        if (!mem_is(text, name_len, names[i]) || out->from[i] != PROCESS_FROM_NOW)
            continue;
        return parse_value(equals + 1, len - name_len - 1, &out->from[i], err);
    }
    return wrong(err);
}

int replay_parse(const char *text, struct replay *out, struct err *err)
{
    struct replay replay = {.bare = strchr(text, '=') == NULL};

    for (size_t i = 0; i < OUTPUT_KINDS; i++)
        replay.from[i] = PROCESS_FROM_NOW;
    for (;;) {
        size_t len = replay.bare ? strlen(text) : strcspn(text, ","), item = len;
        const char *next = text + len;

        while (item > 0 && is_blank(*text)) {
            text++;
            item--;
        }
        while (item > 0 && is_blank(text[item - 1]))
            item--;
        if (replay.bare ? parse_value(text, item, &replay.from[OUTPUT_STDOUT], err) < 0
                        : parse_pair(text, item, &replay, err) < 0)
            return -1;
        if (*next == '\0')
            break;
        text = next + 1;
    }
    *out = replay;
    return 0;
}

int replay_hold_parse(const char *text, int64_t *ms, struct err *err)
{
    uint64_t seconds;

    if (str_to_u64(text, strlen(text), 1, REPLAY_HOLD_MAX_S, "Sandpit-Hold", &seconds, err) < 0)
        return -1;
    *ms = (int64_t)seconds * 1000;
    return 0;
}

int replay_acknowledged(const char *text, const struct process_range *ranges, size_t count,
                        uint64_t at[PROCESS_OUTPUTS], struct err *err)
{
    struct replay replay;
    size_t found = 0, named = 0;

    if (replay_parse(text, &replay, err) < 0 || replay.bare)
        return err_set(err, ERR_INVALID,
                       "Sandpit-Acknowledge must be a list such as \"stdout=123, stderr=0\"");
    for (size_t i = 0; i < PROCESS_OUTPUTS; i++)
        at[i] = PROCESS_FROM_NOW;
    for (size_t i = 0; i < count; i++) {
        at[i] = replay.from[ranges[i].kind];
        found += at[i] != PROCESS_FROM_NOW;
    }
    for (size_t i = 0; i < OUTPUT_KINDS; i++)
        named += replay.from[i] != PROCESS_FROM_NOW;
    if (named != found)
        return err_set(err, ERR_INVALID, "Sandpit-Acknowledge: the process has no such output");
    return 0;
}

/* What was asked for of an output of KIND. */
static uint64_t asked(const struct replay *replay, enum process_output kind)
{
    uint64_t main = replay->from[OUTPUT_STDOUT];

    if (replay->bare && kind == OUTPUT_STDERR && main != 0 && main != PROCESS_FROM_EARLIEST)
        return PROCESS_FROM_NOW;
    return replay->bare ? main : replay->from[kind];
}

static int resolve(uint64_t from, const struct process_range *range, uint64_t *out, struct err *err)
{
    if (from == PROCESS_FROM_NOW)
        from = range->end;
    if (from == PROCESS_FROM_EARLIEST)
        from = range->start;
    if (from < range->start || from > range->end)
        return err_set(err, ERR_INVALID,
                       "%s has no offset %" PRIu64 " to replay from: available are %" PRIu64
                       " to %" PRIu64,
                       names[range->kind], from, range->start, range->end);
    *out = from;
    return 0;
}

int replay_resolve(const struct replay *replay, const struct process_range *ranges, size_t count,
                   uint64_t from[PROCESS_OUTPUTS], bool *out_of_range, struct err *err)
{
    bool has[OUTPUT_KINDS] = {false};

    for (size_t i = 0; i < count; i++)
        has[ranges[i].kind] = true;
    for (size_t i = 0; i < OUTPUT_KINDS && !replay->bare; i++) {
        if (replay->from[i] != PROCESS_FROM_NOW && !has[i])
            return err_set(err, ERR_INVALID, "Sandpit-Replay-From: the process has no %s",
                           names[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (resolve(asked(replay, ranges[i].kind), &ranges[i], &from[i], err) < 0) {
            *out_of_range = true;
            return -1;
        }
    }
    return 0;
}

void replay_offsets(const struct process_range *ranges, size_t count,
                    const uint64_t from[PROCESS_OUTPUTS], char out[REPLAY_OFFSETS_SIZE])
{
    int len = 0;

    for (size_t i = 0; i < count; i++)
        len += snprintf(out + len, (size_t)(REPLAY_OFFSETS_SIZE - len), "%s%s=%" PRIu64,
                        i > 0 ? ", " : "", names[ranges[i].kind], from[i]);
}

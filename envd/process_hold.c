#include <inttypes.h>

#include "envd/process_inner.h"
#include "server/base/mem.h"

static void end_hold(struct process *process)
{
    process->hold.on = false;
    loop_timer_stop(process_loop, &process->hold.timer);
}

static void on_expired(struct loop_timer *timer)
{
    struct process *process = container_of(timer, struct process, hold.timer);

    end_hold(process);
    if (!process->done)
        output_update(process);
}

void process_hold(struct process *process, int64_t ms, const uint64_t *from)
{
    for (size_t i = 0; i < array_size(process->streams); i++)
        process->hold.at[i] = from != NULL ? from[i] : process->streams[i].ring.end;
    process->hold.ms = ms;
    process->hold.on = true;
    hold_update(process);
}

int process_acknowledge(struct process *process, const uint64_t at[PROCESS_OUTPUTS],
                        struct err *err)
{
    for (size_t i = 0; i < array_size(process->streams); i++) {
        uint64_t end = process->streams[i].ring.end;

        if (at[i] != PROCESS_FROM_NOW && at[i] > end)
            return err_set(err, ERR_INVALID,
                           "offset %" PRIu64 " cannot have been received: there are %" PRIu64
                           " bytes",
                           at[i], end);
    }
    for (size_t i = 0; i < array_size(process->streams); i++) {
        if (at[i] != PROCESS_FROM_NOW && at[i] > process->hold.at[i])
            process->hold.at[i] = at[i];
    }
    if (!process->done)
        output_update(process);
    return 0;
}

void hold_update(struct process *process)
{
    if (process->hold.on && process->watchers == NULL && !process->done)
        loop_timer_set(process_loop, &process->hold.timer, process->hold.ms, on_expired);
    else
        loop_timer_stop(process_loop, &process->hold.timer);
}

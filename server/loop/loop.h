/*
 * server/loop/loop.h - one h2o event loop per thread, with posts from other threads and timers.
 *
 * An object belongs to the loop that made it; other threads reach it by loop_post.
 */
#ifndef SANDPIT_LOOP_LOOP_H
#define SANDPIT_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct st_h2o_evloop_t;

/* A message; embed it. The callback runs on the loop and then owns it. */
struct loop_msg {
    struct loop_msg *next;
    void (*run)(struct loop_msg *msg);
};

/* A new loop; runs nothing yet. Call on any thread, run on one. */
struct loop *loop_new(void);
/* After loop_run has returned. */
void loop_free(struct loop *loop);
/* Run on the calling thread until loop_stop. */
void loop_run(struct loop *loop);
/* Make loop_run return after what is pending. Any thread. */
void loop_stop(struct loop *loop);
/* Queue MSG. Any thread; never blocks, never allocates. Order per sending thread is kept. */
void loop_post(struct loop *loop, struct loop_msg *msg);
/* The loop that runs on this thread, or NULL. */
struct loop *loop_current(void);
/* For http and proxy, the only other users of h2o.h. */
struct st_h2o_evloop_t *loop_h2o(struct loop *loop);
/* Monotonic milliseconds, the clock of timers. Loop thread. */
int64_t loop_now_ms(struct loop *loop);

/* A one-shot timer; embed it, zeroed. Loop thread only. */
struct timer {
    struct loop *loop;
    int64_t deadline_mono_ms;
    void (*fire)(struct timer *timer);
    uint32_t heap_index; /* 0: not armed */
};
/* Arm or re-arm to fire AFTER_MS from now. FIRE may arm again or free the timer's owner. */
void timer_arm(struct loop *loop, struct timer *timer, int64_t after_ms,
               void (*fire)(struct timer *timer));
/* Not armed afterwards; may be called at any time. */
void timer_cancel(struct timer *timer);

#endif

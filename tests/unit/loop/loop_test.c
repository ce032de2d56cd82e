/*
 * Posts, timers, workers and signals on a running loop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/loop/loop.h"
#include "server/loop/signal.h"
#include "server/loop/work.h"

#define SENDERS 8
#define POSTS_EACH 5000

static void *loop_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

struct sender {
    pthread_t thread;
    struct loop *loop;
    int last_seen; /* loop thread only */
    bool ordered;
    int received;
};

struct numbered {
    struct loop_msg msg;
    struct sender *sender;
    int number;
};

static void on_numbered(struct loop_msg *msg)
{
    struct numbered *numbered = container_of(msg, struct numbered, msg);
    struct sender *sender = numbered->sender;

    if (loop_current() != sender->loop || numbered->number != sender->last_seen + 1)
        sender->ordered = false;
    sender->last_seen = numbered->number;
    sender->received++;
    free(numbered);
}

static void *sender_main(void *arg)
{
    struct sender *sender = arg;

    for (int i = 1; i <= POSTS_EACH; i++) {
        struct numbered *numbered = mem_zalloc(sizeof(*numbered));

        numbered->msg.run = on_numbered;
        numbered->sender = sender;
        numbered->number = i;
        loop_post(sender->loop, &numbered->msg);
    }
    return NULL;
}

static void posts_of_eight_threads_arrive_once_and_in_order(void **state)
{
    struct sender senders[SENDERS];
    struct loop *loop = loop_new();
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, loop_main, loop), 0);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.loop = loop, .ordered = true};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]), 0);
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    loop_stop(loop); /* what is pending still runs */
    pthread_join(thread, NULL);
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(senders[i].received, POSTS_EACH);
        assert_true(senders[i].ordered);
    }
    loop_free(loop);
}

struct repost {
    struct loop_msg msg;
    struct loop *loop;
    int left;
};

static void on_repost(struct loop_msg *msg)
{
    struct repost *repost = container_of(msg, struct repost, msg);

    if (--repost->left > 0)
        loop_post(repost->loop, msg);
    else
        loop_stop(repost->loop);
}

static void a_post_from_the_loop_itself_runs_without_a_wake_up(void **state)
{
    struct repost repost = {.msg.run = on_repost, .loop = loop_new(), .left = 1000};
    int64_t start_ms = time_mono_ms();

    (void)state;
    loop_post(repost.loop, &repost.msg);
    loop_run(repost.loop);
    assert_int_equal(repost.left, 0);
    assert_true(time_mono_ms() - start_ms < 5000);
    assert_null(loop_current());
    loop_free(repost.loop);
}

#define TIMERS 200

struct timed {
    struct timer timer;
    int64_t after_ms;
    struct timed_run *run;
    bool fired;
};

struct timed_run {
    struct timed timed[TIMERS];
    struct loop *loop;
    int64_t last_deadline_ms;
    int fired;
    bool ordered;
};

static void on_timed(struct timer *timer)
{
    struct timed *timed = container_of(timer, struct timed, timer);
    struct timed_run *run = timed->run;

    if (timer->deadline_mono_ms < run->last_deadline_ms || time_mono_ms() < timer->deadline_mono_ms)
        run->ordered = false;
    run->last_deadline_ms = timer->deadline_mono_ms;
    run->fired++;
    timed->fired = true;
}

static void on_last(struct timer *timer)
{
    loop_stop(timer->loop);
}

static void timers_fire_in_order_unless_cancelled_or_moved(void **state)
{
    static struct timed_run run;
    struct timer last = {0};

    (void)state;
    run.loop = loop_new();
    run.ordered = true;
    for (int i = 0; i < TIMERS; i++) {
        run.timed[i].run = &run;
        run.timed[i].after_ms = (i * 37) % 100;
        timer_arm(run.loop, &run.timed[i].timer, run.timed[i].after_ms, on_timed);
    }
    for (int i = 0; i < TIMERS; i += 4) /* cancelled, some twice */
        timer_cancel(&run.timed[i].timer);
    timer_cancel(&run.timed[0].timer);
    for (int i = 1; i < TIMERS; i += 4) /* moved past the end of the run */
        timer_arm(run.loop, &run.timed[i].timer, 60000, on_timed);
    timer_arm(run.loop, &last, 150, on_last);
    loop_run(run.loop);
    assert_true(run.ordered);
    assert_int_equal(run.fired, TIMERS / 2);
    for (int i = 0; i < TIMERS; i++)
        assert_int_equal(run.timed[i].fired, i % 4 >= 2);
    loop_free(run.loop);
}

struct again {
    struct timer timer;
    int fired;
    int64_t started_ms;
};

static void on_again(struct timer *timer)
{
    struct again *again = container_of(timer, struct again, timer);

    if (++again->fired == 20)
        loop_stop(timer->loop);
    else
        timer_arm(timer->loop, timer, again->fired % 2 == 0 ? 0 : 2, on_again);
}

static void a_timer_may_arm_itself_again(void **state)
{
    struct again again = {.started_ms = time_mono_ms()};
    struct loop *loop = loop_new();

    (void)state;
    timer_arm(loop, &again.timer, 1, on_again);
    loop_run(loop);
    assert_int_equal(again.fired, 20);
    assert_true(time_mono_ms() - again.started_ms >= 20);
    assert_int_equal(again.timer.heap_index, 0);
    loop_free(loop);
}

struct job {
    struct work work;
    struct loop *loop;
    atomic_int *gate; /* run() waits until it is not 0 */
    atomic_int *runs;
    int *done_count; /* loop thread only */
    int expected;
    bool ran_elsewhere;
};

static void job_run(struct work *work)
{
    struct job *job = container_of(work, struct job, work);

    while (atomic_load(job->gate) == 0)
        usleep(1000);
    atomic_fetch_add(job->runs, 1);
    job->ran_elsewhere = loop_current() == NULL;
}

static void job_done(struct work *work)
{
    struct job *job = container_of(work, struct job, work);

    assert_ptr_equal(loop_current(), job->loop);
    if (++*job->done_count == job->expected)
        loop_stop(job->loop);
}

struct fill {
    struct loop_msg msg;
    struct work_pool *pool;
    struct job *jobs;
    size_t count;
    size_t accepted;
    struct err err;
    atomic_int *gate;
    size_t waiting;
};

static void on_fill(struct loop_msg *msg)
{
    struct fill *fill = container_of(msg, struct fill, msg);

    for (size_t i = 0; i < fill->count; i++) {
        if (work_submit(fill->pool, &fill->jobs[i].work, job_run, job_done, &fill->err) < 0)
            break;
        fill->accepted++;
    }
    fill->waiting = work_pool_waiting(fill->pool);
    atomic_store(fill->gate, 1);
}

static void a_full_pool_refuses_and_finishes_what_it_took(void **state)
{
    struct loop *loop = loop_new();
    struct work_pool *pool = work_pool_new("test", 3, 10);
    atomic_int gate = 0;
    atomic_int runs = 0;
    int done_count = 0;
    struct job jobs[20];
    struct fill fill = {
        .msg.run = on_fill, .pool = pool, .jobs = jobs, .count = array_size(jobs), .gate = &gate};

    (void)state;
    for (size_t i = 0; i < array_size(jobs); i++)
        jobs[i] = (struct job){
            .loop = loop, .gate = &gate, .runs = &runs, .expected = 13, .done_count = &done_count};
    loop_post(loop, &fill.msg);
    loop_run(loop);
    assert_int_equal(fill.accepted, 13); /* 3 threads and 10 places */
    assert_int_equal(fill.err.code, ERR_BUSY);
    assert_true(fill.waiting >= 10 && fill.waiting <= 13);
    assert_int_equal(atomic_load(&runs), 13);
    for (size_t i = 0; i < 13; i++)
        assert_true(jobs[i].ran_elsewhere);
    work_pool_free(pool);
    loop_free(loop);
}

static void job_done_anywhere(struct work *work)
{
    struct job *job = container_of(work, struct job, work);

    assert_null(loop_current());
    atomic_fetch_add(job->runs, 1);
}

static void a_pool_that_ends_finishes_its_queue(void **state)
{
    struct work_pool *pool = work_pool_new("test", 2, 100);
    atomic_int gate = 1;
    atomic_int runs = 0;
    struct job jobs[50];

    (void)state;
    for (size_t i = 0; i < array_size(jobs); i++) {
        struct err err = {0};

        jobs[i] = (struct job){.gate = &gate, .runs = &runs};
        assert_int_equal(
            work_submit(pool, &jobs[i].work, job_run, i % 2 == 0 ? job_done_anywhere : NULL, &err),
            0);
    }
    work_pool_free(pool);
    assert_int_equal(atomic_load(&runs), 75); /* 50 runs, 25 with a done */
}

struct seen {
    struct loop *loop;
    int signals[8];
    int count;
};

static void on_signal(void *ctx, int signo)
{
    struct seen *seen = ctx;

    seen->signals[seen->count++] = signo;
    if (seen->count == 2)
        loop_stop(seen->loop);
}

static void signals_become_callbacks(void **state)
{
    struct seen seen = {.loop = loop_new()};
    struct signal_watch *watch = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(signal_watch_new(seen.loop, on_signal, &seen, &watch, &err), 0);
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGTERM);
    loop_run(seen.loop);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.signals[0] + seen.signals[1], SIGHUP + SIGTERM);
    signal_watch_free(watch);
    loop_free(seen.loop);
}

static void a_loop_gives_back_its_descriptors(void **state)
{
    int before = dup(0);
    int after;

    (void)state;
    close(before);
    for (int i = 0; i < 20; i++)
        loop_free(loop_new());
    after = dup(0);
    close(after);
    assert_int_equal(after, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_eight_threads_arrive_once_and_in_order),
        cmocka_unit_test(a_post_from_the_loop_itself_runs_without_a_wake_up),
        cmocka_unit_test(timers_fire_in_order_unless_cancelled_or_moved),
        cmocka_unit_test(a_timer_may_arm_itself_again),
        cmocka_unit_test(a_full_pool_refuses_and_finishes_what_it_took),
        cmocka_unit_test(a_pool_that_ends_finishes_its_queue),
        cmocka_unit_test(signals_become_callbacks),
        cmocka_unit_test(a_loop_gives_back_its_descriptors),
    };

    signal_block();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

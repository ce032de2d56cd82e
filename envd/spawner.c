#include "envd/spawner.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "envd/clone.h"
#include "envd/groups.h"
#include "envd/thread.h"
#include "server/base/mem.h"
#include "server/base/time.h"

#define STACK_BYTES (64 << 10)
#define END_WAIT_MS 1000
#define NUDGE_MS 50   /* then what somebody may have stopped is told to go on … */
#define NUDGES_MAX 30 /* … and at last is ended */
#define REST_MS 2000  /* after that nothing is started, so that the loop gets to all else */

enum turn { TURN_IDLE, TURN_ASKED, TURN_DONE };

/* Between the loop thread, the keeper thread and the spawner. `turn` says whose it is. */
static struct {
    _Atomic uint32_t turn; /* a futex */
    /* the question, from the loop thread */
    int (*fn)(void *arg);
    void *stack;
    void *arg;
    /* the answer */
    int errnum;             /* 0: `child` is its pid */
    _Atomic pid_t child;    /* set by the kernel before the child runs */
    _Atomic uint32_t bound; /* a futex: 0 when the child has let go of our memory */
    _Atomic pid_t spawner;  /* 0: none. Set by the kernel */
    bool kept;              /* there is a keeper */
    void *spawner_stack;
} shared;

static long futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

static void turn_to(enum turn turn)
{
    atomic_store(&shared.turn, turn);
    futex(&shared.turn, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL);
}

/* ---- In the spawner: the keeper's thread storage, async-signal-safe calls only. ---- */

static void serve(void)
{
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID |
                      CLONE_CHILD_CLEARTID | SIGCHLD;
    pid_t pid = clone(shared.fn, shared.stack, flags, shared.arg, &shared.child, NULL,
                      &shared.bound);

    shared.errnum = pid < 0 ? errno : 0;
    turn_to(TURN_DONE);
}

static int spawner_run(void *arg)
{
    const bool *enter = arg;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* ends with the keeper, and so with envd */
    prctl(PR_SET_NAME, "envd-spawner");
    if (*enter && groups_enter_user() < 0)
        return 1;
    for (;;) {
        enum turn turn = atomic_load(&shared.turn);
        if (turn == TURN_ASKED)
            serve();
        else
            futex(&shared.turn, FUTEX_WAIT_PRIVATE, turn, NULL);
    }
}

/* ---- In the keeper's thread ---- */

/* The spawner has ended, or was not made (ERRNUM). What was asked must not stay unanswered. */
static void conclude(int errnum)
{
    if (atomic_load(&shared.turn) != TURN_ASKED)
        return;
    shared.errnum = errnum;
    if (atomic_load(&shared.child) > 0) {
        uint32_t bound;
        while ((bound = atomic_load(&shared.bound)) != 0) /* the kernel's wake is not private */
            futex(&shared.bound, FUTEX_WAIT, bound, NULL);
        shared.errnum = 0;
    }
    turn_to(TURN_DONE);
}

static void *keep(void *unused)
{
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PARENT_SETTID | SIGCHLD;
    char *top = (char *)shared.spawner_stack + STACK_BYTES;
    sigset_t all;

    (void)unused;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL); /* the spawner inherits it */
    for (;;) {
        enum turn turn = atomic_load(&shared.turn);
        if (turn != TURN_ASKED) {
            futex(&shared.turn, FUTEX_WAIT_PRIVATE, turn, NULL);
            continue;
        }
        bool enter = groups_left_user();
        pid_t pid = clone(spawner_run, top, flags, &enter, &shared.spawner);
        int errnum = pid < 0 ? errno : EAGAIN;
        atomic_store(&shared.spawner, 0);
        conclude(errnum);
    }
    return NULL;
}

/* ---- In the loop thread ---- */

static int start_keeper(void)
{
    void *stack;
    int rc;

    stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -1;
    shared.spawner_stack = stack;
    rc = thread_start(STACK_BYTES, keep, NULL);
    if (rc == 0) {
        shared.kept = true;
        return 0;
    }
    munmap(stack, STACK_BYTES);
    errno = rc;
    return -1;
}

/*
 * Somebody may have stopped the spawner or the child before its exec, or memory is so short that
 * the child gets nowhere. At last the child is ended, the spawner only when there is none: as long
 * as the spawner waits for it, the kernel takes the child for a vfork's and spares it.
 */
static void nudge(bool end)
{
    pid_t child = atomic_load(&shared.child), spawner = atomic_load(&shared.spawner);

    if (spawner > 0)
        kill(spawner, SIGCONT);
    if (child > 0)
        kill(child, end ? SIGKILL : SIGCONT);
    else if (spawner > 0 && end)
        kill(spawner, SIGKILL);
}

/* Returns whether it went without ending anything. */
static bool wait_done(void)
{
    static const struct timespec timeout = {.tv_nsec = NUDGE_MS * 1000000L};
    enum turn turn;
    int nudges = 0;

    while ((turn = atomic_load(&shared.turn)) != TURN_DONE) {
        if (futex(&shared.turn, FUTEX_WAIT_PRIVATE, turn, &timeout) < 0 && errno == ETIMEDOUT)
            nudge(++nudges >= NUDGES_MAX);
    }
    return nudges < NUDGES_MAX;
}

pid_t spawner_clone(int (*fn)(void *arg), void *stack, void *arg)
{
    static int64_t rests_until_mono_ms;

    if (!groups_divided())
        return clone(fn, stack, CLONE_VM | CLONE_VFORK | SIGCHLD, arg);
    if (time_mono_ms() < rests_until_mono_ms) {
        errno = EAGAIN;
        return -1;
    }
    if (!shared.kept && start_keeper() < 0)
        return -1;
    shared.fn = fn;
    shared.stack = stack;
    shared.arg = arg;
    atomic_store(&shared.child, 0);
    atomic_store(&shared.bound, 1);
    turn_to(TURN_ASKED);
    if (!wait_done())
        rests_until_mono_ms = time_mono_ms() + REST_MS;
    atomic_store(&shared.turn, TURN_IDLE);
    groups_leave_user();
    errno = shared.errnum;
    return shared.errnum == 0 ? atomic_load(&shared.child) : -1;
}

void spawner_end(void)
{
    static const struct timespec pause = {.tv_nsec = 1000000};
    pid_t spawner;

    for (int i = 0; i < END_WAIT_MS && (spawner = atomic_load(&shared.spawner)) > 0; i++) {
        kill(spawner, SIGKILL);
        nanosleep(&pause, NULL);
    }
}

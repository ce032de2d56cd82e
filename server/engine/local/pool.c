/* Spares: sandboxes built ahead, and the creates that take them. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "server/base/fault.h"
#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/time.h"
#include "server/engine/local/first.h"
#include "server/engine/local/launcher.h"

#define SLEEP_MAX_MS 60000

static void spare_push(struct launcher *launcher, struct box *box)
{
    struct box **at = &launcher->spares;

    while (*at != NULL)
        at = &(*at)->next_spare;
    box->next_spare = NULL;
    *at = box;
    launcher->spare_count++;
}

static void spare_unlink(struct launcher *launcher, struct box *box)
{
    for (struct box **at = &launcher->spares; *at != NULL; at = &(*at)->next_spare) {
        if (*at != box)
            continue;
        *at = box->next_spare;
        launcher->spare_count--;
        return;
    }
}

/* Remove BOX; then answer its create (if SERIAL is not 0) with ERR. */
static void discard(struct launcher *launcher, struct box *box, const struct err *err)
{
    struct job *job = mem_zalloc(sizeof(*job));
    struct err problem = {0};

    *job = (struct job){.kind = JOB_DISCARD, .box = box, .serial = box->serial, .err = *err};
    launcher_unwatch(launcher, &box->control);
    box->state = BOX_ENDING;
    if (job_start(launcher, job, &problem) == 0)
        return;
    log_err(LOG_WARN, "a failed sandbox was not removed", NULL, &problem);
    if (box->serial != 0)
        launcher_answer(launcher, box->serial, NULL, -1, err);
    box->state = BOX_ENDED;
}

/* Words from a first process, or its end. */
static void on_control(struct launcher *launcher, struct source *source)
{
    struct box *box = container_of(source, struct box, control);
    struct first_report report = {0};
    int count;
    ssize_t n = packet_receive(source->fd, &report, sizeof(report), NULL, 0, &count, 0);

    if (n == 0 && box->state == BOX_ORDERED && !sys_pidfd_ended(box->init.fd, 0)) {
        launcher_unwatch(launcher, &box->control); /* closed by its exec: envd is there */
        fault_point("launcher.runs");              /* and nobody has been told */
        box->state = BOX_RUNNING;
        box->tree =
            storage_tree_id(&launcher->ctx.storage, launcher->ctx.storage.sandboxes, box->id);
        launcher_answer(launcher, box->serial, box, -1, NULL);
        return;
    }
    if (n != (ssize_t)sizeof(report) || report.err.code == ERR_NONE)
        err_set(&report.err, ERR_INTERNAL, "the sandbox's first process ended early");
    if (box->state == BOX_SPARE) {
        spare_unlink(launcher, box);
        log_err(LOG_WARN, "a spare sandbox ended", NULL, &report.err);
    }
    discard(launcher, box, &report.err);
}

/* Send the order that turns the oldest spare into WAITING's sandbox. */
static void order(struct launcher *launcher, struct box *box, struct waiting *waiting)
{
    const struct launcher_request *request = &waiting->request;
    struct first_order message = {
        .limits = {.cpu_count = request->cpu_count,
                   .memory_mb = request->memory_mb,
                   .pids_max = request->pids_max},
        .kept = request->op == LAUNCHER_START,
        .disk_mb = request->disk_mb,
        .pid = box->record.pid,
        .start_ticks = box->record.start_ticks,
        .internet = request->internet != 0,
        .mounts = volumes_expected(launcher, request->id),
    };
    struct err err = {0};

    memcpy(message.id, request->id, sizeof(message.id));
    memcpy(message.snapshot_id, request->snapshot_id, sizeof(message.snapshot_id));
    box->state = BOX_ORDERED;
    box->serial = request->serial;
    box->adopted = true;
    box->record.internet = message.internet;
    box->record.files = true;
    box->kept = message.kept;
    if (message.kept) /* BOX takes the place of what stood for its tree */
        box_free(launcher, map_get(&launcher->by_id, request->id));
    box_name(launcher, box, request->id);
    if (packet_send(box->control.fd, &message, sizeof(message), &waiting->config, 1, MSG_DONTWAIT) <
        0) {
        err_sys(&err, errno, "the spare sandbox does not answer");
        volumes_forget(launcher, request->id);
        discard(launcher, box, &err);
    } else if (volumes_send(launcher, request->id, box->control.fd, &err) < 0) {
        discard(launcher, box, &err);
    }
    fault_point("launcher.ordered");
}

static struct waiting *waiting_pop(struct launcher *launcher)
{
    struct waiting *waiting = launcher->waiting;

    launcher->waiting = waiting->next;
    if (launcher->waiting == NULL)
        launcher->waiting_tail = &launcher->waiting;
    launcher->waiting_count--;
    map_remove(&launcher->waiting_ids, waiting->request.id);
    return waiting;
}

void waiting_free(struct waiting *waiting)
{
    fd_close(&waiting->config);
    free(waiting);
}

static void fail_oldest(struct launcher *launcher, const struct err *err)
{
    struct waiting *waiting = waiting_pop(launcher);

    launcher_answer(launcher, waiting->request.serial, NULL, -1, err);
    waiting_free(waiting);
}

/* Begin one build. Returns 0 or -1: none can be begun now. */
static int build_one(struct launcher *launcher)
{
    struct job *job = mem_zalloc(sizeof(*job));
    struct err err = {0};

    job->kind = JOB_BUILD;
    job->slot = slot_take(launcher);
    if (job->slot == SLOT_NONE) {
        free(job);
        err_set(&err, ERR_LIMIT, "this machine has all the sandboxes it can have (%u)",
                launcher->slot_count);
    } else {
        uint32_t slot = job->slot;
        if (job_start(launcher, job, &err) == 0)
            return 0;
        slot_release(launcher, slot);
    }
    if (launcher->waiting_count > launcher->builders)
        fail_oldest(launcher, &err);
    return -1;
}

/* When spares may be built that no create waits for; TARGET: how many there should be. */
static int64_t refill_mono_ms(const struct launcher *launcher, unsigned target)
{
    /* While most spares are left, the newest sandbox has the processors for itself. */
    if (launcher->spare_count * 2 > target &&
        launcher->refill_after_mono_ms > launcher->build_after_mono_ms)
        return launcher->refill_after_mono_ms;
    return launcher->build_after_mono_ms;
}

static unsigned spare_target(struct launcher *launcher)
{
    return demand_target(&launcher->demand, &launcher->demand_limits, time_mono_ms());
}

int pool_sleep_ms(struct launcher *launcher)
{
    int64_t now = time_mono_ms();
    unsigned target = spare_target(launcher);
    int64_t next = demand_next_mono_ms(&launcher->demand, &launcher->demand_limits, now);
    int64_t left;

    if (launcher->spare_count + launcher->builders >= target) {
        left = next - now;
        if (next < 0)
            return -1;
    } else if (refill_mono_ms(launcher, target) > now) {
        left = refill_mono_ms(launcher, target) - now;
    } else { /* none could be begun, or its time came just now */
        if (launcher->builders > 0)
            return -1;
        left = BUILD_RETRY_MS;
    }
    return left < SLEEP_MAX_MS ? (int)left + 1 : SLEEP_MAX_MS;
}

/* The oldest goes first: a fresh one has the newest base layer. */
static void drop_surplus(struct launcher *launcher, unsigned target)
{
    static const struct err nothing;

    while (launcher->spare_count > target && launcher->jobs < JOBS_MAX / 2) {
        struct box *box = launcher->spares;
        spare_unlink(launcher, box);
        discard(launcher, box, &nothing);
    }
}

void pool_run(struct launcher *launcher)
{
    unsigned target;

    if (launcher->stopping)
        return;
    while (launcher->waiting != NULL && launcher->spares != NULL) {
        struct waiting *waiting = waiting_pop(launcher);
        struct box *box = launcher->spares;
        spare_unlink(launcher, box);
        order(launcher, box, waiting);
        launcher->refill_after_mono_ms = time_mono_ms() + REFILL_PAUSE_MS;
        waiting_free(waiting);
    }
    target = spare_target(launcher);
    if (launcher->waiting == NULL)
        drop_surplus(launcher, target);
    for (;;) {
        unsigned wanted = launcher->waiting_count;
        if (time_mono_ms() >= refill_mono_ms(launcher, target))
            wanted += target;
        if (launcher->builders >= BUILDERS_MAX ||
            launcher->spare_count + launcher->builders >= wanted || build_one(launcher) < 0)
            return;
    }
}

void pool_built(struct launcher *launcher, const struct spare *spare, const struct err *err)
{
    struct err problem = {0};
    struct box *box;

    if (spare == NULL) {
        launcher->build_after_mono_ms = time_mono_ms() + BUILD_RETRY_MS;
        if (launcher->waiting != NULL)
            fail_oldest(launcher, err);
        else
            log_err(LOG_WARN, "cannot build a spare sandbox", NULL, err);
        return;
    }
    box = box_new(launcher, spare->slot);
    box->state = BOX_SPARE;
    box->record.pid = spare->pid;
    box->record.start_ticks = spare->start_ticks;
    if (box_watch(launcher, box, spare->pidfd, &problem) < 0 ||
        launcher_watch(launcher, &box->control, spare->control, on_control, &problem) < 0) {
        discard(launcher, box, &problem);
        return;
    }
    spare_push(launcher, box);
}

int pool_create(struct launcher *launcher, const struct launcher_request *request, int config,
                struct err *err)
{
    struct waiting *waiting;

    if (launcher->waiting_count >= WAITING_MAX)
        return err_set(err, ERR_BUSY, "too many sandboxes are being created; try again");
    waiting = mem_zalloc(sizeof(*waiting));
    waiting->request = *request;
    waiting->config = config;
    pool_queue(launcher, waiting);
    return 0;
}

void pool_queue(struct launcher *launcher, struct waiting *waiting)
{
    *launcher->waiting_tail = waiting;
    launcher->waiting_tail = &waiting->next;
    launcher->waiting_count++;
    map_put(&launcher->waiting_ids, waiting->request.id, waiting);
    demand_note(&launcher->demand, time_mono_ms());
    pool_run(launcher);
}

void pool_drain(struct launcher *launcher)
{
    while (launcher->waiting != NULL)
        waiting_free(waiting_pop(launcher));
    while (launcher->spares != NULL) {
        struct box *box = launcher->spares;
        char folder[SANDBOX_ID_SIZE];
        struct err err = {0};
        spare_unlink(launcher, box);
        spawn_folder(box->record.slot, folder);
        if (spawn_destroy(&launcher->ctx, folder, &box->record, box->init.fd, &err) < 0)
            log_err(LOG_WARN, "cannot remove a spare sandbox", NULL, &err);
        box_free(launcher, box);
    }
}

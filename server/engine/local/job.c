/* Forked helpers: whatever takes longer than a few system calls. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/keep.h"
#include "server/engine/local/launcher.h"

/* Child → launcher, for JOB_BUILD with the pidfd and the control socket. */
struct job_report {
    struct err err;      /* code ERR_NONE: done */
    uint64_t size_bytes; /* JOB_SNAPSHOT */
    struct spare spare;
    struct record record; /* JOB_NETWORK */
    bool reported;        /* false: it ended early */
};

/* What a helper works with. */
struct helper {
    const struct launcher *launcher;
    const struct job *job;
};

/* A create that failed half way: its folder has one of two names. */
static int run_discard(const struct context *ctx, const struct box *box, struct err *err)
{
    char folder[SANDBOX_ID_SIZE];

    spawn_folder(box->record.slot, folder);
    if (box->kept && record_remove(ctx, box->id, err) < 0)
        return -1;
    if (spawn_destroy(ctx, folder, &box->record, box->init.fd, err) < 0)
        return -1;
    return box->kept ? 0 : spawn_destroy(ctx, box->id, &box->record, box->init.fd, err);
}

/* Goes to the server without a way through the launcher: packets are whole. */
static void send_snapshot(void *ctx, const char *snapshot_id, uint64_t size_bytes)
{
    const struct helper *helper = ctx;
    struct launcher_reply reply;

    reply_init(&reply, helper->job->serial, NULL);
    reply.event = LAUNCHER_ITEM;
    reply.size_bytes = size_bytes;
    if (str_copy(reply.id, sizeof(reply.id), snapshot_id, strlen(snapshot_id)) == 0)
        packet_send(helper->launcher->server.fd, &reply, sizeof(reply), NULL, 0, 0);
}

static int run(const struct launcher *launcher, const struct job *job, struct job_report *report)
{
    const struct context *ctx = &launcher->ctx;
    struct helper helper = {.launcher = launcher, .job = job};
    struct err *err = &report->err;

    switch (job->kind) {
    case JOB_BUILD:
        return spawn_spare(ctx, job->slot, &report->spare, err);
    case JOB_DESTROY:
        return spawn_destroy(ctx, job->box->id, &job->box->record, job->box->init.fd, err);
    case JOB_DISCARD:
        return run_discard(ctx, job->box, err);
    case JOB_FREEZE:
        return keep_freeze(ctx, job->box->id, &job->box->record, err);
    case JOB_THAW:
        return keep_thaw(ctx, job->box->id, &job->box->record, err);
    case JOB_STOP:
        return keep_stop(ctx, job->box->id, &job->box->record, job->box->init.fd, err);
    case JOB_SNAPSHOT:
        return keep_snapshot(ctx, job->box->id, &job->box->record, job->box->state == BOX_RUNNING,
                             job->snapshot_id, &report->size_bytes, err);
    case JOB_SNAPSHOT_DELETE:
        return keep_snapshot_delete(ctx, job->snapshot_id, err);
    case JOB_SNAPSHOT_LIST:
        keep_snapshots(ctx, send_snapshot, &helper);
        return 0;
    case JOB_NETWORK:
        return network_run(launcher, job, &report->record, err);
    case JOB_GATEWAY:
        return network_send_all(launcher, err);
    case JOB_RULES:
        return egress_reload(ctx, err);
    }
    return err_set(err, ERR_INTERNAL, "unknown job %d", job->kind);
}

__attribute__((noreturn)) static void child_run(const struct launcher *launcher,
                                                const struct job *job, int sock)
{
    struct job_report report = {.spare = {.pidfd = -1, .control = -1}};
    struct err ignored = {0};
    int fds[2], count = 0;

    run(launcher, job, &report);
    report.reported = true;
    if (job->kind == JOB_BUILD && report.err.code == ERR_NONE) {
        fds[count++] = report.spare.pidfd;
        fds[count++] = report.spare.control;
    }
    if (packet_send(sock, &report, sizeof(report), fds, count, 0) < 0 && count > 0) {
        /* The launcher is gone: nobody will ever order this spare. */
        char folder[SANDBOX_ID_SIZE];
        struct record record = {.slot = job->slot, .pid = report.spare.pid};
        spawn_folder(job->slot, folder);
        spawn_destroy(&launcher->ctx, folder, &record, report.spare.pidfd, &ignored);
    }
    _exit(0);
}

/* Processes of a sandbox are gone (or not: FAILURE). A START may wait for that. */
static void stop_end(struct launcher *launcher, struct job *job, const struct err *failure)
{
    struct box *box = job->box;
    struct waiting *start = steal_ptr(&job->start);

    if (failure == NULL)
        box_keep(launcher, box);
    else
        box->state = box->init.fd >= 0 ? BOX_RUNNING : BOX_ENDED;
    if (start == NULL)
        return;
    if (failure == NULL) {
        pool_queue(launcher, start);
        return;
    }
    launcher_answer(launcher, start->request.serial, NULL, -1, failure);
    waiting_free(start);
}

static void answer(struct launcher *launcher, uint64_t serial, uint64_t size_bytes,
                   const struct err *failure)
{
    struct launcher_reply reply;

    reply_init(&reply, serial, failure);
    reply.size_bytes = size_bytes;
    launcher_send(launcher, &reply, -1);
}

/* What a finished job means. JOB is freed by the caller. */
static void job_end(struct launcher *launcher, struct job *job, const struct job_report *report,
                    const struct err *failure)
{
    struct box *box = job->box;

    switch (job->kind) {
    case JOB_BUILD:
        launcher->builders--;
        if (failure != NULL)
            slot_release(launcher, job->slot);
        pool_built(launcher, failure == NULL ? &report->spare : NULL, failure);
        return;
    case JOB_DESTROY:
        if (failure == NULL)
            box_free(launcher, box);
        else
            box->state = BOX_ENDED; /* destroy may be asked again */
        break;
    case JOB_DISCARD: /* the create's own failure is the answer */
        if (failure != NULL)
            log_err(LOG_WARN, "a failed sandbox was not removed", box->id, failure);
        if (failure != NULL)
            box->state = BOX_ENDED;
        else if (box->kept)
            box_keep(launcher, box);
        else
            box_free(launcher, box);
        failure = job->err.code != ERR_NONE ? &job->err : NULL; /* NULL: one spare too many */
        break;
    case JOB_STOP:
        stop_end(launcher, job, failure);
        break;
    case JOB_SNAPSHOT:
        box->busy = false;
        break;
    case JOB_NETWORK:
        network_end(launcher, box, report->reported ? &report->record : NULL, failure == NULL);
        box->busy = false;
        break;
    case JOB_FREEZE:
    case JOB_THAW:
        if (failure == NULL)
            box->record.frozen = job->kind == JOB_FREEZE;
        box->busy = false;
        break;
    case JOB_GATEWAY:
    case JOB_RULES:
    case JOB_SNAPSHOT_DELETE:
    case JOB_SNAPSHOT_LIST:
        break;
    }
    launcher->jobs--;
    if (job->serial != 0)
        answer(launcher, job->serial, report->size_bytes, failure);
    else if (failure != NULL)
        log_err(LOG_WARN, "a task of the launcher failed", NULL, failure);
}

/* The report, or the end of a child that made none. */
static void on_report(struct launcher *launcher, struct source *source)
{
    struct job *job = container_of(source, struct job, source);
    struct job_report report = {0};
    int fds[2] = {-1, -1}, count = 0;
    ssize_t n = packet_receive(source->fd, &report, sizeof(report), fds, 2, &count, 0);
    bool complete = n == (ssize_t)sizeof(report) &&
                    (job->kind != JOB_BUILD || report.err.code != ERR_NONE || count == 2);

    report.reported &= complete;
    if (!complete)
        err_set(&report.err, ERR_INTERNAL, "a helper of the launcher ended early");
    report.spare.pidfd = fds[0];
    report.spare.control = fds[1];
    launcher_unwatch(launcher, source);
    if (report.err.code == ERR_NONE) {
        job_end(launcher, job, &report, NULL);
    } else {
        fd_close(&fds[0]);
        fd_close(&fds[1]);
        job_end(launcher, job, &report, &report.err);
    }
    free(job);
    pool_run(launcher);
}

int job_start(struct launcher *launcher, struct job *owned, struct err *err)
{
    _cleanup_free_ struct job *job = owned;
    _cleanup_close_ int ours = -1, theirs = -1;
    int pair[2];
    pid_t pid;

    if (job->kind != JOB_BUILD && launcher->jobs >= JOBS_MAX)
        return err_set(err, ERR_BUSY, "too many operations on sandboxes at once; try again");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, errno, "cannot create a socket pair");
    ours = pair[0];
    theirs = pair[1];
    if (launcher_watch(launcher, &job->source, ours, on_report, err) < 0)
        return -1;
    ours = -1; /* the source's */
    pid = fork();
    if (pid == 0) {
        close(job->source.fd);
        child_run(launcher, job, theirs);
    }
    if (pid < 0) {
        err_sys(err, errno, "cannot start a helper");
        launcher_unwatch(launcher, &job->source);
        return -1;
    }
    if (job->kind == JOB_BUILD)
        launcher->builders++;
    else
        launcher->jobs++;
    job = NULL; /* on_report frees it */
    return 0;
}

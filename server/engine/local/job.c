/* Forked helpers: whatever takes longer than a few system calls. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/launcher.h"

/* Child → launcher, for JOB_BUILD with the pidfd and the control socket. */
struct job_report {
    struct err err; /* code ERR_NONE: done */
    struct spare spare;
    struct record record; /* JOB_NETWORK */
    bool reported;        /* false: it ended early */
};

/* A create that failed half way: its folder has one of two names. */
static int run_discard(const struct context *ctx, const struct box *box, struct err *err)
{
    char folder[SANDBOX_ID_SIZE];

    spawn_folder(box->record.slot, folder);
    if (spawn_destroy(ctx, folder, &box->record, box->init.fd, err) < 0)
        return -1;
    return spawn_destroy(ctx, box->id, &box->record, box->init.fd, err);
}

static int run(const struct launcher *launcher, const struct job *job, struct job_report *report)
{
    const struct context *ctx = &launcher->ctx;
    struct err *err = &report->err;
    char group[CGROUP_NAME_SIZE];

    switch (job->kind) {
    case JOB_BUILD:
        return spawn_spare(ctx, job->slot, &report->spare, err);
    case JOB_DESTROY:
        return spawn_destroy(ctx, job->box->id, &job->box->record, job->box->init.fd, err);
    case JOB_DISCARD:
        return run_discard(ctx, job->box, err);
    case JOB_FREEZE:
    case JOB_THAW:
        slot_group(job->box->record.slot, group);
        return ctx->cgroups->ops->freeze(ctx->cgroups, group, job->kind == JOB_FREEZE, err);
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
        else
            box_free(launcher, box);
        failure = job->err.code != ERR_NONE ? &job->err : NULL; /* NULL: one spare too many */
        break;
    case JOB_NETWORK:
        network_end(launcher, box, report->reported ? &report->record : NULL, failure == NULL);
        box->busy = false;
        break;
    case JOB_FREEZE:
    case JOB_THAW:
        box->busy = false;
        break;
    case JOB_GATEWAY:
    case JOB_RULES:
        break;
    }
    launcher->jobs--;
    if (job->serial != 0)
        launcher_answer(launcher, job->serial, NULL, -1, failure);
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

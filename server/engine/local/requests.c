/* What the server may ask, in which state of a sandbox, and what is answered at once. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fault.h"
#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/engine/local/launcher.h"
#include "server/engine/local/logpipe.h"
#include "server/engine/local/netns.h"
#include "server/engine/local/rootfs_base.h"

#define REQUESTS_PER_TURN 64 /* then other events get their turn */

/* A request being served. */
struct call {
    const struct launcher_request *request;
    struct box *box; /* NULL when the operation takes none */
    int fd;          /* what came with it; -1 once taken */
};

/* Each returns 0 (answered, or will be) or -1: the caller answers *ERR. */
typedef int (*call_fn)(struct launcher *launcher, struct call *call, struct err *err);

/* Files of a sandbox can be used by another slot. */
static int can_keep(const struct launcher *launcher, const struct box *box, struct err *err)
{
    if (box != NULL && box->record.legacy)
        return err_set(err, ERR_UNSUPPORTED,
                       "the sandbox was made by an earlier version of this server, which kept "
                       "files otherwise");
    if (!launcher->ctx.idmap)
        return err_set(err, ERR_UNSUPPORTED,
                       "the local engine needs a kernel with idmapped mounts for this (Linux 5.19 "
                       "or newer): see sandpit doctor");
    return 0;
}

static bool has_files(const struct launcher *launcher, const struct box *box)
{
    return box != NULL && box->record.files && !box->record.legacy && launcher->ctx.idmap;
}

static int refuse_unknown(const struct call *call, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "sandbox %s does not exist", call->request->id);
}

static int check_snapshot(const struct launcher *launcher, const char *id, struct err *err)
{
    if (id[0] == '\0')
        return 0;
    if (faccessat(launcher->ctx.storage.snapshots, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return can_keep(launcher, NULL, err);
    return err_set(err, ERR_NOT_FOUND, "snapshot %s is not on this machine", id);
}

static int on_create(struct launcher *launcher, struct call *call, struct err *err)
{
    const struct launcher_request *request = call->request;

    fault_point("launcher.asked");
    if (map_get(&launcher->by_id, request->id) != NULL ||
        map_get(&launcher->waiting_ids, request->id) != NULL)
        return err_set(err, ERR_EXISTS, "sandbox %s exists already", request->id);
    if (!str_eq(request->template_id, "base"))
        return err_set(err, ERR_NOT_FOUND, "template '%s' is not on this machine",
                       request->template_id);
    if (check_snapshot(launcher, request->snapshot_id, err) < 0 ||
        storage_room(&launcher->ctx.storage, err) < 0 ||
        pool_create(launcher, request, call->fd, err) < 0)
        return -1;
    call->fd = -1;
    return 0;
}

static int start(struct launcher *launcher, struct call *call, enum job_kind kind, struct err *err)
{
    struct job *job = mem_zalloc(sizeof(*job));

    job->kind = kind;
    job->box = call->box;
    job->on = call->request->internet != 0;
    memcpy(job->snapshot_id, call->request->snapshot_id, sizeof(job->snapshot_id));
    job->serial = call->request->serial;
    return job_start(launcher, job, err);
}

static int on_volume(struct launcher *launcher, struct call *call, struct err *err)
{
    if (volumes_serve(launcher, call->fd, err) < 0)
        return -1;
    launcher_answer(launcher, call->request->serial, NULL, -1, NULL);
    return 0;
}

static int on_mounts(struct launcher *launcher, struct call *call, struct err *err)
{
    if (volumes_expect(launcher, call->request->id, call->fd, err) < 0)
        return -1;
    launcher_answer(launcher, call->request->serial, NULL, -1, NULL);
    return 0;
}

static int on_destroy(struct launcher *launcher, struct call *call, struct err *err)
{
    enum box_state before;

    volumes_forget(launcher, call->request->id);
    if (call->box == NULL) { /* repeated, or never there */
        launcher_answer(launcher, call->request->serial, NULL, -1, NULL);
        return 0;
    }
    before = call->box->state;
    call->box->state = BOX_ENDING;
    if (start(launcher, call, JOB_DESTROY, err) == 0)
        return 0;
    call->box->state = before;
    return -1;
}

/* The router may be younger than the sandbox: then its link is gone and is made again. */
static void reconnect(struct launcher *launcher, struct box *box)
{
    struct job *job = mem_zalloc(sizeof(*job));
    struct err err = {0};

    job->kind = JOB_NETWORK;
    job->box = box;
    job->on = true;
    box->busy = true;
    if (job_start(launcher, job, &err) == 0)
        return;
    box->busy = false;
    log_err(LOG_WARN, "a sandbox has no network link", box->id, &err);
}

static int on_adopt(struct launcher *launcher, struct call *call, struct err *err)
{
    if (call->box == NULL || call->box->state != BOX_RUNNING) {
        if (!has_files(launcher, call->box))
            return refuse_unknown(call, err);
        return err_set(err, ERR_CONFLICT, "sandbox %s does not run; its files are kept",
                       call->request->id);
    }
    /* One with rules of its own stays without: the server says them again, and that makes it. */
    if (!call->box->adopted && call->box->record.internet && call->box->record.rules[0] == '\0' &&
        !launcher->router_adopted && launcher->ctx.router_netns >= 0)
        reconnect(launcher, call->box);
    call->box->adopted = true;
    launcher_answer(launcher, call->request->serial, call->box, -1, NULL);
    return 0;
}

static int on_list(struct launcher *launcher, struct call *call, struct err *err)
{
    (void)err;
    for (struct box *box = launcher->boxes; box != NULL; box = box->next) {
        struct launcher_reply reply;
        if (box->id[0] == '\0' || str_starts(box->id, SPARE_PREFIX))
            continue;
        reply_init(&reply, call->request->serial, NULL);
        reply.event = LAUNCHER_ITEM;
        memcpy(reply.id, box->id, sizeof(reply.id));
        reply.pid = box->record.pid;
        reply.slot = box->record.slot;
        reply.start_ticks = box->record.start_ticks;
        reply.tree = box->tree;
        launcher_send(launcher, &reply, -1);
    }
    launcher_answer(launcher, call->request->serial, NULL, -1, NULL);
    return 0;
}

static int on_dial(struct launcher *launcher, struct call *call, struct err *err)
{
    int socks[PACKET_FDS_MAX];
    int count = netns_sockets(call->box->init.fd, launcher->ctx.host_netns,
                              call->request->ipv6 != 0, socks, call->request->sockets, err);

    if (count < 0)
        return -1;
    launcher_send_sockets(launcher, call->request->serial, socks, count);
    for (int i = 0; i < count; i++)
        fd_close(&socks[i]);
    return 0;
}

static int with_box(struct launcher *launcher, struct call *call, enum job_kind kind,
                    struct err *err)
{
    call->box->busy = true;
    if (start(launcher, call, kind, err) == 0)
        return 0;
    call->box->busy = false;
    return -1;
}

static int on_network(struct launcher *launcher, struct call *call, struct err *err)
{
    if (network_begin(launcher, call->box, &call->fd, err) < 0)
        return -1;
    if (with_box(launcher, call, JOB_NETWORK, err) == 0)
        return 0;
    fd_close(&call->box->rules_next);
    return -1;
}

static int on_freeze(struct launcher *launcher, struct call *call, struct err *err)
{
    return with_box(launcher, call, JOB_FREEZE, err);
}

static int on_thaw(struct launcher *launcher, struct call *call, struct err *err)
{
    return with_box(launcher, call, JOB_THAW, err);
}

static int on_stop(struct launcher *launcher, struct call *call, struct err *err)
{
    struct box *box = call->box;
    enum box_state before;

    if (box == NULL || (box->state != BOX_RUNNING && !box->record.files))
        return refuse_unknown(call, err);
    if (can_keep(launcher, box, err) < 0)
        return -1;
    if (box->state == BOX_KEPT) {
        launcher_answer(launcher, call->request->serial, NULL, -1, NULL);
        return 0;
    }
    before = box->state;
    box->state = BOX_ENDING; /* its end is no news */
    if (start(launcher, call, JOB_STOP, err) == 0)
        return 0;
    box->state = before;
    return -1;
}

/* A START of one whose processes ended by themselves: what is left of them goes first. */
static int stop_and_start(struct launcher *launcher, struct call *call, struct err *err)
{
    struct job *job = mem_zalloc(sizeof(*job));
    struct waiting *waiting = mem_zalloc(sizeof(*waiting));

    waiting->request = *call->request;
    waiting->config = steal_fd(&call->fd);
    job->kind = JOB_STOP;
    job->box = call->box;
    job->start = waiting;
    job->box->state = BOX_ENDING;
    if (job_start(launcher, job, err) == 0)
        return 0;
    call->box->state = BOX_ENDED;
    waiting_free(waiting);
    return -1;
}

static int on_start(struct launcher *launcher, struct call *call, struct err *err)
{
    struct box *box = call->box;

    if (!str_eq(call->request->template_id, "base"))
        return err_set(err, ERR_NOT_FOUND, "template '%s' is not on this machine",
                       call->request->template_id);
    if (box == NULL || !box->record.files)
        return refuse_unknown(call, err);
    if (box->state == BOX_RUNNING)
        return err_set(err, ERR_CONFLICT, "sandbox %s runs", box->id);
    if (can_keep(launcher, box, err) < 0 || storage_room(&launcher->ctx.storage, err) < 0)
        return -1;
    if (box->state == BOX_ENDED)
        return stop_and_start(launcher, call, err);
    if (pool_create(launcher, call->request, call->fd, err) < 0)
        return -1;
    call->fd = -1;
    return 0;
}

static int on_snapshot(struct launcher *launcher, struct call *call, struct err *err)
{
    if (call->box == NULL || !call->box->record.files)
        return refuse_unknown(call, err);
    if (can_keep(launcher, call->box, err) < 0)
        return -1;
    return with_box(launcher, call, JOB_SNAPSHOT, err);
}

static int on_snapshot_delete(struct launcher *launcher, struct call *call, struct err *err)
{
    return start(launcher, call, JOB_SNAPSHOT_DELETE, err);
}

static int on_snapshot_list(struct launcher *launcher, struct call *call, struct err *err)
{
    return start(launcher, call, JOB_SNAPSHOT_LIST, err);
}

static int on_groups(struct launcher *launcher, struct call *call, struct err *err)
{
    int fds[3], count;

    count = cgroups_open_counted(launcher->ctx.cgroups, fds, err);
    if (count < 0)
        return -1;
    fds[count] = storage_gauges_open(&launcher->ctx.storage);
    count += fds[count] >= 0;
    launcher_send_sockets(launcher, call->request->serial, fds, count);
    for (int i = 0; i < count; i++)
        fd_close(&fds[i]);
    return 0;
}

static int on_log(struct launcher *launcher, struct call *call, struct err *err)
{
    int fd = logpipe_open(&launcher->ctx, call->box->record.slot, err);

    if (fd < 0)
        return -1;
    launcher_answer(launcher, call->request->serial, NULL, fd, NULL);
    fd_close(&fd);
    return 0;
}

/* Which sandbox an operation needs. */
enum need {
    NEED_NONE,    /* no sandbox, or looks for itself */
    NEED_SETTLED, /* unknown, running or ended; nothing at work on it */
    NEED_RUNNING, /* running, others may be at work */
    NEED_IDLE,    /* running, nothing at work on it */
};

static const struct {
    call_fn run;
    enum need need;
} calls[LAUNCHER_OP_COUNT] = {
    [LAUNCHER_CREATE] = {on_create, NEED_NONE},
    [LAUNCHER_DESTROY] = {on_destroy, NEED_SETTLED},
    [LAUNCHER_ADOPT] = {on_adopt, NEED_SETTLED},
    [LAUNCHER_LIST] = {on_list, NEED_NONE},
    [LAUNCHER_DIAL] = {on_dial, NEED_RUNNING},
    [LAUNCHER_NETWORK] = {on_network, NEED_IDLE},
    [LAUNCHER_FREEZE] = {on_freeze, NEED_IDLE},
    [LAUNCHER_THAW] = {on_thaw, NEED_IDLE},
    [LAUNCHER_STOP] = {on_stop, NEED_SETTLED},
    [LAUNCHER_START] = {on_start, NEED_SETTLED},
    [LAUNCHER_SNAPSHOT] = {on_snapshot, NEED_SETTLED},
    [LAUNCHER_SNAPSHOT_DELETE] = {on_snapshot_delete, NEED_NONE},
    [LAUNCHER_SNAPSHOT_LIST] = {on_snapshot_list, NEED_NONE},
    [LAUNCHER_GROUPS] = {on_groups, NEED_NONE},
    [LAUNCHER_LOG] = {on_log, NEED_RUNNING},
    [LAUNCHER_VOLUME] = {on_volume, NEED_NONE},
    [LAUNCHER_MOUNTS] = {on_mounts, NEED_NONE},
};

/* Find the sandbox and see that the operation is allowed in its state. */
static int find_box(struct launcher *launcher, struct call *call, enum need need, struct err *err)
{
    const char *id = call->request->id;
    struct box *box = map_get(&launcher->by_id, id);
    bool changing =
        map_get(&launcher->waiting_ids, id) != NULL ||
        (box != NULL && (box->busy || box->state == BOX_ORDERED || box->state == BOX_ENDING));

    if (need == NEED_NONE)
        return 0;
    call->box = box;
    if (need == NEED_SETTLED)
        return changing ? err_set(err, ERR_BUSY, "sandbox %s is being changed; try again", id) : 0;
    if (box == NULL || box->state != BOX_RUNNING || box->init.fd < 0)
        return err_set(err, ERR_NOT_FOUND, "sandbox %s is not running", id);
    if (need == NEED_IDLE && changing)
        return err_set(err, ERR_BUSY, "sandbox %s is being changed; try again", id);
    return 0;
}

static void serve(struct launcher *launcher, const struct launcher_request *request, size_t len,
                  int *fd)
{
    struct call call = {.request = request, .fd = *fd};
    struct err err = {0};
    int rc = request_check(request, len, *fd >= 0 ? 1 : 0, &err);

    *fd = -1;
    if (rc == 0)
        rc = find_box(launcher, &call, calls[request->op].need, &err);
    if (rc == 0)
        rc = calls[request->op].run(launcher, &call, &err);
    fd_close(&call.fd);
    if (rc < 0)
        launcher_answer(launcher, len >= sizeof(*request) ? request->serial : 0, NULL, -1, &err);
}

/*
 * A request longer than any, or one whose descriptor could not be received: this process has none
 * left (SCM_RIGHTS then cuts silently), and whoever asked waits.
 */
static void refuse_truncated(struct launcher *launcher, const struct launcher_request *request)
{
    struct err err = {0};

    err_set(&err, ERR_BUSY, "a request could not be received whole; try again");
    log_err(LOG_WARN, "request refused", NULL, &err);
    launcher_answer(launcher, request->serial, NULL, -1, &err);
}

void requests_ready(struct launcher *launcher, struct source *source)
{
    for (int i = 0; i < REQUESTS_PER_TURN; i++) {
        struct launcher_request request = {0};
        int fd = -1, count = 0;
        ssize_t n =
            packet_receive(source->fd, &request, sizeof(request), &fd, 1, &count, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0 && errno == EMSGSIZE) {
            refuse_truncated(launcher, &request);
            continue;
        }
        if (n <= 0) {
            launcher->stopping = true;
            return;
        }
        serve(launcher, &request, (size_t)n, &fd);
    }
}

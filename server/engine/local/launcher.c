#include "server/engine/local/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/time.h"
#include "server/engine/local/id_range.h"
#include "server/engine/local/rootfs_base.h"
#include "server/engine/local/rootfs_layers.h"
#include "server/engine/local/volume_store.h"

#define LOCK_WAIT_MS 10000
#define ID_RANGES_PATH "/run/sandpit-ids.lock"
#define PROBE_FOLDER "probe"

int launcher_watch(struct launcher *launcher, struct source *source, int fd,
                   void (*ready)(struct launcher *, struct source *), struct err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};

    source->fd = fd;
    source->ready = ready;
    if (epoll_ctl(launcher->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    err_sys(err, errno, "cannot watch a descriptor");
    fd_close(&source->fd);
    return -1;
}

void launcher_unwatch(struct launcher *launcher, struct source *source)
{
    if (source->fd < 0)
        return;
    /* Children hold copies, so closing alone would not take it out of epoll. */
    epoll_ctl(launcher->epoll, EPOLL_CTL_DEL, source->fd, NULL);
    fd_close(&source->fd);
}

void launcher_send(struct launcher *launcher, const struct launcher_reply *reply, int fd)
{
    /* Waits when the socket is full: the server's reader thread does nothing but read. */
    if (packet_send(launcher->server.fd, reply, sizeof(*reply), &fd, fd >= 0 ? 1 : 0, 0) < 0)
        launcher->stopping = true;
}

void launcher_send_sockets(struct launcher *launcher, uint64_t serial, const int *socks, int count)
{
    struct launcher_reply reply;

    reply_init(&reply, serial, NULL);
    if (packet_send(launcher->server.fd, &reply, sizeof(reply), socks, count, 0) < 0)
        launcher->stopping = true;
}

void launcher_answer(struct launcher *launcher, uint64_t serial, const struct box *box, int fd,
                     const struct err *err)
{
    struct launcher_reply reply;

    reply_init(&reply, serial, err);
    if (box != NULL) {
        memcpy(reply.id, box->id, sizeof(reply.id));
        reply.pid = box->record.pid;
        reply.slot = box->record.slot;
        reply.start_ticks = box->record.start_ticks;
        reply.tree = box->tree;
    }
    launcher_send(launcher, &reply, fd);
}

static void on_children(struct launcher *launcher, struct source *source)
{
    struct signalfd_siginfo info;

    (void)launcher;
    while (read(source->fd, &info, sizeof(info)) > 0)
        continue;
    /* Who it was and how it ended is told by pidfds and reports. */
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
}

/* Only one launcher per state folder; the last one may still be cleaning up. */
static int take_lock(struct launcher *launcher, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/launcher.lock", launcher->config.state_dir);
    static const struct timespec pause = {.tv_nsec = 20000000};
    int64_t deadline_mono_ms = time_mono_ms() + LOCK_WAIT_MS;

    launcher->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (launcher->lock < 0)
        return err_sys(err, errno, "cannot open %s", path);
    while (flock(launcher->lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_sys(err, errno, "cannot lock %s", path);
        if (time_mono_ms() >= deadline_mono_ms)
            return err_set(err, ERR_BUSY, "another server uses the state folder %s",
                           launcher->config.state_dir);
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int open_folder(const char *path, int *out, struct err *err)
{
    if (dir_make(path, 0755, err) < 0)
        return -1;
    *out = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*out < 0)
        return err_sys(err, errno, "cannot open %s", path);
    if (fchown(*out, 0, 0) < 0 || fchmod(*out, 0700) < 0)
        return err_sys(err, errno, "cannot protect %s", path);
    return 0;
}

static int make_folders(struct launcher *launcher, struct err *err)
{
    struct context *ctx = &launcher->ctx;
    _cleanup_free_ char *logs = mem_asprintf("%s/logs", launcher->config.run_dir);
    char hex[SHA256_HEX_SIZE];

    if (dir_make(launcher->config.state_dir, 0755, err) < 0 ||
        dir_make(launcher->config.run_dir, 0755, err) < 0 || take_lock(launcher, err) < 0)
        return -1;
    ctx->records_path = mem_asprintf("%s/sandboxes", launcher->config.run_dir);
    ctx->stage_path = mem_asprintf("%s/stage", launcher->config.run_dir);
    if (open_folder(ctx->records_path, &ctx->records_dir, err) < 0 ||
        open_folder(logs, &ctx->logs_dir, err) < 0 || dir_make(ctx->stage_path, 0700, err) < 0)
        return -1;
    hash_sha256_hex(launcher->config.state_dir, strlen(launcher->config.state_dir), hex);
    memcpy(ctx->instance, hex, sizeof(ctx->instance) - 1);
    return 0;
}

/* Files, with those of a version that kept them elsewhere. */
static int open_storage(struct launcher *launcher, struct err *err)
{
    struct context *ctx = &launcher->ctx;
    _cleanup_free_ char *legacy = mem_asprintf("%s/sandboxes", launcher->config.state_dir);

    /* Mounts of the storage are this process's and its children's. */
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_sys(err, errno, "cannot create the launcher's mount namespace");
    if (storage_open(&launcher->config, &ctx->storage, err) < 0)
        return -1;
    ctx->sandboxes_path = mem_asprintf("%s/sandboxes", ctx->storage.path);
    rmdir(legacy); /* empty: nothing of that version is left */
    ctx->legacy_dir = open(legacy, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return 0;
}

static int count_slots(struct launcher *launcher, struct err *err)
{
    uint32_t id_base = launcher->config.id_base;
    uint32_t fit = (UINT32_MAX - 65536u - id_base) / 65536u;

    if (id_base < 65536u || id_base > UINT32_MAX - 3 * 65536u)
        return err_set(err, ERR_INVALID,
                       "the first host id for sandboxes must be between 65536 "
                       "and %u",
                       UINT32_MAX - 3 * 65536u);
    launcher->slot_count = fit < SLOT_COUNT ? fit : SLOT_COUNT;
    return 0;
}

/* Nothing breaks at once when two servers use the same ids: say so, but go on. */
static void claim_ids(const struct launcher *launcher)
{
    struct err err = {0};

    /* The descriptor stays open for the life of this process. */
    if (id_range_claim(ID_RANGES_PATH, launcher->config.id_base / 65536u, launcher->slot_count,
                       &err) < 0)
        log_err(LOG_WARN,
                "give each server on a machine its own --id-base: sandboxes of several with the "
                "same host ids share the limits of one user",
                NULL, &err);
}

/* Try idmapped layers once, in the state folder itself: it depends on its file system. */
static void try_idmap(struct launcher *launcher)
{
    _cleanup_free_ char *probe = mem_asprintf("%s/" PROBE_FOLDER, launcher->ctx.storage.path);
    struct err err = {0};

    if (mkdir(probe, 0700) == 0 || errno == EEXIST)
        launcher->ctx.idmap = layers_idmap_works(probe, launcher->config.id_base, &err);
    if (!launcher->ctx.idmap)
        log_err(LOG_WARN,
                "owners of files cannot be shifted: no sudo in sandboxes, no snapshots of them",
                NULL, &err);
    layers_probe_remove(launcher->ctx.storage.path, PROBE_FOLDER);
}

static int set_up(struct launcher *launcher, struct err *err)
{
    struct context *ctx = &launcher->ctx;
    _cleanup_free_ char *layers = mem_asprintf("%s/layers", launcher->config.state_dir);
    struct stat st;

    if (make_folders(launcher, err) < 0 || open_storage(launcher, err) < 0 ||
        volume_store_open(ctx, err) < 0 || count_slots(launcher, err) < 0 ||
        sys_boot_id(ctx->boot_id, err) < 0)
        return -1;
    if (stat(launcher->config.envd_path, &st) < 0)
        return err_sys(err, errno, "envd is not at %s", launcher->config.envd_path);
    if (!S_ISREG(st.st_mode) || (st.st_mode & 0005) != 0005) /* it runs as somebody else */
        return err_set(err, ERR_INVALID,
                       "%s must be a program that everybody may read and run: "
                       "chmod 0755",
                       launcher->config.envd_path);
    ctx->host_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (ctx->host_netns < 0)
        return err_sys(err, errno, "cannot open the network namespace (is /proc mounted?)");
    if (cgroups_open(ctx->instance, &ctx->cgroups, err) < 0 ||
        seccomp_compile(&ctx->seccomp, err) < 0 ||
        rootfs_base_make(layers, &ctx->base_layer, err) < 0)
        return -1;
    claim_ids(launcher);
    try_idmap(launcher);
    boxes_find(launcher);
    return 0;
}

static int set_up_loop(struct launcher *launcher, int sock, struct err *err)
{
    sigset_t children;
    int fd;

    launcher->epoll = epoll_create1(EPOLL_CLOEXEC);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    if (launcher->epoll < 0 || fd < 0)
        return err_sys(err, errno, "cannot create the launcher's loop");
    if (launcher_watch(launcher, &launcher->children, fd, on_children, err) < 0)
        return -1;
    return launcher_watch(launcher, &launcher->server, sock, requests_ready, err);
}

static void loop(struct launcher *launcher)
{
    struct epoll_event event;

    while (!launcher->stopping) {
        /* One event at a time: a callback may free what a second one would point to. */
        if (epoll_wait(launcher->epoll, &event, 1, pool_sleep_ms(launcher)) == 1) {
            struct source *source = event.data.ptr;
            source->ready(launcher, source);
        }
        pool_run(launcher);
    }
}

/* Let children that are at work finish: what they do is not to be left half done. */
static void wait_for_children(struct launcher *launcher)
{
    struct epoll_event event;

    launcher_unwatch(launcher, &launcher->server);
    while (launcher->builders > 0 || launcher->jobs > 0) {
        if (epoll_wait(launcher->epoll, &event, 1, -1) == 1) {
            struct source *source = event.data.ptr;
            source->ready(launcher, source);
        }
    }
}

static void finish(struct launcher *launcher)
{
    bool sandboxes = false;

    wait_for_children(launcher);
    pool_drain(launcher);
    for (struct box *box = launcher->boxes; box != NULL; box = box->next)
        sandboxes |= box->id[0] != '\0';
    if (sandboxes)
        return; /* they stay, with their router */
    router_stop(launcher);
    cgroups_remove_base(launcher->ctx.cgroups);
    rmdir(launcher->ctx.stage_path);
}

/* Descriptors of the server's that the launcher has no use for. SOCK and READY move. */
static void keep_only(int *sock, int *ready)
{
    int a = fcntl(*sock, F_DUPFD_CLOEXEC, 16), b = fcntl(*ready, F_DUPFD_CLOEXEC, 16);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    dup2(null, 0);
    dup2(null, 1);
    *sock = dup3(a, 3, O_CLOEXEC);
    *ready = dup3(b, 4, O_CLOEXEC);
    close_range(5, ~0U, 0);
}

static void set_up_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, standard = {.sa_handler = SIG_DFL};
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2};

    for (size_t i = 0; i < array_size(ignored); i++)
        sigaction(ignored[i], &ignore, NULL); /* the server decides when to end */
    sigaction(SIGCHLD, &standard, NULL);
}

/* A descriptor for each sandbox. */
static void raise_descriptors(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

__attribute__((noreturn)) static void launcher_run(const struct local_config *config, int sock,
                                                   int ready)
{
    struct launcher *launcher = mem_zalloc(sizeof(*launcher));
    struct err err = {0};

    keep_only(&sock, &ready);
    set_up_signals();
    raise_descriptors();
    setsid();
    umask(0022);
    prctl(PR_SET_NAME, "sandpit-launch");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    launcher->config = (struct local_config){
        .state_dir = mem_strdup(config->state_dir),
        .run_dir = mem_strdup(config->run_dir),
        .envd_path = mem_strdup(config->envd_path),
        .id_base = config->id_base,
        .gateway = config->gateway,
        .gateway_ctx = config->gateway_ctx,
        .storage_plain = config->storage_plain,
        .storage_mb = config->storage_mb,
        .storage_reserve_mb = config->storage_reserve_mb,
    };
    launcher->ctx.config = &launcher->config;
    launcher->ctx.volumes_dir = -1;
    launcher->ctx.storage = (struct storage)STORAGE_NONE;
    launcher->ctx.legacy_dir = launcher->ctx.records_dir = -1;
    launcher->ctx.logs_dir = -1;
    launcher->ctx.host_netns = launcher->ctx.router_netns = -1;
    launcher->server.fd = launcher->children.fd = launcher->addresses.fd = -1;
    launcher->router.fd = launcher->gateway.fd = -1;
    launcher->waiting_tail = &launcher->waiting;
    launcher->demand_limits = (struct demand_limits){
        .min = config->warm_min, .max = config->warm_max, .idle_s = config->warm_idle_s};
    demand_init(&launcher->demand, time_mono_ms());
    map_init(&launcher->by_id);
    map_init(&launcher->waiting_ids);
    map_init(&launcher->mounts);
    if (set_up_loop(launcher, sock, &err) == 0 && set_up(launcher, &err) == 0)
        router_start(launcher);
    fd_write_full(ready, &err, sizeof(err));
    fd_close(&ready);
    if (err.code != ERR_NONE)
        _exit(1);
    pool_run(launcher);
    loop(launcher);
    finish(launcher);
    _exit(0);
}

int local_launcher_start(const struct local_config *config, int *sock, struct err *err)
{
    _cleanup_close_ int ours = -1, theirs = -1, ready_read = -1, ready_write = -1;
    struct err answer = {.code = ERR_INTERNAL, .msg = "the launcher ended early"};
    int pair[2];
    pid_t pid;

    if (geteuid() != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "the local engine needs root: start sandpit with sudo or as a service");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, errno, "cannot create a socket pair");
    ours = pair[0];
    theirs = pair[1];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot create a pipe");
    ready_read = pair[0];
    ready_write = pair[1];
    pid = fork();
    if (pid < 0)
        return err_sys(err, errno, "cannot start the launcher");
    if (pid == 0)
        launcher_run(config, theirs, ready_write);
    fd_close(&ready_write);
    fd_close(&theirs);
    fd_read_full(ready_read, &answer, sizeof(answer));
    if (answer.code != ERR_NONE) {
        sys_wait(pid, NULL);
        *err = answer;
        return -1;
    }
    *sock = steal_fd(&ours);
    return 0;
}

/*
 * `sandpit serve`: the order in which the parts start and stop.
 *
 * As root and alone: settings, state folder, launcher, sockets. Then privileges go, threads begin,
 * and the operations listener answers while the engine adopts what lives.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/api/node.h"
#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/base/version.h"
#include "server/cmd.h"
#include "server/dev_cert.h"
#include "server/engine/local/local.h"
#include "server/serve.h"
#include "server/state.h"

#define LAUNCHER_WAIT_MS 5000 /* for the launcher of a server that has just been killed */
#define WORK_QUEUE_MAX 4096

static int read_settings(struct server *server, struct err *err)
{
    struct settings *settings = &server->settings;

    if (settings_args(settings, server->argc, server->argv, err) < 0 ||
        settings_finish(settings, err) < 0 || settings_check(settings, err) < 0) {
        err->code = ERR_INVALID;
        return -1;
    }
    log_set_level((enum log_level)settings->number[SETTING_LOG_LEVEL]);
    if (!str_eq(settings_text(settings, SETTING_ENGINE), "local"))
        return err_set(err, ERR_UNSUPPORTED,
                       "this version does not have the kubernetes engine yet: use --engine local");
    if (geteuid() != 0)
        return err_set(
            err, ERR_FORBIDDEN,
            "the local engine starts as root: use sudo. It needs the capabilities "
            "SYS_ADMIN, SYS_CHROOT, SYS_PTRACE, NET_ADMIN, SETUID, SETGID, CHOWN, "
            "DAC_OVERRIDE, FOWNER, MKNOD, KILL and SETPCAP; only its launcher keeps them");
    return 0;
}

/* Replace a folder's setting by the path without symlinks and "..". */
static int resolve(struct settings *settings, enum setting id, struct err *err)
{
    char path[PATH_MAX];

    if (realpath(settings->text[id], path) == NULL)
        return err_sys(err, errno, "cannot resolve %s", settings->text[id]);
    free(settings->text[id]);
    settings->text[id] = mem_strdup(path);
    return 0;
}

static int make_folders(struct server *server, struct err *err)
{
    struct settings *settings = &server->settings;

    if (state_make(settings, err) < 0 ||
        dir_make(settings_text(settings, SETTING_RUN_DIR), 0755, err) < 0 ||
        resolve(settings, SETTING_STATE_DIR, err) < 0 ||
        resolve(settings, SETTING_RUN_DIR, err) < 0)
        return -1;
    return state_lock(settings, &server->lock_fd, err);
}

/* A killed server's launcher ends a moment after it. */
static int start_launcher(struct server *server, struct err *err)
{
    struct settings *settings = &server->settings;
    struct local_config config = {
        .state_dir = settings_text(settings, SETTING_STATE_DIR),
        .run_dir = settings_text(settings, SETTING_RUN_DIR),
        .envd_path = settings_text(settings, SETTING_ENVD),
        .id_base = (uint32_t)settings->number[SETTING_ID_BASE],
        .warm_min = (uint32_t)settings->number[SETTING_WARM_MIN],
        .warm_max = (uint32_t)settings->number[SETTING_WARM_MAX],
        .warm_idle_s = (uint32_t)settings->number[SETTING_WARM_IDLE],
        .storage_mb = settings->number[SETTING_STORAGE_MB],
        .storage_reserve_mb = settings->number[SETTING_STORAGE_RESERVE_MB],
        .storage_plain = settings->number[SETTING_STORAGE_PLAIN] != 0,
        .gateway = gateway_main,
        .gateway_ctx = &server->gateway,
    };
    int64_t deadline = time_mono_ms() + LAUNCHER_WAIT_MS;

    while (local_launcher_start(&config, &server->launcher_fd, err) < 0) {
        if (err->code != ERR_BUSY || time_mono_ms() > deadline)
            return -1;
        usleep(20 * 1000);
        *err = (struct err){0};
    }
    return 0;
}

char *serve_inner_path(const struct server *server, const char *path)
{
    const char *state = settings_text(&server->settings, SETTING_STATE_DIR);
    size_t len = strlen(state);

    if (strncmp(path, state, len) == 0 && path[len] == '/')
        return mem_asprintf(PRIVSEP_STATE "%s", path + len);
    return mem_strdup(path);
}

static int load_tls(struct server *server, struct err *err)
{
    struct settings *settings = &server->settings;
    const char *cert_setting = settings_text(settings, SETTING_TLS_CERT);
    const char *key_setting = settings_text(settings, SETTING_TLS_KEY);
    _cleanup_free_ char *tls_dir = settings_state_path(settings, "tls");
    _cleanup_free_ char *cert = NULL, *key = NULL;

    if (settings_text(settings, SETTING_TLS_LISTEN) == NULL)
        return 0;
    if (cert_setting != NULL) {
        cert = serve_inner_path(server, cert_setting);
        key = serve_inner_path(server, key_setting);
    } else {
        if (dev_cert_ensure(tls_dir, err) < 0)
            return -1;
        cert = mem_strdup(PRIVSEP_STATE "/tls/server.pem");
        key = mem_strdup(PRIVSEP_STATE "/tls/server.key");
    }
    return tls_new(cert, key, &server->tls, err);
}

static int write_dev_files(struct server *server, struct err *err)
{
    struct dev_ports ports;

    if (!settings_on(&server->settings, SETTING_DEV))
        return 0;
    serve_ports(server, &ports);
    if (dev_write_env(&server->settings, &ports, err) < 0)
        return -1;
    server->dev_help = dev_help(&server->settings);
    return 0;
}

/* All that root is needed for, in one process without threads. */
static int start_as_root(struct server *server, struct err *err)
{
    struct settings *settings = &server->settings;

    _cleanup_free_ char *db = NULL;

    if (make_folders(server, err) < 0 || privsep_find_user(settings, &server->user, err) < 0)
        return -1;
    db = state_db_dir(settings);
    if (envd_program_read(settings_text(settings, SETTING_ENVD), &server->envd, err) < 0)
        return -1;
    if (serve_gateway_prepare(server, err) < 0 || start_launcher(server, err) < 0 ||
        store_master_secret(db, &server->master, err) < 0)
        return -1;
    signal_block();
    if (privsep_mounts(settings_text(settings, SETTING_STATE_DIR),
                       settings_text(settings, SETTING_RUN_DIR), err) < 0 ||
        load_tls(server, err) < 0 || serve_bind(server, err) < 0 ||
        write_dev_files(server, err) < 0 ||
        state_give(settings, server->user.uid, server->user.gid, err) < 0)
        return -1;
    return privsep_drop(&server->user, err);
}

static void set_default_quota(struct server *server)
{
    const uint64_t *number = server->settings.number;
    const struct quota quota = {
        .max =
            {
                [QUOTA_SANDBOXES] = (int64_t)number[SETTING_MAX_SANDBOXES],
                [QUOTA_CREATES] = (int64_t)number[SETTING_CREATES_PER_SECOND],
                [QUOTA_CPU] = (int64_t)number[SETTING_MAX_CPU],
                [QUOTA_MEMORY] = (int64_t)number[SETTING_MAX_MEMORY_MB],
                [QUOTA_DISK] = (int64_t)number[SETTING_MAX_DISK_MB],
                [QUOTA_LIFETIME] = (int64_t)number[SETTING_MAX_LIFETIME],
            },
    };

    auth_set_default_quota(server->auth, &quota);
}

static int start_observe(struct server *server, struct err *err)
{
    const struct observe_config config = {
        .state_dir = PRIVSEP_STATE "/db",
        .engine = server->engine,
        .master = &server->master,
        .sample_ms = (int64_t)server->settings.number[SETTING_SAMPLE_SECONDS] * 1000,
        .webhook_private = settings_on(&server->settings, SETTING_WEBHOOK_PRIVATE),
    };

    return observe_new(&config, &server->observe, err);
}

/* From here on this is the unprivileged server. */
static int start_parts(struct server *server, struct err *err)
{
    struct lifecycle_config config = {
        .on_end = serve_sandbox_ended, .on_end_ctx = server, .on_event = observe_event};
    int rc;

    server->workers =
        work_pool_new("work", (unsigned)server->settings.number[SETTING_WORKERS], WORK_QUEUE_MAX);
    if (serve_start_ops(server, err) < 0 ||
        store_open(PRIVSEP_STATE "/db", &server->store, err) < 0 ||
        auth_new(server->store, &server->auth, err) < 0 ||
        local_engine_new(steal_fd(&server->launcher_fd), &server->engine, err) < 0 ||
        start_observe(server, err) < 0)
        return -1;
    set_default_quota(server);
    config.auth = server->auth;
    config.master = server->master;
    config.engine = server->engine;
    config.on_event_ctx = server->observe;
    config.store = server->store;
    config.workers = server->workers;
    config.gateway_ca = server->gateway_ca;
    config.replay_bytes = (int64_t)server->settings.number[SETTING_REPLAY_BYTES];
    config.replay_total_bytes = (int64_t)server->settings.number[SETTING_REPLAY_TOTAL_BYTES];
    config.no_private_egress = settings_on(&server->settings, SETTING_NO_PRIVATE_EGRESS);
    config.volume_count_max = (uint32_t)server->settings.number[SETTING_VOLUMES_MAX];
    config.volume_size_mb = server->settings.number[SETTING_VOLUME_SIZE];
    memcpy(config.envd_version, ENVD_VERSION, sizeof(ENVD_VERSION));
    memcpy(config.envd_build, server->envd.build, sizeof(config.envd_build));
    rc = lifecycle_new(&config, &server->lifecycle, err);
    secret_clear(&config.master);
    secret_clear(&server->master);
    if (rc < 0 ||
        node_new(server->store, server->lifecycle, PRIVSEP_STATE, &server->node, err) < 0 ||
        observe_start(server->observe, server->lifecycle, err) < 0 || serve_start(server, err) < 0)
        return -1;
    return envd_upgrade_start(server->lifecycle, server->loops[0].loop, &server->envd,
                              &server->envd_upgrade, err);
}

static void add_proxy_metric(struct buf *out, const char *name, const char *help, uint64_t value)
{
    buf_printf(out,
               "# HELP sandpit_proxy_%s %s\n# TYPE sandpit_proxy_%s counter\n"
               "sandpit_proxy_%s %llu\n",
               name, help, name, name, (unsigned long long)value);
}

static void add_proxy_metrics(struct buf *out)
{
    struct proxy_stats stats = {0};

    proxy_stats_get(&stats);
    add_proxy_metric(out, "requests_total", "Requests to sandboxes.", stats.requests);
    add_proxy_metric(out, "upgrades_total", "Upgraded connections, such as WebSockets.",
                     stats.upgrades);
    add_proxy_metric(out, "errors_total", "Requests that the proxy itself answered.", stats.errors);
    add_proxy_metric(out, "in_bytes_total", "Bytes from clients.", stats.bytes_in);
    add_proxy_metric(out, "out_bytes_total", "Bytes to clients.", stats.bytes_out);
}

static void log_ready(const struct server *server)
{
    struct dev_ports ports;

    serve_ports(server, &ports);
    log_info("ready", "version", SANDPIT_VERSION, "engine",
             settings_text(&server->settings, SETTING_ENGINE), "api",
             settings_text(&server->settings, SETTING_API_LISTEN), "api_port", log_num(ports.api),
             "traffic", settings_text(&server->settings, SETTING_TRAFFIC_LISTEN), "traffic_port",
             log_num(ports.traffic), "ops", settings_text(&server->settings, SETTING_OPS_LISTEN),
             "tls", settings_text(&server->settings, SETTING_TLS_LISTEN), "tls_port",
             ports.tls > 0 ? log_num(ports.tls) : NULL, "uid", log_num(server->user.uid), "threads",
             log_num((long long)server->loop_count));
}

static void free_listeners(struct server *server)
{
    for (int kind = 0; kind < LISTEN_KINDS; kind++) {
        for (size_t i = 0; i < LISTEN_MAX; i++)
            listener_free(server->listeners[kind][i]);
    }
    tls_free(server->tls);
}

static void free_loop(struct serve_loop *loop)
{
    proxy_free(loop->proxy); /* only if its thread never started */
    http_server_free(loop->http);
    loop_free(loop->loop);
}

/* The reverse of the start. Workers end before what they use, loops go after what posts to them. */
static void stop_all(struct server *server)
{
    envd_upgrade_stop(server->envd_upgrade);
    serve_stop_loops(server);
    envd_program_clear(&server->envd);
    lifecycle_stop(server->lifecycle);
    work_pool_free(server->workers);
    observe_stop(server->observe);
    lifecycle_free(server->lifecycle);
    if (server->engine != NULL)
        server->engine->ops->free(server->engine);
    node_free(server->node);
    observe_free(server->observe);
    auth_free(server->auth);
    store_close(server->store);
    signal_watch_free(server->signals);
    free_listeners(server);
    for (size_t i = 0; i < server->loop_count; i++)
        free_loop(&server->loops[i]);
    free_loop(&server->ops);
    free(server->loops);
    free(server->loop_list);
    free(server->dev_help);
    serve_gateway_free(server);
    secret_clear(&server->master);
    fd_close(&server->launcher_fd);
    fd_close(&server->lock_fd);
    settings_clear(&server->settings);
}

static void init_server(struct server *server, int argc, char **argv)
{
    pthread_condattr_t attr;

    memset(server, 0, sizeof(*server));
    server->argc = argc;
    server->argv = argv;
    server->lock_fd = server->launcher_fd = -1;
    settings_init(&server->settings);
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&server->wake, &attr);
    pthread_condattr_destroy(&attr);
}

static int run(struct server *server, struct err *err)
{
    if (read_settings(server, err) < 0 || start_as_root(server, err) < 0)
        return -1;
    server->api.engine_name = settings_text(&server->settings, SETTING_ENGINE);
    server->api.domain = settings_text(&server->settings, SETTING_DOMAIN);
    server->api.envd_version = ENVD_VERSION;
    server->api.extra_metrics = add_proxy_metrics;
    if (start_parts(server, err) < 0)
        return -1;
    log_ready(server);
    if (server->dev_help != NULL) {
        fputs(server->dev_help, stdout);
        fflush(stdout);
    }
    serve_ready(server, true);
    serve_run(server);
    return 0;
}

int cmd_serve(int argc, char **argv)
{
    struct server server;
    struct err err = {0};
    int rc;

    if (options_want_help(argc, argv)) {
        puts("usage: sandpit serve [FLAGS]\n\nEach flag is also a variable (SANDPIT_API_LISTEN) "
             "and a key of the file of --config\n(api_listen). Flags win, then variables, then the "
             "file.\n");
        settings_help(stdout);
        return cmd_flush();
    }
    init_server(&server, argc, argv);
    rc = run(&server, &err);
    if (rc < 0)
        rc = cmd_fail(&err);
    else
        log_info("stopped");
    stop_all(&server);
    return rc;
}

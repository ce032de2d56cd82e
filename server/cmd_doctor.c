/* `sandpit doctor`: what this machine offers and what is missing, in one table. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/cmd.h"
#include "server/dev_cert.h"
#include "server/engine/local/local.h"
#include "server/loop/address.h"
#include "server/loop/listener.h"
#include "server/state.h"

struct row {
    char *name, *found, *remedy;
    enum check_state state;
};

struct report {
    struct row *rows;
    size_t count;
    bool failed;
};

static const char *const state_names[] = {
    [CHECK_OK] = "OK", [CHECK_WARN] = "WARN", [CHECK_FAIL] = "FAIL"};

static void add(void *ctx, const char *name, enum check_state state, const char *found,
                const char *remedy)
{
    struct report *report = ctx;
    struct row *row;

    report->rows = mem_realloc_array(report->rows, report->count + 1, sizeof(*report->rows));
    row = &report->rows[report->count++];
    row->name = mem_strdup(name);
    row->state = state;
    row->found = mem_strdup(found != NULL ? found : "");
    row->remedy = mem_strdup(remedy != NULL && state != CHECK_OK ? remedy : "");
    report->failed |= state == CHECK_FAIL;
}

static void report_clear(struct report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        free(report->rows[i].name);
        free(report->rows[i].found);
        free(report->rows[i].remedy);
    }
    free(report->rows);
}

/* 0 or an errno: can ADDRESS be listened on? */
static int try_bind(const struct address *address)
{
    _cleanup_close_ int fd = socket(address->sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->sa.any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    return bind(fd, &address->sa.any, address->len) == 0 ? 0 : errno;
}

static void check_address(struct report *report, const char *text)
{
    struct address addresses[ADDRESS_MAX];
    struct err ignored;
    size_t count = 0;
    char found[160];
    int problem = 0;

    if (address_parse(text, addresses, &count, &ignored) < 0)
        return; /* settings_finish has looked */
    for (size_t i = 0; i < count && problem == 0; i++)
        problem = try_bind(&addresses[i]);
    snprintf(found, sizeof(found), "%s: %s", text, problem == 0 ? "free" : strerror(problem));
    add(report, "port", problem == 0 ? CHECK_OK : CHECK_FAIL, found,
        "stop what listens there, or choose another address (--api-listen and the like)");
}

static void check_ports(struct report *report, const struct settings *settings)
{
    static const enum setting ids[] = {SETTING_API_LISTEN, SETTING_TRAFFIC_LISTEN,
                                       SETTING_OPS_LISTEN, SETTING_TLS_LISTEN};
    pid_t pid = state_lock_holder(settings);

    if (pid != 0) {
        char found[80];
        snprintf(found, sizeof(found), "in use by the running server, process %d", (int)pid);
        add(report, "ports", CHECK_OK, found, NULL);
        return;
    }
    for (size_t i = 0; i < array_size(ids); i++) {
        char addresses[LISTEN_MAX][ADDRESS_SIZE];
        size_t count = settings_addresses(settings_text(settings, ids[i]), addresses);
        for (size_t k = 0; k < count; k++)
            check_address(report, addresses[k]);
    }
}

/* The folder, or the one in which it would be made, can be written. */
static void check_state(struct report *report, const struct settings *settings)
{
    _cleanup_free_ char *path = mem_strdup(settings_text(settings, SETTING_STATE_DIR));
    _cleanup_free_ char *found = NULL;
    char *slash;
    bool exists = access(path, F_OK) == 0, writable;

    while (access(path, F_OK) < 0 && (slash = strrchr(path, '/')) != NULL && slash != path)
        *slash = '\0';
    writable = access(path, W_OK | X_OK) == 0;
    found = mem_asprintf("%s %s", settings_text(settings, SETTING_STATE_DIR),
                         !writable ? "cannot be written"
                         : exists  ? "is there"
                                   : "will be made");
    add(report, "state folder", writable ? CHECK_OK : CHECK_FAIL, found,
        "run as root, or choose another --state-dir");
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 ==
               127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

static void check_names(struct report *report)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    bool loopback = true;
    char found[160];
    int rc = getaddrinfo("x." DEV_DOMAIN, NULL, &hints, &list);

    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
        loopback &= is_loopback(a->ai_addr);
    snprintf(found, sizeof(found), "%s",
             rc != 0    ? gai_strerror(rc)
             : loopback ? "is this machine"
                        : "is another machine");
    /* a warning: URL mode and real domains work without */
    add(report, "x." DEV_DOMAIN, rc == 0 && loopback ? CHECK_OK : CHECK_WARN, found,
        "apt-get install libnss-myhostname (needed for serve --dev in domain mode only)");
    if (rc == 0)
        freeaddrinfo(list);
}

static void check_tls(struct report *report, const struct settings *settings)
{
    const char *cert = settings_text(settings, SETTING_TLS_CERT);
    const char *key = settings_text(settings, SETTING_TLS_KEY);
    struct tls *tls = NULL;
    struct err err = {0};

    if (cert == NULL || key == NULL) {
        add(report, "tls", CHECK_OK,
            settings_on(settings, SETTING_DEV) ? "made by --dev" : "not asked for", NULL);
        return;
    }
    if (tls_new(cert, key, &tls, &err) < 0)
        add(report, "tls", CHECK_FAIL, err.msg, "check --tls-cert and --tls-key: PEM, one pair");
    else
        add(report, "tls", CHECK_OK, cert, NULL);
    tls_free(tls);
}

static void check_engine(struct report *report, const struct settings *settings)
{
    struct local_config config = {
        .state_dir = settings_text(settings, SETTING_STATE_DIR),
        .run_dir = settings_text(settings, SETTING_RUN_DIR),
        .envd_path = settings_text(settings, SETTING_ENVD),
        .id_base = (uint32_t)settings->number[SETTING_ID_BASE],
        .storage_mb = settings->number[SETTING_STORAGE_MB],
        .storage_reserve_mb = settings->number[SETTING_STORAGE_RESERVE_MB],
        .storage_plain = settings->number[SETTING_STORAGE_PLAIN] != 0,
    };

    if (config.envd_path == NULL)
        config.envd_path = "not beside sandpit"; /* no such file: the check fails and says so */
    if (geteuid() == 0) {
        local_check(&config, add, report);
        return;
    }
    add(report, "envd", access(config.envd_path, X_OK) == 0 ? CHECK_OK : CHECK_FAIL,
        config.envd_path, "build it (make build), or give --envd");
    add(report, "root", CHECK_FAIL, "not root: the other checks of the engine were left out",
        "sudo sandpit doctor");
}

static void print_table(const struct report *report)
{
    size_t name_width = 4, found_width = 5;

    for (size_t i = 0; i < report->count; i++) {
        size_t name = strlen(report->rows[i].name), found = strlen(report->rows[i].found);
        name_width = name > name_width ? name : name_width;
        found_width = found > found_width && found <= 60 ? found : found_width;
    }
    printf("%-*s  %-5s  %-*s  %s\n", (int)name_width, "NAME", "STATE", (int)found_width, "FOUND",
           "REMEDY");
    for (size_t i = 0; i < report->count; i++) {
        const struct row *row = &report->rows[i];
        printf("%-*s  %-5s  %-*s  %s\n", (int)name_width, row->name, state_names[row->state],
               (int)found_width, row->found, row->remedy);
    }
}

static int print_json(const struct report *report)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < report->count; i++) {
        const struct row *row = &report->rows[i];
        json_t *json = json_object();
        json_put_str(json, "name", row->name);
        json_put_str(json, "state", state_names[row->state]);
        json_put_str(json, "found", row->found);
        json_put_str(json, "remedy", row->remedy[0] != '\0' ? row->remedy : NULL);
        json_array_append_new(rows, json);
    }
    return cmd_print_json(rows);
}

/* Take --json out of ARGV; what is left are flags of serve. */
static bool take_json(int *argc, char **argv)
{
    int kept = 0;
    bool json = false;

    for (int i = 0; i < *argc; i++) {
        if (str_eq(argv[i], "--json"))
            json = true;
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
    return json;
}

int cmd_doctor(int argc, char **argv)
{
    _cleanup_settings_ struct settings settings;
    _cleanup_(report_clear) struct report report = {0};
    bool json = take_json(&argc, argv);
    struct err err = {0};
    int rc;

    settings_init(&settings);
    if (options_want_help(argc, argv)) {
        puts("usage: sandpit doctor [--json] [FLAGS OF serve]\n"
             "Exit code 1 when something that serve needs is missing.");
        return cmd_flush();
    }
    if (settings_args(&settings, argc, argv, &err) < 0 || settings_finish(&settings, &err) < 0)
        return cmd_fail(&err);
    check_state(&report, &settings);
    check_ports(&report, &settings);
    check_tls(&report, &settings);
    check_names(&report);
    if (str_eq(settings_text(&settings, SETTING_ENGINE), "local"))
        check_engine(&report, &settings);
    else
        add(&report, "engine", CHECK_FAIL, "kubernetes is not in this version",
            "use --engine local");
    rc = json ? print_json(&report) : (print_table(&report), cmd_flush());
    return report.failed ? EXIT_FAILED : rc;
}

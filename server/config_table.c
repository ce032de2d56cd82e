/* Every setting there is, and what a valid value of each kind looks like. */
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/config_private.h"
#include "server/loop/address.h"
#include "server/model/quota.h"

#define ID_RANGE 65536 /* ids of one sandbox */
#define WARM_MAX 1024
#define STORAGE_MAX_MB (16 * 1024 * 1024)
#define ID_BASE_MAX ((uint64_t)1885339648) /* 4,000 ranges below 2^31 */

const struct setting_def setting_defs[SETTING_COUNT] = {
    [SETTING_API_LISTEN] = {"api-listen", KIND_LISTEN, "ADDR:PORT", "127.0.0.1:3000", 0, 0, false,
                            "Platform API, plain HTTP"},
    [SETTING_TRAFFIC_LISTEN] = {"traffic-listen", KIND_LISTEN, "ADDR:PORT", "127.0.0.1:3002", 0, 0,
                                false, "traffic to sandboxes, plain HTTP"},
    [SETTING_OPS_LISTEN] = {"ops-listen", KIND_LISTEN, "ADDR:PORT", "127.0.0.1:3001", 0, 0, false,
                            "/livez, /readyz and /metrics; no key is asked for"},
    [SETTING_TLS_LISTEN] = {"tls-listen", KIND_LISTEN, "ADDR:PORT", NULL, 0, 0, false,
                            "API and sandboxes on one TLS port (--dev: " LISTEN_DEV_TLS ")"},
    [SETTING_TLS_CERT] = {"tls-cert", KIND_PATH, "FILE", NULL, 0, 0, false,
                          "PEM certificate chain of --tls-listen, for DOMAIN and *.DOMAIN"},
    [SETTING_TLS_KEY] = {"tls-key", KIND_PATH, "FILE", NULL, 0, 0, false,
                         "PEM private key of --tls-cert"},
    [SETTING_DOMAIN] = {"domain", KIND_DOMAIN, "NAME[:PORT]", NULL, 0, 0, false,
                        "sandboxes are <port>-<id>.NAME; unset: any name, clients keep their own"},
    [SETTING_STATE_DIR] = {"state-dir", KIND_PATH, "DIR", "/var/lib/sandpit", 0, 0, false,
                           "what has to survive: keys, sandboxes, layers"},
    [SETTING_RUN_DIR] = {"run-dir", KIND_PATH, "DIR", "/run/sandpit", 0, 0, false,
                         "what lives until the next boot: mounts, namespaces, sockets"},
    [SETTING_ENGINE] = {"engine", KIND_ENGINE, "NAME", "local", 0, 0, false, "local or kubernetes"},
    [SETTING_KUBECONFIG] = {"kubeconfig", KIND_PATH, "FILE", NULL, 0, 0, false,
                            "kubernetes: how to reach it; unset: in-cluster"},
    [SETTING_NAMESPACE] = {"namespace", KIND_TEXT, "NS", NULL, 0, 0, false,
                           "kubernetes: the namespace of the server's own objects"},
    [SETTING_ENVD] =
        {"envd", KIND_PATH, "FILE", NULL, 0, 0, false,
         "the daemon for sandboxes; unset: beside sandpit, else in ../libexec/sandpit"},
    [SETTING_USER] = {"user", KIND_TEXT, "NAME|UID", NULL, 0, 0, false,
                      "who serves the network; unset: the account sandpit, else id-base minus 1"},
    [SETTING_ID_BASE] =
        {"id-base", KIND_NUMBER, "N", "1879113728", ID_RANGE, ID_BASE_MAX, false,
         "first host uid and gid of sandboxes, 65536 for each; a multiple of 65536"},
    [SETTING_THREADS] = {"threads", KIND_NUMBER, "N", "0", 0, 256, false,
                         "network threads; 0: one for each core, at most 16"},
    [SETTING_WORKERS] = {"workers", KIND_NUMBER, "N", "16", 1, 1024, false,
                         "threads for calls that block, such as creating a sandbox"},
    [SETTING_WARM_MIN] = {"warm-min", KIND_NUMBER, "N", "4", 0, WARM_MAX, false,
                          "sandboxes built ahead of a create, at least"},
    [SETTING_WARM_MAX] = {"warm-max", KIND_NUMBER, "N", "32", 0, WARM_MAX, false,
                          "the same at most: as many as the busiest second of a minute took"},
    [SETTING_WARM_IDLE] = {"warm-idle", KIND_NUMBER, "S", "3600", 0, 1 << 30, false,
                           "seconds without a create until none are kept; 0: always keep some"},
    [SETTING_STORAGE_MB] =
        {"storage-mb", KIND_NUMBER, "MB", "0", 0, STORAGE_MAX_MB, false,
         "size of the image that holds files of sandboxes; 0: what is free, less the reserve"},
    [SETTING_STORAGE_RESERVE_MB] =
        {"storage-reserve-mb", KIND_NUMBER, "MB", "0", 0, STORAGE_MAX_MB, false,
         "kept free on the state's disk: no create below it; 0: 2 %, 512 to 8192"},
    [SETTING_STORAGE_PLAIN] = {"storage-plain", KIND_BOOL, NULL, "false", 0, 0, false,
                               "plain folders, no image: disk limits are not held"},
    [SETTING_REPLAY_BYTES] = {"replay-bytes", KIND_NUMBER, "N", "1048576", 65536, 1 << 30, false,
                              "kept of each output of a process, for readers that come back"},
    [SETTING_REPLAY_TOTAL_BYTES] = {"replay-total-bytes", KIND_NUMBER, "N", "67108864", 65536,
                                    UINT32_MAX, false,
                                    "kept of all processes of a sandbox together"},
    [SETTING_MAX_SANDBOXES] = {"max-sandboxes", KIND_NUMBER, "N", "0", 0, QUOTA_MAX, false,
                               "running at the same time in a namespace; 0: no limit"},
    [SETTING_CREATES_PER_SECOND] = {"creates-per-second", KIND_NUMBER, "N", "0", 0,
                                    QUOTA_CREATES_MAX, false,
                                    "creates of a namespace, as many at once; 0: no limit"},
    [SETTING_MAX_CPU] = {"max-cpu", KIND_NUMBER, "N", "0", 0, QUOTA_MAX, false,
                         "cores of one sandbox; 0: no limit"},
    [SETTING_MAX_MEMORY_MB] = {"max-memory-mb", KIND_NUMBER, "N", "0", 0, QUOTA_MAX, false,
                               "MiB of memory of one sandbox; 0: no limit"},
    [SETTING_MAX_DISK_MB] = {"max-disk-mb", KIND_NUMBER, "N", "0", 0, QUOTA_MAX, false,
                             "MiB of disk of one sandbox; 0: no limit"},
    [SETTING_MAX_LIFETIME] = {"max-lifetime", KIND_NUMBER, "S", "86400", 0, QUOTA_MAX, false,
                              "seconds of one run of a sandbox, from its start; 0: no limit"},
    [SETTING_VOLUMES_MAX] = {"volumes-max", KIND_NUMBER, "N", "100", 0, 100000, false,
                             "volumes that a namespace may have; 0: none, volumes are off"},
    [SETTING_VOLUME_SIZE] = {"volume-size", KIND_NUMBER, "MB", "10240", 0, 1 << 30, false,
                             "size of a new volume, where the storage has quotas; 0: no limit"},
    [SETTING_EGRESS_RESOLVER] = {"egress-resolver", KIND_LISTEN, "ADDR:PORT", NULL, 0, 0, false,
                                 "whom the egress gateway asks for names; unset: as sandboxes do"},
    [SETTING_EGRESS_CA_FILE] = {"egress-ca-file", KIND_PATH, "FILE", NULL, 0, 0, false,
                                "PEM of more roots that the egress gateway trusts upstream"},
    [SETTING_NO_PRIVATE_EGRESS] = {"no-private-egress", KIND_BOOL, NULL, "false", 0, 0, false,
                                   "private networks stay closed, also to who names them"},
    [SETTING_SAMPLE_SECONDS] = {"sample-seconds", KIND_NUMBER, "N", "5", 0, 3600, false,
                                "how often each sandbox's use is measured; 0: never"},
    [SETTING_WEBHOOK_PRIVATE] = {"webhook-private", KIND_BOOL, NULL, "false", 0, 0, false,
                                 "webhooks may go to loopback and private addresses"},
    [SETTING_LOG_LEVEL] = {"log-level", KIND_LEVEL, "LEVEL", "info", 0, 0, true,
                           "debug, info, warn or error"},
    [SETTING_DEV] = {"dev", KIND_BOOL, NULL, "false", 0, 0, false,
                     "make a first key, a certificate and <state-dir>/dev.env"},
    [SETTING_CONFIG] = {"config", KIND_PATH, "FILE", NULL, 0, 0, false,
                        "a JSON object of settings, keys like api_listen"},
};

static int parse_listen(const char *value, const char *from, struct err *err)
{
    size_t count = 0;

    for (const char *p = value;; p++) {
        struct address addresses[ADDRESS_MAX];
        size_t len = strcspn(p, ","), found;
        char text[ADDRESS_SIZE];
        struct err why = {0};
        if (str_copy(text, sizeof(text), p, len) < 0)
            return err_set(err, ERR_INVALID, "%s: an address is too long", from);
        if (address_parse(text, addresses, &found, &why) < 0)
            return err_set(err, ERR_INVALID, "%s: %.400s", from, why.msg);
        if (++count > LISTEN_MAX)
            return err_set(err, ERR_INVALID, "%s: more than %d addresses", from, LISTEN_MAX);
        p += len;
        if (*p == '\0')
            return 0;
    }
}

static int parse_bool(const char *value, const char *from, uint64_t *out, struct err *err)
{
    if (str_eq(value, "true") || str_eq(value, "1"))
        *out = 1;
    else if (str_eq(value, "false") || str_eq(value, "0"))
        *out = 0;
    else
        return err_set(err, ERR_INVALID, "%s: '%.40s' is neither true nor false", from, value);
    return 0;
}

static int parse_number(enum setting id, const char *value, const char *from, uint64_t *out,
                        struct err *err)
{
    const struct setting_def *def = &setting_defs[id];
    uint64_t number;

    if (str_to_u64(value, strlen(value), def->min, def->max, from, &number, err) < 0)
        return -1;
    if (id == SETTING_ID_BASE && number % ID_RANGE != 0)
        return err_set(err, ERR_INVALID, "%s: %s is not a multiple of %d", from, value, ID_RANGE);
    *out = number;
    return 0;
}

/* A host name, maybe with a port; no scheme, no wildcard. */
static int parse_domain(const char *value, const char *from, struct err *err)
{
    size_t host = strcspn(value, ":");
    struct err ignored;
    uint64_t port;

    if (host == 0 || host > 200 || value[0] == '.' || value[host - 1] == '.' ||
        strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") < host ||
        (value[host] == ':' && str_to_u64(value + host + 1, strlen(value + host + 1), 1, 65535,
                                          "port", &port, &ignored) < 0))
        return err_set(err, ERR_INVALID,
                       "%s: '%.80s' is not a name such as box.example or box.example:3443", from,
                       value);
    return 0;
}

static char *absolute(const char *path)
{
    char cwd[PATH_MAX];

    if (path[0] == '/' || getcwd(cwd, sizeof(cwd)) == NULL)
        return mem_strdup(path);
    while (str_starts(path, "./"))
        path += 2;
    return mem_asprintf("%s/%s", cwd, path);
}

static int check_kind(enum setting id, const char *value, const char *from, uint64_t *number,
                      struct err *err)
{
    enum log_level level;

    switch (setting_defs[id].kind) {
    case KIND_LISTEN:
        return parse_listen(value, from, err);
    case KIND_NUMBER:
        return parse_number(id, value, from, number, err);
    case KIND_BOOL:
        return parse_bool(value, from, number, err);
    case KIND_DOMAIN:
        return parse_domain(value, from, err);
    case KIND_LEVEL:
        if (log_level_parse(value, &level) < 0)
            return err_set(err, ERR_INVALID, "%s: '%.40s' is not debug, info, warn or error", from,
                           value);
        *number = level;
        return 0;
    case KIND_ENGINE:
        if (!str_eq(value, "local") && !str_eq(value, "kubernetes"))
            return err_set(err, ERR_INVALID, "%s: '%.40s' is neither local nor kubernetes", from,
                           value);
        return 0;
    default:
        return 0;
    }
}

int setting_parse(enum setting id, const char *value, const char *from, char **text,
                  uint64_t *number, struct err *err)
{
    if (*value == '\0')
        return err_set(err, ERR_INVALID, "%s: the value is empty", from);
    if (check_kind(id, value, from, number, err) < 0)
        return -1;
    *text = setting_defs[id].kind == KIND_PATH ? absolute(value) : mem_strdup(value);
    return 0;
}

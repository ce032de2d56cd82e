#include "envd/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "envd/trust.h"
#include "server/base/buf.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;
static struct settings *current; /* guarded by current_lock */

static struct settings *settings_new(void)
{
    struct settings *settings = mem_zalloc(sizeof(*settings));

    settings->refs = 1;
    settings->sandbox_id = mem_strdup("");
    settings->template_id = mem_strdup("");
    settings->default_user = mem_strdup("root");
    settings->default_workdir = mem_strdup("");
    settings->events_ip = mem_strdup("");
    settings->replay_bytes = CONFIG_REPLAY_BYTES;
    settings->replay_total_bytes = CONFIG_REPLAY_TOTAL_BYTES;
    settings->user_envs = json_object();
    settings->mounted = json_object();
    settings->envs = json_object();
    return settings;
}

static struct settings *settings_copy(const struct settings *from)
{
    struct settings *copy = mem_zalloc(sizeof(*copy));

    *copy = *from;
    copy->refs = 1;
    copy->access_token = mem_strdup(from->access_token);
    copy->sandbox_id = mem_strdup(from->sandbox_id);
    copy->template_id = mem_strdup(from->template_id);
    copy->default_user = mem_strdup(from->default_user);
    copy->default_workdir = mem_strdup(from->default_workdir);
    copy->events_ip = mem_strdup(from->events_ip);
    copy->user_envs = json_deep_copy(from->user_envs);
    copy->mounted = json_deep_copy(from->mounted);
    copy->envs = NULL;
    return copy;
}

struct settings *settings_get(void)
{
    struct settings *settings;

    pthread_mutex_lock(&current_lock);
    settings = current;
    __atomic_add_fetch(&settings->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&current_lock);
    return settings;
}

void settings_unref(struct settings *settings)
{
    if (settings == NULL || __atomic_sub_fetch(&settings->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (settings->access_token != NULL)
        secret_wipe(settings->access_token, strlen(settings->access_token));
    secret_clear(&settings->jwt_key);
    free(settings->access_token);
    free(settings->sandbox_id);
    free(settings->template_id);
    free(settings->default_user);
    free(settings->default_workdir);
    free(settings->events_ip);
    json_decref(settings->user_envs);
    json_decref(settings->mounted);
    json_decref(settings->envs);
    free(settings);
}

static void publish(struct settings *settings)
{
    struct settings *old;

    pthread_mutex_lock(&current_lock);
    old = current;
    current = settings;
    pthread_mutex_unlock(&current_lock);
    settings_unref(old);
}

/* What every process gets: the user's variables, and over them the internal ones. */
static void merge_envs(struct settings *settings)
{
    json_decref(settings->envs);
    settings->envs = json_deep_copy(settings->user_envs);
    json_put_str(settings->envs, "E2B_SANDBOX", "true");
    if (settings->sandbox_id[0] != '\0')
        json_put_str(settings->envs, "E2B_SANDBOX_ID", settings->sandbox_id);
    if (settings->template_id[0] != '\0')
        json_put_str(settings->envs, "E2B_TEMPLATE_ID", settings->template_id);
    if (settings->events_ip[0] != '\0') {
        _cleanup_free_ char *address = mem_asprintf("http://%s", settings->events_ip);
        json_put_str(settings->envs, "E2B_EVENTS_ADDRESS", address);
    }
}

void config_init(bool insecure)
{
    struct settings *settings = settings_new();

    settings->insecure = insecure;
    merge_envs(settings);
    publish(settings);
}

void config_clear(void)
{
    publish(NULL);
}

static void replace(char **field, const char *value)
{
    free(*field);
    *field = mem_strdup(value);
}

static int apply_token(struct settings *settings, const json_t *json, struct err *err)
{
    const char *token = NULL;

    if (json_get_str(json, "accessToken", &token, err) < 0)
        return -1;
    if (token != NULL &&
        (token[0] == '\0' || strchr(token, '\\') != NULL || strlen(token) > CONFIG_TOKEN_MAX_BYTES))
        return err_set(err, ERR_INVALID, "accessToken must be 1 to %d bytes without a backslash",
                       CONFIG_TOKEN_MAX_BYTES);
    if (settings->access_token != NULL)
        secret_wipe(settings->access_token, strlen(settings->access_token));
    replace(&settings->access_token, token);
    return 0;
}

/* A name must be usable in an environment block; a value too (jansson refuses NUL in both). */
static int apply_envs(struct settings *settings, const json_t *json, struct err *err)
{
    json_t *envs = NULL, *value;
    const char *name;

    if (json_get_str_map(json, "envVars", &envs, err) < 0)
        return -1;
    if (envs == NULL)
        return 0;
    json_object_foreach(envs, name, value) {
        if (name[0] == '\0' || strchr(name, '=') != NULL)
            return err_set(err, ERR_INVALID, "envVars has a name that is empty or holds '='");
    }
    json_decref(settings->user_envs);
    settings->user_envs = json_deep_copy(envs);
    return 0;
}

static int apply_defaults(struct settings *settings, const json_t *json, struct err *err)
{
    const char *user = "", *workdir = "";

    if (json_get_str(json, "defaultUser", &user, err) < 0 ||
        json_get_str(json, "defaultWorkdir", &workdir, err) < 0)
        return -1;
    if (user[0] != '\0')
        replace(&settings->default_user, user);
    if (workdir[0] != '\0')
        replace(&settings->default_workdir, workdir);
    return 0;
}

/* Ours: how much of the output of processes is kept. A running process keeps its own bound. */
static int apply_replay(struct settings *settings, const json_t *json, struct err *err)
{
    if (json_get_i64(json, "sandpitReplayBytes", CONFIG_REPLAY_BYTES_MIN, CONFIG_REPLAY_BYTES_MAX,
                     &settings->replay_bytes, err) < 0)
        return -1;
    return json_get_i64(json, "sandpitReplayTotalBytes", CONFIG_REPLAY_BYTES_MIN, INT64_MAX,
                        &settings->replay_total_bytes, err);
}

static int apply_events(struct settings *settings, const json_t *json, struct err *err)
{
    struct in_addr address;
    const char *ip = "";

    if (json_get_str(json, "hyperloopIP", &ip, err) < 0)
        return -1;
    if (ip[0] == '\0')
        return 0;
    if (inet_pton(AF_INET, ip, &address) != 1)
        return err_set(err, ERR_INVALID, "hyperloopIP must be an IPv4 address");
    replace(&settings->events_ip, ip);
    return 0;
}

/* What POST /init alone does must not look done. */
static int refuse_work(const json_t *json, struct err *err)
{
    if (json_has(json, "volumeMounts"))
        return err_set(err, ERR_INVALID, "field 'volumeMounts' is for POST /init alone");
    return 0;
}

/* From the envd before this one. */
static int apply_mounted(struct settings *settings, const json_t *json, struct err *err)
{
    json_t *mounted = NULL;

    if (json_get_str_map(json, "sandpitMounted", &mounted, err) < 0)
        return -1;
    if (mounted == NULL)
        return 0;
    json_decref(settings->mounted);
    settings->mounted = json_deep_copy(mounted);
    return 0;
}

/* Fields that only the launcher may give. */
static int apply_identity(struct settings *settings, const json_t *json, struct err *err)
{
    const char *key = NULL, *sandbox_id = "", *template_id = "";

    if (json_get_str(json, "jwtKey", &key, err) < 0 ||
        json_get_str(json, "sandboxID", &sandbox_id, err) < 0 ||
        json_get_str(json, "templateID", &template_id, err) < 0 ||
        json_get_i64(json, "cpuCount", 1, CONFIG_CPU_MAX, &settings->cpu_count, err) < 0 ||
        json_get_i64(json, "memoryTotalBytes", 1, INT64_MAX, &settings->memory_total_bytes, err) <
            0)
        return -1;
    if (key != NULL) {
        if (hex_decode(key, strlen(key), settings->jwt_key.bytes, CONFIG_JWT_KEY_BYTES) < 0)
            return err_set(err, ERR_INVALID, "jwtKey must be %d hex digits",
                           2 * CONFIG_JWT_KEY_BYTES);
        settings->jwt_key.len = CONFIG_JWT_KEY_BYTES;
        settings->has_jwt_key = true;
    }
    if (sandbox_id[0] != '\0')
        replace(&settings->sandbox_id, sandbox_id);
    if (template_id[0] != '\0')
        replace(&settings->template_id, template_id);
    return 0;
}

/* Sets *STALE when the document is not newer than the last one that was accepted. */
static int apply_timestamp(struct settings *settings, const json_t *json, bool *stale,
                           struct err *err)
{
    const char *text = NULL;
    int64_t ms;
    uint32_t nanos;

    if (json_get_str(json, "timestamp", &text, err) < 0)
        return -1;
    if (text == NULL || text[0] == '\0')
        return 0;
    if (time_parse_rfc3339(text, strlen(text), &ms, &nanos) < 0)
        return err_set(err, ERR_INVALID, "timestamp must be an RFC 3339 date and time");
    if (settings->has_timestamp &&
        (ms < settings->timestamp_ms ||
         (ms == settings->timestamp_ms && nanos <= settings->timestamp_nanos))) {
        *stale = true;
        return 0;
    }
    settings->has_timestamp = true;
    settings->timestamp_ms = ms;
    settings->timestamp_nanos = nanos;
    return 0;
}

int config_apply(const json_t *json, bool trusted, bool *stale_out, struct err *err)
{
    _cleanup_settings_ struct settings *old = settings_get();
    _cleanup_settings_ struct settings *settings = settings_copy(old);
    bool stale = false;

    if (apply_timestamp(settings, json, &stale, err) < 0 || apply_token(settings, json, err) < 0 ||
        apply_envs(settings, json, err) < 0 || apply_defaults(settings, json, err) < 0 ||
        apply_events(settings, json, err) < 0 || apply_replay(settings, json, err) < 0)
        return -1;
    if (trusted && (refuse_work(json, err) < 0 || apply_identity(settings, json, err) < 0 ||
                    apply_mounted(settings, json, err) < 0))
        return -1;
    if (stale_out != NULL)
        *stale_out = stale;
    if (stale)
        return 0;
    settings->initialised = true;
    merge_envs(settings);
    publish(steal_ptr(&settings));
    return 0;
}

bool config_is_mounted(const char *path, const char *lifecycle_id)
{
    const json_t *found = json_object_get(current->mounted, path);

    return found != NULL && str_eq(json_string_value(found), lifecycle_id);
}

void config_set_mounted(const char *path, const char *lifecycle_id)
{
    _cleanup_settings_ struct settings *settings = settings_copy(current);

    if (lifecycle_id != NULL)
        json_put_str(settings->mounted, path, lifecycle_id);
    else
        json_object_del(settings->mounted, path);
    merge_envs(settings);
    publish(steal_ptr(&settings));
}

static void export_identity(const struct settings *settings, json_t *json)
{
    char key[2 * CONFIG_JWT_KEY_BYTES + 1];

    if (settings->has_jwt_key) {
        hex_encode(settings->jwt_key.bytes, CONFIG_JWT_KEY_BYTES, key);
        json_put_str(json, "jwtKey", key);
        secret_wipe(key, sizeof(key));
    }
    json_put_str(json, "sandboxID", settings->sandbox_id);
    json_put_str(json, "templateID", settings->template_id);
    if (settings->cpu_count > 0)
        json_put_i64(json, "cpuCount", settings->cpu_count);
    if (settings->memory_total_bytes > 0)
        json_put_i64(json, "memoryTotalBytes", settings->memory_total_bytes);
}

static void export_timestamp(const struct settings *settings, json_t *json)
{
    char text[TIME_RFC3339_SIZE + 16];

    if (!settings->has_timestamp)
        return;
    time_rfc3339_ms(settings->timestamp_ms, text);
    snprintf(text + strlen("2026-01-02T03:04:05"), 16, ".%09uZ", settings->timestamp_nanos);
    json_put_str(json, "timestamp", text);
}

char *config_export(void)
{
    _cleanup_settings_ struct settings *settings = settings_get();
    _cleanup_json_ json_t *json = json_object();

    if (settings->access_token != NULL)
        json_put_str(json, "accessToken", settings->access_token);
    json_put(json, "envVars", json_deep_copy(settings->user_envs));
    json_put(json, "sandpitMounted", json_deep_copy(settings->mounted));
    json_put_str(json, "defaultUser", settings->default_user);
    json_put_str(json, "defaultWorkdir", settings->default_workdir);
    json_put_str(json, "hyperloopIP", settings->events_ip);
    json_put_i64(json, "sandpitReplayBytes", settings->replay_bytes);
    json_put_i64(json, "sandpitReplayTotalBytes", settings->replay_total_bytes);
    export_identity(settings, json);
    export_timestamp(settings, json);
    return json_text(json);
}

static int read_all(int fd, struct buf *out, struct err *err)
{
    for (;;) {
        char *to = buf_reserve(out, 4096);
        ssize_t n;

        if (to == NULL)
            return err_set(err, ERR_INVALID, "the configuration is larger than %d bytes",
                           CONFIG_JSON_MAX_BYTES);
        n = read(fd, to, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "cannot read the configuration descriptor");
        if (n == 0)
            return 0;
        buf_commit(out, (size_t)n);
    }
}

/* Before anything runs. A sandbox without the platform's certificates still starts. */
static int install_bundle(const json_t *json, struct err *err)
{
    const char *text = "";
    struct err why = {0};
    struct buf pem;
    int rc = 0;

    if (json_get_str(json, "caBundle", &text, err) < 0)
        return -1;
    if (text[0] == '\0')
        return 0;
    buf_init(&pem, 2 * TRUST_MAX_BYTES);
    if (trust_parse(text, strlen(text), &pem, err) < 0)
        rc = -1;
    else if (trust_install(TRUST_BUNDLE, TRUST_SOURCE, &pem, &why) < 0)
        log_err(LOG_WARN, "cannot install caBundle", NULL, &why);
    buf_clear(&pem);
    return rc;
}

int config_read_fd(int fd, struct err *err)
{
    _cleanup_json_ json_t *json = NULL;
    struct buf text;
    int rc;

    buf_init(&text, CONFIG_JSON_MAX_BYTES);
    rc = read_all(fd, &text, err);
    if (rc == 0)
        json = json_parse_object(buf_str(&text), text.len, err);
    if (text.data != NULL)
        secret_wipe(text.data, text.cap);
    buf_clear(&text);
    if (json == NULL || install_bundle(json, err) < 0)
        return -1;
    return config_apply(json, true, NULL, err);
}

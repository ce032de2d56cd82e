/*
 * server/lifecycle/spec.c - what the engine and envd are told of a sandbox, and its variables at
 * rest.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/seal.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/limits.h"

#define DEFAULT_USER "user"

void secret_text_free(char **text)
{
    if (*text != NULL)
        secret_wipe(*text, strlen(*text));
    free(*text);
}

/*
 * The egress gateway's CA where programs look for it, and for those that have roots of their own
 * (Node, Python's requests and others) variables that lead there. What the client set stays.
 */
static void add_trust(json_t *config, const char *pem)
{
    static const char *const names[] = {"NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE",
                                        "SSL_CERT_FILE"};
    json_t *env = json_object_get(config, "envVars");

    json_put_str(config, "caBundle", pem);
    for (size_t i = 0; i < array_size(names); i++) {
        if (!json_has(env, names[i]))
            json_put_str(env, names[i], "/etc/ssl/certs/ca-certificates.crt");
    }
}

char *envd_config(struct lifecycle *lifecycle, const struct entry *entry, const json_t *env)
{
    const struct sandbox *sandbox = &entry->sandbox;
    _cleanup_json_ json_t *config = json_object();
    char token[SHA256_HEX_SIZE], jwt_key[SHA256_HEX_SIZE], now[TIME_RFC3339_SIZE];
    char *text;

    if (sandbox->secure) {
        lifecycle_envd_token(lifecycle, sandbox->id, token);
        json_put_str(config, "accessToken", token);
    }
    hex_encode(entry->jwt_key, sizeof(entry->jwt_key), jwt_key);
    time_rfc3339_ms(time_unix_ms(), now);
    json_put(config, "envVars", env != NULL ? json_deep_copy(env) : json_object());
    json_put_str(config, "defaultUser", DEFAULT_USER);
    json_put_str(config, "timestamp", now);
    json_put_str(config, "jwtKey", jwt_key);
    json_put_str(config, "sandboxID", sandbox->id);
    json_put_str(config, "templateID", sandbox->template_id);
    json_put_i64(config, "cpuCount", sandbox->cpu_count);
    json_put_i64(config, "memoryTotalBytes", (int64_t)sandbox->memory_mb << 20);
    if (lifecycle->config.replay_bytes > 0)
        json_put_i64(config, "sandpitReplayBytes", lifecycle->config.replay_bytes);
    if (lifecycle->config.replay_total_bytes > 0)
        json_put_i64(config, "sandpitReplayTotalBytes", lifecycle->config.replay_total_bytes);
    if (lifecycle->config.gateway_ca != NULL && network_has_rules(sandbox->network))
        add_trust(config, lifecycle->config.gateway_ca);
    text = json_text(config);
    secret_wipe(jwt_key, sizeof(jwt_key));
    secret_wipe(token, sizeof(token));
    return text;
}

struct engine_spec engine_spec_of(const struct sandbox *sandbox, const char *config, bool internet,
                                  const char *policy)
{
    return (struct engine_spec){
        .id = sandbox->id,
        .template_id =
            sandbox->base_template_id[0] != '\0' ? sandbox->base_template_id : sandbox->template_id,
        .cpu_count = sandbox->cpu_count,
        .memory_mb = sandbox->memory_mb,
        .disk_mb = sandbox->disk_mb,
        .pids_max = SANDBOX_PIDS_MAX,
        .volume_mounts = sandbox->volume_mounts,
        .internet = internet,
        .network = policy,
        .envd_config = config,
    };
}

/* One key a namespace: what one has sealed opens in no other. */
static void env_key(struct lifecycle *lifecycle, const char *namespace_,
                    uint8_t out[SEAL_KEY_BYTES])
{
    const struct secret *master = &lifecycle->config.master;
    _cleanup_free_ char *info = mem_asprintf("env:%s", namespace_);

    hash_hkdf_sha256(master->bytes, master->len, info, out);
}

char *env_seal(struct lifecycle *lifecycle, const char *namespace_, const json_t *env)
{
    _cleanup_(secret_text_free) char *text = NULL;
    uint8_t key[SEAL_KEY_BYTES];
    char *sealed;

    if (json_object_size(env) == 0)
        return NULL;
    text = json_text(env);
    env_key(lifecycle, namespace_, key);
    sealed = seal_text(key, text, strlen(text));
    secret_wipe(key, sizeof(key));
    return sealed;
}

int env_open(struct lifecycle *lifecycle, const char *namespace_, const char *sealed, json_t **out,
             struct err *err)
{
    _cleanup_(secret_text_free) char *text = NULL;
    uint8_t key[SEAL_KEY_BYTES];
    size_t len = 0;
    json_t *env;

    if (sealed == NULL) {
        *out = json_object();
        return 0;
    }
    env_key(lifecycle, namespace_, key);
    text = seal_open(key, sealed, &len, err);
    secret_wipe(key, sizeof(key));
    env = text != NULL ? json_parse_object(text, len, err) : NULL;
    if (env == NULL) { /* another master secret, or a broken row: not the client's fault */
        err->code = ERR_INTERNAL;
        return err_wrap(err, "stored variables");
    }
    *out = env;
    return 0;
}

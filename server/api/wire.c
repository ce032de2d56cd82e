#include "server/api/wire.h"

#include <string.h>

#include "server/api/network.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/model/volume.h"

static void put_time(json_t *object, const char *key, int64_t unix_ms)
{
    char text[TIME_RFC3339_SIZE];

    time_rfc3339_ms(unix_ms, text);
    json_put_str(object, key, text);
}

/* Stored JSON text back as JSON; left out when there is none. */
static void put_text(json_t *object, const char *key, const char *text)
{
    struct err err = {0};
    json_t *value = text != NULL ? json_parse(text, strlen(text), &err) : NULL;

    if (value != NULL)
        json_put(object, key, value);
}

/* Which volume a name means is not shown: only that name and the path are the client's words. */
static void put_volume_mounts(json_t *object, const char *text)
{
    _cleanup_free_ struct volume_mount *mounts = NULL;
    json_t *list;
    struct err ignored = {0};
    size_t count = 0;

    if (volume_mounts_parse(text, &mounts, &count, &ignored) < 0 || count == 0)
        return;
    list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_object();
        json_put_str(item, "name", mounts[i].name);
        json_put_str(item, "path", mounts[i].path);
        json_array_append_new(list, item);
    }
    json_put(object, "volumeMounts", list);
}

static void put_identity(const struct api *api, json_t *object, const struct sandbox *sandbox)
{
    json_put_str(object, "templateID", sandbox->template_id);
    json_put_str(object, "sandboxID", sandbox->id);
    json_put_str(object, "clientID", WIRE_CLIENT_ID);
    json_put_str(object, "envdVersion",
                 sandbox->envd_version[0] != '\0' ? sandbox->envd_version : api->envd_version);
    if (sandbox->alias[0] != '\0')
        json_put_str(object, "alias", sandbox->alias);
}

static void put_envd_token(struct api *api, json_t *object, const struct sandbox *sandbox)
{
    char token[SHA256_HEX_SIZE];

    if (!sandbox->secure)
        return;
    lifecycle_envd_token(api->lifecycle, sandbox->id, token);
    json_put_str(object, "envdAccessToken", token);
    secret_wipe(token, sizeof(token));
}

json_t *wire_sandbox(struct api *api, const struct sandbox *sandbox)
{
    json_t *object = json_object();
    char token[SHA256_HEX_SIZE];

    put_identity(api, object, sandbox);
    put_envd_token(api, object, sandbox);
    json_put_str(object, "domain", api->domain);
    if (sandbox->private_traffic) {
        lifecycle_traffic_token(api->lifecycle, sandbox->id, token);
        json_put_str(object, "trafficAccessToken", token);
        secret_wipe(token, sizeof(token));
    }
    return object;
}

json_t *wire_listed(const struct api *api, const struct sandbox *sandbox)
{
    json_t *object = json_object();

    put_identity(api, object, sandbox);
    put_time(object, "startedAt", sandbox->started_unix_ms);
    put_time(object, "endAt", sandbox->end_unix_ms);
    json_put_i64(object, "cpuCount", sandbox->cpu_count);
    json_put_i64(object, "memoryMB", sandbox->memory_mb);
    json_put_i64(object, "diskSizeMB", sandbox->disk_mb);
    json_put_str(object, "state", sandbox_state_public(sandbox->state));
    if (sandbox->metadata != NULL)
        put_text(object, "metadata", sandbox->metadata);
    else
        json_put(object, "metadata", json_object());
    put_volume_mounts(object, sandbox->volume_mounts);
    if (sandbox->state == SANDBOX_PAUSED && sandbox->paused_deaf)
        json_put_bool(object, "envdUnresponsiveAtPause", true);
    return object;
}

json_t *wire_detail(struct api *api, const struct sandbox *sandbox)
{
    json_t *object = wire_listed(api, sandbox);
    json_t *lifecycle = json_object();

    put_envd_token(api, object, sandbox);
    json_put_str(object, "domain", api->domain);
    json_put(object, "allowInternetAccess",
             sandbox->internet_set ? json_boolean(sandbox->internet) : json_null());
    if (sandbox->network != NULL)
        json_put(object, "network", network_shown(sandbox->network));
    json_put_bool(lifecycle, "autoResume", sandbox->auto_resume);
    json_put_str(lifecycle, "onTimeout", sandbox->auto_pause ? "pause" : "kill");
    json_put(object, "lifecycle", lifecycle);
    if (sandbox->state == SANDBOX_PAUSED)
        json_put_str(object, "pauseMode", sandbox->paused_files ? "filesystem" : "full");
    return object;
}

/* A list of TEXT, empty when that is. */
static json_t *one_string(const char *text)
{
    json_t *array = json_array();

    if (text[0] != '\0')
        json_array_append_new(array, json_string(text));
    return array;
}

static json_t *wire_build(const struct api *api, const struct template *template)
{
    json_t *build = json_object();

    json_put_str(build, "buildID", template->build_id);
    json_put_str(build, "status", "ready");
    put_time(build, "createdAt", template->created_unix_ms);
    put_time(build, "updatedAt", template->updated_unix_ms);
    json_put_i64(build, "cpuCount", template->cpu_count);
    json_put_i64(build, "memoryMB", template->memory_mb);
    json_put_i64(build, "diskSizeMB", template->disk_mb);
    json_put_str(build, "envdVersion", api->envd_version);
    return build;
}

json_t *wire_template(const struct api *api, const struct template *template, bool builds)
{
    json_t *object = json_object();
    json_t *list;

    json_put_str(object, "templateID", template->id);
    json_put_str(object, "buildID", template->build_id);
    json_put_str(object, "buildStatus", "ready");
    json_put_i64(object, "cpuCount", template->cpu_count);
    json_put_i64(object, "memoryMB", template->memory_mb);
    json_put_i64(object, "diskSizeMB", template->disk_mb);
    json_put_bool(object, "public", template->is_public);
    json_put(object, "aliases", one_string(template->alias));
    json_put(object, "names", one_string(template->name));
    put_time(object, "createdAt", template->created_unix_ms);
    put_time(object, "updatedAt", template->updated_unix_ms);
    json_put_str(object, "createdBy", NULL);
    /* A template of nobody's namespace has no usage figures (templates-api.md section 3). */
    json_put_str(object, "lastSpawnedAt", NULL);
    json_put_i64(object, "spawnCount", 0);
    json_put_i64(object, "buildCount", 1);
    json_put_str(object, "envdVersion", api->envd_version);
    if (!builds)
        return object;
    list = json_array();
    json_array_append_new(list, wire_build(api, template));
    json_put(object, "builds", list);
    return object;
}

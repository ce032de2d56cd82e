/*
 * server/api/wire_create.c - the body of POST /sandboxes, checked field by field.
 *
 * What is asked for and not built is refused: a sandbox that silently lacks a mount or a firewall
 * rule would be a lie. Unknown fields are passed over, as the contract wants.
 */
#include <string.h>

#include "server/api/error_table.h"
#include "server/api/wire.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/limits.h"

static int parse_template(const json_t *body, struct lifecycle_create *request, struct err *err)
{
    const char *ref = NULL;

    if (json_get_str(body, "templateID", &ref, err) < 0)
        return error_schema(err);
    if (ref == NULL || ref[0] == '\0')
        return err_set(err, ERR_INVALID, "validation error: field 'templateID' is required");
    if (strlen(ref) >= TEMPLATE_ID_SIZE)
        return err_set(err, ERR_INVALID,
                       "Invalid template reference: it must be shorter than %d bytes",
                       TEMPLATE_ID_SIZE);
    request->template_ref = ref;
    return 0;
}

/* KEY as an object of strings, with at most ENTRIES and BYTES of keys and values together. */
static int parse_map(const json_t *body, const char *key, size_t entries, size_t bytes,
                     const json_t **out, struct err *err)
{
    json_t *map = NULL, *value;
    const char *name;
    size_t total = 0;

    if (json_get_str_map(body, key, &map, err) < 0)
        return error_schema(err);
    if (json_object_size(map) > entries)
        return err_set(err, ERR_INVALID, "field '%s' must have at most %zu entries", key, entries);
    json_object_foreach(map, name, value) {
        total += strlen(name) + json_string_length(value); /* bounded by the body's size */
    }
    if (total > bytes)
        return err_set(err, ERR_INVALID, "field '%s' must have at most %zu bytes", key, bytes);
    *out = map;
    return 0;
}

static int check_env_names(const json_t *env, struct err *err)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)env, name, value) {
        if (name[0] == '\0' || strchr(name, '=') != NULL)
            return err_set(err, ERR_INVALID,
                           "names in field 'envVars' must not be empty or contain '='");
    }
    return 0;
}

static int parse_maps(const json_t *body, struct lifecycle_create *request, struct err *err)
{
    if (parse_map(body, "metadata", METADATA_ENTRIES_MAX, METADATA_BYTES_MAX, &request->metadata,
                  err) < 0 ||
        parse_map(body, "envVars", ENV_ENTRIES_MAX, ENV_BYTES_MAX, &request->env, err) < 0)
        return -1;
    return request->env != NULL ? check_env_names(request->env, err) : 0;
}

static int parse_pause(const json_t *body, struct lifecycle_create *request, struct err *err)
{
    json_t *resume = NULL;
    bool memory = true;

    if (json_get_bool(body, "autoPause", &request->auto_pause, err) < 0 ||
        json_get_bool(body, "autoPauseMemory", &memory, err) < 0 ||
        json_get_object(body, "autoResume", &resume, err) < 0)
        return error_schema(err);
    if (resume != NULL && json_get_bool(resume, "enabled", &request->auto_resume, err) < 0)
        return error_schema(err);
    if (memory)
        return 0;
    if (!request->auto_pause)
        return err_set(err, ERR_INVALID,
                       "autoPauseMemory=false only applies when autoPause is true.");
    if (request->auto_resume)
        return err_set(err, ERR_INVALID, "autoPauseMemory=false cannot be used with autoResume.");
    request->auto_pause_files = true;
    return 0;
}

/* Checked further by lifecycle, which knows the volumes. */
static int parse_mounts(const json_t *body, struct lifecycle_create *request, struct err *err)
{
    json_t *mounts = NULL;

    if (json_get_array(body, "volumeMounts", &mounts, err) < 0)
        return error_schema(err);
    request->volume_mounts = mounts;
    return 0;
}

/* What would be ignored if it were accepted. */
static int refuse_unbuilt(const json_t *body, struct err *err)
{
    json_t *iam = NULL, *mcp = NULL, *tokens = NULL;

    if (json_get_object(body, "iam", &iam, err) < 0 || json_get_object(body, "mcp", &mcp, err) < 0)
        return error_schema(err);
    if (iam != NULL && json_get_object(iam, "tokens", &tokens, err) < 0)
        return error_schema(err);
    if (json_object_size(tokens) > 0)
        return err_set(err, ERR_INVALID,
                       "iam.tokens: identity tokens are not enabled on this server");
    return 0;
}

static int parse_fields(const json_t *body, bool v2, struct create_body *out, struct err *err)
{
    struct lifecycle_create *request = &out->request;

    request->timeout_s = v2 ? SANDBOX_TIMEOUT_DEFAULT_S : SANDBOX_TIMEOUT_V1_DEFAULT_S;
    if (json_get_i64(body, "timeout", INT32_MIN, INT32_MAX, &request->timeout_s, err) < 0 ||
        json_get_bool(body, "secure", &request->secure, err) < 0)
        return error_schema(err);
    if (parse_template(body, request, err) < 0 || parse_pause(body, request, err) < 0 ||
        parse_maps(body, request, err) < 0 || refuse_unbuilt(body, err) < 0)
        return -1;
    if (v2)
        request->secure = true;
    return parse_mounts(body, request, err) < 0 ? -1 : wire_network_parse(body, out, err);
}

int wire_create_parse(json_t *body, bool v2, struct create_body *out, struct err *err)
{
    struct create_body parsed = {.json = json_incref(body)};

    if (parse_fields(body, v2, &parsed, err) < 0) {
        create_body_clear(&parsed);
        return -1;
    }
    *out = parsed;
    return 0;
}

void wire_create_hash(const struct create_body *body, bool v2, uint8_t out[SHA256_BYTES])
{
    _cleanup_free_ char *text = json_canonical(body->json);
    _cleanup_free_ char *all = mem_asprintf("%s %s", v2 ? "v2" : "v1", text);

    hash_sha256(all, strlen(all), out);
}

void create_body_clear(struct create_body *body)
{
    json_decref(body->network);
    json_decref(body->json);
    *body = (struct create_body){0};
}

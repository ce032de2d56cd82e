/*
 * Secrets: values are encrypted before they reach the store, each with a key of its own that is
 * derived from the master secret and its id. They are opened only to fill a network policy.
 */
#include <stdio.h>
#include <string.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/seal.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/lifecycle/internal.h"
#include "server/model/placeholder.h"

#define HEADER_VALUE_MAX 65536 /* bytes of a header's value once it is filled */
#define INFO_SIZE (sizeof("secret:") + SECRET_ID_SIZE)

static void secret_key(struct lifecycle *lifecycle, const char *id, uint8_t out[SEAL_KEY_BYTES])
{
    const struct secret *master = &lifecycle->config.master;
    char info[INFO_SIZE];

    snprintf(info, sizeof(info), "secret:%s", id);
    hash_hkdf_sha256(master->bytes, master->len, info, out);
}

/* VALUE as it is stored, to free(). value_check has bounded it. */
static char *seal_value(struct lifecycle *lifecycle, const char *id, const char *value)
{
    uint8_t key[SEAL_KEY_BYTES];
    char *sealed;

    secret_key(lifecycle, id, key);
    sealed = seal_text(key, value, strlen(value));
    secret_wipe(key, sizeof(key));
    return sealed;
}

static int value_check(const char *value, struct err *err)
{
    size_t len = strnlen(value, SECRET_VALUE_MAX_BYTES + 1);

    if (len == 0 || len > SECRET_VALUE_MAX_BYTES)
        return err_set(err, ERR_INVALID, "a secret's value has 1 to %d bytes",
                       SECRET_VALUE_MAX_BYTES);
    return 0;
}

/*
 * The value of the secret NAME has changed: sandboxes whose rules use it get them anew. What fails
 * here keeps the value of before until its rules are said again: at the next change, a resume, a
 * start of the server.
 */
static void apply_change(struct lifecycle *lifecycle, const char *namespace_, const char *name)
{
    _cleanup_free_ char *mark = mem_asprintf("${e2b.secrets.%s}", name);
    struct sandbox *list = NULL;
    struct err err = {0};
    size_t count = 0;

    /* one that is being created is not in the list yet: it looks at this number */
    atomic_fetch_add(&lifecycle->secret_changes, 1);
    if (lifecycle_list(lifecycle, namespace_, &list, &count, &err) < 0) {
        log_err(LOG_ERROR, "a secret's new value is not applied", NULL, &err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (list[i].network == NULL || strcasestr(list[i].network, mark) == NULL)
            continue;
        if (network_apply(lifecycle, list[i].id, &err) < 0 && err.code != ERR_NOT_FOUND)
            log_err(LOG_ERROR, "a secret's new value is not applied", list[i].id, &err);
        err = (struct err){0};
    }
    sandbox_list_free(list, count);
}

void secrets_recheck(struct lifecycle *lifecycle, struct entry *entry, uint64_t seen)
{
    struct err err = {0};

    if (atomic_load(&lifecycle->secret_changes) == seen ||
        !network_has_rules(entry->sandbox.network))
        return;
    if (entry_network(lifecycle, entry, &err) < 0)
        log_err(LOG_ERROR, "a secret's new value is not applied", entry->sandbox.id, &err);
}

/* The text of METADATA to free(), NULL when it is empty or not given. */
static char *metadata_text(const json_t *metadata)
{
    return json_object_size(metadata) > 0 ? json_text(metadata) : NULL;
}

int lifecycle_secret_create(struct lifecycle *lifecycle, const char *namespace_, const char *name,
                            const char *value, const json_t *metadata, struct secret_info *out,
                            struct err *err)
{
    _cleanup_(secret_info_clear) struct secret_info info = {.version = 1};
    _cleanup_free_ char *sealed = NULL;

    if (secret_name_parse(name, strlen(name), info.name, err) < 0 || value_check(value, err) < 0 ||
        secret_metadata_check(metadata, err) < 0 ||
        str_copy(info.namespace_, sizeof(info.namespace_), namespace_, strlen(namespace_)) < 0)
        return err->code != ERR_NONE ? -1 : err_set(err, ERR_INTERNAL, "a namespace's name");
    info.created_unix_ms = info.updated_unix_ms = time_unix_ms();
    secret_id_new(info.created_unix_ms, info.id);
    info.metadata = metadata_text(metadata);
    sealed = seal_value(lifecycle, info.id, value);
    if (store_secret_add(lifecycle->config.store, &info, sealed, SECRET_COUNT_MAX, err) < 0)
        return -1;
    apply_change(lifecycle, namespace_, info.name);
    *out = info;
    memset(&info, 0, sizeof(info));
    return 0;
}

/* Look KEY up by what it looks like; a name may be written in capitals. */
static int find(struct lifecycle *lifecycle, const char *namespace_, const char *key,
                struct secret_info *out, char **sealed, struct err *err)
{
    char name[SECRET_NAME_SIZE];

    if (secret_id_valid(key))
        return store_secret_get(lifecycle->config.store, namespace_, key, false, out, sealed, err);
    if (secret_name_parse(key, strlen(key), name, err) < 0)
        return err_set(err, ERR_NOT_FOUND, "no such secret"); /* none has such a name */
    return store_secret_get(lifecycle->config.store, namespace_, name, true, out, sealed, err);
}

int lifecycle_secret_get(struct lifecycle *lifecycle, const char *namespace_, const char *key,
                         struct secret_info *out, struct err *err)
{
    return find(lifecycle, namespace_, key, out, NULL, err);
}

int lifecycle_secret_update(struct lifecycle *lifecycle, const char *namespace_, const char *key,
                            const char *value, const json_t *metadata, struct secret_info *out,
                            struct err *err)
{
    _cleanup_(secret_info_clear) struct secret_info info = {0};
    _cleanup_free_ char *sealed = NULL, *text = metadata_text(metadata);

    if (value_check(value, err) < 0 || secret_metadata_check(metadata, err) < 0 ||
        find(lifecycle, namespace_, key, &info, NULL, err) < 0)
        return -1;
    sealed = seal_value(lifecycle, info.id, value);
    if (store_secret_update(lifecycle->config.store, namespace_, info.id, time_unix_ms(), sealed,
                            metadata == NULL, text, out, err) < 0)
        return -1;
    apply_change(lifecycle, namespace_, info.name);
    return 0;
}

int lifecycle_secret_delete(struct lifecycle *lifecycle, const char *namespace_, const char *key,
                            struct err *err)
{
    _cleanup_(secret_info_clear) struct secret_info info = {0};

    if (find(lifecycle, namespace_, key, &info, NULL, err) < 0)
        return -1;
    if (store_secret_delete(lifecycle->config.store, namespace_, info.id, err) < 0)
        return -1;
    apply_change(lifecycle, namespace_, info.name);
    return 0;
}

int lifecycle_secret_list(struct lifecycle *lifecycle, const char *namespace_, const char *after,
                          size_t max, struct secret_info **out, size_t *count, struct err *err)
{
    return store_secret_list(lifecycle->config.store, namespace_, after, max, out, count, err);
}

/* --- filling a policy ------------------------------------------------------------------------ */

/* The value of the secret NAME (LEN bytes) behind OUT. ERR_NOT_FOUND. */
static int add_secret(struct lifecycle *lifecycle, const char *namespace_, const char *name,
                      size_t len, struct buf *out, struct err *err)
{
    _cleanup_(secret_info_clear) struct secret_info info = {0};
    _cleanup_free_ char *key = mem_strndup(name, len), *sealed = NULL;
    uint8_t seal_key[SEAL_KEY_BYTES];
    struct err why = {0};
    size_t value_len;
    char *value;

    if (find(lifecycle, namespace_, key, &info, &sealed, err) < 0)
        return -1;
    secret_key(lifecycle, info.id, seal_key);
    value = seal_open(seal_key, sealed, &value_len, &why);
    secret_wipe(seal_key, sizeof(seal_key));
    if (value == NULL) {
        log_error("a stored secret cannot be opened: is this the state's own master.key?",
                  "secret_id", info.id);
        return err_set(err, ERR_NOT_FOUND, "the secret cannot be opened");
    }
    buf_add(out, value, value_len); /* one that is too large overflows it: for the caller */
    secret_wipe(value, value_len);
    free(value);
    return 0;
}

bool network_has_rules(const char *network)
{
    _cleanup_json_ json_t *json = NULL;
    struct err err;

    if (network == NULL || strstr(network, "\"rules\"") == NULL)
        return false;
    json = json_parse_object(network, strlen(network), &err);
    return json_object_size(json_object_get(json, "rules")) > 0;
}

/* RFC 9110 section 5.5: what a field's value may hold. Bytes over 0x7f pass, as UTF-8. */
static bool is_field_value(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* VALUE with its placeholders filled: new, a string, or null. NULL with ERR: try again later. */
static json_t *fill_value(struct lifecycle *lifecycle, const char *namespace_, const char *value,
                          struct err *err)
{
    struct placeholder part = {0};
    struct err why = {0};
    json_t *filled = NULL;
    struct buf out;
    size_t at = 0;
    int rc = 0;

    buf_init(&out, HEADER_VALUE_MAX);
    do {
        rc = placeholder_next(value, &at, &part, &why);
        if (rc == 0 && part.kind == PLACEHOLDER_TEXT)
            buf_add(&out, part.text, part.len);
        else if (rc == 0 && part.kind == PLACEHOLDER_SECRET)
            rc = add_secret(lifecycle, namespace_, part.text, part.len, &out, &why);
        else if (rc == 0 && part.kind == PLACEHOLDER_TOKEN)
            rc = err_set(&why, ERR_NOT_FOUND, "identity tokens are off");
    } while (rc == 0 && part.kind != PLACEHOLDER_END);
    if (rc == 0 && !out.overflow && is_field_value(buf_str(&out), out.len))
        filled = json_stringn(buf_str(&out), out.len);
    else if (rc == 0 || why.code == ERR_NOT_FOUND || why.code == ERR_INVALID)
        filled = json_null();
    else
        *err = why;
    if (out.data != NULL)
        secret_wipe(out.data, out.cap);
    buf_clear(&out);
    return filled;
}

static int fill_headers(struct lifecycle *lifecycle, const char *namespace_, json_t *headers,
                        struct err *err)
{
    const char *name;
    json_t *value;
    void *next;

    json_object_foreach_safe(headers, next, name, value)
    {
        const char *text = json_string_value(value);
        json_t *filled;
        if (text == NULL || strstr(text, "${e2b.") == NULL)
            continue;
        filled = fill_value(lifecycle, namespace_, text, err);
        if (filled == NULL)
            return -1;
        json_object_set_new(headers, name, filled);
    }
    return 0;
}

int network_policy_fill(struct lifecycle *lifecycle, const char *namespace_, json_t *rules,
                        struct err *err)
{
    const char *host;
    json_t *list, *rule;
    size_t i;

    json_object_foreach(rules, host, list) {
        json_array_foreach(list, i, rule) {
            json_t *transform = json_object_get(rule, "transform");
            json_t *headers = json_object_get(transform, "headers");
            if (fill_headers(lifecycle, namespace_, headers, err) < 0)
                return -1;
        }
    }
    return 0;
}

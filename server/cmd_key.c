/* `sandpit key`: writes to the store; a running server follows within AUTH_REFRESH_MS. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/auth/auth.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/cmd.h"
#include "server/model/key.h"
#include "server/state.h"

static const char usage[] =
    "usage: sandpit key create --namespace NS --client ID [--scope read,write,keys,admin]\n"
    "                          [--expires 30d]\n"
    "       sandpit key list\n"
    "       sandpit key revoke ID\n"
    "       sandpit key rotate ID [--overlap 1h]\n"
    "All take --json, --state-dir DIR and --config FILE. A key is printed once and never again.\n";

struct key_args {
    const char *namespace_, *client, *scope, *expires, *overlap, *state_dir, *config;
    bool json;
    const char *verb, *id;
    struct store *store;
    const struct settings *settings;
};

static void cleanup_store(struct store **store)
{
    store_close(*store);
}

/* A running server looks at the store that often: what is printed after this is true there, too. */
static void wait_for_server(const struct key_args *args)
{
    if (state_lock_holder(args->settings) != 0)
        usleep((AUTH_REFRESH_MS + 50) * 1000);
}

/* A row for --json; TEXT only where the key was just made. */
static json_t *key_json(const struct key *key, const char *text)
{
    char stamp[TIME_RFC3339_SIZE], scope[KEY_SCOPES_SIZE];
    json_t *json = json_object(), *scopes = json_array();

    for (uint32_t bit = 1; bit < SCOPE_ALL; bit <<= 1) {
        key_scopes_format(key->scopes & bit, scope);
        if (scope[0] != '\0')
            json_array_append_new(scopes, json_string(scope));
    }
    json_put_str(json, "id", key->id);
    json_put_str(json, "namespace", key->namespace_);
    json_put_str(json, "client", key->client);
    json_put_str(json, "kind", key->kind == KEY_TOKEN ? "access-token" : "api-key");
    json_put_str(json, "name", key->name[0] != '\0' ? key->name : NULL);
    json_put(json, "scopes", scopes);
    time_rfc3339_ms(key->created_unix_ms, stamp);
    json_put_str(json, "created_at", stamp);
    time_rfc3339_ms(key->expires_unix_ms, stamp);
    json_put_str(json, "expires_at", key->expires_unix_ms > 0 ? stamp : NULL);
    time_rfc3339_ms(key->used_unix_ms, stamp);
    json_put_str(json, "last_used_at", key->used_unix_ms > 0 ? stamp : NULL);
    json_put_bool(json, "revoked", key->revoked);
    json_put_str(json, "mask", key->mask_tail);
    if (text != NULL)
        json_put_str(json, "key", text);
    return json;
}

static int print_new_key(const struct key_args *args, const struct key *key, const char *text)
{
    char scopes[KEY_SCOPES_SIZE];

    if (args->json)
        return cmd_print_json(key_json(key, text));
    key_scopes_format(key->scopes, scopes);
    fprintf(stderr, "id %s, namespace %s, client %s, scopes %s. The key is shown only now:\n",
            key->id, key->namespace_, key->client, scopes);
    puts(text);
    return cmd_flush();
}

/* DURATION from now, in Unix milliseconds. */
static int end_of(const char *duration, const char *option, int64_t *out, struct err *err)
{
    int64_t now = time_unix_ms(), ms, end;

    if (str_to_duration_ms(duration, &ms, err) < 0)
        return -1;
    if (__builtin_add_overflow(now, ms, &end) || ms == 0)
        return err_set(err, ERR_INVALID, "%s: '%.40s' is zero or too long", option, duration);
    *out = end;
    return 0;
}

/* Look at the words before any file is touched. */
static int parse_create(const struct key_args *args, struct key *key, struct err *err)
{
    if (args->namespace_ == NULL || args->client == NULL)
        return err_set(err, ERR_INVALID, "key create needs --namespace and --client");
    if (key_name_check(args->namespace_, "namespace", err) < 0 ||
        key_name_check(args->client, "client", err) < 0 ||
        key_scopes_parse(args->scope != NULL ? args->scope : "read,write", &key->scopes, err) < 0)
        return -1;
    if (args->expires != NULL && end_of(args->expires, "--expires", &key->expires_unix_ms, err) < 0)
        return -1;
    memcpy(key->namespace_, args->namespace_, strlen(args->namespace_) + 1);
    memcpy(key->client, args->client, strlen(args->client) + 1);
    return 0;
}

static int key_create(struct key_args *args, struct err *err)
{
    char text[KEY_TEXT_SIZE];
    struct key key = {0};

    if (parse_create(args, &key, err) < 0)
        return -1;
    key_make(&key, text);
    if (store_key_add(args->store, &key, err) < 0)
        return -1;
    wait_for_server(args);
    return print_new_key(args, &key, text);
}

static const char *state_of(const struct key *key)
{
    return key->revoked ? "revoked" : key_usable(key, time_unix_ms()) ? "valid" : "expired";
}

static void print_table(const struct key *keys, size_t count)
{
    printf("%-36s  %-16s  %-16s  %-21s  %-4s  %-7s  %-24s  %s\n", "ID", "NAMESPACE", "CLIENT",
           "SCOPES", "KEY", "STATE", "CREATED", "EXPIRES");
    for (size_t i = 0; i < count; i++) {
        const struct key *key = &keys[i];
        char scopes[KEY_SCOPES_SIZE], created[TIME_RFC3339_SIZE],
            expires[TIME_RFC3339_SIZE] = "never";
        key_scopes_format(key->scopes, scopes);
        time_rfc3339_ms(key->created_unix_ms, created);
        if (key->expires_unix_ms > 0)
            time_rfc3339_ms(key->expires_unix_ms, expires);
        printf("%-36s  %-16s  %-16s  %-21s  %-4s  %-7s  %-24s  %s\n", key->id, key->namespace_,
               key->client, scopes, key->mask_tail, state_of(key), created, expires);
    }
}

static int key_list(struct key_args *args, struct err *err)
{
    _cleanup_free_ struct key *keys = NULL;
    size_t count = 0;
    json_t *rows;

    if (store_key_list(args->store, &keys, &count, err) < 0)
        return -1;
    if (!args->json) {
        print_table(keys, count);
        return cmd_flush();
    }
    rows = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, key_json(&keys[i], NULL));
    return cmd_print_json(rows);
}

static int find_key(struct store *store, const char *id, struct key *out, struct err *err)
{
    _cleanup_free_ struct key *keys = NULL;
    size_t count = 0;

    if (store_key_list(store, &keys, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (str_eq(keys[i].id, id)) {
            *out = keys[i];
            return 0;
        }
    }
    return err_set(err, ERR_NOT_FOUND, "no key with id '%.64s'", id);
}

static int key_revoke(struct key_args *args, struct err *err)
{
    struct key key;

    if (store_key_revoke(args->store, args->id, err) < 0)
        return -1;
    if (find_key(args->store, args->id, &key, err) < 0)
        return -1;
    wait_for_server(args);
    if (args->json)
        return cmd_print_json(key_json(&key, NULL));
    fprintf(stderr, "key %s is revoked\n", key.id);
    return 0;
}

static int key_rotate(struct key_args *args, struct err *err)
{
    struct key old, fresh = {0};
    char text[KEY_TEXT_SIZE];
    int64_t end;

    if (end_of(args->overlap != NULL ? args->overlap : "1h", "--overlap", &end, err) < 0 ||
        find_key(args->store, args->id, &old, err) < 0)
        return -1;
    if (!key_usable(&old, time_unix_ms()))
        return err_set(err, ERR_CONFLICT, "key %s is %s: create a new one instead", old.id,
                       state_of(&old));
    memcpy(fresh.namespace_, old.namespace_, sizeof(fresh.namespace_));
    memcpy(fresh.client, old.client, sizeof(fresh.client));
    fresh.scopes = old.scopes;
    key_make(&fresh, text);
    if (store_key_add(args->store, &fresh, err) < 0)
        return -1;
    if ((old.expires_unix_ms == 0 || old.expires_unix_ms > end) &&
        store_key_expire(args->store, old.id, end, err) < 0) {
        struct err ignored;
        store_key_revoke(args->store, fresh.id, &ignored); /* nobody has seen its text */
        return -1;
    }
    wait_for_server(args);
    return print_new_key(args, &fresh, text);
}

#define OPT_CREATE 1u  /* --namespace, --client, --scope, --expires */
#define OPT_OVERLAP 2u /* --overlap */

static const struct {
    const char *name;
    int (*run)(struct key_args *args, struct err *err); /* 0 or exit code, or -1 with ERR */
    bool wants_id;
    bool creates;     /* the state folder, if it is missing */
    unsigned options; /* which of OPT_* it takes */
} verbs[] = {
    {"create", key_create, false, true, OPT_CREATE},
    {"list", key_list, false, false, 0},
    {"revoke", key_revoke, true, false, 0},
    {"rotate", key_rotate, true, false, OPT_OVERLAP},
};

static int find_verb(const struct key_args *args, size_t *out, struct err *err)
{
    for (size_t i = 0; i < array_size(verbs); i++) {
        if (!str_eq(args->verb, verbs[i].name))
            continue;
        if ((args->id != NULL) != verbs[i].wants_id)
            return err_set(err, ERR_INVALID,
                           verbs[i].wants_id ? "key %s needs the id of a key"
                                             : "key %s takes no further word",
                           args->verb);
        if (!(verbs[i].options & OPT_CREATE) && (args->namespace_ != NULL || args->client != NULL ||
                                                 args->scope != NULL || args->expires != NULL))
            return err_set(err, ERR_INVALID,
                           "--namespace, --client, --scope and --expires belong to key create");
        if (!(verbs[i].options & OPT_OVERLAP) && args->overlap != NULL)
            return err_set(err, ERR_INVALID, "--overlap belongs to key rotate");
        *out = i;
        return 0;
    }
    return err_set(err, ERR_INVALID,
                   args->verb != NULL ? "unknown command 'key %.80s'" : "key needs a command",
                   args->verb);
}

static int parse_args(int argc, char **argv, struct key_args *args, size_t *verb, struct err *err)
{
    const struct option_def defs[] = {
        {"namespace", &args->namespace_, NULL}, {"client", &args->client, NULL},
        {"scope", &args->scope, NULL},          {"expires", &args->expires, NULL},
        {"overlap", &args->overlap, NULL},      {"state-dir", &args->state_dir, NULL},
        {"config", &args->config, NULL},        {"json", NULL, &args->json},
    };
    const char *words[2] = {NULL, NULL};
    struct key unused = {0};

    if (options_parse(argc, argv, defs, array_size(defs), words, array_size(words), NULL, err) < 0)
        return -1;
    args->verb = words[0];
    args->id = words[1];
    if (find_verb(args, verb, err) < 0)
        return -1;
    if (verbs[*verb].creates && parse_create(args, &unused, err) < 0)
        return -1; /* before the state folder is made */
    return 0;
}

int cmd_key(int argc, char **argv)
{
    _cleanup_settings_ struct settings settings;
    _cleanup_(cleanup_store) struct store *store = NULL;
    struct key_args args = {0};
    struct err err = {0};
    size_t verb = 0;
    int rc;

    settings_init(&settings);
    if (options_want_help(argc, argv)) {
        fputs(usage, stdout);
        return cmd_flush();
    }
    if (parse_args(argc, argv, &args, &verb, &err) < 0)
        return cmd_usage(&err, usage);
    rc = cmd_open_state(args.state_dir, args.config, verbs[verb].creates, &settings, &store);
    if (rc != 0)
        return rc;
    args.store = store;
    args.settings = &settings;
    rc = verbs[verb].run(&args, &err);
    return rc < 0 ? cmd_fail(&err) : rc;
}

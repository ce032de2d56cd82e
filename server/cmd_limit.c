/* `sandpit limit`: limits of namespaces and keys; a running server follows as with keys. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/auth/auth.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/cmd.h"
#include "server/model/key.h"
#include "server/model/quota.h"
#include "server/state.h"

static const char usage[] =
    "usage: sandpit limit set (--namespace NS | --key ID) LIMIT…\n"
    "       sandpit limit list\n"
    "       sandpit limit clear (--namespace NS | --key ID)\n"
    "A LIMIT is one of --max-sandboxes N, --creates-per-second N, --max-cpu N,\n"
    "--max-memory-mb N, --max-disk-mb N, --max-lifetime S; 0 is no limit. A namespace's limits\n"
    "replace those of the server, a key's hold as well as those of its namespace.\n"
    "All take --json, --state-dir DIR and --config FILE.\n";

struct limit_args {
    const char *namespace_, *key, *state_dir, *config;
    const char *max[QUOTA_COUNT];
    bool json;
    const char *verb;
    struct store *store;
    const struct settings *settings;
    enum quota_scope scope;
    const char *name;
    struct quota quota;
};

static const struct {
    const char *option;
    const char *json;
    const char *title;
} kinds[] = {
    [QUOTA_SANDBOXES] = {"max-sandboxes", "max_sandboxes", "SANDBOXES"},
    [QUOTA_CREATES] = {"creates-per-second", "creates_per_second", "CREATES/S"},
    [QUOTA_CPU] = {"max-cpu", "max_cpu", "CPU"},
    [QUOTA_MEMORY] = {"max-memory-mb", "max_memory_mb", "MEMORY MB"},
    [QUOTA_DISK] = {"max-disk-mb", "max_disk_mb", "DISK MB"},
    [QUOTA_LIFETIME] = {"max-lifetime", "max_lifetime", "LIFETIME S"},
};
_Static_assert(array_size(kinds) == QUOTA_COUNT, "one row for each kind");

static void cleanup_store(struct store **store)
{
    store_close(*store);
}

static void wait_for_server(const struct limit_args *args)
{
    if (state_lock_holder(args->settings) != 0)
        usleep((AUTH_REFRESH_MS + 50) * 1000);
}

static json_t *row_json(const struct quota_row *row)
{
    json_t *json = json_object();

    json_put_str(json, row->scope == QUOTA_OF_KEY ? "key" : "namespace", row->name);
    for (size_t i = 0; i < QUOTA_COUNT; i++) {
        if (row->quota.max[i] != QUOTA_UNSET)
            json_put_i64(json, kinds[i].json, row->quota.max[i]);
    }
    return json;
}

static void print_table(const struct quota_row *rows, size_t count)
{
    printf("%-9s  %-36s", "OF", "NAME");
    for (size_t i = 0; i < QUOTA_COUNT; i++)
        printf("  %10s", kinds[i].title);
    putchar('\n');
    for (size_t row = 0; row < count; row++) {
        printf("%-9s  %-36s", rows[row].scope == QUOTA_OF_KEY ? "key" : "namespace",
               rows[row].name);
        for (size_t i = 0; i < QUOTA_COUNT; i++) {
            int64_t max = rows[row].quota.max[i];
            if (max == QUOTA_UNSET || max == QUOTA_NONE)
                printf("  %10s", max == QUOTA_UNSET ? "-" : "none");
            else
                printf("  %10lld", (long long)max);
        }
        putchar('\n');
    }
}

static int limit_list(struct limit_args *args, struct err *err)
{
    _cleanup_free_ struct quota_row *rows = NULL;
    size_t count = 0;
    json_t *json;

    if (store_quota_list(args->store, &rows, &count, err) < 0)
        return -1;
    if (!args->json) {
        print_table(rows, count);
        return cmd_flush();
    }
    json = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(json, row_json(&rows[i]));
    return cmd_print_json(json);
}

/* The limits of one owner as they are now. */
static int show(struct limit_args *args, struct err *err)
{
    _cleanup_free_ struct quota_row *rows = NULL;
    struct quota_row none = {.scope = args->scope, .quota = quota_unset};
    const struct quota_row *found = &none;
    size_t count = 0;

    if (store_quota_list(args->store, &rows, &count, err) < 0)
        return -1;
    snprintf(none.name, sizeof(none.name), "%s", args->name);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].scope == args->scope && str_eq(rows[i].name, args->name))
            found = &rows[i];
    }
    if (args->json)
        return cmd_print_json(row_json(found));
    print_table(found, 1);
    return cmd_flush();
}

static int key_exists(struct store *store, const char *id, struct err *err)
{
    _cleanup_free_ struct key *keys = NULL;
    size_t count = 0;

    if (store_key_list(store, &keys, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (str_eq(keys[i].id, id))
            return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "no key with id '%.64s'", id);
}

static int limit_set(struct limit_args *args, struct err *err)
{
    if (args->scope == QUOTA_OF_KEY && key_exists(args->store, args->name, err) < 0)
        return -1;
    if (store_quota_set(args->store, args->scope, args->name, &args->quota, err) < 0)
        return -1;
    wait_for_server(args);
    return show(args, err);
}

static int limit_clear(struct limit_args *args, struct err *err)
{
    if (store_quota_clear(args->store, args->scope, args->name, err) < 0)
        return -1;
    wait_for_server(args);
    return show(args, err);
}

static const struct {
    const char *name;
    int (*run)(struct limit_args *args, struct err *err); /* 0 or exit code, or -1 with ERR */
    bool owner;                                           /* --namespace or --key */
    bool limits;                                          /* at least one */
    bool creates;                                         /* the state folder, if it is missing */
} verbs[] = {
    {"set", limit_set, true, true, true},
    {"list", limit_list, false, false, false},
    {"clear", limit_clear, true, false, false},
};

static int parse_owner(struct limit_args *args, bool wanted, struct err *err)
{
    if (!wanted && (args->namespace_ != NULL || args->key != NULL))
        return err_set(err, ERR_INVALID, "limit %s takes neither --namespace nor --key",
                       args->verb);
    if (wanted && (args->namespace_ != NULL) == (args->key != NULL))
        return err_set(err, ERR_INVALID, "limit %s needs either --namespace or --key", args->verb);
    if (!wanted)
        return 0;
    args->scope = args->key != NULL ? QUOTA_OF_KEY : QUOTA_OF_NAMESPACE;
    args->name = args->key != NULL ? args->key : args->namespace_;
    return args->key != NULL && strlen(args->key) < UUID_SIZE
               ? 0
               : key_name_check(args->name, args->key != NULL ? "key" : "namespace", err);
}

static int parse_limits(struct limit_args *args, bool wanted, struct err *err)
{
    size_t given = 0;

    args->quota = quota_unset;
    for (size_t i = 0; i < QUOTA_COUNT; i++) {
        uint64_t value, max = i == QUOTA_CREATES ? QUOTA_CREATES_MAX : QUOTA_MAX;
        if (args->max[i] == NULL)
            continue;
        given++;
        if (str_to_u64(args->max[i], strlen(args->max[i]), 0, max, kinds[i].option, &value, err) <
            0)
            return -1;
        args->quota.max[i] = (int64_t)value;
    }
    if ((given > 0) != wanted)
        return err_set(err, ERR_INVALID,
                       wanted ? "limit %s needs at least one limit, such as --max-sandboxes 5"
                              : "limit %s takes no limits",
                       args->verb);
    return 0;
}

static int parse_args(int argc, char **argv, struct limit_args *args, size_t *verb, struct err *err)
{
    struct option_def defs[QUOTA_COUNT + 5] = {
        {"namespace", &args->namespace_, NULL},
        {"key", &args->key, NULL},
        {"state-dir", &args->state_dir, NULL},
        {"config", &args->config, NULL},
        {"json", NULL, &args->json},
    };
    const char *words[1] = {NULL};

    for (size_t i = 0; i < QUOTA_COUNT; i++)
        defs[5 + i] = (struct option_def){kinds[i].option, &args->max[i], NULL};
    if (options_parse(argc, argv, defs, array_size(defs), words, array_size(words), NULL, err) < 0)
        return -1;
    args->verb = words[0];
    if (args->verb == NULL)
        return err_set(err, ERR_INVALID, "limit needs a command");
    for (size_t i = 0; i < array_size(verbs); i++) {
        if (!str_eq(args->verb, verbs[i].name))
            continue;
        *verb = i;
        return parse_owner(args, verbs[i].owner, err) < 0 ||
                       parse_limits(args, verbs[i].limits, err) < 0
                   ? -1
                   : 0;
    }
    return err_set(err, ERR_INVALID, "unknown command 'limit %.80s'", args->verb);
}

int cmd_limit(int argc, char **argv)
{
    _cleanup_settings_ struct settings settings;
    _cleanup_(cleanup_store) struct store *store = NULL;
    struct limit_args args = {0};
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

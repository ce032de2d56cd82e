/* `sandpit sandbox`: what to do, and the list of the store, without asking a server. */
#include <stdio.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/client/client.h"
#include "server/cmd.h"
#include "server/cmd_sandbox.h"
#include "server/state.h"

static const char usage[] = "usage: sandpit sandbox list [--json] [--state-dir DIR]\n"
                            "       sandpit sandbox kill ID... [--json]\n"
                            "       sandpit sandbox exec ID [--user U] [--cwd DIR] [--env "
                            "NAME=VALUE]... [--tty] -- COMMAND "
                            "[ARG]...\n"
                            "       sandpit sandbox connect ID [PID] [--user U] [--replay]\n"
                            "       sandpit sandbox logs ID [-f] [--level L] [--json]\n"
                            "       sandpit sandbox metrics ID [--json]\n"
                            "\n"
                            "A server is found by E2B_API_KEY and E2B_DOMAIN (or E2B_API_URL and "
                            "E2B_SANDBOX_URL), as by the\n"
                            "SDKs. list asks it, too, if E2B_API_KEY is set; with --state-dir, or "
                            "without a key, it reads the\n"
                            "state of this machine's server.\n";

static json_t *row_json(const struct sandbox *sandbox)
{
    char stamp[TIME_RFC3339_SIZE];
    json_t *json = json_object();

    json_put_str(json, "id", sandbox->id);
    json_put_str(json, "namespace", sandbox->namespace_);
    json_put_str(json, "client", sandbox->client);
    json_put_str(json, "template", sandbox->template_id);
    json_put_str(json, "state", sandbox_state_name(sandbox->state));
    time_rfc3339_ms(sandbox->started_unix_ms, stamp);
    json_put_str(json, "started_at", stamp);
    time_rfc3339_ms(sandbox->end_unix_ms, stamp);
    json_put_str(json, "end_at", stamp);
    json_put_i64(json, "cpu_count", sandbox->cpu_count);
    json_put_i64(json, "memory_mb", sandbox->memory_mb);
    return json;
}

static int print_json(const struct sandbox *list, size_t count)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, row_json(&list[i]));
    return cmd_print_json(rows);
}

static int print_table(const struct sandbox *list, size_t count)
{
    printf("%-24s  %-16s  %-20s  %-8s  %-24s  %s\n", "ID", "NAMESPACE", "TEMPLATE", "STATE",
           "STARTED", "ENDS");
    for (size_t i = 0; i < count; i++) {
        char started[TIME_RFC3339_SIZE], end[TIME_RFC3339_SIZE];
        time_rfc3339_ms(list[i].started_unix_ms, started);
        time_rfc3339_ms(list[i].end_unix_ms, end);
        printf("%-24s  %-16s  %-20s  %-8s  %-24s  %s\n", list[i].id, list[i].namespace_,
               list[i].template_id, sandbox_state_name(list[i].state), started, end);
    }
    return cmd_flush();
}

static int list_sandboxes(const struct settings *settings, bool json)
{
    _cleanup_free_ char *db = state_db_dir(settings);
    struct sandbox *list = NULL;
    struct store *store = NULL;
    struct err err = {0};
    size_t count = 0;
    int rc;

    if (store_open_read(db, &store, &err) < 0) {
        cmd_fail(&err);
        return EXIT_FAILED;
    }
    rc = store_sandbox_list(store, &list, &count, &err);
    store_close(store);
    if (rc < 0)
        return cmd_fail(&err);
    rc = json ? print_json(list, count) : print_table(list, count);
    for (size_t i = 0; i < count; i++)
        sandbox_clear(&list[i]);
    free(list);
    return rc;
}

static int cmd_list(int argc, char **argv)
{
    _cleanup_settings_ struct settings settings;
    const char *state_dir = NULL, *config = NULL, *words[1] = {NULL};
    bool json = false;
    const struct option_def defs[] = {
        {"state-dir", &state_dir, NULL}, {"config", &config, NULL}, {"json", NULL, &json}};
    struct err err = {0};

    settings_init(&settings);
    if (options_parse(argc, argv, defs, array_size(defs), words, array_size(words), NULL, &err) < 0)
        return cmd_usage(&err, usage);
    if (words[0] != NULL) {
        err_set(&err, ERR_INVALID, "unexpected word '%.80s'", words[0]);
        return cmd_usage(&err, usage);
    }
    if (state_dir == NULL && config == NULL && client_configured())
        return sandbox_list_remote(json);
    if (cmd_state_settings(state_dir, config, &settings, &err) < 0)
        return cmd_fail(&err);
    return list_sandboxes(&settings, json);
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"list", cmd_list},           {"kill", sandbox_kill}, {"exec", sandbox_exec},
    {"connect", sandbox_connect}, {"logs", sandbox_logs}, {"metrics", sandbox_use},
};

int sandbox_usage(const struct err *err)
{
    return cmd_usage(err, usage);
}

/* Whether help is asked for; what follows "--" is another program's. */
static bool wants_help(int argc, char **argv)
{
    int count = 0;

    while (count < argc && !str_eq(argv[count], "--"))
        count++;
    return options_want_help(count, argv);
}

int cmd_sandbox(int argc, char **argv)
{
    struct err err = {0};

    if (wants_help(argc, argv)) {
        fputs(usage, stdout);
        return cmd_flush();
    }
    for (size_t i = 0; i < array_size(commands) && argc > 0; i++) {
        if (str_eq(argv[0], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    }
    err_set(&err, ERR_INVALID, "unknown command 'sandbox %.80s'", argc > 0 ? argv[0] : "");
    return cmd_usage(&err, usage);
}

/* `sandpit sandbox logs` and `… metrics`: what a running server knows of a sandbox. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/client/client.h"
#include "server/cmd.h"
#include "server/cmd_sandbox.h"

#define FOLLOW_US 500000
#define PAGE_LINES 1000 /* the server's largest page */

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));

    return text != NULL ? text : "";
}

static void print_line(const json_t *line)
{
    const json_t *fields = json_object_get(line, "fields");
    const char *key;
    json_t *value;

    printf("%s  %-5s  %s", text_of(line, "timestamp"), text_of(line, "level"),
           text_of(line, "message"));
    json_object_foreach((json_t *)(uintptr_t)fields, key, value)
        printf("  %s=%s", key, text_of(fields, key));
    putchar('\n');
}

/* Print LINE; *CURSOR is where the next page begins. */
static int show_line(const json_t *line, bool json, int64_t *cursor, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    const char *stamp = text_of(line, "timestamp");
    int64_t at;

    if (time_parse_rfc3339(stamp, strlen(stamp), &at, NULL) < 0)
        return err_set(err, ERR_INTERNAL, "the server answered with a line without a time");
    *cursor = at + 1;
    if (json) {
        text = json_text(line);
        puts(text);
    } else {
        print_line(line);
    }
    return 0;
}

/* Every line from *CURSOR on. */
static int show_all(const struct client *client, const char *id, const char *level, bool json,
                    int64_t *cursor, struct err *err)
{
    size_t count = PAGE_LINES;

    while (count == PAGE_LINES) {
        _cleanup_free_ char *path = mem_asprintf(
            "/v2/sandboxes/%s/logs?direction=forward&limit=%d&cursor=%lld%s%s", id, PAGE_LINES,
            (long long)*cursor, level != NULL ? "&level=" : "", level != NULL ? level : "");
        _cleanup_json_ json_t *page = NULL;
        json_t *line;
        size_t i;
        if (client_api(client, "GET", path, &page, NULL, err) < 0)
            return -1;
        const json_t *lines = json_object_get(page, "logs");
        count = json_array_size(lines);
        json_array_foreach(lines, i, line) {
            if (show_line(line, json, cursor, err) < 0)
                return -1;
        }
    }
    return 0;
}

static int follow(const struct client *client, const char *id, const char *level, bool json,
                  bool on, struct err *err)
{
    int64_t cursor = time_unix_ms() - (int64_t)7 * 24 * 3600 * 1000;

    for (;;) {
        if (show_all(client, id, level, json, &cursor, err) < 0)
            return -1;
        if (cmd_flush() != 0) /* nobody reads any more */
            return err_set(err, ERR_INTERNAL, "cannot write");
        if (!on)
            return 0;
        usleep(FOLLOW_US);
    }
}

/* The one id among ARGV, checked. */
static int one_id(int argc, char **argv, const struct option_def *defs, size_t count,
                  const char **id, struct err *err)
{
    size_t words = 0;

    *id = NULL;
    if (options_parse(argc, argv, defs, count, id, 1, &words, err) < 0)
        return -1;
    return words == 1 ? 0 : err_set(err, ERR_INVALID, "which sandbox?");
}

int sandbox_logs(int argc, char **argv)
{
    static char long_follow[] = "--follow";
    _cleanup_client_ struct client client = {0};
    const char *id, *level = NULL;
    bool json = false, on = false;
    enum log_level known;
    const struct option_def defs[] = {
        {"level", &level, NULL}, {"json", NULL, &json}, {"follow", NULL, &on}};
    struct err err = {0};

    for (int i = 0; i < argc; i++) {
        if (str_eq(argv[i], "-f"))
            argv[i] = long_follow;
    }
    if (one_id(argc, argv, defs, array_size(defs), &id, &err) < 0)
        return sandbox_usage(&err);
    if (level != NULL && log_level_parse(level, &known) < 0) {
        err_set(&err, ERR_INVALID, "--level must be debug, info, warn or error");
        return sandbox_usage(&err);
    }
    if (client_check_id(id, &err) < 0 || client_init(&client, &err) < 0)
        return cmd_fail(&err);
    if (follow(&client, id, level, json, on, &err) == 0)
        return 0;
    cmd_fail(&err);
    return EXIT_FAILED;
}

static int print_metrics(const json_t *rows)
{
    const json_t *row;
    size_t i;

    printf("%-24s  %6s  %12s  %12s  %12s  %12s\n", "TIME", "CPU %", "MEMORY MB", "CACHE MB",
           "DISK MB", "OF MB");
    json_array_foreach(rows, i, row) {
        printf("%-24s  %6.2f", text_of(row, "timestamp"),
               json_number_value(json_object_get(row, "cpuUsedPct")));
        static const char *const keys[] = {"memUsed", "memCache", "diskUsed", "diskTotal"};
        for (size_t k = 0; k < array_size(keys); k++)
            printf("  %12.1f", json_number_value(json_object_get(row, keys[k])) / (1 << 20));
        putchar('\n');
    }
    return cmd_flush();
}

int sandbox_use(int argc, char **argv)
{
    _cleanup_client_ struct client client = {0};
    _cleanup_free_ char *path = NULL;
    _cleanup_json_ json_t *rows = NULL;
    const char *id;
    bool json = false;
    const struct option_def defs[] = {{"json", NULL, &json}};
    struct err err = {0};

    if (one_id(argc, argv, defs, array_size(defs), &id, &err) < 0)
        return sandbox_usage(&err);
    if (client_check_id(id, &err) < 0 || client_init(&client, &err) < 0)
        return cmd_fail(&err);
    path = mem_asprintf("/sandboxes/%s/metrics", id);
    if (client_api(&client, "GET", path, &rows, NULL, &err) < 0) {
        cmd_fail(&err);
        return EXIT_FAILED;
    }
    return json ? cmd_print_json(steal_ptr(&rows)) : print_metrics(rows);
}

#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/client/client.h"
#include "server/cmd.h"
#include "server/cmd_sandbox.h"

#define IDS_MAX 1000

/* The next page, appended to ROWS; *NEXT is its token and then the following one's. */
static int fetch_page(const struct client *client, json_t *rows, char **next, struct err *err)
{
    _cleanup_buf_ struct buf path;
    _cleanup_free_ char *token = steal_ptr(next);
    _cleanup_json_ json_t *page = NULL;

    buf_init(&path, 8192);
    buf_add_str(&path, "/v2/sandboxes");
    if (token != NULL) {
        buf_add_str(&path, "?nextToken=");
        url_encode(token, strlen(token), &path);
    }
    if (client_api(client, "GET", buf_str(&path), &page, next, err) < 0)
        return -1;
    if (!json_is_array(page) || json_array_extend(rows, page) < 0)
        return err_set(err, ERR_INTERNAL, "the server answered with no list");
    return 0;
}

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));

    return text != NULL ? text : "";
}

static int print_rows(const json_t *rows)
{
    const json_t *row;
    size_t i;

    printf("%-24s  %-20s  %-8s  %-24s  %s\n", "ID", "TEMPLATE", "STATE", "STARTED", "ENDS");
    json_array_foreach(rows, i, row)
        printf("%-24s  %-20s  %-8s  %-24s  %s\n", text_of(row, "sandboxID"),
               text_of(row, "templateID"), text_of(row, "state"), text_of(row, "startedAt"),
               text_of(row, "endAt"));
    return cmd_flush();
}

int sandbox_list_remote(bool json)
{
    _cleanup_client_ struct client client = {0};
    _cleanup_json_ json_t *rows = json_array();
    _cleanup_free_ char *next = NULL;
    struct err err = {0};

    if (client_init(&client, &err) < 0)
        return cmd_fail(&err);
    do {
        if (fetch_page(&client, rows, &next, &err) < 0) {
            cmd_fail(&err);
            return EXIT_FAILED;
        }
    } while (next != NULL);
    return json ? cmd_print_json(json_incref(rows)) : print_rows(rows);
}

/* ROWS (--json): a row is added, nothing is printed. */
static int kill_one(const struct client *client, const char *id, json_t *rows)
{
    _cleanup_free_ char *path = mem_asprintf("/sandboxes/%s", id);
    struct err err = {0};
    bool killed = client_api(client, "DELETE", path, NULL, NULL, &err) == 0;

    if (!killed && err.code == ERR_NOT_FOUND)
        err_set(&err, ERR_NOT_FOUND, "no sandbox %s", id);
    if (rows != NULL) {
        json_t *row = json_object();
        json_put_str(row, "id", id);
        json_put_bool(row, "killed", killed);
        json_put_str(row, "error", killed ? NULL : err.msg);
        json_array_append_new(rows, row);
    } else if (killed) {
        printf("%s\n", id);
    } else {
        cmd_fail(&err);
    }
    return killed ? 0 : EXIT_FAILED;
}

int sandbox_kill(int argc, char **argv)
{
    _cleanup_client_ struct client client = {0};
    const char *ids[IDS_MAX];
    bool json = false;
    const struct option_def defs[] = {{"json", NULL, &json}};
    struct err err = {0};
    json_t *rows = NULL;
    size_t count = 0;
    int rc = 0;

    if (options_parse(argc, argv, defs, array_size(defs), ids, IDS_MAX, &count, &err) < 0)
        return sandbox_usage(&err);
    if (count == 0) {
        err_set(&err, ERR_INVALID, "which sandbox?");
        return sandbox_usage(&err);
    }
    for (size_t i = 0; i < count; i++) {
        if (client_check_id(ids[i], &err) < 0)
            return cmd_fail(&err); /* before any is killed */
    }
    if (client_init(&client, &err) < 0)
        return cmd_fail(&err);
    rows = json ? json_array() : NULL;
    for (size_t i = 0; i < count; i++) {
        if (kill_one(&client, ids[i], rows) != 0)
            rc = EXIT_FAILED;
    }
    if (json)
        return cmd_print_json(rows) != 0 ? EXIT_FAILED : rc;
    return cmd_flush() != 0 ? EXIT_FAILED : rc;
}

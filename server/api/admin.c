/*
 * server/api/admin.c - what operators ask with X-Admin-Token: nodes, and sandboxes of all teams.
 *
 * Source: platform-api.md section 9.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/node.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/team.h"

#define STATUS_SIZE 32

struct admin_op {
    struct work work;
    struct reply *reply;
    struct api *api;
    char namespace_[NAMESPACE_SIZE];
    char status[STATUS_SIZE];
    bool list; /* an array of nodes */
    bool none; /* that is empty */
    json_t *answer;
    int rc;
    struct err err;
};

static void op_free(struct admin_op *op)
{
    if (op == NULL)
        return;
    reply_unref(op->reply);
    json_decref(op->answer);
    free(op);
}

static void cleanup_op(struct admin_op **op)
{
    op_free(*op);
}

static struct admin_op *op_new(struct request *req)
{
    struct admin_op *op = mem_zalloc(sizeof(*op));

    op->api = request_api(req);
    return op;
}

static void op_done(struct work *work)
{
    struct admin_op *op = container_of(work, struct admin_op, work);

    if (op->rc < 0)
        reply_err(op->reply, &op->err);
    else if (op->answer == NULL)
        reply_empty(op->reply, 204);
    else
        reply_json(op->reply, 200, steal_ptr(&op->answer));
    op_free(op);
}

static int op_submit(struct request *req, struct admin_op **op, void (*run)(struct work *work),
                     struct err *err)
{
    if (work_submit(request_workers(req), &(*op)->work, run, op_done, err) < 0)
        return -1;
    (*op)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *op = NULL;
    return 0;
}

/* --- nodes ------------------------------------------------------------------------------------ */

static void node_run(struct work *work)
{
    struct admin_op *op = container_of(work, struct admin_op, work);
    json_t *node = op->none ? NULL : node_json(op->api->node);

    op->answer = op->list ? json_array() : node;
    if (op->list && node != NULL)
        json_array_append_new(op->answer, node);
}

/* CLUSTER, if it is given, is ours. */
static int check_cluster(struct api *api, const char *cluster, bool *ours, struct err *err)
{
    *ours = true;
    if (cluster == NULL)
        return 0;
    if (!uuid_is(cluster))
        return err_set(err, ERR_INVALID, "validation error: 'clusterID' is no UUID");
    *ours = strcasecmp(cluster, node_cluster(api->node)) == 0;
    return 0;
}

static int check_node(struct request *req, struct err *err)
{
    const char *id = request_param(req, "nodeID");

    if (str_eq(id, node_id(request_api(req)->node)))
        return 0;
    return err_set(err, ERR_NOT_FOUND, "Node not found");
}

int nodes_list(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct admin_op *op = op_new(req);
    bool ours;

    if (check_cluster(op->api, request_query(req, "clusterID"), &ours, err) < 0)
        return -1;
    op->list = true;
    op->none = !ours;
    return op_submit(req, &op, node_run, err);
}

int node_get(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct admin_op *op = op_new(req);
    bool ours;

    if (check_cluster(op->api, request_query(req, "clusterID"), &ours, err) < 0 ||
        check_node(req, err) < 0)
        return -1;
    if (!ours)
        return err_set(err, ERR_NOT_FOUND, "Node not found");
    return op_submit(req, &op, node_run, err);
}

static void status_run(struct work *work)
{
    struct admin_op *op = container_of(work, struct admin_op, work);

    op->rc = node_set_status(op->api->node, op->status, &op->err);
    if (op->rc == 0)
        log_info("node status set", "status", op->status);
}

/* "status" and "clusterID" of the body. */
static int take_status(struct request *req, struct admin_op *op, bool *ours, struct err *err)
{
    _cleanup_json_ json_t *body = request_json(req, err);
    const char *status = NULL, *cluster = NULL;

    if (body == NULL)
        return error_parse(err);
    if (json_get_str(body, "status", &status, err) < 0 ||
        json_get_str(body, "clusterID", &cluster, err) < 0)
        return error_schema(err);
    if (status == NULL)
        return err_set(err, ERR_INVALID, "validation error: field 'status' is required");
    if (!node_status_known(status))
        return err_set(err, ERR_INVALID,
                       "validation error: field 'status' must be ready, draining, connecting, "
                       "unhealthy or standby");
    str_copy(op->status, sizeof(op->status), status, strlen(status));
    return check_cluster(op->api, cluster, ours, err);
}

int node_post(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct admin_op *op = op_new(req);
    bool ours;

    if (take_status(req, op, &ours, err) < 0 || check_node(req, err) < 0)
        return -1;
    if (!ours)
        return err_set(err, ERR_NOT_FOUND, "Node not found");
    return op_submit(req, &op, status_run, err);
}

/* --- sandboxes of teams ----------------------------------------------------------------------- */

static void kill_run(struct work *work)
{
    struct admin_op *op = container_of(work, struct admin_op, work);
    struct lifecycle *lifecycle = op->api->lifecycle;
    struct sandbox *list = NULL;
    size_t count = 0;
    int64_t killed = 0, failed = 0;

    op->rc = lifecycle_list(lifecycle, op->namespace_, &list, &count, &op->err);
    if (op->rc < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct err err = {0};
        if (lifecycle_kill(lifecycle, op->namespace_, list[i].id, SANDBOX_END_KILLED, &err) == 0)
            killed++;
        else if (err.code != ERR_NOT_FOUND) /* it ended by itself meanwhile */
            failed++;
    }
    sandbox_list_free(list, count);
    log_info("sandboxes of a team killed by an operator", "namespace", op->namespace_, "killed",
             log_num(killed), "failed", log_num(failed));
    op->answer = json_object();
    json_put_i64(op->answer, "killedCount", killed);
    json_put_i64(op->answer, "failedCount", failed);
}

int admin_sandboxes_kill(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct admin_op *op = op_new(req);

    if (auth_team(op->api->auth, request_param(req, "teamID"), op->namespace_, err) < 0)
        return -1;
    return op_submit(req, &op, kill_run, err);
}

static void count_run(struct work *work)
{
    struct admin_op *op = container_of(work, struct admin_op, work);
    struct sandbox *list = NULL;
    size_t count = 0;

    op->rc = lifecycle_list(op->api->lifecycle, NULL, &list, &count, &op->err);
    if (op->rc < 0)
        return;
    op->answer = json_object();
    for (size_t i = 0; i < count; i++) {
        char team[UUID_SIZE];
        if (!str_eq(sandbox_state_public(list[i].state), "running"))
            continue;
        team_id(list[i].namespace_, team);
        json_put_i64(op->answer, team,
                     json_integer_value(json_object_get(op->answer, team)) + 1);
    }
    sandbox_list_free(list, count);
}

int admin_running_counts(struct request *req, struct err *err)
{
    _cleanup_(cleanup_op) struct admin_op *op = op_new(req);

    return op_submit(req, &op, count_run, err);
}

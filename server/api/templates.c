/*
 * server/api/templates.c - templates: for now the built-in base, public and nobody's.
 */
#include <string.h>
#include <strings.h>

#include "server/api/error_table.h"
#include "server/api/handlers.h"
#include "server/api/wire.h"
#include "server/base/str.h"
#include "server/model/limits.h"
#include "server/model/team.h"

static int find(struct request *req, const char *ref, struct template *out, struct err *err)
{
    return lifecycle_template_get(request_api(req)->lifecycle, request_identity(req)->namespace_,
                                  ref, out, err);
}

static int reply_templates(struct request *req, struct err *err)
{
    struct template base;
    json_t *list;

    if (find(req, TEMPLATE_BASE_ID, &base, err) < 0)
        return -1;
    list = json_array();
    json_array_append_new(list, wire_template(request_api(req), &base, false));
    reply_json(request_reply(req), 200, list);
    return 0;
}

/* A key belongs to one team, here its namespace. */
static int check_team(struct request *req, struct err *err)
{
    const char *team = request_query(req, "teamID"), *own = request_identity(req)->namespace_;
    char id[UUID_SIZE];

    team_id(own, id);
    if (team == NULL || strcasecmp(team, id) == 0 || str_eq(team, own))
        return 0;
    return err_set(err, ERR_INVALID, "Team ID param mismatch with the API key");
}

/* One page holds them all, so no token was ever given out. */
static int check_page(struct request *req, struct err *err)
{
    const char *limit = request_query(req, "limit"), *token = request_query(req, "nextToken");
    uint64_t value;

    if (limit != NULL &&
        str_to_u64(limit, strlen(limit), 1, LIST_LIMIT_MAX, "parameter 'limit'", &value, err) < 0)
        return error_schema(err);
    if (token != NULL && token[0] != '\0')
        return err_set(err, ERR_INVALID, "Invalid next token");
    return 0;
}

int templates_list(struct request *req, struct err *err)
{
    return check_team(req, err) < 0 ? -1 : reply_templates(req, err);
}

int templates_page(struct request *req, struct err *err)
{
    if (check_team(req, err) < 0 || check_page(req, err) < 0)
        return -1;
    return reply_templates(req, err);
}

int templates_default(struct request *req, struct err *err)
{
    return reply_templates(req, err);
}

int template_get(struct request *req, struct err *err)
{
    const char *id = request_param(req, "templateID");
    struct template template;

    if (check_page(req, err) < 0)
        return -1;
    if (find(req, id, &template, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, "Template %.200s not found", id)
                   : -1;
    reply_json(request_reply(req), 200, wire_template(request_api(req), &template, true));
    return 0;
}

int template_alias(struct request *req, struct err *err)
{
    struct template template;
    json_t *object;

    if (find(req, request_param(req, "alias"), &template, err) < 0)
        return -1;
    object = json_object();
    json_put_str(object, "templateID", template.id);
    json_put_bool(object, "public", template.is_public);
    reply_json(request_reply(req), 200, object);
    return 0;
}

#include "server/api/view.h"

#include <string.h>

#include "server/api/error_table.h"
#include "server/base/str.h"

struct view *view_new(struct request *req, struct err *err)
{
    struct view *view = mem_zalloc(sizeof(*view));
    const char *id = request_param(req, "sandboxID");

    view->api = request_api(req);
    view->who = *request_identity(req);
    view->status = 200;
    if (id != NULL && sandbox_id_parse(id, strlen(id), view->id, err) < 0) {
        view_free(view);
        return NULL;
    }
    return view;
}

void view_free(struct view *view)
{
    if (view == NULL)
        return;
    if (view->reply != NULL)
        reply_unref(view->reply);
    json_decref(view->answer);
    free(view->text);
    free(view);
}

static void view_run(struct work *work)
{
    struct view *view = container_of(work, struct view, work);

    view->answer = view->make(view, &view->err);
}

static void view_done(struct work *work)
{
    struct view *view = container_of(work, struct view, work);

    if (view->answer != NULL)
        reply_json(view->reply, view->status, steal_ptr(&view->answer));
    else
        reply_err(view->reply, &view->err);
    view_free(view);
}

int view_submit(struct request *req, struct view **view,
                json_t *(*make)(struct view *view, struct err *err), struct err *err)
{
    (*view)->make = make;
    if (work_submit(request_workers(req), &(*view)->work, view_run, view_done, err) < 0)
        return -1;
    (*view)->reply = request_defer(req); /* safe after submit: done runs on this same loop */
    *view = NULL;
    return 0;
}

int view_number(struct request *req, const char *name, int64_t min, int64_t max, int64_t *out,
                struct err *err)
{
    const char *text = request_query(req, name);
    char what[64];

    if (text == NULL)
        return 0;
    snprintf(what, sizeof(what), "parameter '%s'", name);
    return str_to_i64(text, strlen(text), min, max, what, out, err) < 0 ? error_schema(err) : 0;
}

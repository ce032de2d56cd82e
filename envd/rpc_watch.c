/* filesystem.Filesystem: WatchDir, and the same by polling. Rules: envd API section 5.4. */
#include <string.h>

#include "envd/path.h"
#include "envd/route.h"
#include "envd/rpc.h"
#include "envd/rpc_watch.h"
#include "envd/watch.h"
#include "envd/watch_handover.h"
#include "server/base/hash.h"
#include "server/base/map.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define SERVICE "filesystem.Filesystem"
#define WATCHER_ID_SIZE 22 /* "w", 20 characters and a NUL */

/* A watch of a call: a stream for its whole life, a polled one until it is armed. */
struct watching {
    struct rpc_call *call; /* NULL: a polled one that has been answered */
    struct watch *watch;
    bool begun; /* stream: `start` was sent */
    bool held;  /* stream: the client does not keep up */
    char id[WATCHER_ID_SIZE];
};

static struct map watchers; /* loop thread: polled ones by id */

/* The four fields that both requests have. */
static int start(struct rpc_call *call, const struct watch_spec *request, void (*ready)(void *arg),
                 struct err *err)
{
    const struct user *user = rpc_user(call, err);
    _cleanup_free_ struct watching *watching = NULL;
    _cleanup_free_ char *path = NULL;
    struct watch_spec spec = *request;
    struct path_base base;

    if (user == NULL)
        return -1;
    base = (struct path_base){user->name, user->home, rpc_settings(call)->default_workdir};
    if (path_expand(request->path, &base, &path, err) < 0)
        return -1;
    spec.path = path;
    watching = mem_zalloc(sizeof(*watching));
    watching->call = call;
    if (watch_start(rpc_loop(call), &spec, ready, watching, &watching->watch, err) < 0)
        return -1;
    rpc_set_state(call, steal_ptr(&watching));
    return 0;
}

static void watching_free(struct watching *watching)
{
    watch_stop(watching->watch);
    free(watching);
}

/* The caller is gone, or its time is over. */
static void on_closed(struct rpc_call *call)
{
    watching_free(rpc_state(call));
}

/* ---- WatchDir ---- */

/* Send EVENT, which is freed. False when the stream has to wait. */
static bool send_event(struct watching *watching, Filesystem__FilesystemEvent *event)
{
    Filesystem__WatchDirResponse response = FILESYSTEM__WATCH_DIR_RESPONSE__INIT;
    int rc;

    response.event_case = FILESYSTEM__WATCH_DIR_RESPONSE__EVENT_FILESYSTEM;
    response.filesystem = event;
    rc = rpc_send(watching->call, &response.base);
    protobuf_c_message_free_unpacked(&event->base, NULL);
    return rc > 0;
}

static bool send_start(struct watching *watching)
{
    Filesystem__WatchDirResponse__StartEvent event =
        FILESYSTEM__WATCH_DIR_RESPONSE__START_EVENT__INIT;
    Filesystem__WatchDirResponse response = FILESYSTEM__WATCH_DIR_RESPONSE__INIT;

    response.event_case = FILESYSTEM__WATCH_DIR_RESPONSE__EVENT_START;
    response.start = &event;
    watching->begun = true;
    return rpc_send(watching->call, &response.base) > 0;
}

static void stream_ready(void *arg)
{
    struct watching *watching = arg;
    Filesystem__FilesystemEvent *event;
    struct err err;
    int rc = 0;

    if (!watching->begun && watch_is_armed(watching->watch))
        watching->held = !send_start(watching);
    while (!watching->held && (rc = watch_take(watching->watch, &event, &err)) > 0)
        watching->held = !send_event(watching, event);
    if (rc < 0) {
        rpc_finish(watching->call, NULL, &err);
        watching_free(watching);
    }
}

static void on_writable(struct rpc_call *call)
{
    struct watching *watching = rpc_state(call);

    watching->held = false;
    stream_ready(watching);
}

static int start_stream(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    const Filesystem__WatchDirRequest *in = (const Filesystem__WatchDirRequest *)request;

    return start(call,
                 &(struct watch_spec){.path = in->path,
                                      .recursive = in->recursive,
                                      .include_entry = in->include_entry,
                                      .allow_network = in->allow_network_mounts},
                 stream_ready, err);
}

/* ---- CreateWatcher, GetWatcherEvents, RemoveWatcher ---- */

/* Armed or failed: the answer to CreateWatcher. Later news wait to be fetched. */
static void polled_ready(void *arg)
{
    struct watching *watching = arg;
    Filesystem__CreateWatcherResponse response = FILESYSTEM__CREATE_WATCHER_RESPONSE__INIT;
    struct rpc_call *call = watching->call;
    Filesystem__FilesystemEvent *event;
    struct err err;

    if (call == NULL)
        return;
    if (!watch_is_armed(watching->watch)) {
        if (watch_take(watching->watch, &event, &err) == -1) {
            rpc_finish(call, NULL, &err);
            watching_free(watching);
        }
        return;
    }
    watching->call = NULL;
    watching->id[0] = 'w';
    hash_random_id(watching->id + 1, WATCHER_ID_SIZE - 2);
    map_put(&watchers, watching->id, watching);
    response.watcher_id = watching->id;
    rpc_finish(call, &response.base, NULL);
}

static int start_polled(struct rpc_call *call, const ProtobufCMessage *request, struct err *err)
{
    const Filesystem__CreateWatcherRequest *in = (const Filesystem__CreateWatcherRequest *)request;

    return start(call,
                 &(struct watch_spec){.path = in->path,
                                      .recursive = in->recursive,
                                      .include_entry = in->include_entry,
                                      .allow_network = in->allow_network_mounts},
                 polled_ready, err);
}

static struct watching *find(const char *id, struct err *err)
{
    struct watching *watching = map_get(&watchers, id);

    if (watching == NULL)
        err_set(err, ERR_NOT_FOUND, "watcher with id %.100s not found", id);
    return watching;
}

static int get_events(struct rpc_call *call, const ProtobufCMessage *request,
                      ProtobufCMessage **response, struct err *err)
{
    const Filesystem__GetWatcherEventsRequest *in =
        (const Filesystem__GetWatcherEventsRequest *)request;
    struct watching *watching = find(in->watcher_id, err);
    Filesystem__GetWatcherEventsResponse *out;
    Filesystem__FilesystemEvent *event;
    size_t cap = 0;

    (void)call;
    if (watching == NULL)
        return -1;
    out = mem_zalloc(sizeof(*out));
    filesystem__get_watcher_events_response__init(out);
    while (watch_take(watching->watch, &event, err) > 0) {
        if (out->n_events == cap) {
            cap = cap > 0 ? cap * 2 : 16;
            out->events = mem_realloc_array(out->events, cap, sizeof(*out->events));
        }
        out->events[out->n_events++] = event;
    }
    if (out->n_events == 0 && watch_take(watching->watch, &event, err) < 0) {
        protobuf_c_message_free_unpacked(&out->base, NULL);
        return -1;
    }
    *response = &out->base;
    return 0;
}

static int remove_watcher(struct rpc_call *call, const ProtobufCMessage *request,
                          ProtobufCMessage **response, struct err *err)
{
    const Filesystem__RemoveWatcherRequest *in = (const Filesystem__RemoveWatcherRequest *)request;
    struct watching *watching = find(in->watcher_id, err);
    Filesystem__RemoveWatcherResponse *out;

    (void)call;
    if (watching == NULL)
        return -1;
    map_remove(&watchers, watching->id);
    watching_free(watching);
    out = mem_zalloc(sizeof(*out));
    filesystem__remove_watcher_response__init(out);
    *response = &out->base;
    return 0;
}

/* ---- Handed over ---- */

static int save(struct rpc_call *call, struct handover_call *out)
{
    const struct watching *watching = rpc_state(call);

    if (watching == NULL || !watching->begun)
        return 1;
    out->call.watch = watch_number(watching->watch);
    return 0;
}

static int load(struct rpc_call *call, const Handover__Call *in, struct err *err)
{
    struct watching *watching = mem_zalloc(sizeof(*watching));

    watching->call = call;
    watching->begun = true;
    watching->held = in->held;
    if (watch_adopt(in->watch, stream_ready, watching, &watching->watch, err) < 0) {
        free(watching);
        return -1;
    }
    rpc_set_state(call, watching);
    return 0;
}

void rpc_watch_save(struct handover_out *out)
{
    size_t at = 0;
    void *value;

    while (map_next(&watchers, &at, &value)) {
        struct watching *watching = value;
        Handover__Record record = HANDOVER__RECORD__INIT;
        Handover__Polled polled = HANDOVER__POLLED__INIT;

        polled.id = watching->id;
        polled.watch = watch_number(watching->watch);
        record.kind_case = HANDOVER__RECORD__KIND_POLLED;
        record.polled = &polled;
        handover_put(out, &record);
    }
}

int rpc_watch_load(const Handover__Polled *in, struct err *err)
{
    _cleanup_free_ struct watching *watching = mem_zalloc(sizeof(*watching));

    if (str_copy(watching->id, sizeof(watching->id), in->id, strlen(in->id)) < 0 ||
        watching->id[0] == '\0' || map_get(&watchers, watching->id) != NULL)
        return err_set(err, ERR_INVALID, "a watcher of the state makes no sense");
    if (watch_adopt(in->watch, polled_ready, watching, &watching->watch, err) < 0)
        return -1;
    map_put(&watchers, watching->id, watching);
    steal_ptr(&watching);
    return 0;
}

static Filesystem__WatchDirResponse__KeepAlive keepalive_event = {
    PROTOBUF_C_MESSAGE_INIT(&filesystem__watch_dir_response__keep_alive__descriptor)};
static const Filesystem__WatchDirResponse keepalive = {
    .base = PROTOBUF_C_MESSAGE_INIT(&filesystem__watch_dir_response__descriptor),
    .event_case = FILESYSTEM__WATCH_DIR_RESPONSE__EVENT_KEEPALIVE,
    .keepalive = &keepalive_event,
};

const struct rpc_method rpc_filesystem_watch_dir = {
    .service = SERVICE,
    .name = "WatchDir",
    .kind = RPC_STREAM,
    .request = &filesystem__watch_dir_request__descriptor,
    .response = &filesystem__watch_dir_response__descriptor,
    .start = start_stream,
    .writable = on_writable,
    .closed = on_closed,
    .keepalive = &keepalive.base,
    .save = save,
    .load = load,
};
const struct rpc_method rpc_filesystem_create_watcher = {
    .service = SERVICE,
    .name = "CreateWatcher",
    .kind = RPC_DEFERRED,
    .request = &filesystem__create_watcher_request__descriptor,
    .response = &filesystem__create_watcher_response__descriptor,
    .start = start_polled,
    .closed = on_closed,
};
const struct rpc_method rpc_filesystem_get_watcher_events = {
    .service = SERVICE,
    .name = "GetWatcherEvents",
    .kind = RPC_UNARY,
    .request = &filesystem__get_watcher_events_request__descriptor,
    .response = &filesystem__get_watcher_events_response__descriptor,
    .unary = get_events,
};
const struct rpc_method rpc_filesystem_remove_watcher = {
    .service = SERVICE,
    .name = "RemoveWatcher",
    .kind = RPC_UNARY,
    .request = &filesystem__remove_watcher_request__descriptor,
    .response = &filesystem__remove_watcher_response__descriptor,
    .unary = remove_watcher,
};

#include "server/engine/local/local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/json.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/client.h"
#include "server/engine/local/sample.h"
#include "server/engine/local/storage.h"
#include "server/engine/local/volume_client.h"

struct local {
    struct engine engine;
    struct client *client;
    int groups[3]; /* sample.h; -1 until first wanted. Whoever samples, one at a time */
};

static struct client *client_of(struct engine *engine)
{
    return container_of(engine, struct local, engine)->client;
}

static int request_init(struct launcher_request *request, enum launcher_op op, const char *id,
                        struct err *err)
{
    memset(request, 0, sizeof(*request));
    request->op = op;
    if (str_copy(request->id, sizeof(request->id), id, strlen(id)) < 0)
        return err_set(err, ERR_INVALID, "Invalid sandbox ID");
    return 0;
}

/* ID may be NULL: none. */
static int name_snapshot(struct launcher_request *request, const char *id, struct err *err)
{
    if (id != NULL &&
        str_copy(request->snapshot_id, sizeof(request->snapshot_id), id, strlen(id)) < 0)
        return err_set(err, ERR_INVALID, "Invalid snapshot ID");
    return 0;
}

/* Ask for OP on ID, nothing more. */
static int simple_call(struct engine *engine, enum launcher_op op, const char *id,
                       struct launcher_reply *reply, struct err *err)
{
    struct launcher_request request;

    if (request_init(&request, op, id, err) < 0)
        return -1;
    return client_call(client_of(engine), &request, -1, NULL, NULL, reply, err);
}

/* What the store keeps. For people: the launcher believes only what it wrote down itself. */
static char *engine_data(const struct launcher_reply *reply)
{
    _cleanup_json_ json_t *json = json_object();

    json_put_i64(json, "slot", reply->slot);
    if (reply->tree != 0)
        json_put_i64(json, "tree", (int64_t)reply->tree);
    json_put_i64(json, "pid", reply->pid);
    json_put_i64(json, "startTicks", (int64_t)reply->start_ticks);
    return json_text(json);
}

/* TEXT as a descriptor to read from its beginning. */
static int config_fd(const char *text, struct err *err)
{
    _cleanup_close_ int fd = memfd_create("envd-config", MFD_CLOEXEC);

    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, errno, "cannot pass on envd's configuration");
    return steal_fd(&fd);
}

/* TEXT as a descriptor that nobody can change any more. */
static int sealed_fd(const char *text, struct err *err)
{
    _cleanup_close_ int fd = memfd_create("network", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_sys(err, errno, "cannot pass on the network rules");
    return steal_fd(&fd);
}

static int local_set_network(struct engine *engine, const char *id, bool internet,
                             const char *network, struct err *err)
{
    struct launcher_request request;
    _cleanup_close_ int rules = -1;

    if (request_init(&request, LAUNCHER_NETWORK, id, err) < 0)
        return -1;
    request.internet = internet;
    rules = sealed_fd(internet && network != NULL ? network : "", err);
    if (rules < 0)
        return -1;
    return client_call(client_of(engine), &request, rules, NULL, NULL, NULL, err);
}

/* CREATE or START. */
static int run_spec(struct engine *engine, enum launcher_op op, const struct engine_spec *spec,
                    struct engine_sandbox *out, struct err *err)
{
    _cleanup_close_ int config = -1;
    struct launcher_request request;
    struct launcher_reply reply;

    if (request_init(&request, op, spec->id, err) < 0 ||
        (op == LAUNCHER_CREATE && name_snapshot(&request, spec->snapshot, err) < 0))
        return -1;
    if (str_copy(request.template_id, sizeof(request.template_id), spec->template_id,
                 strlen(spec->template_id)) < 0)
        return err_set(err, ERR_INVALID, "the template id is too long");
    request.cpu_count = spec->cpu_count;
    request.memory_mb = spec->memory_mb;
    request.disk_mb = spec->disk_mb;
    request.pids_max = spec->pids_max;
    request.internet = spec->internet && spec->network == NULL; /* else rules, then the link */
    config = config_fd(spec->envd_config, err);
    if (config < 0)
        return -1;
    if (volume_client_mounts(client_of(engine), spec, err) < 0 ||
        client_call(client_of(engine), &request, config, NULL, NULL, &reply, err) < 0)
        return -1;
    out->engine_data = engine_data(&reply);
    return 0;
}

/* The rules of one that runs, without a link so far; when they cannot be held, UNDO it. */
static int first_rules(struct engine *engine, enum launcher_op undo, const struct engine_spec *spec,
                       struct engine_sandbox *out, struct err *err)
{
    struct err ignored = {0};

    if (spec->network == NULL || local_set_network(engine, spec->id, true, spec->network, err) == 0)
        return 0;
    simple_call(engine, undo, spec->id, NULL, &ignored);
    client_forget(client_of(engine), spec->id);
    cleanup_free(&out->engine_data);
    out->engine_data = NULL;
    return -1;
}

static int local_create(struct engine *engine, const struct engine_spec *spec,
                        struct engine_sandbox *out, struct err *err)
{
    if (run_spec(engine, LAUNCHER_CREATE, spec, out, err) < 0)
        return -1;
    return first_rules(engine, LAUNCHER_DESTROY, spec, out, err);
}

static int local_start(struct engine *engine, const struct engine_spec *spec,
                       struct engine_sandbox *out, struct err *err)
{
    if (run_spec(engine, LAUNCHER_START, spec, out, err) < 0)
        return -1;
    return first_rules(engine, LAUNCHER_STOP, spec, out, err);
}

static int local_destroy(struct engine *engine, const char *id, const char *data, struct err *err)
{
    int rc = simple_call(engine, LAUNCHER_DESTROY, id, NULL, err);

    (void)data;
    client_forget(client_of(engine), id); /* after it: no dial's answer comes later than this one */
    return rc;
}

static int local_adopt(struct engine *engine, const char *id, const char *data, struct err *err)
{
    (void)data;
    return simple_call(engine, LAUNCHER_ADOPT, id, NULL, err);
}

/* Items of a list, copied on the reader thread; given out on the caller's. */
struct listing {
    struct launcher_reply *items;
    size_t count, cap;
};

static void collect(void *ctx, const struct launcher_reply *item)
{
    struct listing *listing = ctx;

    if (listing->count == listing->cap) {
        listing->cap = listing->cap == 0 ? 16 : listing->cap * 2;
        listing->items = mem_realloc_array(listing->items, listing->cap, sizeof(*item));
    }
    listing->items[listing->count++] = *item;
}

static int local_list(struct engine *engine, engine_list_fn fn, void *ctx, struct err *err)
{
    struct launcher_request request = {.op = LAUNCHER_LIST};
    struct listing listing = {0};
    int rc = client_call(client_of(engine), &request, -1, collect, &listing, NULL, err);

    for (size_t i = 0; rc == 0 && i < listing.count; i++) {
        _cleanup_free_ char *data = engine_data(&listing.items[i]);
        fn(ctx, listing.items[i].id, data);
    }
    free(listing.items);
    return rc;
}

static void local_dial(struct engine *engine, struct loop *loop, const char *id, uint16_t port,
                       bool ipv6, engine_dial_fn cb, void *ctx)
{
    client_dial(client_of(engine), loop, id, port, ipv6, cb, ctx);
}

static int local_dial_now(struct engine *engine, const char *id, uint16_t port)
{
    return client_dial_now(client_of(engine), id, port);
}

static int local_freeze(struct engine *engine, const char *id, struct err *err)
{
    return simple_call(engine, LAUNCHER_FREEZE, id, NULL, err);
}

static int local_thaw(struct engine *engine, const char *id, struct err *err)
{
    return simple_call(engine, LAUNCHER_THAW, id, NULL, err);
}

static int local_stop(struct engine *engine, const char *id, struct err *err)
{
    int rc = simple_call(engine, LAUNCHER_STOP, id, NULL, err);

    client_forget(client_of(engine), id);
    return rc;
}

static int local_snapshot(struct engine *engine, const char *id, const char *snapshot_id,
                          uint64_t *size_bytes, struct err *err)
{
    struct launcher_request request;
    struct launcher_reply reply;

    if (request_init(&request, LAUNCHER_SNAPSHOT, id, err) < 0 ||
        name_snapshot(&request, snapshot_id, err) < 0 ||
        client_call(client_of(engine), &request, -1, NULL, NULL, &reply, err) < 0)
        return -1;
    *size_bytes = reply.size_bytes;
    return 0;
}

static int local_snapshot_delete(struct engine *engine, const char *snapshot_id, struct err *err)
{
    struct launcher_request request = {.op = LAUNCHER_SNAPSHOT_DELETE};

    if (name_snapshot(&request, snapshot_id, err) < 0)
        return -1;
    return client_call(client_of(engine), &request, -1, NULL, NULL, NULL, err);
}

static int local_snapshot_list(struct engine *engine, engine_snapshot_fn fn, void *ctx,
                               struct err *err)
{
    struct launcher_request request = {.op = LAUNCHER_SNAPSHOT_LIST};
    struct listing listing = {0};
    int rc = client_call(client_of(engine), &request, -1, collect, &listing, NULL, err);

    for (size_t i = 0; rc == 0 && i < listing.count; i++)
        fn(ctx, listing.items[i].id, listing.items[i].size_bytes);
    free(listing.items);
    return rc;
}

/* What engine_data() wrote. */
static bool number_of(const char *data, const char *key, uint64_t max, uint64_t *out)
{
    const char *at = data != NULL ? strstr(data, key) : NULL;
    struct err ignored = {0};

    if (at == NULL)
        return false;
    at += strlen(key);
    return str_to_u64(at, strspn(at, "0123456789"), 0, max, key, out, &ignored) == 0;
}

static void sample_one(struct local *local, struct engine_sample *sample)
{
    uint64_t slot, tree;

    if (number_of(sample->engine_data, "\"slot\":", UINT32_MAX, &slot))
        sample_read(local->groups, (uint32_t)slot, sample);
    if (local->groups[2] >= 0 && number_of(sample->engine_data, "\"tree\":", INT64_MAX, &tree))
        sample->has_disk = storage_gauges_read(local->groups[2], tree, &sample->disk_used_bytes,
                                               &sample->disk_total_bytes);
}

static int open_groups(struct local *local, struct err *err)
{
    struct launcher_request request = {.op = LAUNCHER_GROUPS};
    int fds[PACKET_FDS_MAX];

    if (local->groups[0] >= 0)
        return 0;
    if (client_call_fds(local->client, &request, fds, err) < 0)
        return -1;
    local->groups[0] = fds[0];
    local->groups[1] = fds[1];
    local->groups[2] = fds[2];
    return fds[1] >= 0 ? 0 : err_set(err, ERR_INTERNAL, "the launcher sent no control groups");
}

static int local_sample(struct engine *engine, struct engine_sample *samples, size_t count,
                        struct err *err)
{
    struct local *local = container_of(engine, struct local, engine);

    if (open_groups(local, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        sample_one(local, &samples[i]);
    return 0;
}

static int local_open_log(struct engine *engine, const char *id, int *fd, struct err *err)
{
    struct launcher_request request;
    int fds[PACKET_FDS_MAX];

    if (request_init(&request, LAUNCHER_LOG, id, err) < 0 ||
        client_call_fds(client_of(engine), &request, fds, err) < 0)
        return -1;
    if (fds[0] < 0)
        return err_set(err, ERR_INTERNAL, "the launcher sent no log pipe");
    *fd = fds[0];
    return 0;
}

static int local_volume_create(struct engine *engine, const char *volume_id, uint64_t size_mb,
                               struct err *err)
{
    return volume_client_create(client_of(engine), volume_id, size_mb, err);
}

static int local_volume_delete(struct engine *engine, const char *volume_id, struct err *err)
{
    return volume_client_delete(client_of(engine), volume_id, err);
}

static int local_volume_list(struct engine *engine, engine_volume_fn fn, void *ctx, struct err *err)
{
    return volume_client_list(client_of(engine), fn, ctx, err);
}

static int local_volume_do(struct engine *engine, const char *volume_id,
                           const struct volume_request *request, struct volume_answer *answer,
                           struct err *err)
{
    return volume_client_do(client_of(engine), volume_id, request, answer, err);
}

static int local_volume_commit(struct engine *engine, struct volume_answer *answer, struct err *err)
{
    (void)engine;
    return volume_client_commit(answer, err);
}

static void local_free(struct engine *engine)
{
    struct local *local = container_of(engine, struct local, engine);

    client_free(local->client);
    fd_close(&local->groups[0]);
    fd_close(&local->groups[1]);
    fd_close(&local->groups[2]);
    free(local);
}

static const struct engine_ops local_ops = {
    .name = "local",
    .create = local_create,
    .destroy = local_destroy,
    .adopt = local_adopt,
    .list = local_list,
    .dial = local_dial,
    .dial_now = local_dial_now,
    .set_network = local_set_network,
    .freeze = local_freeze,
    .thaw = local_thaw,
    .stop = local_stop,
    .start = local_start,
    .snapshot = local_snapshot,
    .snapshot_delete = local_snapshot_delete,
    .snapshot_list = local_snapshot_list,
    .sample = local_sample,
    .open_log = local_open_log,
    .volume_create = local_volume_create,
    .volume_delete = local_volume_delete,
    .volume_list = local_volume_list,
    .volume_do = local_volume_do,
    .volume_commit = local_volume_commit,
    .free = local_free,
};

int local_engine_new(int sock, struct engine **out, struct err *err)
{
    struct local *local = mem_zalloc(sizeof(*local));

    local->groups[0] = local->groups[1] = local->groups[2] = -1;
    local->engine.ops = &local_ops;
    if (client_new(sock, &local->engine, &local->client, err) < 0) {
        free(local);
        return -1;
    }
    *out = &local->engine;
    return 0;
}

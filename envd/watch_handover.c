#include "envd/watch_handover.h"

#include <string.h>

#include "envd/watch_hub.h"
#include "server/base/log.h"
#include "server/base/mem.h"

#define PATH_TEXT_MAX (1 << 20)

/* ---- Saving ---- */

/* The folders of one watch, in arrays as the message has them. */
struct nodes {
    uint32_t *parent;
    int32_t *wd;
    ProtobufCBinaryData *name;
    size_t count, cap;
};

static void add_node(struct nodes *nodes, struct watch_node *node, uint32_t number)
{
    if (nodes->count == nodes->cap) {
        nodes->cap = nodes->cap > 0 ? 2 * nodes->cap : 16;
        nodes->parent = mem_realloc_array(nodes->parent, nodes->cap, sizeof(*nodes->parent));
        nodes->wd = mem_realloc_array(nodes->wd, nodes->cap, sizeof(*nodes->wd));
        nodes->name = mem_realloc_array(nodes->name, nodes->cap, sizeof(*nodes->name));
    }
    node->number = number;
    nodes->parent[nodes->count] = node->parent != NULL ? node->parent->number : 0;
    nodes->wd[nodes->count] = node->inode->wd;
    nodes->name[nodes->count++] = handover_str(node->name);
}

/* The node after NODE, the one above before those in it. NULL at the end. */
static struct watch_node *next_node(struct watch_node *node)
{
    if (node->children != NULL)
        return node->children;
    while (node != NULL && node->next == NULL)
        node = node->parent;
    return node != NULL ? node->next : NULL;
}

static void save_watch(struct watch *watch, uint32_t *node_number, Handover__Watch *to,
                       struct nodes *nodes)
{
    size_t len;
    const void *queue = watch_queued(watch, &len);

    to->number = watch->number;
    to->path = handover_str(watch->path);
    to->recursive = watch->recursive;
    to->include_entry = watch->include_entry;
    to->allow_network = watch->allow_network;
    to->armed = watch->armed;
    to->failed = watch->failed;
    if (watch->failed) {
        to->error_code = watch->err->code;
        to->error = handover_str(watch->err->msg);
    }
    to->queue = handover_bytes(queue, len);
    to->first_node = *node_number + 1;
    for (struct watch_node *node = watch->root; node != NULL; node = next_node(node))
        add_node(nodes, node, ++*node_number);
    to->node_parent = nodes->parent;
    to->n_node_parent = nodes->count;
    to->node_wd = nodes->wd;
    to->n_node_wd = nodes->count;
    to->node_name = nodes->name;
    to->n_node_name = nodes->count;
}

static Handover__Told *save_told(const struct watch_told *told)
{
    Handover__Told *to = mem_zalloc(sizeof(*to));
    size_t at = 0;
    void *name;

    handover__told__init(to);
    to->node = told->node->number;
    to->until = told->until;
    to->names = mem_calloc(told->names.count + 1, sizeof(*to->names));
    while (map_next(&told->names, &at, &name))
        to->names[to->n_names++] = handover_str(name);
    return to;
}

/* What is to be freed when the record is written. */
struct saved {
    Handover__Hub hub;
    struct nodes *nodes;
    Handover__Watch *watches;
    Handover__Retry *retries;
    Handover__Rename *renames;
};

static void saved_clear(struct saved *saved)
{
    for (size_t i = 0; i < saved->hub.n_watches; i++) {
        free(saved->nodes[i].parent);
        free(saved->nodes[i].wd);
        free(saved->nodes[i].name);
    }
    for (size_t i = 0; i < saved->hub.n_told; i++) {
        free(saved->hub.told[i]->names);
        free(saved->hub.told[i]);
    }
    free(saved->hub.told);
    free(saved->hub.watches);
    free(saved->hub.retries);
    free(saved->hub.renames);
    free(saved->nodes);
    free(saved->watches);
    free(saved->retries);
    free(saved->renames);
}

static void save_watches(struct watch_hub *hub, uint32_t *number, struct saved *saved)
{
    uint32_t node_number = 0;
    size_t count = 0;

    for (struct watch *watch = hub->watches; watch != NULL; watch = watch->hub_next)
        count++;
    saved->nodes = mem_calloc(count + 1, sizeof(*saved->nodes));
    saved->watches = mem_calloc(count + 1, sizeof(*saved->watches));
    saved->hub.watches = mem_calloc(count + 1, sizeof(*saved->hub.watches));
    for (struct watch *watch = hub->watches; watch != NULL; watch = watch->hub_next) {
        Handover__Watch *to = &saved->watches[saved->hub.n_watches];

        handover__watch__init(to);
        watch->number = ++*number;
        save_watch(watch, &node_number, to, &saved->nodes[saved->hub.n_watches]);
        saved->hub.watches[saved->hub.n_watches++] = to;
    }
}

static void save_notes(const struct watch_hub *hub, struct saved *saved)
{
    size_t count = 0;

    for (const struct watch_told *told = hub->index.told_first; told != NULL; told = told->next)
        count++;
    saved->hub.told = mem_calloc(count + 1, sizeof(*saved->hub.told));
    for (const struct watch_told *told = hub->index.told_first; told != NULL; told = told->next)
        saved->hub.told[saved->hub.n_told++] = save_told(told);
    saved->retries = mem_calloc(hub->retry_count + 1, sizeof(*saved->retries));
    saved->hub.retries = mem_calloc(hub->retry_count + 1, sizeof(*saved->hub.retries));
    for (size_t i = 0; i < hub->retry_count; i++) {
        Handover__Retry *to = saved->hub.retries[saved->hub.n_retries++] = &saved->retries[i];

        handover__retry__init(to);
        to->node = hub->retries[i].parent->number;
        to->name = handover_str(hub->retries[i].name);
        to->report = hub->retries[i].report;
        to->tries = hub->retries[i].tries;
    }
    saved->renames = mem_calloc(hub->rename_count + 1, sizeof(*saved->renames));
    saved->hub.renames = mem_calloc(hub->rename_count + 1, sizeof(*saved->hub.renames));
    for (size_t i = 0; i < hub->rename_count; i++) {
        Handover__Rename *to = saved->hub.renames[saved->hub.n_renames++] = &saved->renames[i];

        handover__rename__init(to);
        to->watch = hub->renames[i].watch->number;
        to->cookie = hub->renames[i].cookie;
    }
}

static void save_hub(struct watch_hub *hub, size_t place, uint32_t *number,
                     struct handover_out *out)
{
    Handover__Record record = HANDOVER__RECORD__INIT;
    _cleanup_(saved_clear) struct saved saved = {.hub = HANDOVER__HUB__INIT};

    save_watches(hub, number, &saved);
    save_notes(hub, &saved);
    saved.hub.fd = handover_fd(out, hub->fd);
    saved.hub.place = (uint32_t)place;
    saved.hub.pending = handover_bytes(hub->pending.data + hub->at, hub->pending.len - hub->at);
    saved.hub.read_bytes = hub->read_bytes;
    saved.hub.done_bytes = hub->done_bytes;
    saved.hub.uploads = hub->uploads;
    saved.hub.n_uploads = WATCH_UPLOADS;
    saved.hub.upload_next = hub->upload_next;
    record.kind_case = HANDOVER__RECORD__KIND_HUB;
    record.hub = &saved.hub;
    handover_put(out, &record);
}

void watch_save(struct handover_out *out)
{
    uint32_t number = 0;

    for (size_t i = 0; i < WATCH_HUBS_ALL; i++) {
        struct watch_hub *hub = watch_hub_at(i);

        if (hub != NULL)
            save_hub(hub, i, &number, out);
    }
}

uint32_t watch_number(const struct watch *watch)
{
    return watch->number;
}

/* ---- Loading ---- */

static int nonsense(struct err *err)
{
    return err_set(err, ERR_INVALID, "a watch of the state makes no sense");
}

/* The nodes of an instance by their numbers, from 1. */
struct numbered {
    struct watch_node **nodes;
    size_t count;
};

static int load_nodes(struct watch_hub *hub, struct watch *watch, const Handover__Watch *in,
                      struct numbered *all, struct err *err)
{
    for (size_t i = 0; i < in->n_node_wd; i++) {
        _cleanup_free_ char *name = NULL;
        uint32_t above = in->node_parent[i];
        struct watch_node *parent = NULL;

        if (handover_take_str(&in->node_name[i], &name, err) < 0)
            return -1;
        if ((above == 0) != (i == 0) ||
            (above != 0 && (above < in->first_node || above > all->count)))
            return nonsense(err);
        if (above != 0) {
            parent = all->nodes[above - 1];
            if (name[0] == '\0' || watch_node_child(&hub->index, parent, name) != NULL)
                return nonsense(err);
        }
        all->nodes[all->count++] =
            watch_node_add(&hub->index, watch, parent, above != 0 ? name : NULL, in->node_wd[i]);
        if (above == 0)
            watch->root = all->nodes[all->count - 1];
    }
    return 0;
}

static bool queue_ok(const ProtobufCBinaryData *queue)
{
    size_t at = 0;
    uint32_t size;

    while (at < queue->len) {
        if (queue->len - at < sizeof(size))
            return false;
        memcpy(&size, queue->data + at, sizeof(size));
        if (size > queue->len - at - sizeof(size))
            return false;
        at += sizeof(size) + size;
    }
    return queue->len <= WATCH_QUEUE_MAX_BYTES;
}

static int load_watch(struct loop *loop, struct watch_hub *hub, const Handover__Watch *in,
                      struct numbered *all, struct err *err)
{
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ char *why = NULL;
    struct watch_spec spec = {.recursive = in->recursive,
                              .include_entry = in->include_entry,
                              .allow_network = in->allow_network};
    struct err failure = {0};
    struct watch *watch;

    if (handover_take_str(&in->path, &path, err) < 0 ||
        handover_take_str(&in->error, &why, err) < 0)
        return -1;
    if (path[0] != '/' || in->number == 0 || in->first_node != all->count + 1 ||
        in->n_node_parent != in->n_node_wd || in->n_node_name != in->n_node_wd ||
        !queue_ok(&in->queue))
        return nonsense(err);
    spec.path = path;
    watch = watch_restore(loop, &spec, hub, in->queue.data, in->queue.len);
    watch->number = in->number;
    watch->armed = in->armed;
    if (load_nodes(hub, watch, in, all, err) < 0)
        return -1;
    if (in->failed) {
        err_set(&failure, in->error_code > 0 ? (enum err_code)in->error_code : ERR_INTERNAL, "%s",
                why);
        watch_fail(watch, &failure);
    }
    return 0;
}

static struct watch_node *node_at(const struct numbered *all, uint32_t number)
{
    return number > 0 && number <= all->count ? all->nodes[number - 1] : NULL;
}

static int load_told(struct watch_hub *hub, const Handover__Told *in, const struct numbered *all,
                     struct err *err)
{
    struct watch_node *node = node_at(all, in->node);

    if (node == NULL || in->n_names == 0)
        return nonsense(err);
    for (size_t i = 0; i < in->n_names; i++) {
        _cleanup_free_ char *name = NULL;

        if (handover_take_str(&in->names[i], &name, err) < 0)
            return -1;
        watch_told_add(&hub->index, node, name);
    }
    node->told->until = in->until;
    return 0;
}

static struct watch *watch_at(uint32_t number)
{
    for (size_t i = 0; i < WATCH_HUBS_ALL; i++) {
        struct watch_hub *hub = watch_hub_at(i);

        for (struct watch *w = hub != NULL ? hub->watches : NULL; w != NULL; w = w->hub_next)
            if (w->number == number && number > 0)
                return w;
    }
    return NULL;
}

static int load_notes(struct watch_hub *hub, const Handover__Hub *in, const struct numbered *all,
                      struct err *err)
{
    for (size_t i = 0; i < in->n_told; i++) {
        if (in->told[i]->n_names > 0 && load_told(hub, in->told[i], all, err) < 0)
            return -1;
    }
    hub->retries = mem_calloc(in->n_retries + 1, sizeof(*hub->retries));
    hub->retry_cap = in->n_retries + 1;
    for (size_t i = 0; i < in->n_retries; i++) {
        struct watch_retry *to = &hub->retries[i];

        to->parent = node_at(all, in->retries[i]->node);
        if (to->parent == NULL || handover_take_str(&in->retries[i]->name, &to->name, err) < 0)
            return nonsense(err);
        to->report = in->retries[i]->report;
        to->tries = in->retries[i]->tries;
        hub->retry_count++;
    }
    hub->renames = mem_calloc(in->n_renames + 1, sizeof(*hub->renames));
    hub->rename_cap = in->n_renames + 1;
    for (size_t i = 0; i < in->n_renames; i++) {
        struct watch *watch = watch_at(in->renames[i]->watch);

        if (watch == NULL)
            return nonsense(err);
        hub->renames[hub->rename_count++] =
            (struct watch_rename){.watch = watch, .cookie = in->renames[i]->cookie};
    }
    return 0;
}

/* Whole inotify events. */
static bool pending_ok(const ProtobufCBinaryData *pending)
{
    size_t at = 0;

    while (at < pending->len) {
        struct inotify_event event;

        if (pending->len - at < sizeof(event))
            return false;
        memcpy(&event, pending->data + at, sizeof(event));
        if (event.len > pending->len - at - sizeof(event))
            return false;
        at += sizeof(event) + event.len;
    }
    return pending->len <= WATCH_HUB_PENDING_MAX_BYTES;
}

static int load_hub(struct watch_hub *hub, const Handover__Hub *in, struct err *err)
{
    if (!pending_ok(&in->pending) || in->n_uploads > WATCH_UPLOADS ||
        in->upload_next >= UINT32_MAX / 2 || in->done_bytes + in->pending.len != in->read_bytes)
        return nonsense(err);
    if (in->pending.len > 0)
        buf_add(&hub->pending, in->pending.data, in->pending.len);
    hub->read_bytes = in->read_bytes;
    hub->done_bytes = in->done_bytes;
    for (size_t i = 0; i < in->n_uploads; i++)
        hub->uploads[i] = in->uploads[i];
    hub->upload_next = in->upload_next;
    return 0;
}

int watch_load(struct loop *loop, const Handover__Hub *in, size_t *count, struct err *err)
{
    struct numbered all = {0};
    _cleanup_free_ struct watch_node **nodes = NULL;
    struct watch_hub *hub;
    size_t total = 0;
    int fd, rc;

    if (in->place >= WATCH_HUBS_ALL || watch_hub_at(in->place) != NULL)
        return nonsense(err);
    if (handover_take_fd(in->fd, &fd, err) < 0 || fd < 0)
        return nonsense(err);
    hub = watch_hub_restore(in->place, fd, err);
    if (hub == NULL)
        return -1;
    for (size_t i = 0; i < in->n_watches; i++)
        total += in->watches[i]->n_node_wd;
    all.nodes = nodes = mem_calloc(total + 1, sizeof(*nodes));
    rc = load_hub(hub, in, err);
    for (size_t i = 0; rc == 0 && i < in->n_watches; i++) {
        rc = load_watch(loop, hub, in->watches[i], &all, err);
        *count += rc == 0;
    }
    return rc == 0 ? load_notes(hub, in, &all, err) : -1;
}

int watch_adopt(uint32_t number, void (*ready)(void *arg), void *arg, struct watch **out,
                struct err *err)
{
    struct watch *watch = watch_at(number);

    if (watch == NULL || watch->ready != NULL)
        return nonsense(err);
    watch->ready = ready;
    watch->arg = arg;
    *out = watch;
    return 0;
}

/* Stop those that nobody has adopted, tell the others to look at their queues. */
static void settle(struct watch_hub *hub)
{
    _cleanup_free_ struct watch **list = mem_calloc(hub->watch_count + 1, sizeof(*list));
    size_t count = 0;

    for (struct watch *watch = hub->watches; watch != NULL; watch = watch->hub_next)
        list[count++] = watch;
    for (size_t i = 0; i < count; i++) {
        if (list[i]->ready == NULL)
            watch_stop(list[i]); /* its thread, not there yet, will end it */
        else
            watch_tell(list[i]);
    }
}

void watch_go_on(void)
{
    for (size_t i = 0; i < WATCH_HUBS_ALL; i++) {
        struct watch_hub *hub = watch_hub_at(i);
        struct err err = {0};

        if (hub == NULL)
            continue;
        settle(hub);
        if (watch_hub_go_on(hub, &err) < 0)
            log_err(LOG_ERROR, "watches have ended", NULL, &err);
    }
}

/* The table of sandboxes that the launcher knows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/engine/local/launcher.h"

#define GROUP_PREFIX "slot-"

uint32_t slot_take(struct launcher *launcher)
{
    for (uint32_t i = 0; i < launcher->slot_count; i++) {
        uint32_t slot = (launcher->slot_next + i) % launcher->slot_count;
        if (launcher->slots[slot])
            continue;
        launcher->slots[slot] = true;
        launcher->slot_next = slot + 1; /* a freed slot rests as long as possible */
        return slot;
    }
    return SLOT_NONE;
}

void slot_release(struct launcher *launcher, uint32_t slot)
{
    if (slot < SLOT_COUNT)
        launcher->slots[slot] = false;
}

struct box *box_new(struct launcher *launcher, uint32_t slot)
{
    struct box *box = mem_zalloc(sizeof(*box));

    box->record.slot = slot;
    box->init.fd = box->control.fd = -1;
    box->rules = box->rules_next = -1;
    if (slot < SLOT_COUNT)
        launcher->slots[slot] = true;
    box->next = launcher->boxes;
    launcher->boxes = box;
    return box;
}

void box_free(struct launcher *launcher, struct box *box)
{
    struct box **at = &launcher->boxes;

    while (*at != box)
        at = &(*at)->next;
    *at = box->next;
    if (box->id[0] != '\0')
        map_remove(&launcher->by_id, box->id);
    slot_release(launcher, box->record.slot);
    launcher_unwatch(launcher, &box->init);
    launcher_unwatch(launcher, &box->control);
    fd_close(&box->rules);
    fd_close(&box->rules_next);
    free(box);
}

void box_keep(struct launcher *launcher, struct box *box)
{
    slot_release(launcher, box->record.slot);
    launcher_unwatch(launcher, &box->init);
    launcher_unwatch(launcher, &box->control);
    fd_close(&box->rules);
    fd_close(&box->rules_next);
    box->record = (struct record){.slot = SLOT_NONE, .files = true};
    box->state = BOX_KEPT;
    box->adopted = box->kept = false;
    box->serial = 0;
}

void box_name(struct launcher *launcher, struct box *box, const char *id)
{
    memcpy(box->id, id, strlen(id) + 1);
    map_put(&launcher->by_id, box->id, box);
}

/* A first process has ended by itself, or because a job killed it. */
static void on_init_end(struct launcher *launcher, struct source *source)
{
    struct box *box = container_of(source, struct box, init);
    struct launcher_reply reply;

    launcher_unwatch(launcher, &box->init);
    box->record.pid = 0;
    if (box->state != BOX_RUNNING)
        return; /* a spare's or an ordered one's end shows on its control socket */
    box->state = BOX_ENDED;
    log_info("sandbox ended by itself", "sandbox_id", box->id);
    if (!box->adopted)
        return;
    reply_init(&reply, 0, NULL);
    reply.event = LAUNCHER_EXIT;
    memcpy(reply.id, box->id, sizeof(reply.id));
    launcher_send(launcher, &reply, -1);
}

int box_watch(struct launcher *launcher, struct box *box, int pidfd, struct err *err)
{
    return launcher_watch(launcher, &box->init, pidfd, on_init_end, err);
}

/* A launcher ended in the middle of a snapshot. */
static void thaw(struct launcher *launcher, struct box *box)
{
    char group[CGROUP_NAME_SIZE];
    struct err err = {0};

    slot_group(box->record.slot, group);
    box->record.thaw = false;
    if (launcher->ctx.cgroups->ops->freeze(launcher->ctx.cgroups, group, false, &err) < 0 ||
        record_write(&launcher->ctx, box->id, &box->record, &err) < 0)
        log_err(LOG_WARN, "a sandbox frozen for a snapshot does not go on", box->id, &err);
}

static void find_one(void *ctx, const char *id)
{
    struct launcher *launcher = ctx;
    struct record record;
    struct err err = {0};
    struct box *box;
    int pidfd;

    if (map_get(&launcher->by_id, id) != NULL)
        return; /* folder and record */
    if (record_read(&launcher->ctx, id, &record, &err) < 0) {
        log_err(LOG_WARN, "cannot look at what an earlier run left", id, &err);
        return;
    }
    box = box_new(launcher, record.slot);
    box->record = record;
    box->state = record.files && !record.legacy && record.slot == SLOT_NONE ? BOX_KEPT : BOX_ENDED;
    box_name(launcher, box, id);
    box->tree = storage_tree_id(&launcher->ctx.storage, launcher->ctx.storage.sandboxes, id);
    if (record.pid == 0 || (pidfd = sys_pidfd_open(record.pid)) < 0)
        return;
    if (box_watch(launcher, box, pidfd, &err) < 0) {
        log_err(LOG_WARN, "cannot watch a sandbox", id, &err);
        return;
    }
    box->state = BOX_RUNNING;
    if (record.thaw)
        thaw(launcher, box);
}

/* A control group whose slot no folder owns: a launcher was killed in the middle of something. */
static void sweep_group(void *ctx, const char *name)
{
    struct launcher *launcher = ctx;
    struct err err = {0};
    uint64_t slot;

    if (!str_starts(name, GROUP_PREFIX) ||
        str_to_u64(name + strlen(GROUP_PREFIX), strlen(name + strlen(GROUP_PREFIX)), 0,
                   SLOT_COUNT - 1, "slot", &slot, &err) < 0 ||
        launcher->slots[slot])
        return;
    launcher->ctx.cgroups->ops->kill(launcher->ctx.cgroups, name);
    if (cgroup_remove(launcher->ctx.cgroups, name, &err) < 0)
        log_err(LOG_WARN, "cannot remove a leftover control group", NULL, &err);
}

/* Spares of an earlier launcher: nobody knows them, so nobody will ask to destroy them. */
static void sweep_spares(struct launcher *launcher)
{
    struct box *next;

    for (struct box *box = launcher->boxes; box != NULL; box = next) {
        struct err err = {0};
        next = box->next;
        if (!str_starts(box->id, SPARE_PREFIX))
            continue;
        if (spawn_destroy(&launcher->ctx, box->id, &box->record, box->init.fd, &err) < 0) {
            log_err(LOG_WARN, "cannot remove a leftover spare", NULL, &err);
            continue; /* keeps its slot */
        }
        box_free(launcher, box);
    }
}

void boxes_find(struct launcher *launcher)
{
    record_each(&launcher->ctx, find_one, launcher);
    sweep_spares(launcher);
    cgroups_each(launcher->ctx.cgroups, sweep_group, launcher);
}

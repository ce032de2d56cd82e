/*
 * server/observe/events.c - what an event looks like. Source: platform-api.md section 10.
 *
 * Ids are made of what happened, so the same event, told a second time after a crash, is one row.
 */
#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/base/uuid5.h"
#include "server/model/team.h"
#include "server/model/template.h"
#include "server/observe/internal.h"

#define EVENT_VERSION "v2"
#define PREFIX "sandbox.lifecycle."

/* Random, once; never to be changed: ids would differ after a restart. */
static const uint8_t event_space[UUID_BYTES] = {0x3a, 0x77, 0x0e, 0xc5, 0x91, 0x5d, 0x4e, 0x2b,
                                                0xb6, 0x48, 0x1f, 0x60, 0xd9, 0x83, 0x24, 0x7a};

static const struct {
    const char *name;
    const char *label; /* the deprecated event_label */
} types[LIFECYCLE_EVENT_COUNT] = {
    [LIFECYCLE_CREATED] = {PREFIX "created", "create"},
    [LIFECYCLE_PAUSED] = {PREFIX "paused", "pause"},
    [LIFECYCLE_RESUMED] = {PREFIX "resumed", "resume"},
    [LIFECYCLE_UPDATED] = {PREFIX "updated", "update"},
    [LIFECYCLE_CHECKPOINTED] = {PREFIX "checkpointed", "checkpoint"},
    [LIFECYCLE_KILLED] = {PREFIX "killed", "kill"},
};

int observe_event_type(const char *name)
{
    for (int i = 0; i < LIFECYCLE_EVENT_COUNT; i++) {
        if (str_eq(types[i].name, name))
            return i;
    }
    return -1;
}

const char *observe_event_name(unsigned type)
{
    return type < LIFECYCLE_EVENT_COUNT ? types[type].name : "";
}

static void make_uuid(const char *kind, const struct sandbox *sandbox, int64_t at, char *out)
{
    char text[SANDBOX_ID_SIZE + 64];
    int len = snprintf(text, sizeof(text), "%s %s %lld", kind, sandbox->id, (long long)at);

    uuid5(event_space, text, (size_t)len, out);
}

/* A template's build: only the built-in one's id is known here, others' is made of the name. */
static void build_id(const struct sandbox *sandbox, char out[UUID_SIZE])
{
    struct template base;

    template_base(&base, 0);
    if (str_eq(sandbox->template_id, base.id))
        memcpy(out, base.build_id, UUID_SIZE);
    else
        uuid5(event_space, sandbox->template_id, strlen(sandbox->template_id), out);
}

static json_t *execution(const struct sandbox *sandbox, int64_t now_unix_ms)
{
    json_t *json = json_object();
    char started[TIME_RFC3339_SIZE];
    int64_t ran_ms = now_unix_ms - sandbox->started_unix_ms;

    time_rfc3339_ms(sandbox->started_unix_ms, started);
    json_put_str(json, "started_at", started);
    json_put_i64(json, "vcpu_count", sandbox->cpu_count);
    json_put_i64(json, "memory_mb", sandbox->memory_mb);
    json_put_i64(json, "execution_time", ran_ms > 0 ? ran_ms : 0);
    return json;
}

static json_t *data_of(enum lifecycle_event event, const struct sandbox *sandbox,
                       enum sandbox_end why, int64_t now_unix_ms)
{
    json_t *data = json_object(), *metadata = NULL;
    struct err ignored = {0};

    if (sandbox->metadata != NULL)
        metadata = json_parse(sandbox->metadata, strlen(sandbox->metadata), &ignored);
    json_put(data, "sandbox_metadata", metadata != NULL ? metadata : json_object());
    if (event == LIFECYCLE_KILLED || event == LIFECYCLE_PAUSED)
        json_put(data, "execution", execution(sandbox, now_unix_ms));
    if (event == LIFECYCLE_KILLED)
        json_put_str(data, "x-sandpit-reason", sandbox_end_name(why));
    return data;
}

/* What tells this event from others of its sandbox: some happen once in a life or a run. */
static int64_t when_of(enum lifecycle_event event, const struct sandbox *sandbox,
                       int64_t now_unix_ms)
{
    if (event == LIFECYCLE_CREATED || event == LIFECYCLE_KILLED)
        return sandbox->created_unix_ms;
    if (event == LIFECYCLE_RESUMED)
        return sandbox->started_unix_ms;
    return now_unix_ms;
}

void event_make(enum lifecycle_event event, const struct sandbox *sandbox, enum sandbox_end why,
                int64_t now_unix_ms, struct journal_event *out)
{
    char id[UUID_SIZE], stamp[TIME_RFC3339_SIZE];
    _cleanup_json_ json_t *json = json_object();

    *out = (struct journal_event){.type = event, .at_unix_ms = now_unix_ms};
    out->begins = true; /* whatever came first: one from before this journal, too */
    out->ends = event == LIFECYCLE_KILLED;
    memcpy(out->namespace_, sandbox->namespace_, sizeof(out->namespace_));
    memcpy(out->sandbox_id, sandbox->id, sizeof(out->sandbox_id));
    make_uuid(types[event].label, sandbox, when_of(event, sandbox, now_unix_ms), out->id);
    json_put_str(json, "id", out->id);
    json_put_str(json, "version", EVENT_VERSION);
    json_put_str(json, "type", types[event].name);
    time_rfc3339_ms(now_unix_ms, stamp);
    json_put_str(json, "timestamp", stamp);
    json_put(json, "event_data", data_of(event, sandbox, why, now_unix_ms));
    json_put_str(json, "sandbox_id", sandbox->id);
    make_uuid("run", sandbox, sandbox->started_unix_ms, id);
    json_put_str(json, "sandbox_execution_id", id);
    json_put_str(json, "sandbox_template_id", sandbox->template_id);
    build_id(sandbox, id);
    json_put_str(json, "sandbox_build_id", id);
    team_id(sandbox->namespace_, id);
    json_put_str(json, "sandbox_team_id", id);
    json_put_str(json, "event_category", "lifecycle");
    json_put_str(json, "event_label", types[event].label);
    out->data = json_text(json);
}

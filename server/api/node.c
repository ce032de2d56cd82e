#include "server/api/node.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "server/api/host_stats.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define META_STATUS "node_status" /* "draining 1700000000000" */
#define META_CLUSTER "cluster_id"
#define STATUS_TEXT_SIZE 64
#define ID_SIZE 65

enum status { READY, DRAINING, STANDBY, CONNECTING, UNHEALTHY };

static const char *const status_names[] = {
    [READY] = "ready",           [DRAINING] = "draining",   [STANDBY] = "standby",
    [CONNECTING] = "connecting", [UNHEALTHY] = "unhealthy",
};

struct node {
    struct store *store;
    struct lifecycle *lifecycle;
    const char *path;
    char id[ID_SIZE];
    char instance[UUID_SIZE]; /* of this start */
    char *cluster;            /* of this state folder */
    json_t *machine;          /* not changed */
    pthread_mutex_t lock;     /* guards what follows; held while the status is stored */
    enum status status;
    int64_t changed_unix_ms;
    struct host_cpu cpu; /* at the last question */
};

static bool status_parse(const char *name, size_t len, enum status *out)
{
    for (size_t i = 0; i < array_size(status_names); i++) {
        if (!mem_is(name, len, status_names[i]))
            continue;
        *out = (enum status)i;
        return true;
    }
    return false;
}

bool node_status_known(const char *status)
{
    enum status ignored;

    return status_parse(status, strlen(status), &ignored);
}

/* The host's name, as far as it is one. */
static void find_id(struct node *node)
{
    struct utsname name;
    size_t len = 0;

    if (uname(&name) == 0) {
        for (const char *c = name.nodename; *c != '\0' && len < sizeof(node->id) - 1; c++) {
            bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                         (*c >= '0' && *c <= '9') || *c == '-' || *c == '.' || *c == '_';
            node->id[len++] = plain ? *c : '-';
        }
    }
    if (len == 0)
        memcpy(node->id, "local", sizeof("local"));
}

static int load_cluster(struct node *node, struct err *err)
{
    char fresh[UUID_SIZE];

    if (store_meta_get(node->store, META_CLUSTER, &node->cluster, err) < 0)
        return -1;
    if (node->cluster != NULL)
        return 0;
    hash_random_uuid(fresh);
    node->cluster = mem_strdup(fresh);
    return store_meta_set(node->store, META_CLUSTER, fresh, err);
}

static int load_status(struct node *node, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    struct err ignored = {0};
    size_t len;

    node->changed_unix_ms = time_unix_ms();
    if (store_meta_get(node->store, META_STATUS, &text, err) < 0)
        return -1;
    len = text != NULL ? strcspn(text, " ") : 0;
    if (len == 0 || text[len] == '\0' || !status_parse(text, len, &node->status))
        return 0; /* never set: ready since this start */
    str_to_i64(text + len + 1, strlen(text + len + 1), 0, INT64_MAX, "time",
               &node->changed_unix_ms, &ignored);
    lifecycle_accept(node->lifecycle, node->status == READY);
    return 0;
}

int node_new(struct store *store, struct lifecycle *lifecycle, const char *path, struct node **out,
             struct err *err)
{
    struct node *node = mem_zalloc(sizeof(*node));

    node->store = store;
    node->lifecycle = lifecycle;
    node->path = path;
    pthread_mutex_init(&node->lock, NULL);
    hash_random_uuid(node->instance);
    find_id(node);
    node->machine = host_machine();
    host_cpu_read(&node->cpu);
    if (load_cluster(node, err) < 0 || load_status(node, err) < 0) {
        node_free(node);
        return -1;
    }
    *out = node;
    return 0;
}

void node_free(struct node *node)
{
    if (node == NULL)
        return;
    json_decref(node->machine);
    pthread_mutex_destroy(&node->lock);
    free(node->cluster);
    free(node);
}

const char *node_id(const struct node *node)
{
    return node->id;
}

const char *node_cluster(const struct node *node)
{
    return node->cluster;
}

int node_set_status(struct node *node, const char *status, struct err *err)
{
    char text[STATUS_TEXT_SIZE];
    int64_t now = time_unix_ms();
    enum status wanted;
    int rc = 0;

    if (!status_parse(status, strlen(status), &wanted))
        return err_set(err, ERR_INVALID, "field 'status' is no status of a node");
    if (wanted > STANDBY)
        return err_set(err, ERR_CONFLICT,
                       "a node is found to be %s, it cannot be set so: use ready, draining or "
                       "standby",
                       status);
    pthread_mutex_lock(&node->lock);
    if (wanted != node->status) {
        snprintf(text, sizeof(text), "%s %lld", status_names[wanted], (long long)now);
        rc = store_meta_set(node->store, META_STATUS, text, err);
    }
    if (rc == 0 && wanted != node->status) {
        node->status = wanted;
        node->changed_unix_ms = now;
        lifecycle_accept(node->lifecycle, wanted == READY);
    }
    pthread_mutex_unlock(&node->lock);
    return rc;
}

/* What the running sandboxes were promised. */
static void put_allocated(struct node *node, json_t *metrics, size_t *count)
{
    struct sandbox *list = NULL;
    int64_t cpus = 0, memory_bytes = 0;
    struct err ignored = {0};
    size_t all = 0;

    *count = 0;
    if (lifecycle_list(node->lifecycle, NULL, &list, &all, &ignored) == 0) {
        for (size_t i = 0; i < all; i++) {
            if (!str_eq(sandbox_state_public(list[i].state), "running"))
                continue;
            cpus += list[i].cpu_count;
            memory_bytes += (int64_t)list[i].memory_mb << 20;
            (*count)++;
        }
        sandbox_list_free(list, all);
    }
    json_put_i64(metrics, "allocatedCPU", cpus);
    json_put_i64(metrics, "allocatedMemoryBytes", memory_bytes);
}

static json_t *metrics_json(struct node *node, size_t *running)
{
    json_t *metrics = json_object();
    struct host_cpu now;

    put_allocated(node, metrics, running);
    host_cpu_read(&now);
    pthread_mutex_lock(&node->lock);
    json_put_i64(metrics, "cpuPercent", host_cpu_percent(&node->cpu, &now));
    node->cpu = now;
    pthread_mutex_unlock(&node->lock);
    json_put_i64(metrics, "cpuCount", host_cpu_count());
    host_put_memory(metrics);
    host_put_disks(metrics, node->path);
    return metrics;
}

/* Of what `git describe` said when this was built: "v1.2-3-gabc", "abc-dirty". */
static void put_commit(json_t *json)
{
    static const char version[] = SANDPIT_VERSION;
    const char *commit = strstr(version, "-g");
    char text[sizeof(version)];

    commit = commit != NULL ? commit + 2 : version;
    snprintf(text, sizeof(text), "%.*s", (int)strcspn(commit, "-"), commit);
    json_put_str(json, "commit", text);
}

json_t *node_json(struct node *node)
{
    struct lifecycle_stats stats;
    char stamp[TIME_RFC3339_SIZE];
    json_t *json = json_object();
    struct err err = {0};
    size_t running;
    bool works = store_check(node->store, &err) == 0;

    lifecycle_stats_get(node->lifecycle, &stats);
    json_put_str(json, "id", node->id);
    json_put_str(json, "serviceInstanceID", node->instance);
    json_put_str(json, "clusterID", node->cluster);
    json_put(json, "metrics", metrics_json(node, &running));
    pthread_mutex_lock(&node->lock);
    json_put_str(json, "status", status_names[works ? node->status : UNHEALTHY]);
    time_rfc3339_ms(node->changed_unix_ms, stamp);
    pthread_mutex_unlock(&node->lock);
    json_put_str(json, "statusChangedAt", stamp);
    json_put_i64(json, "sandboxCount", (int64_t)running);
    json_put_i64(json, "createSuccesses", (int64_t)stats.created);
    json_put_i64(json, "createFails", (int64_t)stats.create_failed);
    json_put_i64(json, "sandboxStartingCount", (int64_t)stats.starting);
    json_put_str(json, "version", SANDPIT_VERSION);
    put_commit(json);
    json_put(json, "machineInfo", json_incref(node->machine));
    return json;
}

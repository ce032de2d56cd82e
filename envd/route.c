#include "envd/route.h"

#include <stdio.h>
#include <string.h>

#include "envd/upgrade.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define INIT_MAX_BYTES CONFIG_JSON_MAX_BYTES
#define RPC(path, method)                                                                          \
    {                                                                                              \
        "POST", path, ROUTE_GUARDED, 0, NULL, NULL, method                                         \
    }

/*
 * Every route there is. A row without a handler is part of envd's contract and not built.
 * openapi/envd.yaml describes the same operations; tests/unit/envd/openapi_test.c compares.
 */
static const struct route routes[] = {
    RPC("/process.Process/List", &rpc_process_list),
    RPC("/process.Process/Start", &rpc_process_start),
    RPC("/process.Process/Connect", &rpc_process_connect),
    RPC("/process.Process/Update", &rpc_process_update),
    RPC("/process.Process/StreamInput", &rpc_process_stream_input),
    RPC("/process.Process/SendInput", &rpc_process_send_input),
    RPC("/process.Process/SendSignal", &rpc_process_send_signal),
    RPC("/process.Process/CloseStdin", &rpc_process_close_stdin),

    RPC("/filesystem.Filesystem/Stat", &rpc_filesystem_stat),
    RPC("/filesystem.Filesystem/MakeDir", &rpc_filesystem_make_dir),
    RPC("/filesystem.Filesystem/Move", &rpc_filesystem_move),
    RPC("/filesystem.Filesystem/ListDir", &rpc_filesystem_list_dir),
    RPC("/filesystem.Filesystem/Remove", &rpc_filesystem_remove),
    RPC("/filesystem.Filesystem/WatchDir", &rpc_filesystem_watch_dir),
    RPC("/filesystem.Filesystem/CreateWatcher", &rpc_filesystem_create_watcher),
    RPC("/filesystem.Filesystem/GetWatcherEvents", &rpc_filesystem_get_watcher_events),
    RPC("/filesystem.Filesystem/RemoveWatcher", &rpc_filesystem_remove_watcher),

    {"GET", "/health", ROUTE_OPEN, 0, handle_health, NULL, NULL},
    {"GET", "/envs", ROUTE_TOKEN_ONLY, 0, handle_envs, NULL, NULL},
    {"GET", "/env", ROUTE_TOKEN_ONLY, 0, handle_envs, NULL, NULL},
    {"GET", "/metrics", ROUTE_TOKEN_ONLY, 0, handle_metrics, NULL, NULL},
    {"GET", "/stats", ROUTE_TOKEN_ONLY, 0, handle_stats, NULL, NULL},
    {"POST", "/init", ROUTE_OPEN, INIT_MAX_BYTES, handle_init, NULL, NULL},
    {"GET", "/files", ROUTE_FILES, 0, NULL, handle_files_get, NULL},
    {"POST", "/files", ROUTE_FILES, 0, NULL, handle_files_post, NULL},
    {"POST", "/files/compose", ROUTE_GUARDED, 0, NULL, handle_files_compose, NULL},

    {"POST", "/freeze", ROUTE_PLATFORM, 0, handle_freeze, NULL, NULL},
    {"POST", "/unfreeze", ROUTE_PLATFORM, 0, handle_unfreeze, NULL, NULL},
    {"POST", "/collapse", ROUTE_PLATFORM, 0, NULL, handle_collapse, NULL},
    {"POST", "/fsfreeze", ROUTE_PLATFORM, 0, NULL, handle_fsfreeze, NULL},
    {"POST", "/fsthaw", ROUTE_PLATFORM, 0, NULL, handle_fsthaw, NULL},
    {"POST", "/upgrade", ROUTE_PLATFORM, UPGRADE_MAX_BYTES, handle_upgrade, NULL, NULL},
};

/* A Connect method without side effects answers GET too. */
static bool is_method(const struct route *route, const char *method)
{
    return str_eq(route->method, method) ||
           (route->rpc != NULL && route->rpc->idempotent && str_eq(method, "GET"));
}

const struct route *route_at(size_t at)
{
    return at < array_size(routes) ? &routes[at] : NULL;
}

const struct route *route_find(const char *method, const char *path, int *status, char *allow)
{
    size_t len = 0;

    allow[0] = '\0';
    for (size_t i = 0; i < array_size(routes); i++) {
        if (!str_eq(routes[i].path, path))
            continue;
        if (is_method(&routes[i], method))
            return &routes[i];
        len += (size_t)snprintf(allow + len, ROUTE_ALLOW_SIZE - len, "%s%s%s", len > 0 ? ", " : "",
                                is_method(&routes[i], "GET") && routes[i].rpc ? "GET, " : "",
                                routes[i].method);
    }
    *status = len > 0 ? 405 : 404;
    return NULL;
}

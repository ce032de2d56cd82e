/* GET /stats: what envd itself holds. Ours, docs/envd.md. */
#include <fcntl.h>
#include <unistd.h>

#include "envd/exchange.h"
#include "envd/process.h"
#include "envd/route.h"
#include "envd/usage.h"
#include "envd/watch.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/time.h"
#include "server/base/version.h"

#define STATUS_MAX_BYTES 4096

static int64_t began_mono_ms;

void stats_begin(void)
{
    began_mono_ms = time_mono_ms();
}

/* Resident memory that no file is behind, of /proc/self/status; 0 when that cannot be read. */
static int64_t private_bytes(void)
{
    _cleanup_close_ int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    char text[STATUS_MAX_BYTES];
    int64_t kib = 0;
    ssize_t len;

    if (fd < 0 || (len = read(fd, text, sizeof(text) - 1)) <= 0)
        return 0;
    text[len] = '\0';
    return usage_field(text, "RssAnon", &kib) ? kib << 10 : 0;
}

int handle_stats(struct exchange *ex, struct err *err)
{
    json_t *json = json_object();
    struct process_count processes = process_count();

    (void)err;
    json_put_str(json, "version", ENVD_VERSION);
    json_put_i64(json, "uptimeMs", time_mono_ms() - began_mono_ms);
    json_put_i64(json, "connections", (int64_t)ex->server->connections);
    json_put_i64(json, "requestBodyBytes", (int64_t)ex->server->bodies);
    json_put_i64(json, "processesRunning", (int64_t)processes.running);
    json_put_i64(json, "processesKept", (int64_t)processes.kept);
    json_put_i64(json, "replayBytes", (int64_t)processes.replay_bytes);
    json_put_i64(json, "watches", (int64_t)watch_count());
    json_put_i64(json, "transfers", (int64_t)ex->server->transfers);
    json_put_i64(json, "transfersWaiting", (int64_t)ex->server->waiting_count);
    json_put_i64(json, "privateBytes", private_bytes());
    http_set_header(ex, "Cache-Control", "no-store");
    http_reply_json(ex, 200, json);
    return 0;
}

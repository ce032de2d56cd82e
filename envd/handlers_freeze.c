/* POST /freeze, /unfreeze, /fsfreeze, /fsthaw. Source: envd-api section 7.4. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "envd/exchange.h"
#include "envd/groups.h"
#include "envd/route.h"
#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define WAIT_MAX_MS 60000
#define TICK_MS 1

/* One that waits until all have stopped. */
struct freeze {
    struct exchange *ex;
    struct loop_timer timer;
    int64_t began_mono_ms;
    int64_t sweep_ms;
    int64_t wait_max_ms;
    bool before; /* it was frozen already */
};

static struct freeze *current; /* NULL: none waits */

/* There is one group, of all processes but envd: what E counts over a tree is 0 or 1 here. */
static void answer(struct freeze *freeze, bool frozen)
{
    json_t *json = json_object();

    json_put_str(json, "mode", "hierarchy");
    json_put_i64(json, "visited", 1);
    json_put_i64(json, "allowlisted", 0);
    json_put_bool(json, "truncated", false);
    json_put_i64(json, "preFrozen", freeze->before);
    json_put_i64(json, "requested", !freeze->before);
    json_put_i64(json, "frozen", frozen);
    json_put_i64(json, "notFrozen", !frozen);
    json_put_i64(json, "failed", 0);
    json_put_i64(json, "unobservable", 0);
    json_put_i64(json, "sweepMs", freeze->sweep_ms);
    json_put_i64(json, "waitMs", time_mono_ms() - freeze->began_mono_ms);
    http_reply_json(freeze->ex, 200, json);
    exchange_unref(freeze->ex);
    free(freeze);
    current = NULL;
}

static void on_tick(struct loop_timer *timer)
{
    struct freeze *freeze = container_of(timer, struct freeze, timer);
    enum groups_state state = groups_frozen();
    struct err ignored = {0};

    if (state == GROUPS_FROZEN ||
        time_mono_ms() - freeze->began_mono_ms >= freeze->wait_max_ms) {
        answer(freeze, state == GROUPS_FROZEN);
        return;
    }
    if (groups_freeze_asked()) /* version 1: writing again helps on what was in a system call */
        groups_freeze(true, &ignored);
    loop_timer_set(freeze->ex->server->loop, timer, TICK_MS, on_tick);
}

/* "maxWaitMs" of the query, or -1 when there is none. */
static int max_wait(const struct exchange *ex, int64_t *out, struct err *err)
{
    struct buf text;
    uint64_t value = 0;
    int rc;

    buf_init(&text, 32);
    *out = -1;
    rc = http_query_param(ex, "maxWaitMs", &text, err);
    if (rc > 0) {
        rc = str_to_u64(buf_str(&text), text.len, 0, WAIT_MAX_MS, "maxWaitMs", &value, err);
        *out = (int64_t)value;
    }
    buf_clear(&text);
    return rc < 0 ? -1 : 0;
}

int handle_freeze(struct exchange *ex, struct err *err)
{
    int64_t began_mono_ms = time_mono_ms(), wait_max_ms;
    bool before = groups_frozen() == GROUPS_FROZEN;

    if (max_wait(ex, &wait_max_ms, err) < 0)
        return -1;
    if (current != NULL)
        return err_set(err, ERR_BUSY, "another freeze is under way");
    if (groups_freeze(true, err) < 0)
        return -1;
    http_set_header(ex, "Cache-Control", "no-store");
    if (wait_max_ms < 0) {
        http_reply_empty(ex, 204);
        return 0;
    }
    current = mem_zalloc(sizeof(*current));
    *current = (struct freeze){.ex = exchange_ref(ex),
                               .began_mono_ms = began_mono_ms,
                               .sweep_ms = time_mono_ms() - began_mono_ms,
                               .wait_max_ms = wait_max_ms,
                               .before = before};
    on_tick(&current->timer);
    return 0;
}

int handle_unfreeze(struct exchange *ex, struct err *err)
{
    if (groups_freeze(false, err) < 0)
        return -1;
    http_set_header(ex, "Cache-Control", "no-store");
    http_reply_empty(ex, 204);
    return 0;
}

/* Worker thread. Freezing twice and thawing what is not frozen are fine. */
static int freeze_root(struct exchange *ex, unsigned long request, int fine, struct err *err)
{
    _cleanup_close_ int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "cannot open /");
    if (ioctl(fd, request, 0) < 0 && errno != fine) {
        if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOTTY)
            return err_set(err, ERR_UNSUPPORTED,
                           "cannot freeze or thaw the file system of /: %s",
                           errno == EPERM ? "envd lacks CAP_SYS_ADMIN in this sandbox"
                                          : "it cannot be frozen");
        return err_sys(err, errno, "cannot freeze or thaw the file system of /");
    }
    http_set_header(ex, "Cache-Control", "no-store");
    return http_send(ex, 204, NULL, "", 0, err);
}

int handle_fsfreeze(struct exchange *ex, struct err *err)
{
    return freeze_root(ex, FIFREEZE, EBUSY, err);
}

int handle_fsthaw(struct exchange *ex, struct err *err)
{
    return freeze_root(ex, FITHAW, EINVAL, err);
}

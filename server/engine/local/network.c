/* The launcher's side of network rules: which are in force, and telling a new gateway. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/gateway_client.h"
#include "server/engine/local/launcher.h"
#include "server/engine/local/netrules.h"

#define RULES_SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

int network_begin(struct launcher *launcher, struct box *box, int *rules, struct err *err)
{
    int seals = *rules < 0 ? RULES_SEALS : fcntl(*rules, F_GET_SEALS);

    (void)launcher;
    if (seals < 0 || (seals & RULES_SEALS) != RULES_SEALS)
        return err_set(err, ERR_INVALID, "network rules may not change under way");
    box->rules_next = steal_fd(rules);
    box->rules_version = gateway_version();
    return 0;
}

int network_run(const struct launcher *launcher, const struct job *job, struct record *record,
                struct err *err)
{
    const struct box *box = job->box;
    const struct netrules_change change = {
        .id = box->id,
        .netns = box->init.fd,
        .on = job->on,
        .rules = box->rules_next,
        .version = box->rules_version,
        .anew = box->rules < 0 && !launcher->router_adopted,
    };

    *record = box->record;
    return netrules_apply(&launcher->ctx, &change, record, err);
}

void network_end(struct launcher *launcher, struct box *box, const struct record *record, bool done)
{
    int old = done ? box->rules : box->rules_next;

    if (record != NULL) {
        box->record.internet = record->internet;
        memcpy(box->record.rules, record->rules, sizeof(box->record.rules));
    } else {
        memcpy(box->record.rules, RULES_UNKNOWN, sizeof(RULES_UNKNOWN));
    }
    if (done)
        box->rules = box->rules_next;
    box->rules_next = -1;
    fd_close(&old);
    if (launcher->gateway.fd < 0)
        network_watch(launcher);
}

int network_send_all(const struct launcher *launcher, struct err *err)
{
    int rc = 0;

    for (const struct box *box = launcher->boxes; box != NULL; box = box->next) {
        if (box->state != BOX_RUNNING || box->rules < 0)
            continue;
        if (netrules_tell(&launcher->ctx, box->id, &box->record, box->rules, box->rules_version,
                          err) < 0)
            rc = -1;
    }
    return rc;
}

static void on_gateway_end(struct launcher *launcher, struct source *source)
{
    struct err err = {0};
    struct job *job;

    launcher_unwatch(launcher, source);
    if (launcher->stopping)
        return;
    log_warn("the egress gateway ended; telling it all rules again");
    network_watch(launcher);
    job = mem_zalloc(sizeof(*job));
    job->kind = JOB_GATEWAY;
    if (job_start(launcher, job, &err) < 0)
        log_err(LOG_WARN, "the egress gateway does not know all rules", NULL, &err);
}

void network_watch(struct launcher *launcher)
{
    struct err err = {0};
    int sock;

    if (launcher->config.gateway == NULL || launcher->ctx.router_netns < 0)
        return;
    /* Its listening socket lives as long as the router: this does not wait for the process. */
    sock = gateway_connect(&launcher->ctx, &err);
    if (sock < 0 || launcher_watch(launcher, &launcher->gateway, sock, on_gateway_end, &err) < 0)
        log_err(LOG_WARN, "cannot watch the egress gateway", NULL, &err);
}

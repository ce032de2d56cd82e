#include "server/engine/local/netrules.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/engine/local/egress.h"
#include "server/engine/local/gateway_client.h"

#define TEXT_MAX_BYTES (256 * 1024)
#define DNS_FALLBACK 0x08080808u /* what the contract opens when no server is named */

#define QUAD(a) (a) >> 24, (a) >> 16 & 255, (a) >> 8 & 255, (a)&255

/* A named set, as anonymous ones may not overlap; the entries that SELECT takes. */
static bool add_set(struct buf *out, const char *name, const struct net_cidr *list, size_t count,
                    bool (*select)(const struct net_cidr *entry))
{
    size_t taken = 0;

    for (size_t i = 0; i < count; i++) {
        if (select != NULL && !select(&list[i]))
            continue;
        if (taken == 0)
            buf_printf(out, "  set %s { type ipv4_addr; flags interval; auto-merge; elements = {",
                       name);
        buf_printf(out, "%s %u.%u.%u.%u/%u", taken > 0 ? "," : "", QUAD(list[i].address),
                   list[i].prefix);
        taken++;
    }
    if (taken > 0)
        buf_add_str(out, " } }\n");
    return taken > 0;
}

static bool wide(const struct net_cidr *entry)
{
    return entry->prefix > 0 && !net_cidr_private(entry);
}

static bool not_all(const struct net_cidr *entry)
{
    return entry->prefix > 0;
}

static bool has_all(const struct net_cidr *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].prefix == 0)
            return true;
    return false;
}

static void add_port53(struct buf *out, uint32_t server)
{
    buf_printf(out, "    ip daddr %u.%u.%u.%u meta l4proto { tcp, udp } th dport 53 accept\n",
               QUAD(server));
}

/* Which servers answer: by default the resolver; with host names in allowOut the given ones. */
static void add_dns(struct buf *out, const struct net_policy *policy)
{
    if (policy->host_count == 0) {
        if (!net_policy_denies_all(policy))
            add_port53(out, NET_RESOLVER);
        return;
    }
    if (!policy->dns_set) {
        add_port53(out, NET_RESOLVER);
        add_port53(out, DNS_FALLBACK);
    }
    for (size_t i = 0; i < policy->dns_count; i++)
        add_port53(out, policy->dns[i]);
}

/* /etc/resolv.conf stays as it is: the first given server answers in the resolver's place. */
static void add_dns_redirect(struct buf *out, const struct net_policy *policy)
{
    if (policy->host_count == 0 || policy->dns_count == 0)
        return;
    buf_printf(out,
               "  chain dns {\n"
               "    type nat hook output priority -100;\n"
               "    ip daddr %u.%u.%u.%u udp dport 53 dnat ip to %u.%u.%u.%u\n"
               "    ip daddr %u.%u.%u.%u tcp dport 53 dnat ip to %u.%u.%u.%u\n"
               "  }\n",
               QUAD(NET_RESOLVER), QUAD(policy->dns[0]), QUAD(NET_RESOLVER), QUAD(policy->dns[0]));
}

static const char drop_table[] = "table inet sandpit\n"
                                 "delete table inet sandpit\n";

void netrules_text(struct buf *out, const struct net_policy *policy)
{
    bool named, allow, deny;

    buf_add_str(out, drop_table); /* "table" first: the delete succeeds when there was none */
    buf_add_str(out, "table inet sandpit {\n");
    named = add_set(out, "named", policy->allow, policy->allow_count, net_cidr_private);
    allow = add_set(out, "allow", policy->allow, policy->allow_count, wide);
    deny = add_set(out, "deny", policy->deny, policy->deny_count, not_all);
    add_set(out, "private", net_private, net_private_count, NULL);
    add_dns_redirect(out, policy);
    buf_add_str(out, "  chain refuse {\n"
                     "    meta l4proto tcp reject with tcp reset\n"
                     "    reject with icmpx admin-prohibited\n"
                     "  }\n"
                     "  chain output {\n"
                     "    type filter hook output priority 0; policy drop;\n"
                     "    oifname \"lo\" accept\n"
                     "    meta nfproto != ipv4 drop\n");
    add_dns(out, policy);
    if (policy->gateway)
        buf_add_str(out, "    meta l4proto tcp accept\n"); /* the gateway judges */
    if (named)
        buf_add_str(out, "    ip daddr @named accept\n");
    buf_add_str(out, "    ip daddr @private goto refuse\n");
    if (allow)
        buf_add_str(out, "    ip daddr @allow accept\n");
    if (has_all(policy->allow, policy->allow_count))
        buf_add_str(out, "    accept\n");
    if (deny)
        buf_add_str(out, "    ip daddr @deny goto refuse\n");
    buf_add_str(out, net_policy_denies_all(policy) ? "    goto refuse\n" : "    accept\n");
    buf_add_str(out, "  }\n"
                     "}\n");
}

/* nft with TEXT inside NETNS. */
static int load_inside(int netns, const char *text, size_t len, struct err *err)
{
    _cleanup_free_ char *nft = router_find_program("nft");

    if (nft == NULL)
        return err_set(err, ERR_UNSUPPORTED, "nft is missing: apt-get install nftables");
    if (setns(netns, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "cannot enter the sandbox's network namespace");
    return router_run_program((char *[]){nft, (char[]){"-f"}, (char[]){"-"}, NULL}, text, len, err);
}

/* The policy's text, to free(); *OUT NULL for an empty one. */
static int read_rules(int fd, char **out, size_t *out_len, struct err *err)
{
    struct stat st;
    char *text;

    *out = NULL;
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot read the network rules");
    if (st.st_size == 0)
        return 0;
    if (st.st_size > GATEWAY_POLICY_MAX_BYTES)
        return err_set(err, ERR_INVALID, "the network rules are too long");
    text = mem_calloc((size_t)st.st_size + 1, 1);
    if (pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
        free(text);
        return err_set(err, ERR_INVALID, "the network rules changed while they were read");
    }
    *out = text;
    *out_len = (size_t)st.st_size;
    return 0;
}

static void digest_of(const char *text, size_t len, char out[RULES_DIGEST_SIZE])
{
    char hex[SHA256_HEX_SIZE];

    hash_sha256_hex(text, len, hex);
    str_copy(out, RULES_DIGEST_SIZE, hex, RULES_DIGEST_SIZE - 1);
}

static bool dns_is_private(const struct net_policy *policy)
{
    for (size_t i = 0; i < policy->dns_count; i++) {
        const struct net_cidr server = {policy->dns[i], 32};
        if (net_cidr_private(&server))
            return true;
    }
    return false;
}

/* Take away all rules of one that had some. */
static int clear(const struct context *ctx, const struct netrules_change *change,
                 const struct record *record, struct err *err)
{
    if (record->rules[0] == '\0')
        return 0;
    if (load_inside(change->netns, drop_table, strlen(drop_table), err) < 0)
        return -1;
    netrules_forget(ctx, change->id, record);
    return 0;
}

/*
 * The order keeps everything closed that is open neither before nor after: what the gateway is to
 * judge is redirected before the rules inside let it out, and they are in place before it ends.
 */
static int load(const struct context *ctx, const struct netrules_change *change,
                const struct record *record, bool had, const struct net_policy *policy,
                struct err *err)
{
    uint32_t address = egress_address(record->slot);
    bool opened = net_policy_opens_private(policy) || dns_is_private(policy);
    _cleanup_buf_ struct buf text;

    buf_init(&text, TEXT_MAX_BYTES);
    netrules_text(&text, policy);
    if (text.overflow)
        return err_set(err, ERR_INVALID, "the network rules are too long");
    if (policy->gateway && gateway_call(ctx, GATEWAY_SET, address, change->version, change->id,
                                        change->rules, err) < 0)
        return -1;
    if (egress_link(ctx, record->slot, change->netns, err) < 0)
        return -1;
    if (policy->gateway && egress_mark(ctx, record->slot, true, false, err) < 0)
        return -1;
    if (load_inside(change->netns, text.data, text.len, err) < 0)
        return -1;
    if ((had || opened) && egress_mark(ctx, record->slot, policy->gateway, opened, err) < 0)
        return -1;
    if (had && !policy->gateway && ctx->config->gateway != NULL) {
        struct err ignored = {0};
        gateway_call(ctx, GATEWAY_CLEAR, address, change->version, change->id, -1, &ignored);
    }
    return 0;
}

/* In force already: a restarted server says it again. The gateway may have forgotten. */
static int repeat(const struct context *ctx, const struct netrules_change *change,
                  const struct record *record, const struct net_policy *policy, struct err *err)
{
    if (!policy->gateway)
        return 0;
    return gateway_call(ctx, GATEWAY_SET, egress_address(record->slot), change->version, change->id,
                        change->rules, err);
}

static int change_rules(const struct context *ctx, const struct netrules_change *change,
                        struct record *record, const char *text, size_t len, struct err *err)
{
    _cleanup_net_policy_ struct net_policy policy = {0};
    bool had = record->rules[0] != '\0';
    char digest[RULES_DIGEST_SIZE];

    if (net_policy_parse(text, len, &policy, err) < 0)
        return -1;
    if (policy.gateway && ctx->config->gateway == NULL)
        return err_set(err, ERR_UNSUPPORTED,
                       "this server has no egress gateway: host names in "
                       "network.allowOut, network.rules and "
                       "network.egressProxy are not supported");
    if (ctx->router_netns < 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "sandboxes have no internet access on this machine: see sandpit doctor");
    digest_of(text, len, digest);
    if (!change->anew && record->internet && str_eq(record->rules, digest))
        return repeat(ctx, change, record, &policy, err);
    /* Written first: whatever happens from here on, it is known that there is something. */
    memcpy(record->rules, RULES_UNKNOWN, sizeof(RULES_UNKNOWN));
    if (record_write(ctx, change->id, record, err) < 0 ||
        load(ctx, change, record, had, &policy, err) < 0)
        return -1;
    memcpy(record->rules, digest, sizeof(record->rules));
    return egress_switch(ctx, record->slot, change->netns, true, err);
}

int netrules_apply(const struct context *ctx, const struct netrules_change *change,
                   struct record *record, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;

    if (read_rules(change->rules, &text, &len, err) < 0)
        return -1;
    if (change->on && text != NULL) {
        if (change_rules(ctx, change, record, text, len, err) < 0)
            return -1;
    } else {
        if (!change->on && egress_switch(ctx, record->slot, change->netns, false, err) < 0)
            return -1;
        if (clear(ctx, change, record, err) < 0)
            return -1;
        record->rules[0] = '\0';
        if (change->on && egress_switch(ctx, record->slot, change->netns, true, err) < 0)
            return -1;
    }
    record->internet = change->on;
    return record_write(ctx, change->id, record, err);
}

int netrules_tell(const struct context *ctx, const char *id, const struct record *record, int rules,
                  uint64_t version, struct err *err)
{
    const struct netrules_change change = {.id = id, .rules = rules, .version = version};
    _cleanup_net_policy_ struct net_policy policy = {0};
    _cleanup_free_ char *text = NULL;
    size_t len = 0;

    if (read_rules(rules, &text, &len, err) < 0)
        return -1;
    if (text == NULL)
        return 0;
    if (net_policy_parse(text, len, &policy, err) < 0)
        return -1;
    return repeat(ctx, &change, record, &policy, err);
}

void netrules_forget(const struct context *ctx, const char *id, const struct record *record)
{
    struct err err = {0};

    if (record->rules[0] == '\0' || record->slot == SLOT_NONE || ctx->router_netns < 0)
        return;
    if (ctx->config->gateway != NULL &&
        gateway_call(ctx, GATEWAY_CLEAR, egress_address(record->slot), gateway_version(), id, -1,
                     &err) < 0)
        log_err(LOG_WARN, "the egress gateway keeps a policy", id, &err);
    /* Without a link there is nothing: the sets hold indexes of links, which never come again. */
    if (egress_mark(ctx, record->slot, false, false, &err) < 0 && err.code != ERR_NOT_FOUND)
        log_err(LOG_WARN, "the router keeps a mark", id, &err);
}

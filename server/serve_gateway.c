/* What the egress gateway is started with: its CA, whom it trusts, whom it asks for names. */
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/gateway/ca.h"
#include "server/model/network.h"
#include "server/serve.h"

/* "ADDR:PORT" with an IPv4 address, checked as an address to listen on before. */
static int parse_resolver(const char *text, struct gateway_config *out, struct err *err)
{
    size_t len = strcspn(text, ":");
    struct net_cidr cidr;
    bool ipv6 = false;
    uint64_t port = GATEWAY_RESOLVER_PORT;

    if (net_cidr_parse(text, len, &cidr, &ipv6) < 0 || ipv6 || cidr.prefix != 32)
        return err_set(err, ERR_INVALID, "--egress-resolver: '%.60s' is not an IPv4 address", text);
    if (text[len] == ':' && str_to_u64(text + len + 1, strlen(text + len + 1), 1, UINT16_MAX,
                                       "the port of --egress-resolver", &port, err) < 0)
        return -1;
    out->resolver = cidr.address;
    out->resolver_port = (uint16_t)port;
    return 0;
}

int serve_gateway_prepare(struct server *server, struct err *err)
{
    struct gateway_config *config = &server->gateway;
    const char *resolver = settings_text(&server->settings, SETTING_EGRESS_RESOLVER);

    server->gateway_ca_dir = settings_state_path(&server->settings, "gateway");
    server->gateway_root =
        mem_asprintf("%s/gateway", settings_text(&server->settings, SETTING_RUN_DIR));
    config->ca_dir = server->gateway_ca_dir;
    config->more_roots = settings_text(&server->settings, SETTING_EGRESS_CA_FILE);
    config->empty_dir = server->gateway_root;
    if (resolver != NULL && parse_resolver(resolver, config, err) < 0)
        return -1;
    if (gateway_ca_ensure(config->ca_dir, err) < 0)
        return -1;
    return gateway_ca_text(config->ca_dir, &server->gateway_ca, err);
}

void serve_gateway_free(struct server *server)
{
    free(server->gateway_ca_dir);
    free(server->gateway_root);
    free(server->gateway_ca);
}

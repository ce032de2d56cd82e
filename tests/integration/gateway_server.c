/*
 * The egress gateway alone, for gateway_test.py: in the caller's network namespace, as the engine
 * would start it.
 *
 * usage: gateway_server CONTROL_SOCKET CA_DIR MORE_ROOTS RESOLVER EMPTY_DIR UID
 * (RESOLVER: an address as a decimal number in host order)
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/gateway/ca.h"
#include "server/gateway/gateway.h"

static int listen_on(int sock, const void *address, socklen_t len)
{
    const int on = 1;

    setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (sock < 0 || bind(sock, address, len) < 0 || listen(sock, 1024) < 0) {
        perror("gateway_server");
        exit(1);
    }
    return sock;
}

int main(int argc, char **argv)
{
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons(GATEWAY_PORT)};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct gateway_config config = {0};
    struct gateway_start start;
    struct err err = {0};

    if (argc != 7 || hash_init() < 0 || strlen(argv[1]) >= sizeof(path.sun_path))
        return 2;
    log_set_level(LOG_DEBUG);
    config.ca_dir = argv[2];
    config.more_roots = argv[3];
    config.resolver = (uint32_t)strtoul(argv[4], NULL, 10);
    config.empty_dir = argv[5];
    if (gateway_ca_ensure(config.ca_dir, &err) < 0) {
        fprintf(stderr, "%s (%s)\n", err.msg, err.detail);
        return 1;
    }
    memcpy(path.sun_path, argv[1], strlen(argv[1]) + 1);
    unlink(argv[1]);
    start.control = listen_on(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
                              &path, sizeof(path));
    start.listener = listen_on(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
                               &port, sizeof(port));
    start.uid = start.gid = (uid_t)strtoul(argv[6], NULL, 10);
    gateway_main(&config, &start);
}

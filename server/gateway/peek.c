/* The first bytes of a flow: looked at, left where they are. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "server/gateway/flow.h"

#define PEEK_MAX_BYTES 65536

/* The host of VALUE, "name" or "name:port", in lower case; "" when that is no host name. */
static void host_name(const char *value, size_t len, char out[HELLO_NAME_SIZE])
{
    const char *colon = memchr(value, ':', len);
    size_t size = colon != NULL ? (size_t)(colon - value) : len;

    out[0] = '\0';
    if (size > 0 && value[size - 1] == '.')
        size--;
    if (size >= HELLO_NAME_SIZE || !net_host_valid(value, size, false))
        return;
    for (size_t i = 0; i < size; i++)
        out[i] = value[i] >= 'A' && value[i] <= 'Z' ? (char)(value[i] | 0x20) : value[i];
    out[size] = '\0';
}

/* LEN bytes may become a request: a method of capitals, a blank. */
static bool may_be_http(const char *data, size_t len)
{
    for (size_t i = 0; i < len && i < 20; i++) {
        if (data[i] == ' ')
            return i > 0;
        if (data[i] < 'A' || data[i] > 'Z')
            return false;
    }
    return len < 20;
}

/* True: known, one way or the other. */
static bool look_at_http(struct flow *flow, const char *data, size_t len)
{
    struct http_head head;
    struct err err;
    int rc;

    if (!may_be_http(data, len))
        return true;
    rc = http_head_scan(data, len, &head, &err);
    if (rc > 0)
        return len == PEEK_MAX_BYTES;
    if (rc < 0)
        return true;
    flow->first_http = true;
    if (head.host != NULL)
        host_name(head.host->value, head.host->value_len, flow->name);
    return true;
}

bool peek_name(struct flow *flow)
{
    static char data[PEEK_MAX_BYTES]; /* one thread, and forgotten on return */
    struct hello hello;
    ssize_t len;

    do
        len = recv(flow->client.io.fd, data, sizeof(data), MSG_PEEK);
    while (len < 0 && errno == EINTR);
    if (len < 0 && errno == EAGAIN)
        return false;
    if (len <= 0) { /* it has closed, or broke */
        flow_end(flow);
        return true;
    }
    switch (hello_parse((const uint8_t *)data, (size_t)len, &hello)) {
    case HELLO_MORE:
        flow->first_tls = true;
        return false;
    case HELLO_DONE:
        flow->first_tls = true;
        memcpy(flow->name, hello.name, sizeof(flow->name));
        return true;
    case HELLO_BAD:
        flow->first_tls = true;
        return true;
    case HELLO_NONE:
        break;
    }
    return look_at_http(flow, data, (size_t)len);
}

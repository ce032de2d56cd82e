/* What servers answer the gateway: a resolver, a SOCKS5 proxy; and a chunked body in pieces. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/gateway/chunks.h"
#include "server/gateway/dns.h"
#include "server/gateway/socks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void chunks_agree(const char *data, size_t size)
{
    struct chunks whole = {0}, bytes = {0};
    bool done = false, byte_done = false;
    size_t used = chunks_scan(&whole, data, size, &done), at = 0;

    while (at < size && !byte_done) {
        if (chunks_scan(&bytes, data + at, 1, &byte_done) == SIZE_MAX) {
            at = SIZE_MAX;
            break;
        }
        at++;
    }
    if (used != at || done != byte_done)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_answer answer;
    size_t need = socks_reply_size(data, size < SOCKS_REPLY_MAX ? size : SOCKS_REPLY_MAX);

    if (need > SOCKS_REPLY_MAX)
        abort();
    if (size >= 2)
        socks_reply_error(data);
    if (dns_answer_parse(data, size, 7, "a.example", &answer) == DNS_OK &&
        (answer.count == 0 || answer.count > DNS_ADDRESSES_MAX))
        abort();
    chunks_agree((const char *)data, size);
    return 0;
}

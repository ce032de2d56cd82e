#include "server/observe/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "server/base/mem.h"

static const struct {
    uint32_t address;
    int bits;
} private4[] = {
    {0x00000000, 8},  /* this network */
    {0x0a000000, 8},  /* private */
    {0x64400000, 10}, /* shared: carriers' */
    {0x7f000000, 8},  /* loopback */
    {0xa9fe0000, 16}, /* link-local: metadata services */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* protocol assignments */
    {0xc0000200, 24}, /* documentation */
    {0xc0586300, 24}, /* 6to4 relays */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 3},  /* multicast, reserved, broadcast */
};

static bool is_private4(uint32_t address)
{
    for (size_t i = 0; i < array_size(private4); i++) {
        if ((address ^ private4[i].address) >> (32 - private4[i].bits) == 0)
            return true;
    }
    return false;
}

static uint32_t number(const uint8_t bytes[4])
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool is_private6(const uint8_t a[16])
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b}, zero[12] = {0};

    if (memcmp(a, nat64, 12) == 0)
        return is_private4(number(a + 12));
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return is_private4(number(a + 2));
    if ((a[0] & 0xe0) != 0x20) /* only 2000::/3 is global; so no mapped ones, no ::1, no fc00:: */
        return memcmp(a, zero, 10) != 0 || a[10] != 0xff || a[11] != 0xff ||
               is_private4(number(a + 12));
    return a[0] == 0x20 && a[1] == 0x01 && ((a[2] == 0x0d && a[3] == 0xb8) || (a[2] & 0xfe) == 0);
}

bool address_is_private(const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof(v4));
        return is_private4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        memcpy(&v6, address, sizeof(v6));
        return is_private6(v6.sin6_addr.s6_addr);
    }
    return true;
}

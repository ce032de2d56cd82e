/*
 * server/gateway/dns.h - a question for the IPv4 addresses of a name, and the answer.
 *
 * Pure. Any thread. Source: RFC 1035 section 4, RFC 6891 (EDNS).
 */
#ifndef SANDPIT_GATEWAY_DNS_H
#define SANDPIT_GATEWAY_DNS_H

#include <stddef.h>
#include <stdint.h>

#define DNS_MESSAGE_MAX 1232 /* bytes, of questions and of answers over UDP */
#define DNS_ADDRESSES_MAX 16 /* kept of one answer */

enum dns_result {
    DNS_OK,
    DNS_NO_NAME, /* there is no such name, or it has no IPv4 address */
    DNS_FAILED,  /* the server could not tell */
    DNS_BAD,     /* malformed, or the answer to something else: to be ignored */
};

struct dns_answer {
    uint32_t addresses[DNS_ADDRESSES_MAX]; /* host order */
    size_t count;
    uint32_t ttl_s; /* the smallest on the way */
};

/* A question with ID for NAME into OUT (DNS_MESSAGE_MAX). Its length, 0 when NAME is no name. */
size_t dns_question(uint16_t id, const char *name, uint8_t *out);
/* DATA (LEN bytes, untrusted) as the answer to that. Aliases are followed within it. */
enum dns_result dns_answer_parse(const uint8_t *data, size_t len, uint16_t id, const char *name,
                                 struct dns_answer *out);

#endif

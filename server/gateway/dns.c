#include "server/gateway/dns.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define HEAD 12
#define NAME_SIZE 256
#define LABEL_MAX 63
#define POINTERS_MAX 16
#define ALIASES_MAX 16
#define TYPE_A 1
#define TYPE_CNAME 5
#define TYPE_OPT 41
#define CLASS_IN 1

static void put16(uint8_t *out, uint32_t value)
{
    out[0] = (uint8_t)(value >> 8);
    out[1] = (uint8_t)value;
}

static uint32_t get16(const uint8_t *data)
{
    return (uint32_t)data[0] << 8 | data[1];
}

/* NAME as labels. The length, 0 when it has none. */
static size_t put_name(const char *name, uint8_t *out)
{
    size_t used = 0;

    while (*name != '\0') {
        size_t len = strcspn(name, ".");
        if (len == 0 || len > LABEL_MAX || used + len + 2 > NAME_SIZE - 1)
            return 0;
        out[used++] = (uint8_t)len;
        memcpy(out + used, name, len);
        used += len;
        name += len;
        if (*name == '.')
            name++;
    }
    if (used == 0)
        return 0;
    out[used++] = 0;
    return used;
}

size_t dns_question(uint16_t id, const char *name, uint8_t *out)
{
    static const uint8_t edns[] = {
        0, 0, TYPE_OPT, DNS_MESSAGE_MAX >> 8, DNS_MESSAGE_MAX & 255, 0, 0, 0, 0, 0, 0};
    size_t len;

    memset(out, 0, HEAD);
    put16(out, id);
    out[2] = 1;  /* recursion desired */
    out[5] = 1;  /* one question */
    out[11] = 1; /* EDNS */
    len = put_name(name, out + HEAD);
    if (len == 0)
        return 0;
    put16(out + HEAD + len, TYPE_A);
    put16(out + HEAD + len + 2, CLASS_IN);
    memcpy(out + HEAD + len + 4, edns, sizeof(edns));
    return HEAD + len + 4 + sizeof(edns);
}

/* The name at *AT as text; *AT moves behind it. False: malformed. */
static bool read_name(const uint8_t *data, size_t len, size_t *at, char out[NAME_SIZE])
{
    size_t pos = *at, used = 0;
    int pointers = 0;

    for (;;) {
        size_t label;
        if (pos >= len)
            return false;
        label = data[pos++];
        if (label >= 0xc0) {
            if (pos >= len || ++pointers > POINTERS_MAX)
                return false;
            if (pointers == 1)
                *at = pos + 1;
            pos = (label & 0x3f) << 8 | data[pos];
            continue;
        }
        if (label == 0)
            break;
        if (label > LABEL_MAX || label > len - pos || used + label + 2 > NAME_SIZE)
            return false;
        if (used > 0)
            out[used++] = '.';
        if (memchr(data + pos, '\0', label) != NULL || memchr(data + pos, '.', label) != NULL)
            return false;
        memcpy(out + used, data + pos, label);
        used += label;
        pos += label;
    }
    out[used] = '\0';
    if (pointers == 0)
        *at = pos;
    return true;
}

struct record {
    char name[NAME_SIZE];
    uint32_t type, class, ttl_s;
    size_t data_at, data_len;
};

static bool read_record(const uint8_t *data, size_t len, size_t *at, struct record *out)
{
    if (!read_name(data, len, at, out->name) || len - *at < 10)
        return false;
    out->type = get16(data + *at);
    out->class = get16(data + *at + 2);
    out->ttl_s = get16(data + *at + 4) << 16 | get16(data + *at + 6);
    out->data_len = get16(data + *at + 8);
    out->data_at = *at + 10;
    if (out->data_len > len - out->data_at)
        return false;
    *at = out->data_at + out->data_len;
    return true;
}

/* Records of WANTED among the answers: its addresses go to *OUT, its alias to ALIAS. */
static bool scan(const uint8_t *data, size_t len, size_t at, const char *wanted,
                 struct dns_answer *out, char alias[NAME_SIZE])
{
    alias[0] = '\0';
    for (uint32_t left = get16(data + 6); left > 0; left--) {
        struct record record;
        if (!read_record(data, len, &at, &record))
            return false;
        if (record.class != CLASS_IN || strcasecmp(record.name, wanted) != 0)
            continue;
        if (record.type == TYPE_A && record.data_len == 4 && out->count < DNS_ADDRESSES_MAX) {
            out->addresses[out->count++] =
                get16(data + record.data_at) << 16 | get16(data + record.data_at + 2);
        } else if (record.type == TYPE_CNAME && alias[0] == '\0') {
            size_t from = record.data_at;
            if (!read_name(data, len, &from, alias))
                return false;
        } else {
            continue;
        }
        if (record.ttl_s < out->ttl_s)
            out->ttl_s = record.ttl_s;
    }
    return true;
}

enum dns_result dns_answer_parse(const uint8_t *data, size_t len, uint16_t id, const char *name,
                                 struct dns_answer *out)
{
    struct dns_answer answer = {.ttl_s = UINT32_MAX};
    char wanted[NAME_SIZE], alias[NAME_SIZE];
    size_t at = HEAD;

    /* an answer, to a plain query, with the one question that we asked */
    if (len < HEAD || get16(data) != id || (data[2] & 0xf8) != 0x80 || get16(data + 4) != 1 ||
        !read_name(data, len, &at, wanted) || strcasecmp(wanted, name) != 0 || len - at < 4 ||
        get16(data + at) != TYPE_A || get16(data + at + 2) != CLASS_IN)
        return DNS_BAD;
    at += 4;
    if ((data[3] & 15) == 3)
        return DNS_NO_NAME;
    if ((data[3] & 15) != 0)
        return DNS_FAILED;
    for (int i = 0; i < ALIASES_MAX; i++) {
        if (!scan(data, len, at, wanted, &answer, alias))
            return DNS_BAD;
        if (answer.count > 0) {
            *out = answer;
            return DNS_OK;
        }
        if (alias[0] == '\0')
            return DNS_NO_NAME;
        memcpy(wanted, alias, sizeof(wanted));
    }
    return DNS_NO_NAME;
}

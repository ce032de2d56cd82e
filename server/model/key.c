#include "server/model/key.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define NAME_MAX_CHARS 63

static const struct {
    const char *name;
    uint32_t bit;
} scope_names[] = {
    {"read", SCOPE_READ}, {"write", SCOPE_WRITE}, {"keys", SCOPE_KEYS}, {"admin", SCOPE_ADMIN}};

void key_text_new(char out[KEY_TEXT_SIZE])
{
    uint8_t bytes[KEY_HEX_CHARS / 2];

    hash_random(bytes, sizeof(bytes));
    memcpy(out, KEY_PREFIX, strlen(KEY_PREFIX));
    hex_encode(bytes, sizeof(bytes), out + strlen(KEY_PREFIX));
    secret_wipe(bytes, sizeof(bytes));
}

int key_text_hash(const char *s, size_t len, uint8_t out[SHA256_BYTES])
{
    static const char *const prefixes[] = {KEY_PREFIX, ACCESS_TOKEN_PREFIX};
    uint8_t bytes[KEY_HEX_CHARS / 2];
    char text[KEY_TEXT_SIZE];

    for (size_t i = 0; i < array_size(prefixes); i++) {
        size_t skip = strlen(prefixes[i]);
        if (len != skip + KEY_HEX_CHARS || memcmp(s, prefixes[i], skip) != 0)
            continue;
        if (hex_decode(s + skip, KEY_HEX_CHARS, bytes, sizeof(bytes)) < 0)
            return -1;
        /* written again in lower case, so that both forms and both cases are one key */
        memcpy(text, KEY_PREFIX, strlen(KEY_PREFIX));
        hex_encode(bytes, sizeof(bytes), text + strlen(KEY_PREFIX));
        hash_sha256(text, KEY_TEXT_SIZE - 1, out);
        secret_wipe(bytes, sizeof(bytes));
        secret_wipe(text, sizeof(text));
        return 0;
    }
    return -1;
}

void key_make(struct key *key, char text[KEY_TEXT_SIZE])
{
    const size_t skip = strlen(KEY_PREFIX);

    hash_random_uuid(key->id);
    key_text_new(text);
    hash_sha256(text, KEY_TEXT_SIZE - 1, key->sha256);
    memcpy(key->mask_head, text + skip, sizeof(key->mask_head) - 1);
    key->mask_head[sizeof(key->mask_head) - 1] = '\0';
    memcpy(key->mask_tail, text + KEY_TEXT_SIZE - sizeof(key->mask_tail), sizeof(key->mask_tail));
    key->created_unix_ms = time_unix_ms();
}

/* C0, DEL and C1 controls; S is well-formed UTF-8. */
static bool is_control(const unsigned char *s)
{
    return *s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] < 0xa0);
}

int key_label_check(const char *name, struct err *err)
{
    size_t chars = 0;

    for (const unsigned char *s = (const unsigned char *)name; *s != '\0'; s++) {
        if (is_control(s))
            return err_set(err, ERR_INVALID, "field 'name' holds a control character");
        chars += (*s & 0xc0) != 0x80; /* where a character begins */
    }
    if (chars < 1 || chars > KEY_NAME_MAX_CHARS)
        return err_set(err, ERR_INVALID, "field 'name' must be 1 to %d characters long",
                       KEY_NAME_MAX_CHARS);
    return 0;
}

int key_name_check(const char *name, const char *what, struct err *err)
{
    size_t len = strlen(name);

    if (len < 1 || len > NAME_MAX_CHARS ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != len)
        return err_set(err, ERR_INVALID,
                       "%s '%.80s' must be 1 to %d characters of a-z, 0-9, '-' and '_'", what, name,
                       NAME_MAX_CHARS);
    return 0;
}

static uint32_t scope_bit(const char *s, size_t len)
{
    for (size_t i = 0; i < array_size(scope_names); i++) {
        if (mem_is(s, len, scope_names[i].name))
            return scope_names[i].bit;
    }
    return 0;
}

int key_scopes_parse(const char *s, uint32_t *out, struct err *err)
{
    uint32_t scopes = 0;

    for (const char *p = s;; p++) {
        size_t len = strcspn(p, ",");
        uint32_t bit = scope_bit(p, len);
        if (bit == 0)
            return err_set(err, ERR_INVALID,
                           "scope '%.*s' is not known: use some of read,write,keys,admin",
                           (int)(len < 40 ? len : 40), p);
        scopes |= bit;
        p += len;
        if (*p == '\0')
            break;
    }
    *out = scopes;
    return 0;
}

void key_scopes_format(uint32_t scopes, char out[KEY_SCOPES_SIZE])
{
    size_t at = 0;

    for (size_t i = 0; i < array_size(scope_names); i++) {
        size_t len = strlen(scope_names[i].name);
        if ((scopes & scope_names[i].bit) == 0)
            continue;
        if (at > 0)
            out[at++] = ',';
        memcpy(out + at, scope_names[i].name, len);
        at += len;
    }
    out[at] = '\0';
}

bool key_usable(const struct key *key, int64_t now_unix_ms)
{
    return !key->revoked && (key->expires_unix_ms == 0 || now_unix_ms < key->expires_unix_ms);
}

#include "server/model/secret.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/str.h"

#define UUID_BYTES 16
#define ID_CHARS 26
#define BITS_PER_CHAR 5

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's, lower case */

void secret_info_clear(struct secret_info *info)
{
    free(info->metadata);
    memset(info, 0, sizeof(*info));
}

/* 128 bits as 26 characters, two zero bits before them. */
static void encode(const uint8_t bytes[UUID_BYTES], char *out)
{
    uint32_t bits = 0, held = 2;
    size_t used = 0;

    for (size_t i = 0; i < UUID_BYTES; i++) {
        bits = (bits << 8 | bytes[i]) & 0xffff;
        held += 8;
        while (held >= BITS_PER_CHAR) {
            held -= BITS_PER_CHAR;
            out[used++] = alphabet[bits >> held & 31];
        }
    }
    out[used] = '\0';
}

void secret_id_new(int64_t now_unix_ms, char out[SECRET_ID_SIZE])
{
    uint8_t uuid[UUID_BYTES];

    hash_random(uuid, sizeof(uuid));
    for (size_t i = 0; i < 6; i++)
        uuid[i] = (uint8_t)((uint64_t)now_unix_ms >> (40 - 8 * i));
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x70);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
    memcpy(out, SECRET_ID_PREFIX, sizeof(SECRET_ID_PREFIX) - 1);
    encode(uuid, out + sizeof(SECRET_ID_PREFIX) - 1);
}

bool secret_id_valid(const char *text)
{
    const char *rest = text + sizeof(SECRET_ID_PREFIX) - 1;

    return str_starts(text, SECRET_ID_PREFIX) && strlen(rest) == ID_CHARS &&
           strspn(rest, alphabet) == ID_CHARS && rest[0] <= '7'; /* 128 bits, not 130 */
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

int secret_name_parse(const char *text, size_t len, char out[SECRET_NAME_SIZE], struct err *err)
{
    char name[SECRET_NAME_SIZE];

    while (len > 0 && is_blank(text[0])) {
        text++;
        len--;
    }
    while (len > 0 && is_blank(text[len - 1]))
        len--;
    if (len == 0 || len >= sizeof(name))
        return err_set(err, ERR_INVALID, "a secret's name has 1 to %zu characters",
                       sizeof(name) - 1);
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c | 0x20);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return err_set(err, ERR_INVALID, "a secret's name has letters, digits, '_' and '-'");
        name[i] = c;
    }
    name[len] = '\0';
    if (str_starts(name, SECRET_ID_PREFIX))
        return err_set(err, ERR_INVALID, "a secret's name does not begin with '%s'",
                       SECRET_ID_PREFIX);
    memcpy(out, name, len + 1);
    return 0;
}

int secret_metadata_check(const json_t *metadata, struct err *err)
{
    const char *key;
    json_t *value;
    size_t total = 0;

    if (json_object_size(metadata) > SECRET_METADATA_ENTRIES_MAX)
        return err_set(err, ERR_INVALID, "metadata has at most %d entries",
                       SECRET_METADATA_ENTRIES_MAX);
    json_object_foreach((json_t *)metadata, key, value) {
        size_t key_len = strlen(key), value_len = json_string_length(value);
        if (!json_is_string(value) || key_len > SECRET_METADATA_KEY_MAX ||
            value_len > SECRET_METADATA_VALUE_MAX)
            return err_set(err, ERR_INVALID, "metadata has strings of at most %d bytes",
                           SECRET_METADATA_VALUE_MAX);
        total += key_len + value_len; /* both bounded, as is their count */
    }
    if (total > SECRET_METADATA_BYTES_MAX)
        return err_set(err, ERR_INVALID, "metadata has at most %d bytes",
                       SECRET_METADATA_BYTES_MAX);
    return 0;
}

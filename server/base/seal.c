#include "server/base/seal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define OVERHEAD (crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES)

_Static_assert(SEAL_KEY_BYTES == crypto_secretbox_KEYBYTES, "the key fits the cipher");

char *seal_text(const uint8_t key[SEAL_KEY_BYTES], const char *text, size_t len)
{
    _cleanup_free_ uint8_t *box = NULL;
    char *out;

    if (len > SEAL_MAX_BYTES)
        return NULL;
    box = mem_zalloc(len + OVERHEAD);
    hash_random(box, crypto_secretbox_NONCEBYTES);
    crypto_secretbox_easy(box + crypto_secretbox_NONCEBYTES, (const unsigned char *)text, len, box,
                          key);
    out = mem_zalloc(BASE64_SIZE(len + OVERHEAD));
    base64_encode(BASE64_STD, box, len + OVERHEAD, out);
    return out;
}

char *seal_open(const uint8_t key[SEAL_KEY_BYTES], const char *sealed, size_t *len, struct err *err)
{
    size_t sealed_len = strlen(sealed), box_len = 0;
    _cleanup_free_ uint8_t *box = NULL;
    char *out;

    if (sealed_len > BASE64_SIZE(SEAL_MAX_BYTES + OVERHEAD))
        return err_set(err, ERR_INVALID, "a sealed text is too long"), NULL;
    box = mem_zalloc(sealed_len + 1);
    if (base64_decode(sealed, sealed_len, box, &box_len) < 0 || box_len < OVERHEAD)
        return err_set(err, ERR_INVALID, "a sealed text is malformed"), NULL;
    out = mem_zalloc(box_len - OVERHEAD + 1);
    if (crypto_secretbox_open_easy((unsigned char *)out, box + crypto_secretbox_NONCEBYTES,
                                   box_len - crypto_secretbox_NONCEBYTES, box, key) != 0) {
        free(out);
        return err_set(err, ERR_INVALID, "a sealed text cannot be opened with this key"), NULL;
    }
    *len = box_len - OVERHEAD;
    return out;
}

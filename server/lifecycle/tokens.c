#include <stdio.h>
#include <string.h>

#include "server/base/str.h"
#include "server/lifecycle/internal.h"

#define TOKEN_TEXT_SIZE 64 /* the longest purpose, an id and a NUL */

static void derive(struct lifecycle *lifecycle, const char *purpose, const char *id,
                   char out[SHA256_HEX_SIZE])
{
    const struct secret *master = &lifecycle->config.master;
    uint8_t digest[SHA256_BYTES];
    char text[TOKEN_TEXT_SIZE];
    int len = snprintf(text, sizeof(text), "%s:%s", purpose, id);

    hash_hmac_sha256(master->bytes, master->len, text, (size_t)len, digest);
    hex_encode(digest, sizeof(digest), out);
    secret_wipe(digest, sizeof(digest));
}

void lifecycle_envd_token(struct lifecycle *lifecycle, const char *id, char out[SHA256_HEX_SIZE])
{
    derive(lifecycle, "envd-access", id, out);
}

void lifecycle_traffic_token(struct lifecycle *lifecycle, const char *id, char out[SHA256_HEX_SIZE])
{
    derive(lifecycle, "traffic-access", id, out);
}

void lifecycle_jwt_key(struct lifecycle *lifecycle, const char *id, uint8_t out[SHA256_BYTES])
{
    const struct secret *master = &lifecycle->config.master;
    char info[TOKEN_TEXT_SIZE];

    snprintf(info, sizeof(info), "jwt:%s", id);
    hash_hkdf_sha256(master->bytes, master->len, info, out);
}

void entry_derive(struct lifecycle *lifecycle, struct entry *entry)
{
    lifecycle_jwt_key(lifecycle, entry->sandbox.id, entry->jwt_key);
    lifecycle_traffic_token(lifecycle, entry->sandbox.id, entry->traffic_token);
    net_ingress_read(entry->sandbox.network, &entry->ingress);
}

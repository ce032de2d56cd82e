#include "server/model/template.h"

#include <stdio.h>
#include <string.h>

#include "server/base/str.h"
#include "server/base/version.h"
#include "server/model/limits.h"

/*
 * A build id that is the same on every machine and changes with what the build holds: RFC 9562
 * version 8 (custom), from a hash of the template's name and the envd in it.
 */
static void base_build_id(char out[UUID_SIZE])
{
    static const char what[] = TEMPLATE_BASE_ID " " ENVD_VERSION;
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE];

    hash_sha256(what, sizeof(what) - 1, digest);
    digest[6] = (uint8_t)((digest[6] & 0x0f) | 0x80);
    digest[8] = (uint8_t)((digest[8] & 0x3f) | 0x80);
    hex_encode(digest, sizeof(digest), hex);
    snprintf(out, UUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
             hex + 20);
}

void template_base(struct template *out, int64_t created_unix_ms)
{
    memset(out, 0, sizeof(*out));
    /* three equal names: a global template's name has no namespace */
    memcpy(out->id, TEMPLATE_BASE_ID, sizeof(TEMPLATE_BASE_ID));
    memcpy(out->alias, TEMPLATE_BASE_ID, sizeof(TEMPLATE_BASE_ID));
    memcpy(out->name, TEMPLATE_BASE_ID, sizeof(TEMPLATE_BASE_ID));
    base_build_id(out->build_id);
    out->cpu_count = SANDBOX_CPU_DEFAULT;
    out->memory_mb = SANDBOX_MEMORY_DEFAULT_MB;
    out->disk_mb = SANDBOX_DISK_DEFAULT_MB;
    out->is_public = true;
    out->created_unix_ms = created_unix_ms;
    out->updated_unix_ms = created_unix_ms;
}

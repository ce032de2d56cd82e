/*
 * server/api/openapi.c - openapi/platform.yaml and envd.yaml, part of the binary.
 *
 * They are written in the part of YAML that is also JSON, so what is served is the file itself.
 * Paths in .incbin are from the root of the source tree, where the compiler runs.
 */
#include "server/api/handlers.h"

__asm__(".section .rodata\n"
        ".balign 16\n"
        "openapi_begin:\n"
        ".incbin \"openapi/platform.yaml\"\n"
        "openapi_end:\n"
        ".balign 16\n"
        "openapi_envd_begin:\n"
        ".incbin \"openapi/envd.yaml\"\n"
        "openapi_envd_end:\n"
        ".previous\n");

extern const char openapi_begin[] __attribute__((visibility("hidden")));
extern const char openapi_end[] __attribute__((visibility("hidden")));
extern const char openapi_envd_begin[] __attribute__((visibility("hidden")));
extern const char openapi_envd_end[] __attribute__((visibility("hidden")));

const char *openapi_text(size_t *len)
{
    *len = (size_t)(openapi_end - openapi_begin);
    return openapi_begin;
}

const char *openapi_envd_text(size_t *len)
{
    *len = (size_t)(openapi_envd_end - openapi_envd_begin);
    return openapi_envd_begin;
}

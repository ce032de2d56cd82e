#include "server/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *check(void *ptr)
{
    if (ptr == NULL) {
        fputs("{\"level\":\"error\",\"msg\":\"out of memory\"}\n", stderr);
        abort();
    }
    return ptr;
}

void *mem_zalloc(size_t size)
{
    return check(calloc(1, size > 0 ? size : 1));
}

void *mem_calloc(size_t count, size_t size)
{
    return check(calloc(count > 0 ? count : 1, size > 0 ? size : 1));
}

void *mem_realloc_array(void *ptr, size_t count, size_t size)
{
    return check(reallocarray(ptr, count > 0 ? count : 1, size > 0 ? size : 1));
}

char *mem_strdup(const char *s)
{
    return s == NULL ? NULL : check(strdup(s));
}

char *mem_strndup(const char *s, size_t len)
{
    char *copy = check(malloc(len + 1));

    if (len > 0)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *mem_asprintf(const char *fmt, ...)
{
    char *out = NULL;
    va_list args;
    int len;

    va_start(args, fmt);
    len = vasprintf(&out, fmt, args);
    va_end(args);
    return check(len < 0 ? NULL : out);
}

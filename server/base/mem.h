/*
 * server/base/mem.h - allocation, cleanup attributes, checked sizes.
 *
 * mem_* abort on exhaustion and are for small sizes we chose. A size a peer chose meets a limit
 * first. Any thread.
 */
#ifndef SANDPIT_BASE_MEM_H
#define SANDPIT_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define array_size(a) (sizeof(a) / sizeof((a)[0]))

/* Zeroed memory of SIZE bytes; aborts when there is none. Free with free(). */
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull));
/* Zeroed array; aborts on overflow or exhaustion. */
void *mem_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
/* realloc that aborts on overflow or exhaustion. New bytes are not cleared. */
void *mem_realloc_array(void *ptr, size_t count, size_t size) __attribute__((returns_nonnull));
/* Copy of a NUL-terminated string; NULL gives NULL. */
char *mem_strdup(const char *s);
/* NUL-terminated copy of LEN bytes. */
char *mem_strndup(const char *s, size_t len) __attribute__((returns_nonnull));
/* printf into a new string. Free with free(). */
char *mem_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* *OUT = A + B (A * B). False on overflow, *OUT untouched then. */
static inline bool size_add(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

static inline void cleanup_free(void *ptr)
{
    free(*(void **)ptr);
}
/* close(2) unless negative; errno is kept. Defined in fd.c. */
void cleanup_close(int *fd);

#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

static inline void *steal_ptr_(void *ptr)
{
    void *value = *(void **)ptr;
    *(void **)ptr = NULL;
    return value;
}
/* Take the value out of a cleanup variable and leave NULL (or -1). */
#define steal_ptr(ptr) ((__typeof__(*(ptr)))steal_ptr_(ptr))
static inline int steal_fd(int *fd)
{
    int value = *fd;
    *fd = -1;
    return value;
}

#endif

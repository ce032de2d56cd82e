/*
 * server/base/buf.h - a byte buffer that is born with its maximum.
 *
 * Not thread-safe: one owner. Appending past the maximum sets `overflow`, keeps what was there and
 * refuses everything after it, so a caller may append many times and check once.
 */
#ifndef SANDPIT_BASE_BUF_H
#define SANDPIT_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NULL until the first append; always NUL-terminated after it */
    size_t len; /* bytes in use, without the NUL */
    size_t cap; /* bytes allocated */
    size_t max; /* bytes allowed in use */
    bool overflow;
};

/* An empty buffer of at most MAX bytes. No allocation. */
void buf_init(struct buf *buf, size_t max);
/* Free the memory; the buffer is empty and keeps its maximum. */
void buf_clear(struct buf *buf);
/* Forget the content, keep the memory. */
void buf_reset(struct buf *buf);
/* Append LEN bytes. Returns 0, or -1 when the maximum would be passed. */
int buf_add(struct buf *buf, const void *data, size_t len);
int buf_add_str(struct buf *buf, const char *s);
int buf_add_char(struct buf *buf, char c);
int buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for LEN more bytes: a pointer to write to, or NULL past the maximum. Then buf_commit. */
char *buf_reserve(struct buf *buf, size_t len);
void buf_commit(struct buf *buf, size_t len);
/* Remove LEN bytes from the front. */
void buf_consume(struct buf *buf, size_t len);
/* The content as a string the caller owns ("" when empty); the buffer is empty after. */
char *buf_steal(struct buf *buf);
/* The content, never NULL. Borrowed. */
const char *buf_str(const struct buf *buf);

#define _cleanup_buf_ __attribute__((cleanup(buf_clear)))

#endif

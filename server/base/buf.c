#include "server/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"

#define BUF_FIRST_BYTES 256

void buf_init(struct buf *buf, size_t max)
{
    memset(buf, 0, sizeof(*buf));
    buf->max = max;
}

void buf_clear(struct buf *buf)
{
    free(buf->data);
    buf_init(buf, buf->max);
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
    buf->overflow = false;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

char *buf_reserve(struct buf *buf, size_t len)
{
    size_t cap = buf->cap > 0 ? buf->cap : BUF_FIRST_BYTES;
    size_t need;

    if (buf->overflow || !size_add(buf->len, len, &need) || need > buf->max ||
        !size_add(need, 1, &need)) {
        buf->overflow = true;
        return NULL;
    }
    if (need <= buf->cap)
        return buf->data + buf->len;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    buf->data = mem_realloc_array(buf->data, cap, 1);
    buf->cap = cap;
    buf->data[buf->len] = '\0';
    return buf->data + buf->len;
}

void buf_commit(struct buf *buf, size_t len)
{
    buf->len += len;
    buf->data[buf->len] = '\0';
}

int buf_add(struct buf *buf, const void *data, size_t len)
{
    char *to = buf_reserve(buf, len);

    if (to == NULL)
        return -1;
    if (len > 0)
        memcpy(to, data, len);
    buf_commit(buf, len);
    return 0;
}

int buf_add_str(struct buf *buf, const char *s)
{
    return buf_add(buf, s, strlen(s));
}

int buf_add_char(struct buf *buf, char c)
{
    return buf_add(buf, &c, 1);
}

int buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    char *to;
    int len;

    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0 || (to = buf_reserve(buf, (size_t)len)) == NULL)
        return -1;
    va_start(args, fmt);
    vsnprintf(to, (size_t)len + 1, fmt, args);
    va_end(args);
    buf_commit(buf, (size_t)len);
    return 0;
}

void buf_consume(struct buf *buf, size_t len)
{
    if (len == 0 || buf->data == NULL)
        return;
    if (len > buf->len)
        len = buf->len;
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
    buf->data[buf->len] = '\0';
}

char *buf_steal(struct buf *buf)
{
    char *data = buf->data != NULL ? buf->data : mem_strdup("");

    buf_init(buf, buf->max);
    return data;
}

const char *buf_str(const struct buf *buf)
{
    return buf->data != NULL ? buf->data : "";
}

#include "server/base/chunked.h"

#include <string.h>

#include "server/base/http_head.h"
#include "server/base/str.h"

static bool is_text(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

/* The size line, up to its CR. */
static enum chunked_state size_line(struct chunked *chunked, unsigned char c)
{
    int digit = hex_digit((char)c);

    if (++chunked->line > CHUNK_LINE_MAX_BYTES)
        return CHUNKED_BAD;
    if (chunked->state == CHUNKED_EXTENSION)
        return c == '\r' ? CHUNKED_SIZE_LF : is_text(c) ? CHUNKED_EXTENSION : CHUNKED_BAD;
    if (digit >= 0) {
        if (chunked->left > (uint64_t)INT64_MAX >> 4)
            return CHUNKED_BAD;
        chunked->left = chunked->left << 4 | (uint64_t)digit;
        return CHUNKED_SIZE;
    }
    if (chunked->state == CHUNKED_SIZE_FIRST)
        return CHUNKED_BAD;
    if (c == '\r')
        return CHUNKED_SIZE_LF;
    return c == ';' || c == ' ' || c == '\t' ? CHUNKED_EXTENSION : CHUNKED_BAD;
}

/* The trailer section, from the start of a line. */
static enum chunked_state trailer(struct chunked *chunked, unsigned char c)
{
    if (++chunked->line > CHUNK_TRAILERS_MAX_BYTES)
        return CHUNKED_BAD;
    switch (chunked->state) {
    case CHUNKED_LINE:
        return c == '\r'                     ? CHUNKED_END_LF
               : http_is_token_char((char)c) ? CHUNKED_NAME
                                             : CHUNKED_BAD;
    case CHUNKED_NAME:
        return c == ':' ? CHUNKED_VALUE : http_is_token_char((char)c) ? CHUNKED_NAME : CHUNKED_BAD;
    case CHUNKED_VALUE:
        return c == '\r' ? CHUNKED_VALUE_LF : is_text(c) ? CHUNKED_VALUE : CHUNKED_BAD;
    case CHUNKED_VALUE_LF:
        return c == '\n' ? CHUNKED_LINE : CHUNKED_BAD;
    default:
        return c == '\n' ? CHUNKED_DONE : CHUNKED_BAD;
    }
}

static enum chunked_state step(struct chunked *chunked, unsigned char c)
{
    switch (chunked->state) {
    case CHUNKED_SIZE_FIRST:
    case CHUNKED_SIZE:
    case CHUNKED_EXTENSION:
        return size_line(chunked, c);
    case CHUNKED_SIZE_LF:
        chunked->line = 0;
        if (c != '\n')
            return CHUNKED_BAD;
        return chunked->left > 0 ? CHUNKED_DATA : CHUNKED_LINE;
    case CHUNKED_DATA_CR:
        return c == '\r' ? CHUNKED_DATA_LF : CHUNKED_BAD;
    case CHUNKED_DATA_LF:
        return c == '\n' ? CHUNKED_SIZE_FIRST : CHUNKED_BAD;
    default:
        return trailer(chunked, c);
    }
}

size_t chunked_feed(struct chunked *chunked, char *data, size_t len, size_t *kept, bool *bad)
{
    size_t at = 0, to = 0;

    while (at < len && chunked->state < CHUNKED_DONE) {
        if (chunked->state == CHUNKED_DATA) {
            size_t n = len - at < chunked->left ? len - at : (size_t)chunked->left;

            if (kept != NULL)
                memmove(data + to, data + at, n);
            to += n;
            at += n;
            chunked->left -= n;
            if (chunked->left == 0)
                chunked->state = CHUNKED_DATA_CR;
            continue;
        }
        chunked->state = step(chunked, (unsigned char)data[at++]);
    }
    if (kept != NULL)
        *kept = to;
    *bad = chunked->state == CHUNKED_BAD;
    return at;
}

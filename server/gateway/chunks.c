#include "server/gateway/chunks.h"

#include "server/base/str.h"

#define SIZE_DIGITS_MAX 15

enum state { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LF };

/* One byte of a line: its number, CR to NEXT, all else to OTHER. False: not allowed here. */
static bool line_byte(struct chunks *chunks, char c, enum state next)
{
    if (++chunks->line > CHUNKS_LINE_MAX || c == '\n' || c == '\0')
        return false;
    if (c == '\r')
        chunks->state = next;
    return true;
}

static bool size_byte(struct chunks *chunks, char c)
{
    int digit = hex_digit(c);

    if (digit >= 0) {
        chunks->left = chunks->left << 4 | (uint64_t)digit;
        return ++chunks->digits <= SIZE_DIGITS_MAX;
    }
    if (chunks->digits == 0 || (c != ';' && c != '\r'))
        return false;
    chunks->line = 0;
    chunks->state = c == ';' ? EXTENSION : SIZE_LF;
    return true;
}

/* False: malformed. *DONE: this was the last byte. */
static bool one_byte(struct chunks *chunks, char c, bool *done)
{
    switch ((enum state)chunks->state) {
    case SIZE:
        return size_byte(chunks, c);
    case EXTENSION:
        return line_byte(chunks, c, SIZE_LF);
    case SIZE_LF:
        chunks->state = chunks->left > 0 ? DATA : TRAILER;
        chunks->digits = 0;
        chunks->line = 0;
        chunks->field = false;
        return c == '\n';
    case DATA:
        return false; /* taken as a whole */
    case DATA_CR:
        chunks->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        chunks->state = SIZE;
        return c == '\n';
    case TRAILER:
        chunks->field = chunks->field || c != '\r';
        return line_byte(chunks, c, TRAILER_LF);
    case TRAILER_LF:
        *done = !chunks->field;
        chunks->state = TRAILER;
        chunks->field = false;
        return c == '\n';
    }
    return false;
}

size_t chunks_scan(struct chunks *chunks, const char *data, size_t len, bool *done)
{
    size_t at = 0;

    *done = false;
    while (at < len && !*done) {
        if (chunks->state == DATA) {
            size_t part = chunks->left < len - at ? (size_t)chunks->left : len - at;
            chunks->left -= part;
            at += part;
            if (chunks->left == 0)
                chunks->state = DATA_CR;
        } else if (!one_byte(chunks, data[at++], done)) {
            return SIZE_MAX;
        }
    }
    return at;
}

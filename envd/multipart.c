#include "envd/multipart.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

#define PARAM_MAX_BYTES MULTIPART_HEAD_MAX_BYTES

/* RFC 2046 bchars and what clients use beyond them: printable ASCII that needs no escape. */
static bool boundary_ok(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] < ' ' || s[i] > '~')
            return false;
    return len > 0 && len <= MULTIPART_BOUNDARY_MAX_BYTES && s[len - 1] != ' ';
}

int multipart_init(struct multipart *mp, const char *content_type,
                   const struct multipart_events *events, void *arg, struct err *err)
{
    _cleanup_(buf_clear) struct buf boundary;

    buf_init(&boundary, MULTIPART_BOUNDARY_MAX_BYTES);
    if (multipart_param(content_type, "boundary", &boundary) != 1 ||
        !boundary_ok(buf_str(&boundary), boundary.len))
        return err_set(err, ERR_INVALID, "multipart body without a valid boundary parameter");
    *mp = (struct multipart){
        .state = MULTIPART_PREAMBLE,
        .events = events,
        .arg = arg,
        .mark_len = boundary.len + 4,
        .matched = 2, /* the first boundary needs no CRLF before it */
        .implied = 2,
    };
    memcpy(mp->mark, "\r\n--", 4);
    memcpy(mp->mark + 4, boundary.data, boundary.len);
    buf_init(&mp->head, MULTIPART_HEAD_MAX_BYTES);
    return 0;
}

void multipart_clear(struct multipart *mp)
{
    buf_clear(&mp->head);
}

static int fail(struct multipart *mp)
{
    mp->state = MULTIPART_FAILED;
    return -1;
}

static int malformed(struct multipart *mp, const char *what, struct err *err)
{
    err_set(err, ERR_INVALID, "malformed multipart body: %s", what);
    return fail(mp);
}

/* Pass content on; there is nobody to pass the preamble to. */
static int pass(struct multipart *mp, const char *data, size_t len, struct err *err)
{
    if (!mp->in_part || len == 0)
        return 0;
    return mp->events->data(mp->arg, data, len, err) < 0 ? fail(mp) : 0;
}

/* What looked like a boundary was content. */
static int pass_matched(struct multipart *mp, struct err *err)
{
    size_t implied = mp->implied, matched = mp->matched;

    mp->matched = mp->implied = 0;
    return pass(mp, mp->mark + implied, matched - implied, err);
}

/* The first CR of DATA from where all the rest could begin a boundary; DATA + LEN when none. */
static const char *partial_mark(const struct multipart *mp, const char *data, size_t len)
{
    size_t most = mp->mark_len - 1;
    const char *end = data + len;
    const char *at = len > most ? end - most : data;

    while ((at = memchr(at, '\r', (size_t)(end - at))) != NULL) {
        if (memcmp(at, mp->mark, (size_t)(end - at)) == 0)
            return at;
        at++;
    }
    return end;
}

/* PREAMBLE and BODY: look for the next boundary. CR is only its first byte, so no backing up. */
static int feed_content(struct multipart *mp, const char **data, size_t *len, struct err *err)
{
    const char *at = *data, *end = *data + *len, *found;

    if (mp->matched > 0) {
        while (mp->matched < mp->mark_len && at < end && *at == mp->mark[mp->matched]) {
            mp->matched++;
            at++;
        }
        *len = (size_t)(end - at);
        *data = at;
        if (mp->matched < mp->mark_len)
            return at == end ? 0 : pass_matched(mp, err);
    } else {
        found = memmem(at, *len, mp->mark, mp->mark_len);
        *data = found != NULL ? found + mp->mark_len : end;
        *len = (size_t)(end - *data);
        if (found == NULL) {
            found = partial_mark(mp, at, (size_t)(end - at));
            mp->matched = (size_t)(end - found);
            return pass(mp, at, (size_t)(found - at), err);
        }
        mp->matched = mp->mark_len;
        if (pass(mp, at, (size_t)(found - at), err) < 0)
            return -1;
    }
    mp->state = MULTIPART_MARK;
    mp->after_len = 0;
    return 0;
}

static int end_part(struct multipart *mp, struct err *err)
{
    mp->matched = mp->implied = 0;
    if (!mp->in_part)
        return 0;
    mp->in_part = false;
    return mp->events->end(mp->arg, err) < 0 ? fail(mp) : 0;
}

/* One byte after a boundary. Anything but "--", white space or CRLF: it was content after all. */
static int feed_mark(struct multipart *mp, const char **data, size_t *len, struct err *err)
{
    char c = **data;

    if (mp->after_len == 0 && c != '-' && c != ' ' && c != '\t' && c != '\r') {
        mp->state = mp->in_part ? MULTIPART_BODY : MULTIPART_PREAMBLE;
        return pass_matched(mp, err);
    }
    ++*data;
    --*len;
    if (mp->after_len == 1 && mp->after[0] == '-') {
        if (c != '-')
            return malformed(mp, "bad boundary line", err);
        mp->state = MULTIPART_DONE;
        return end_part(mp, err);
    }
    if (mp->after_len == 1 && mp->after[0] == '\r') {
        if (c != '\n')
            return malformed(mp, "bad boundary line", err);
        mp->state = MULTIPART_HEAD;
        buf_reset(&mp->head);
        return end_part(mp, err);
    }
    if (mp->after_len == 1 && c != ' ' && c != '\t' && c != '\r')
        return malformed(mp, "bad boundary line", err);
    mp->after[0] = c;
    mp->after_len = 1;
    return 0;
}

/* The value of the header line NAME (lower case) in HEAD, to free(); NULL when there is none. */
static char *head_value(const struct buf *head, const char *name)
{
    const char *end = head->data + head->len;

    for (const char *line = head->data; line < end;) {
        const char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        size_t size = (size_t)((stop != NULL ? stop : end) - line);
        const char *colon = memchr(line, ':', size);
        if (colon != NULL && mem_is_nocase(line, (size_t)(colon - line), name))
            return mem_strndup(colon + 1, size - (size_t)(colon + 1 - line));
        line += size + 2;
    }
    return NULL;
}

/* The headers of a part are complete: tell whose content follows. */
static int begin_part(struct multipart *mp, struct err *err)
{
    _cleanup_free_ char *disposition = NULL;
    _cleanup_(buf_clear) struct buf name;
    _cleanup_(buf_clear) struct buf filename;
    struct multipart_part part;
    int has_name = 0, has_filename = 0;

    buf_init(&name, PARAM_MAX_BYTES);
    buf_init(&filename, PARAM_MAX_BYTES);
    if (memchr(mp->head.data, '\0', mp->head.len) != NULL)
        return malformed(mp, "NUL in a part's header", err);
    disposition = head_value(&mp->head, "content-disposition");
    if (disposition != NULL) {
        has_name = multipart_param(disposition, "name", &name);
        has_filename = multipart_param(disposition, "filename", &filename);
    }
    if (has_name < 0 || has_filename < 0)
        return malformed(mp, "bad Content-Disposition of a part", err);
    if (++mp->parts > MULTIPART_PARTS_MAX)
        return malformed(mp, "too many parts", err);
    part.name = buf_str(&name);
    part.filename = has_filename == 1 ? buf_str(&filename) : NULL;
    mp->state = MULTIPART_BODY;
    mp->in_part = true;
    mp->matched = mp->implied = 2; /* the CRLF before an empty part's boundary is the head's */
    return mp->events->begin(mp->arg, &part, err) < 0 ? fail(mp) : 0;
}

static int feed_head(struct multipart *mp, const char **data, size_t *len, struct err *err)
{
    const char *stop = memchr(*data, '\n', *len);
    size_t size = stop != NULL ? (size_t)(stop + 1 - *data) : *len;
    struct buf *head = &mp->head;

    if (buf_add(head, *data, size) < 0)
        return malformed(mp, "headers of a part are too long", err);
    *data += size;
    *len -= size;
    if (stop == NULL)
        return 0;
    if ((head->len == 2 && memcmp(head->data, "\r\n", 2) == 0) ||
        (head->len >= 4 && memcmp(head->data + head->len - 4, "\r\n\r\n", 4) == 0))
        return begin_part(mp, err);
    return 0;
}

int multipart_feed(struct multipart *mp, const char *data, size_t len, struct err *err)
{
    int rc = 0;

    while (rc == 0 && len > 0) {
        switch (mp->state) {
        case MULTIPART_PREAMBLE:
        case MULTIPART_BODY:
            rc = feed_content(mp, &data, &len, err);
            break;
        case MULTIPART_MARK:
            rc = feed_mark(mp, &data, &len, err);
            break;
        case MULTIPART_HEAD:
            rc = feed_head(mp, &data, &len, err);
            break;
        case MULTIPART_DONE:
            return 0;
        case MULTIPART_FAILED:
            return err_set(err, ERR_INVALID, "malformed multipart body");
        }
    }
    return rc;
}

int multipart_finish(const struct multipart *mp, struct err *err)
{
    if (mp->state == MULTIPART_DONE)
        return 0;
    return err_set(err, ERR_INVALID, "malformed multipart body: it ends before its last boundary");
}

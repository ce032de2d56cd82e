#include "envd/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define BEGIN "-----BEGIN CERTIFICATE-----"
#define END "-----END CERTIFICATE-----"
#define DASHES "-----"
#define LINE_CHARS 64

/* LEN bytes are one DER sequence: tag, length in its shortest form, and so many bytes. */
static bool is_sequence(const uint8_t *der, size_t len)
{
    size_t size = 0, count;

    if (len < 4 || der[0] != 0x30)
        return false;
    if (der[1] < 0x80)
        return der[1] == len - 2;
    count = der[1] & 0x7f;
    if (count < 1 || count > 3 || der[2] == 0 || (count == 1 && der[2] < 0x80))
        return false;
    for (size_t i = 0; i < count; i++)
        size = size << 8 | der[2 + i];
    return size == len - 2 - count;
}

/* What is between the lines of a block, in its usual form. */
static int add_block(const char *body, size_t len, struct buf *out)
{
    _cleanup_free_ char *text = mem_zalloc(len + 4);
    _cleanup_free_ uint8_t *der = mem_zalloc(len + 4);
    size_t count = 0, der_len;

    for (size_t i = 0; i < len; i++)
        if (strchr(" \t\r\n", body[i]) == NULL)
            text[count++] = body[i];
    if (strpbrk(text, "-_") != NULL || base64_decode(text, count, der, &der_len) < 0 ||
        !is_sequence(der, der_len))
        return -1;
    buf_add_str(out, BEGIN "\n");
    for (size_t at = 0; at < count; at += LINE_CHARS) {
        buf_add(out, text + at, count - at < LINE_CHARS ? count - at : LINE_CHARS);
        buf_add_char(out, '\n');
    }
    return buf_add_str(out, END "\n");
}

/* The line at LINE, of LEN bytes, is WORD but for white space at its end. */
static bool line_is(const char *line, size_t len, const char *word)
{
    while (len > 0 && strchr(" \t\r", line[len - 1]) != NULL)
        len--;
    return mem_is(line, len, word);
}

int trust_parse(const char *text, size_t len, struct buf *out, struct err *err)
{
    const char *body = NULL, *end = text + len;
    size_t count = 0;

    if (len > TRUST_MAX_BYTES)
        return err_set(err, ERR_INVALID, "caBundle is larger than %d bytes", TRUST_MAX_BYTES);
    for (const char *line = text, *next; line < end; line = next) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((stop != NULL ? stop : end) - line);

        next = line + size + (stop != NULL);
        if (size < strlen(DASHES) || memcmp(line, DASHES, strlen(DASHES)) != 0)
            continue;
        if (body == NULL && line_is(line, size, BEGIN)) {
            body = next;
            continue;
        }
        if (body == NULL || !line_is(line, size, END))
            return err_set(err, ERR_INVALID, "caBundle may have blocks of CERTIFICATE only");
        count++;
        if (add_block(body, (size_t)(line - body), out) < 0)
            return err_set(err, ERR_INVALID, "block %zu of caBundle is not a certificate", count);
        body = NULL;
    }
    if (body != NULL || count == 0)
        return err_set(err, ERR_INVALID, "caBundle must hold whole PEM blocks of certificates");
    return 0;
}

/* OLD without the part that is ours. A part whose end is missing is no part. */
static void add_others(const char *old, struct buf *out)
{
    const char *begin, *end;

    while ((begin = strstr(old, TRUST_BEGIN)) != NULL && (end = strstr(begin, TRUST_END)) != NULL) {
        buf_add(out, old, (size_t)(begin - old));
        old = end + strlen(TRUST_END);
    }
    buf_add_str(out, old);
    if (out->len > 0 && out->data[out->len - 1] != '\n')
        buf_add_char(out, '\n');
}

static int make_parent(const char *path, struct err *err)
{
    _cleanup_free_ char *copy = mem_strdup(path);

    return dir_make(dirname(copy), 0755, err);
}

/* PATH may be a link into another folder: what it points to is replaced. */
static int put_file(const char *path, const struct buf *text, struct err *err)
{
    char real[PATH_MAX];

    if (make_parent(path, err) < 0)
        return -1;
    if (realpath(path, real) == NULL) {
        if (errno != ENOENT)
            return err_sys(err, errno, "cannot find %s", path);
        str_copy(real, sizeof(real), path, strlen(path));
    }
    return file_write_durable(AT_FDCWD, real, text->data, text->len, 0644, err);
}

static int add_to_bundle(const char *path, const struct buf *pem, struct err *err)
{
    _cleanup_free_ char *old = NULL;
    struct err missing = {0};
    struct buf text;
    size_t old_len = 0;
    int rc;

    if (file_read(AT_FDCWD, path, TRUST_FILE_MAX_BYTES, &old, &old_len, &missing) < 0 &&
        missing.code != ERR_NOT_FOUND) {
        *err = missing;
        return -1;
    }
    buf_init(&text, TRUST_FILE_MAX_BYTES + 2 * TRUST_MAX_BYTES);
    add_others(old != NULL ? old : "", &text);
    buf_add_str(&text, TRUST_BEGIN);
    buf_add(&text, pem->data, pem->len);
    rc = buf_add_str(&text, TRUST_END);
    if (rc < 0)
        err_set(err, ERR_LIMIT, "%s is too long", path);
    else if (old == NULL || text.len != old_len || memcmp(text.data, old, old_len) != 0)
        rc = put_file(path, &text, err);
    buf_clear(&text);
    return rc;
}

int trust_install(const char *bundle, const char *source, const struct buf *pem, struct err *err)
{
    struct err ignored = {0};

    if (add_to_bundle(bundle, pem, err) < 0)
        return -1;
    (void)put_file(source, pem, &ignored); /* /usr is read-only in a local sandbox */
    return 0;
}

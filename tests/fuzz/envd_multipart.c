/* The multipart parser: any body in any division, and the same content whatever the division. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "envd/multipart.h"

struct seen {
    size_t parts, open, bytes;
    uint64_t sum; /* of the content, in order */
};

static int on_begin(void *arg, const struct multipart_part *part, struct err *err)
{
    struct seen *seen = arg;

    (void)err;
    if (seen->open++ != 0 || part->name == NULL)
        abort(); /* parts do not nest */
    seen->parts++;
    seen->sum = seen->sum * 31 + strlen(part->name);
    return 0;
}

static int on_data(void *arg, const char *data, size_t len, struct err *err)
{
    struct seen *seen = arg;

    (void)err;
    if (seen->open != 1 || len == 0)
        abort();
    seen->bytes += len;
    for (size_t i = 0; i < len; i++)
        seen->sum = seen->sum * 31 + (unsigned char)data[i];
    return 0;
}

static int on_end(void *arg, struct err *err)
{
    struct seen *seen = arg;

    (void)err;
    if (seen->open-- != 1)
        abort();
    return 0;
}

static int run(const char *data, size_t size, size_t step, struct seen *seen)
{
    static const struct multipart_events events = {on_begin, on_data, on_end};
    struct multipart mp;
    struct err err;
    int rc;

    if (multipart_init(&mp, "multipart/form-data; boundary=b", &events, seen, &err) < 0)
        abort();
    rc = 0;
    for (size_t at = 0; at < size && rc == 0; at += step)
        rc = multipart_feed(&mp, data + at, size - at < step ? size - at : step, &err);
    if (rc == 0)
        rc = multipart_finish(&mp, &err);
    multipart_clear(&mp);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole = {0}, cut = {0};
    const char *text = (const char *)data;

    if (size == 0)
        return 0;
    int a = run(text, size, size, &whole);
    int b = run(text, size, 1 + data[0] % 7, &cut);
    if (a != b || whole.parts != cut.parts || whole.bytes != cut.bytes || whole.sum != cut.sum)
        abort();
    return 0;
}

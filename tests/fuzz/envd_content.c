/* Header values of /files: ranges, dates, encodings, parameters, names, signatures. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "envd/content.h"
#include "envd/files_meta.h"
#include "envd/multipart.h"
#include "envd/sign.h"
#include "server/base/mem.h"
#include "server/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every range lies in the file, and all of them are no larger than it. */
static void check_ranges(const char *text, int64_t file_size)
{
    struct content_range ranges[CONTENT_RANGES_MAX];
    size_t count = 0;
    int64_t total = 0;

    if (content_ranges_parse(text, file_size, ranges, &count) != CONTENT_PARTS)
        return;
    if (count == 0 || count > CONTENT_RANGES_MAX)
        abort();
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].start < 0 || ranges[i].length <= 0 || ranges[i].start >= file_size ||
            ranges[i].length > file_size - ranges[i].start)
            abort();
        total += ranges[i].length;
    }
    if (total > file_size)
        abort();
}

static void check_date(const char *text)
{
    char out[CONTENT_DATE_SIZE];
    time_t when, again;

    if (!content_date_parse(text, &when))
        return;
    content_date(when, out);
    if (when >= 0 && when < 253402300800 && (!content_date_parse(out, &again) || again != when))
        abort();
}

/* What is put into a header has no line break, and can be read back where it is quoted. */
static void check_disposition(const char *text)
{
    struct buf out, back;

    buf_init(&out, 1 << 20);
    buf_init(&back, 1 << 20);
    content_disposition(text, &out);
    if (strpbrk(buf_str(&out), "\r\n") != NULL)
        abort();
    if (str_is_utf8(text, strlen(text)) && text[0] != '\0' &&
        (multipart_param(buf_str(&out), "filename", &back) != 1 || !str_eq(buf_str(&back), text)))
        abort();
    buf_clear(&out);
    buf_clear(&back);
}

static void check_params(const char *text)
{
    static const char *const names[] = {"boundary", "name", "filename"};
    static const struct multipart_events events = {NULL, NULL, NULL};
    struct multipart parser;
    struct buf out;
    struct err err = {0};

    buf_init(&out, 256);
    for (size_t i = 0; i < array_size(names); i++)
        if (multipart_param(text, names[i], &out) == 1 && out.len > 256)
            abort();
    buf_clear(&out);
    if (multipart_init(&parser, text, &events, NULL, &err) == 0)
        multipart_clear(&parser);
    else if (err.code != ERR_INVALID)
        abort();
}

static void check_sign(const char *text)
{
    struct sign_request request = {text, "read", "user", NULL};
    char made[SIGN_SIZE];
    struct err err;

    sign_make(&request, "token", made);
    if (sign_check(&request, "token", made, 0, &err) < 0 || !str_starts(made, "v1_"))
        abort();
    if (!str_eq(text, made) && sign_check(&request, "token", text, 0, &err) == 0)
        abort();
    request.expiration = text;
    sign_make(&request, "token", made);
    if (sign_check(&request, "token", made, INT64_MAX, &err) == 0 && !str_eq(text, "") &&
        strstr(text, "9223372036854775807") == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_free_ char *text = mem_strndup((const char *)data, strnlen((const char *)data, size));
    struct err err;

    check_ranges(text, 1000);
    check_ranges(text, 0);
    check_ranges(text, INT64_MAX);
    check_date(text);
    check_disposition(text);
    check_params(text);
    check_sign(text);
    content_encoding_of(text);
    content_type_of(text);
    content_sniff(data, size < CONTENT_SNIFF_BYTES ? size : CONTENT_SNIFF_BYTES);
    files_meta_check(text, "value", &err);
    return 0;
}

/* GET /files: a regular file over HTTP. Rules: envd API section 7.5; RFC 9110 sections 13, 14. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <linux/magic.h>
#include <zlib.h>

#include "envd/content.h"
#include "envd/files.h"
#include "envd/route.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define PART_HEAD_MAX_BYTES 512

struct download {
    struct exchange *ex;
    int fd;
    struct stat st;
    const char *type;
};

/* A final path element for Content-Disposition. */
static int set_headers(struct download *down, const char *path)
{
    _cleanup_free_ char *name = path_name(path);
    _cleanup_(buf_clear) struct buf disposition;
    char date[CONTENT_DATE_SIZE];

    buf_init(&disposition, FILES_PATH_MAX_BYTES);
    content_disposition(name, &disposition);
    content_date(down->st.st_mtim.tv_sec, date);
    if (http_set_header(down->ex, "Content-Disposition", buf_str(&disposition)) < 0 ||
        http_set_header(down->ex, "Vary", "Accept-Encoding") < 0 ||
        http_set_header(down->ex, "Last-Modified", date) < 0 ||
        http_set_header(down->ex, "Accept-Ranges", "bytes") < 0)
        return -1;
    return 0;
}

/* Open PATH, but nothing that could hang or act on being opened. */
static int open_regular(const char *path, struct download *down, struct err *err)
{
    char text[FS_ERRNO_TEXT_SIZE];

    if (stat(path, &down->st) < 0) {
        if (errno == ENOENT)
            return err_set(err, ERR_NOT_FOUND, "path '%s' does not exist", path);
        return err_set(err, ERR_INTERNAL, "error checking if path exists '%s': stat %s: %s", path,
                       path, fs_errno_text(errno, text));
    }
    if (S_ISDIR(down->st.st_mode))
        return err_set(err, ERR_INVALID, "path '%s' is a directory", path);
    if (!S_ISREG(down->st.st_mode))
        return err_set(err, ERR_INVALID, "path '%s' is not a regular file", path);
    down->fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (down->fd < 0 || fstat(down->fd, &down->st) < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INTERNAL,
                       "error opening file '%s': %s", path, fs_errno_text(errno, text));
    if (!S_ISREG(down->st.st_mode)) /* changed in between */
        return err_set(err, ERR_INVALID, "path '%s' is not a regular file", path);
    return 0;
}

/* Files whose content the kernel makes up while they are read: their size says nothing. */
static bool is_generated(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    switch ((unsigned long)fs.f_type) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case SECURITYFS_MAGIC:
        return true;
    default:
        return false;
    }
}

static int read_failed(struct err *err, int errnum)
{
    char text[FS_ERRNO_TEXT_SIZE];

    return err_set(err, ERR_INTERNAL, "error reading file: %s", fs_errno_text(errnum, text));
}

/* By extension, else by content. */
static int find_type(struct download *down, const char *path, struct err *err)
{
    char head[CONTENT_SNIFF_BYTES];
    ssize_t len;

    down->type = content_type_of(path);
    if (down->type != NULL)
        return 0;
    len = pread(down->fd, head, sizeof(head), 0);
    if (len < 0)
        return read_failed(err, errno);
    down->type = content_sniff(head, (size_t)len);
    return 0;
}

/* Read to the end, whatever the size: chunked, or an honest length of 0. */
static int send_generated(struct download *down, struct err *err)
{
    _cleanup_free_ char *data = mem_zalloc(FILES_BUFFER_BYTES);
    ssize_t len = read(down->fd, data, FILES_BUFFER_BYTES);

    if (len < 0)
        return read_failed(err, errno);
    if (len == 0)
        return http_send(down->ex, 200, down->type, "", 0, err);
    if (http_begin(down->ex, 200, down->type, -1, err) < 0)
        return -1;
    while (len > 0) {
        if (http_write(down->ex, data, (size_t)len, err) < 0)
            return -1;
        len = read(down->fd, data, FILES_BUFFER_BYTES);
        if (len < 0)
            return read_failed(err, errno);
    }
    return http_end(down->ex, err);
}

/* Deflate the file into chunks. STREAM is initialised by the caller, who ends it too. */
static int deflate_file(struct download *down, z_stream *stream, struct err *err)
{
    _cleanup_free_ unsigned char *in = mem_zalloc(FILES_BUFFER_BYTES);
    _cleanup_free_ unsigned char *out = mem_zalloc(FILES_BUFFER_BYTES);
    bool last = false;
    int rc = Z_OK;

    while (rc != Z_STREAM_END) {
        if (stream->avail_in == 0 && !last) {
            ssize_t len = read(down->fd, in, FILES_BUFFER_BYTES);
            if (len < 0)
                return read_failed(err, errno);
            stream->next_in = in;
            stream->avail_in = (uInt)len;
            last = len == 0;
        }
        stream->next_out = out;
        stream->avail_out = FILES_BUFFER_BYTES;
        rc = deflate(stream, last ? Z_FINISH : Z_NO_FLUSH);
        if (rc != Z_OK && rc != Z_STREAM_END)
            return err_set(err, ERR_INTERNAL, "error compressing file");
        if (http_write(down->ex, out, FILES_BUFFER_BYTES - stream->avail_out, err) < 0)
            return -1;
    }
    return http_end(down->ex, err);
}

static int send_gzip(struct download *down, struct err *err)
{
    z_stream stream = {0};
    int rc;

    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK)
        return err_set(err, ERR_INTERNAL, "error compressing file");
    rc = http_set_header(down->ex, "Content-Encoding", "gzip");
    if (rc == 0)
        rc = http_begin(down->ex, 200, down->type, -1, err);
    if (rc == 0)
        rc = deflate_file(down, &stream, err);
    deflateEnd(&stream);
    return rc;
}

static bool has_any(struct exchange *ex, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (http_header(ex, names[i]) != NULL)
            return true;
    return false;
}

/* The status that conditional headers ask for: 200 (go on), 304 or 412. There is no ETag. */
static int check_conditions(const struct download *down)
{
    const char *match = http_header(down->ex, "if-match");
    const char *none_match = http_header(down->ex, "if-none-match");
    const char *unmodified = http_header(down->ex, "if-unmodified-since");
    const char *modified = http_header(down->ex, "if-modified-since");
    time_t mtime = down->st.st_mtim.tv_sec, since;

    if (match != NULL && match[0] != '\0' && !str_eq(match, "*"))
        return 412;
    if (match == NULL && unmodified != NULL && content_date_parse(unmodified, &since) &&
        mtime > since)
        return 412;
    if (none_match != NULL && none_match[0] != '\0')
        return str_eq(none_match, "*") ? 304 : 200;
    if (modified != NULL && content_date_parse(modified, &since) && mtime <= since)
        return 304;
    return 200;
}

/* The Range header, unless If-Range names another version than this one. */
static const char *wanted_range(const struct download *down)
{
    const char *only_if = http_header(down->ex, "if-range");
    time_t when;

    if (only_if != NULL && (!content_date_parse(only_if, &when) || when != down->st.st_mtim.tv_sec))
        return NULL;
    return http_header(down->ex, "range");
}

static void range_text(const struct content_range *range, int64_t size, char *out, size_t out_size)
{
    snprintf(out, out_size, "bytes %lld-%lld/%lld", (long long)range->start,
             (long long)(range->start + range->length - 1), (long long)size);
}

static int send_part(struct download *down, const struct content_range *range, struct err *err)
{
    char text[96];

    range_text(range, down->st.st_size, text, sizeof(text));
    if (http_set_header(down->ex, "Content-Range", text) < 0 ||
        http_begin(down->ex, 206, down->type, range->length, err) < 0 ||
        http_send_file(down->ex, down->fd, range->start, range->length, err) < 0)
        return -1;
    return http_end(down->ex, err);
}

/* The head of one part of multipart/byteranges. */
static size_t part_head(const struct download *down, const char *boundary,
                        const struct content_range *range, bool first, char *out)
{
    char text[96];

    range_text(range, down->st.st_size, text, sizeof(text));
    return (size_t)snprintf(out, PART_HEAD_MAX_BYTES,
                            "%s--%s\r\nContent-Range: %s\r\nContent-Type: %s\r\n\r\n",
                            first ? "" : "\r\n", boundary, text, down->type);
}

static int send_parts(struct download *down, const struct content_range *ranges, size_t count,
                      struct err *err)
{
    char boundary[41], type[96], head[PART_HEAD_MAX_BYTES], tail[64];
    int64_t length = 0;
    size_t tail_len;

    hash_random_id(boundary, sizeof(boundary) - 1);
    snprintf(type, sizeof(type), "multipart/byteranges; boundary=%s", boundary);
    tail_len = (size_t)snprintf(tail, sizeof(tail), "\r\n--%s--\r\n", boundary);
    for (size_t i = 0; i < count; i++)
        length += (int64_t)part_head(down, boundary, &ranges[i], i == 0, head) + ranges[i].length;
    if (http_begin(down->ex, 206, type, length + (int64_t)tail_len, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        size_t len = part_head(down, boundary, &ranges[i], i == 0, head);
        if (http_write(down->ex, head, len, err) < 0 ||
            http_send_file(down->ex, down->fd, ranges[i].start, ranges[i].length, err) < 0)
            return -1;
    }
    if (http_write(down->ex, tail, tail_len, err) < 0)
        return -1;
    return http_end(down->ex, err);
}

static int send_identity(struct download *down, struct err *err)
{
    struct content_range ranges[CONTENT_RANGES_MAX];
    int status = check_conditions(down);
    size_t count = 0;
    char text[64];

    if (status != 200)
        return http_send(down->ex, status, NULL, "", 0, err);
    switch (content_ranges_parse(wanted_range(down), down->st.st_size, ranges, &count)) {
    case CONTENT_PARTS:
        return count == 1 ? send_part(down, &ranges[0], err) : send_parts(down, ranges, count, err);
    case CONTENT_MALFORMED:
        return http_send_error(down->ex, 416, err, "invalid range");
    case CONTENT_UNSATISFIABLE:
        snprintf(text, sizeof(text), "bytes */%lld", (long long)down->st.st_size);
        http_set_header(down->ex, "Content-Range", text);
        return http_send_error(down->ex, 416, err, "invalid range: failed to overlap");
    case CONTENT_WHOLE:
        break;
    }
    if (http_begin(down->ex, 200, down->type, down->st.st_size, err) < 0 ||
        http_send_file(down->ex, down->fd, 0, down->st.st_size, err) < 0)
        return -1;
    return http_end(down->ex, err);
}

/* Identity is the answer wherever it is allowed; it alone knows ranges and conditions. */
static int send_file(struct download *down, struct err *err)
{
    static const char *const identity_only[] = {
        "range",    "if-match",          "if-none-match",
        "if-range", "if-modified-since", "if-unmodified-since"};
    enum content_encoding encoding = content_encoding_of(http_header(down->ex, "accept-encoding"));

    if (encoding == CONTENT_NONE ||
        (encoding == CONTENT_GZIP && has_any(down->ex, identity_only, array_size(identity_only))))
        return http_send_error(down->ex, 406, err,
                               "no acceptable encoding found, supported: identity, gzip");
    if (encoding == CONTENT_GZIP)
        return send_gzip(down, err);
    return is_generated(down->fd) ? send_generated(down, err) : send_identity(down, err);
}

int handle_files_get(struct exchange *ex, struct err *err)
{
    _cleanup_(files_request_clear) struct files_request request = {0};
    _cleanup_free_ char *path = NULL;
    struct download down = {.ex = ex, .fd = -1};
    int rc = -1;

    if (files_request_init(ex, "read", &request, err) < 0 ||
        path_expand(buf_str(&request.path), &request.base, &path, err) < 0)
        return -1;
    if (open_regular(path, &down, err) == 0 && find_type(&down, path, err) == 0) {
        rc = set_headers(&down, path);
        rc = rc < 0 ? err_set(err, ERR_INTERNAL, "bad file name") : send_file(&down, err);
    }
    if (down.fd >= 0)
        close(down.fd);
    return rc;
}

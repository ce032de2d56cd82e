/* GET /files: a regular file over HTTP. Rules: envd API section 7.5; RFC 9110 sections 13, 14. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <linux/magic.h>

#include "envd/content.h"
#include "envd/files.h"
#include "envd/files_send.h"
#include "envd/route.h"
#include "server/base/mem.h"
#include "server/base/str.h"

/* A final path element for Content-Disposition. */
static int set_headers(struct files_send *down, const char *path)
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
static int open_regular(const char *path, struct files_send *down, struct err *err)
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
static int find_type(struct files_send *down, const char *path, struct err *err)
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

static bool has_any(struct exchange *ex, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (http_header(ex, names[i]) != NULL)
            return true;
    return false;
}

/* The status that conditional headers ask for: 200 (go on), 304 or 412. There is no ETag. */
static int check_conditions(const struct files_send *down)
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
static const char *wanted_range(const struct files_send *down)
{
    const char *only_if = http_header(down->ex, "if-range");
    time_t when;

    if (only_if != NULL && (!content_date_parse(only_if, &when) || when != down->st.st_mtim.tv_sec))
        return NULL;
    return http_header(down->ex, "range");
}

/* An answer without the file. It has ended, so there is nothing to run. */
static int send_empty(struct files_send *down, int status, struct err *err)
{
    return http_send(down->ex, status, NULL, "", 0, err);
}

static int send_identity(struct files_send *down, struct err *err)
{
    struct content_range ranges[CONTENT_RANGES_MAX];
    int status = check_conditions(down);
    size_t count = 0;
    char text[64];

    if (status != 200)
        return send_empty(down, status, err);
    switch (content_ranges_parse(wanted_range(down), down->st.st_size, ranges, &count)) {
    case CONTENT_PARTS:
        return files_send_ranges(down, 206, ranges, count, err);
    case CONTENT_MALFORMED:
        return http_send_error(down->ex, 416, err, "invalid range");
    case CONTENT_UNSATISFIABLE:
        snprintf(text, sizeof(text), "bytes */%lld", (long long)down->st.st_size);
        http_set_header(down->ex, "Content-Range", text);
        return http_send_error(down->ex, 416, err, "invalid range: failed to overlap");
    case CONTENT_WHOLE:
        break;
    }
    ranges[0] = (struct content_range){.start = 0, .length = down->st.st_size};
    return files_send_ranges(down, 200, ranges, 1, err);
}

/* Identity is the answer wherever it is allowed; it alone knows ranges and conditions. */
static int send_file(struct files_send *down, struct err *err)
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
        return files_send_gzip(down, err);
    return is_generated(down->fd) ? files_send_generated(down, err) : send_identity(down, err);
}

/* Who asks, for which file, and what to answer. */
static int begin(struct files_send *down, struct err *err)
{
    _cleanup_(files_request_clear) struct files_request request = {0};
    _cleanup_free_ char *path = NULL;

    if (files_request_init(down->ex, "read", &request, err) < 0 ||
        path_expand(buf_str(&request.path), &request.base, &path, err) < 0 ||
        open_regular(path, down, err) < 0 || find_type(down, path, err) < 0)
        return -1;
    if (set_headers(down, path) < 0)
        return err_set(err, ERR_INTERNAL, "bad file name");
    return send_file(down, err);
}

int handle_files_get(struct exchange *ex, struct err *err)
{
    struct files_send *down = http_kept(ex);
    int rc;

    if (down == NULL) {
        down = files_send_new(ex);
        rc = begin(down, err);
        if (rc == HTTP_AGAIN) { /* from the start, later */
            files_send_free(down);
            http_keep(ex, NULL, NULL);
        }
        if (rc < 0)
            return rc;
    }
    return down->run != NULL ? files_send_run(down, err) : 0;
}

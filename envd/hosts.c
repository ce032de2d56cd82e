#include "envd/hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "server/base/buf.h"
#include "server/base/fd.h"
#include "server/base/mem.h"

/* One line of LEN bytes names it, in any field but the first. */
static bool names_it(const char *line, size_t len)
{
    const size_t word = strlen(HOSTS_EVENTS_NAME);
    size_t at = 0;

    while (at < len && line[at] != '#') {
        size_t end = at;
        while (end < len && strchr(" \t#", line[end]) == NULL)
            end++;
        if (at > 0 && end - at == word && memcmp(line + at, HOSTS_EVENTS_NAME, word) == 0)
            return true;
        at = end < len && line[end] != '#' ? end + 1 : end;
    }
    return false;
}

/* In place: where the file is a mount of its own it cannot be replaced. */
static int write_over(const char *path, const struct buf *text, struct err *err)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);

    if (fd < 0 || fd_write_full(fd, text->data, text->len) < 0 ||
        ftruncate(fd, (off_t)text->len) < 0)
        return err_sys(err, errno, "cannot write %s", path);
    return 0;
}

int hosts_set_events(const char *path, const char *ip, struct err *err)
{
    _cleanup_free_ char *old = NULL;
    struct err missing = {0};
    struct buf text;
    int rc;

    if (file_read(AT_FDCWD, path, HOSTS_FILE_MAX_BYTES, &old, NULL, &missing) < 0 &&
        missing.code != ERR_NOT_FOUND) {
        *err = missing;
        return -1;
    }
    buf_init(&text, HOSTS_FILE_MAX_BYTES + 256);
    for (const char *line = old; line != NULL && *line != '\0';) {
        size_t len = strcspn(line, "\n");
        if (!names_it(line, len)) {
            buf_add(&text, line, len);
            buf_add_char(&text, '\n');
        }
        line += len + (line[len] == '\n');
    }
    buf_add_str(&text, ip);
    rc = buf_add_str(&text, " " HOSTS_EVENTS_NAME "\n");
    rc = rc < 0 ? err_set(err, ERR_LIMIT, "%s is too long", path) : write_over(path, &text, err);
    buf_clear(&text);
    return rc;
}

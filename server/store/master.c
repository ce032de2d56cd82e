#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/store/store.h"

#define MASTER_BYTES 32
#define MASTER_FILE_MAX 256 /* bytes */

/*
 * Written under another name and linked: of two processes that start at once one wins, and neither
 * sees half a file.
 */
static int create(const char *path, struct err *err)
{
    uint8_t bytes[MASTER_BYTES];
    char text[2 * MASTER_BYTES + 2], suffix[9];
    _cleanup_free_ char *tmp = NULL;
    int rc = 0;

    hash_random(bytes, sizeof(bytes));
    hex_encode(bytes, sizeof(bytes), text);
    text[2 * MASTER_BYTES] = '\n';
    hash_random_id(suffix, sizeof(suffix) - 1);
    tmp = mem_asprintf("%s.new-%s", path, suffix);
    if (file_write_durable(AT_FDCWD, tmp, text, 2 * MASTER_BYTES + 1, 0600, err) < 0)
        rc = -1;
    else if (link(tmp, path) < 0 && errno != EEXIST)
        rc = err_sys(err, errno, "cannot create %s", path);
    unlink(tmp);
    secret_wipe(bytes, sizeof(bytes));
    secret_wipe(text, sizeof(text));
    return rc;
}

int store_master_secret(const char *state_dir, struct secret *out, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/master.key", state_dir);
    _cleanup_free_ char *text = NULL;
    uint8_t bytes[MASTER_BYTES];
    size_t len;
    int rc;

    if (access(path, F_OK) < 0 && errno == ENOENT && create(path, err) < 0)
        return -1;
    if (file_read(AT_FDCWD, path, MASTER_FILE_MAX, &text, &len, err) < 0)
        return -1;
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    rc = hex_decode(text, len, bytes, sizeof(bytes));
    secret_wipe(text, len);
    if (rc < 0)
        return err_set(err, ERR_INVALID, "%s must hold %d hex digits; it is never replaced", path,
                       2 * MASTER_BYTES);
    memcpy(out->bytes, bytes, sizeof(bytes));
    out->len = sizeof(bytes);
    secret_wipe(bytes, sizeof(bytes));
    return 0;
}

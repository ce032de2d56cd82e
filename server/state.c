#include "server/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/cmd.h"

char *state_db_dir(const struct settings *settings)
{
    return settings_state_path(settings, "db");
}

int state_make(const struct settings *settings, struct err *err)
{
    _cleanup_free_ char *db = state_db_dir(settings);
    const char *slash, *state = settings_text(settings, SETTING_STATE_DIR);

    slash = strrchr(state, '/');
    if (slash != NULL && slash != state) { /* folders above it are nobody's secret */
        _cleanup_free_ char *parent = mem_strndup(state, (size_t)(slash - state));
        if (dir_make(parent, 0755, err) < 0)
            return -1;
    }
    return dir_make(state, 0700, err) < 0 || dir_make(db, 0700, err) < 0 ? -1 : 0;
}

int state_store(const struct settings *settings, bool create, struct store **out, struct err *err)
{
    _cleanup_free_ char *db = state_db_dir(settings);
    _cleanup_free_ char *file = settings_state_path(settings, "db/sandpit.db");

    if (create && state_make(settings, err) < 0)
        return -1;
    if (!create && access(file, F_OK) < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND,
                       "no server has used %s yet: give --state-dir, or start sandpit serve",
                       settings_text(settings, SETTING_STATE_DIR));
    return store_open(db, out, err);
}

pid_t state_lock_holder(const struct settings *settings)
{
    _cleanup_free_ char *path = settings_state_path(settings, "server.lock");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (file < 0 || fcntl(file, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        return 0;
    return lock.l_pid;
}

/* A POSIX lock: a forked launcher does not inherit it, and F_GETLK tells who has it. */
int state_lock(const struct settings *settings, int *fd, struct err *err)
{
    _cleanup_free_ char *path = settings_state_path(settings, "server.lock");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    _cleanup_close_ int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (file < 0)
        return err_sys(err, errno, "cannot open %s", path);
    if (fcntl(file, F_SETLK, &lock) == 0) {
        *fd = steal_fd(&file);
        return 0;
    }
    if (errno != EACCES && errno != EAGAIN)
        return err_sys(err, errno, "cannot lock %s", path);
    return err_set(err, ERR_BUSY,
                   "another sandpit serve (process %d) uses %s: stop it, or give another "
                   "--state-dir",
                   (int)state_lock_holder(settings), settings_text(settings, SETTING_STATE_DIR));
}

/* Change owner of the entry NAME below DIRFD without following links. */
static int give_entry(int dirfd, const char *name, uid_t uid, gid_t gid, struct err *err)
{
    if (fchownat(dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot give %s to user %u", name, (unsigned)uid);
    return 0;
}

/* The folder NAME of the state and the files in it, which are all flat. */
static int give_folder(const struct settings *settings, const char *name, uid_t uid, gid_t gid,
                       struct err *err)
{
    _cleanup_free_ char *path = settings_state_path(settings, name);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
    struct dirent *entry;
    DIR *dir;

    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "cannot open %s", path);
    dir = fdopendir(fd);
    if (dir == NULL) {
        rc = err_sys(err, errno, "cannot read %s", path);
        fd_close(&fd);
        return rc;
    }
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        if (!str_eq(entry->d_name, "..") && !str_eq(entry->d_name, "."))
            rc = give_entry(fd, entry->d_name, uid, gid, err);
    }
    if (rc == 0 && fchown(fd, uid, gid) < 0)
        rc = err_sys(err, errno, "cannot give %s to user %u", path, (unsigned)uid);
    closedir(dir);
    return rc;
}

/* The server reads its own key again on SIGHUP; the CA's key is root's alone. */
static int give_tls(const struct settings *settings, uid_t uid, gid_t gid, struct err *err)
{
    static const struct {
        const char *name;
        bool server;
    } keys[] = {{"tls/ca.key", false}, {"tls/server.key", true}};
    _cleanup_free_ char *dir = settings_state_path(settings, "tls");

    if (give_folder(settings, "tls", 0, gid, err) < 0)
        return -1;
    for (size_t i = 0; i < array_size(keys); i++) {
        _cleanup_free_ char *path = settings_state_path(settings, keys[i].name);
        if (lchown(path, keys[i].server ? uid : 0, keys[i].server ? gid : 0) < 0 && errno != ENOENT)
            return err_sys(err, errno, "cannot set the owner of %s", path);
    }
    if (chmod(dir, 0750) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot let the server's group into %s", dir);
    return 0;
}

int state_give(const struct settings *settings, uid_t uid, gid_t gid, struct err *err)
{
    const char *state = settings_text(settings, SETTING_STATE_DIR);

    if (give_folder(settings, "db", uid, gid, err) < 0 || give_tls(settings, uid, gid, err) < 0)
        return -1;
    if (chown(state, 0, gid) < 0 || chmod(state, 0710) < 0)
        return err_sys(err, errno, "cannot let the server's group into %s", state);
    return 0;
}

int cmd_open_state(const char *state_dir, const char *config, bool creates,
                   struct settings *settings, struct store **store)
{
    struct err err = {0};

    if (cmd_state_settings(state_dir, config, settings, &err) < 0)
        return cmd_fail(&err);
    if (state_store(settings, creates, store, &err) < 0) {
        cmd_fail(&err);
        return EXIT_FAILED;
    }
    return 0;
}

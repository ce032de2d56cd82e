#include "server/privsep.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/base/str.h"

#define ACCOUNT "sandpit"
#define UID_MAX_VALUE 4294967294u /* (uid_t)-1 means "unchanged" to the kernel */

static int find_account(const char *name, struct privsep_user *out, struct err *err)
{
    const struct passwd *account = getpwnam(name);
    struct err ignored;
    uint64_t number;

    if (account == NULL &&
        str_to_u64(name, strlen(name), 0, UID_MAX_VALUE, "uid", &number, &ignored) == 0) {
        account = getpwuid((uid_t)number);
        if (account == NULL) {
            out->uid = (uid_t)number;
            out->gid = (gid_t)number;
            return 0;
        }
    }
    if (account == NULL)
        return err_set(err, ERR_INVALID, "--user: there is no account '%.64s'", name);
    out->uid = account->pw_uid;
    out->gid = account->pw_gid;
    return 0;
}

int privsep_find_user(const struct settings *settings, struct privsep_user *out, struct err *err)
{
    const char *name = settings_text(settings, SETTING_USER);
    struct privsep_user user;

    if (name == NULL && getpwnam(ACCOUNT) != NULL)
        name = ACCOUNT;
    if (name != NULL) {
        if (find_account(name, &user, err) < 0)
            return -1;
        if (user.uid == 0 || user.gid == 0)
            return err_set(err, ERR_INVALID, "--user: the network is not served as root");
    } else {
        user.uid = (uid_t)(settings->number[SETTING_ID_BASE] - 1);
        user.gid = (gid_t)user.uid;
    }
    *out = user;
    return 0;
}

/* The mount point of a line of mountinfo (its fifth field), or NULL. Changes the line. */
static char *mountinfo_target(char *line)
{
    char *rest = line, *field = NULL;

    for (int i = 0; i <= 4; i++) {
        field = strsep(&rest, " ");
        if (field == NULL)
            return NULL;
    }
    return field;
}

static bool below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return strncmp(path, dir, len) == 0 && path[len] == '/';
}

/* Best effort: a mount kept here costs space until this process ends, nothing else. */
static void let_go_of_mounts(const char *state_dir, const char *run_dir)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    _cleanup_free_ char *line = NULL;
    char **targets = NULL;
    size_t size = 0, count = 0, cap = 0;

    if (file == NULL)
        return;
    while (getline(&line, &size, file) > 0) {
        const char *target = mountinfo_target(line);
        if (target == NULL || (!below(target, state_dir) && !below(target, run_dir)))
            continue;
        if (count == cap) {
            cap = cap > 0 ? 2 * cap : 64;
            targets = mem_realloc_array(targets, cap, sizeof(*targets));
        }
        targets[count++] = mem_strdup(target);
    }
    fclose(file);
    while (count > 0) { /* the youngest first */
        umount2(targets[--count], MNT_DETACH | UMOUNT_NOFOLLOW);
        free(targets[count]);
    }
    free(targets);
}

int privsep_mounts(const char *state_dir, const char *run_dir, struct err *err)
{
    if (mkdir(PRIVSEP_ROOT, 0711) < 0 && errno != EEXIST)
        return err_sys(err, errno, "cannot create " PRIVSEP_ROOT);
    if (unshare(CLONE_NEWNS) < 0)
        return err_sys(err, errno, "cannot make a mount namespace for the server");
    /* a slave: nothing gets out, and what the host unmounts is not kept alive here */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_sys(err, errno, "cannot part the server's mounts from the host's");
    let_go_of_mounts(state_dir, run_dir);
    if (mount("sandpit", PRIVSEP_ROOT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "mode=0711,size=64k") < 0)
        return err_sys(err, errno, "cannot mount a tmpfs on " PRIVSEP_ROOT);
    if (mkdir(PRIVSEP_STATE, 0700) < 0 || mount(state_dir, PRIVSEP_STATE, NULL, MS_BIND, NULL) < 0)
        return err_sys(err, errno, "cannot bind %s for the server", state_dir);
    return 0;
}

static int clear_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return (int)syscall(SYS_capset, &header, data);
}

/* Nothing that is executed could get them back. There are fewer than 64; the rest fail. */
static void drop_bounding_set(void)
{
    for (unsigned long cap = 0; cap < 64; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static void set_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    limit.rlim_cur = limit.rlim_max = 0;
    setrlimit(RLIMIT_CORE, &limit);
}

static int set_dumpable(void)
{
#ifdef __SANITIZE_ADDRESS__
    return 0; /* the leak check at exit attaches to its own process */
#else
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

int privsep_drop(const struct privsep_user *user, struct err *err)
{
    set_limits();
    drop_bounding_set();
    if (setgroups(1, &user->gid) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return err_sys(err, errno, "cannot become user %u", (unsigned)user->uid);
    if (clear_capabilities() < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        set_dumpable() < 0)
        return err_sys(err, errno, "cannot give up privileges");
    if (setuid(0) == 0 || getuid() != user->uid || geteuid() != user->uid)
        return err_set(err, ERR_INTERNAL, "privileges are still there after giving them up");
    return 0;
}

#include "server/engine/local/rootfs_base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "server/base/buf.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/remove.h"

#define COPY_DEPTH_MAX 12
#define FINGERPRINT_MAX_BYTES (32 * 1024 * 1024)
#define LAYER_FORMAT "base layer 1\n" /* change it when the code that builds changes */

/* What is copied from the host's /etc: names or patterns, files or whole folders. */
static const char *const copied[] = {
    "alternatives",
    "ca-certificates.conf",
    "debian_version",
    "deluser.conf",
    "adduser.conf",
    "default/locale",
    "default/useradd",
    "ethertypes",
    "fonts",
    "gai.conf",
    "groff",
    "inputrc",
    "java-*-openjdk",
    "ImageMagick-*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.gen",
    "login.defs",
    "magic",
    "magic.mime",
    "mailcap",
    "manpath.config",
    "mime.types",
    "mke2fs.conf",
    "networks",
    "perl",
    "protocols",
    "python3",
    "python3.*",
    "rpc",
    "security/limits.conf",
    "security/pam_env.conf",
    "services",
    "sgml",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "vim",
    "wgetrc",
    "xattr.conf",
    "xml",
};

/* What is visible below /usr, when the host has it. */
static const char *const visible[] = {
    "bin",     "sbin",  "lib",   "lib32", "lib64",   "libx32",
    "libexec", "share", "local", "games", "include",
};

/* Links at the top of a merged-/usr system, made when the host has the folder in /usr. */
static const char *const merged[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};

/* A walk over what is copied: fingerprint it, or copy it below DEST. */
struct walk {
    int dest;                /* -1: fingerprint only */
    struct buf *fingerprint; /* NULL: copy only */
    struct err *err;
};

static int copy_file(struct walk *walk, int dirfd, const char *name, const char *path,
                     const struct stat *st)
{
    _cleanup_close_ int in = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_close_ int out = -1;
    off_t left = st->st_size;

    if (in < 0)
        return err_sys(walk->err, errno, "cannot open /etc/%s", path);
    out = openat(walk->dest, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                 st->st_mode & 0755);
    if (out < 0)
        return err_sys(walk->err, errno, "cannot create etc/%s", path);
    while (left > 0) {
        ssize_t n = sendfile(out, in, NULL, (size_t)left);
        if (n < 0)
            return err_sys(walk->err, errno, "cannot copy /etc/%s", path);
        if (n == 0)
            break; /* shrank meanwhile */
        left -= n;
    }
    return 0;
}

static int copy_link(struct walk *walk, int dirfd, const char *name, const char *path)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);

    if (n < 0)
        return err_sys(walk->err, errno, "cannot read the link /etc/%s", path);
    target[n] = '\0';
    if (symlinkat(target, walk->dest, path) < 0 && errno != EEXIST)
        return err_sys(walk->err, errno, "cannot create etc/%s", path);
    return 0;
}

static int visit(struct walk *walk, int dirfd, const char *name, const char *path, int depth);

static int visit_folder(struct walk *walk, int dirfd, const char *name, const char *path, int depth)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct dirent **entries = NULL;
    int count, rc = 0;

    if (fd < 0)
        return err_sys(walk->err, errno, "cannot open /etc/%s", path);
    if (walk->dest >= 0 && mkdirat(walk->dest, path, 0755) < 0 && errno != EEXIST) {
        rc = err_sys(walk->err, errno, "cannot create etc/%s", path);
        fd_close(&fd);
        return rc;
    }
    count = scandirat(fd, ".", &entries, NULL, alphasort); /* sorted: the fingerprint is stable */
    for (int i = 0; i < count; i++) {
        _cleanup_free_ struct dirent *entry = entries[i];
        if (rc < 0 || str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
            continue;
        _cleanup_free_ char *child = mem_asprintf("%s/%s", path, entry->d_name);
        rc = visit(walk, fd, entry->d_name, child, depth + 1);
    }
    free(entries);
    fd_close(&fd);
    return rc;
}

/* NAME below DIRFD, which is /etc/PATH. What not everybody may read does not exist for us. */
static int visit(struct walk *walk, int dirfd, const char *name, const char *path, int depth)
{
    struct stat st;

    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_sys(walk->err, errno, "cannot look at /etc/%s", path);
    if (!S_ISLNK(st.st_mode) && (st.st_mode & S_IROTH) == 0)
        return 0;
    if (walk->fingerprint != NULL)
        buf_printf(walk->fingerprint, "%s %o %lld %lld.%09ld\n", path, st.st_mode,
                   (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    if (S_ISDIR(st.st_mode))
        return depth >= COPY_DEPTH_MAX ? 0 : visit_folder(walk, dirfd, name, path, depth);
    if (walk->dest < 0)
        return 0;
    if (S_ISREG(st.st_mode))
        return copy_file(walk, dirfd, name, path, &st);
    return S_ISLNK(st.st_mode) ? copy_link(walk, dirfd, name, path) : 0;
}

/* An entry of the list with '*' in its last (only) part: every name of /etc that matches. */
static int visit_pattern(struct walk *walk, int etc, const char *pattern)
{
    struct dirent **entries = NULL;
    int count = scandirat(etc, ".", &entries, NULL, alphasort);
    int rc = 0;

    for (int i = 0; i < count; i++) {
        _cleanup_free_ struct dirent *entry = entries[i];
        if (rc == 0 && fnmatch(pattern, entry->d_name, FNM_PERIOD) == 0)
            rc = visit(walk, etc, entry->d_name, entry->d_name, 0);
    }
    free(entries);
    return rc;
}

static int visit_all(struct walk *walk)
{
    _cleanup_close_ int etc = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (etc < 0)
        return err_sys(walk->err, errno, "cannot open /etc");
    for (size_t i = 0; i < array_size(copied); i++) {
        int rc = strchr(copied[i], '*') != NULL ? visit_pattern(walk, etc, copied[i])
                                                : visit(walk, etc, copied[i], copied[i], 0);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* FN for each name at the top of the host's /usr that a sandbox must not see. */
static int each_hidden(int (*fn)(void *ctx, const char *name), void *ctx, struct err *err)
{
    struct dirent **entries = NULL;
    int count = scandir("/usr", &entries, NULL, alphasort);
    int rc = 0;

    if (count < 0)
        return err_sys(err, errno, "cannot read /usr");
    for (int i = 0; i < count; i++) {
        _cleanup_free_ struct dirent *entry = entries[i];
        bool shown =
            entry->d_name[0] == '.' && (entry->d_name[1] == '\0' || str_eq(entry->d_name, ".."));
        for (size_t j = 0; j < array_size(visible); j++)
            shown |= str_eq(entry->d_name, visible[j]);
        if (!shown && rc == 0)
            rc = fn(ctx, entry->d_name);
    }
    free(entries);
    return rc < 0 ? err_sys(err, errno, "cannot hide a folder of /usr") : 0;
}

static int print_hidden(void *ctx, const char *name)
{
    return buf_printf(ctx, "hidden %s\n", name);
}

/* Overlay's sign for "deleted here": a character device 0:0. */
static int make_whiteout(void *ctx, const char *name)
{
    return mknodat(*(int *)ctx, name, S_IFCHR, makedev(0, 0));
}

static int digest(char out[SHA256_HEX_SIZE], struct err *err)
{
    _cleanup_buf_ struct buf text;
    struct walk walk = {.dest = -1, .fingerprint = &text, .err = err};

    buf_init(&text, FINGERPRINT_MAX_BYTES);
    buf_add_str(&text, LAYER_FORMAT);
    for (size_t i = 0; i < base_entry_count; i++)
        buf_printf(&text, "%s %o %u %s\n", base_entries[i].path, base_entries[i].mode,
                   base_entries[i].uid, base_entries[i].text != NULL ? base_entries[i].text : "");
    for (size_t i = 0; i < array_size(merged); i++) {
        _cleanup_free_ char *path = mem_asprintf("/usr/%s", merged[i]);
        if (access(path, F_OK) == 0)
            buf_printf(&text, "merged %s\n", merged[i]);
    }
    if (visit_all(&walk) < 0 || each_hidden(print_hidden, &text, err) < 0)
        return -1;
    if (text.overflow)
        return err_set(err, ERR_LIMIT, "too many files in /etc for the base template");
    hash_sha256_hex(text.data, text.len, out);
    return 0;
}

static int make_entry(int root, const struct base_entry *entry, struct err *err)
{
    mode_t mode = entry->mode & 07777;

    if (S_ISLNK(entry->mode)) {
        if (symlinkat(entry->text, root, entry->path) < 0)
            return err_sys(err, errno, "cannot create %s", entry->path);
        return 0;
    }
    if (S_ISDIR(entry->mode)) {
        if (mkdirat(root, entry->path, mode) < 0)
            return err_sys(err, errno, "cannot create %s", entry->path);
    } else {
        _cleanup_close_ int fd =
            openat(root, entry->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd < 0 || fd_write_full(fd, entry->text, strlen(entry->text)) < 0)
            return err_sys(err, errno, "cannot write %s", entry->path);
    }
    if (fchownat(root, entry->path, entry->uid, entry->uid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchmodat(root, entry->path, mode, 0) < 0) /* past the umask */
        return err_sys(err, errno, "cannot give away %s", entry->path);
    return 0;
}

static int make_merged(int root, struct err *err)
{
    for (size_t i = 0; i < array_size(merged); i++) {
        _cleanup_free_ char *path = mem_asprintf("/usr/%s", merged[i]);
        if (access(path, F_OK) == 0 && symlinkat(path + 1, root, merged[i]) < 0)
            return err_sys(err, errno, "cannot create the link %s", merged[i]);
    }
    return 0;
}

static int fill(int layer, struct err *err)
{
    _cleanup_close_ int root = -1, usr = -1, etc = -1;

    if (mkdirat(layer, "root", 0755) < 0 || mkdirat(layer, "usr", 0755) < 0)
        return err_sys(err, errno, "cannot create the base layer's folders");
    root = openat(layer, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    usr = openat(layer, "usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || usr < 0)
        return err_sys(err, errno, "cannot open the base layer's folders");
    for (size_t i = 0; i < base_entry_count; i++) {
        if (make_entry(root, &base_entries[i], err) < 0)
            return -1;
    }
    etc = openat(root, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct walk walk = {.dest = etc, .err = err};
    if (visit_all(&walk) < 0 || make_merged(root, err) < 0)
        return -1;
    return each_hidden(make_whiteout, &usr, err);
}

int rootfs_base_make(const char *layers, char **out, struct err *err)
{
    _cleanup_close_ int dir = -1, layer = -1;
    char hex[SHA256_HEX_SIZE], name[48], tmp[64];

    if (dir_make(layers, 0700, err) < 0 || digest(hex, err) < 0)
        return -1;
    dir = open(layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, errno, "cannot open %s", layers);
    snprintf(name, sizeof(name), "base-%.16s", hex);
    snprintf(tmp, sizeof(tmp), "%s.tmp", name);
    if (faccessat(dir, name, F_OK, 0) < 0) {
        /* Only one launcher has this state folder (launcher.h): an old temporary is a leftover. */
        if (remove_tree(dir, tmp, err) < 0)
            return -1;
        umask(0022);
        if (mkdirat(dir, tmp, 0755) < 0 ||
            (layer = openat(dir, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
            return err_sys(err, errno, "cannot create %s/%s", layers, tmp);
        if (fill(layer, err) < 0)
            return err_wrap(err, "base layer");
        if (syncfs(layer) < 0 || renameat(dir, tmp, dir, name) < 0)
            return err_sys(err, errno, "cannot finish %s/%s", layers, name);
    }
    *out = mem_asprintf("%s/%s", layers, name);
    return 0;
}

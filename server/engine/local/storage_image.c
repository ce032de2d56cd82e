#include "server/engine/local/storage_image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/engine/local/remove.h"
#include "server/engine/local/storage_btrfs.h"
#include "server/engine/local/sys.h"

#define ATTACH_TRIES 50
#define ATTACH_PAUSE_MS 20
#define LOOP_NODE_SIZE 256

/* An open loop device and a path of its node. */
struct loop_device {
    int fd;
    char node[LOOP_NODE_SIZE];
    bool made; /* the node is ours, to be removed */
};

static const char *find_mkfs(void)
{
    static const char *const paths[] = {"/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs",
                                        "/usr/bin/mkfs.btrfs", "/usr/local/sbin/mkfs.btrfs"};

    for (size_t i = 0; i < array_size(paths); i++) {
        if (access(paths[i], X_OK) == 0)
            return paths[i];
    }
    return NULL;
}

static bool kernel_has_btrfs(void)
{
    _cleanup_free_ char *text = NULL;
    struct err err = {0};

    if (file_read(AT_FDCWD, "/proc/filesystems", 65536, &text, NULL, &err) < 0)
        return false;
    if (strstr(text, "\tbtrfs\n") != NULL)
        return true;
    /* A module is loaded by the first mount; mkfs needs none. */
    return access("/sbin/modprobe", X_OK) == 0 &&
           sys_run((const char *const[]){"/sbin/modprobe", "-q", "btrfs", NULL}) == 0;
}

bool image_possible(char *why, size_t why_size, char *remedy, size_t remedy_size)
{
    const char *what = NULL, *how = NULL;

    if (find_mkfs() == NULL) {
        what = "mkfs.btrfs is not installed";
        how = "apt-get install btrfs-progs";
    } else if (!kernel_has_btrfs()) {
        what = "this kernel has no btrfs";
        how = "modprobe btrfs, or use a kernel with it";
    } else if (access("/dev/loop-control", R_OK | W_OK) < 0) {
        what = "there is no /dev/loop-control";
        how = "modprobe loop; in a container use docker run --privileged -v /dev:/dev";
    }
    if (what == NULL)
        return true;
    snprintf(why, why_size, "%s", what);
    if (remedy != NULL)
        snprintf(remedy, remedy_size, "%s", how);
    return false;
}

int image_make(int state, const char *state_path, const char *name, uint64_t bytes, struct err *err)
{
    _cleanup_free_ char *fresh = mem_asprintf("%s.new", name);
    _cleanup_free_ char *path = mem_asprintf("%s/%s", state_path, fresh);
    _cleanup_close_ int fd = -1;
    struct err ignored = {0};
    const char *mkfs = find_mkfs();

    if (remove_tree(state, fresh, err) < 0)
        return -1;
    fd = openat(state, fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        return err_sys(err, errno, "cannot create %s", path);
    const char *const argv[] = {mkfs,     "-q", "-K",      "-m", "single", "-d",
                                "single", "-L", "sandpit", path, NULL};
    int status = mkfs == NULL ? -1 : sys_run(argv);
    if (status != 0) {
        remove_tree(state, fresh, &ignored);
        return err_set(err, ERR_INTERNAL, "mkfs.btrfs on %s failed (%d)", path, status);
    }
    if (fsync(fd) < 0 || renameat(state, fresh, state, name) < 0 || fsync(state) < 0)
        return err_sys(err, errno, "cannot finish %s", path);
    return 0;
}

/* As the kernel writes a device's number in lo_device. */
static uint64_t kernel_dev(dev_t dev)
{
    return (minor(dev) & 0xffu) | ((uint64_t)major(dev) << 8) | ((minor(dev) & ~0xffu) << 12);
}

/* Open loop device NUMBER, by a node of our own in SCRATCH where /dev has none. */
static int loop_open(unsigned number, const char *scratch, struct loop_device *out)
{
    snprintf(out->node, sizeof(out->node), "/dev/loop%u", number);
    out->made = false;
    out->fd = open(out->node, O_RDWR | O_CLOEXEC);
    if (out->fd >= 0 || errno != ENOENT)
        return out->fd < 0 ? -1 : 0;
    snprintf(out->node, sizeof(out->node), "%.200s/loop%u", scratch, number);
    if (mknod(out->node, S_IFBLK | 0600, makedev(LOOP_MAJOR, number)) < 0 && errno != EEXIST)
        return -1;
    out->fd = open(out->node, O_RDWR | O_CLOEXEC);
    if (out->fd < 0) {
        unlink(out->node);
        return -1;
    }
    out->made = true;
    return 0;
}

static void loop_close(struct loop_device *device)
{
    fd_close(&device->fd);
    if (device->made)
        unlink(device->node);
    device->made = false;
}

/* Is DEVICE on the file that ST describes? */
static bool loop_is_on(const struct loop_device *device, const struct stat *st)
{
    struct loop_info64 info;

    return ioctl(device->fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_inode == st->st_ino &&
           info.lo_device == kernel_dev(st->st_dev);
}

/* Is the device called NAME ("loop7") on the file of ST? Open then. */
static bool loop_try(const char *name, const struct stat *st, const char *scratch,
                     struct loop_device *out)
{
    _cleanup_free_ char *path = mem_asprintf("/sys/block/%s/loop/backing_file", name);
    struct err err = {0};
    uint64_t number;

    if (!str_starts(name, "loop") || access(path, F_OK) < 0 ||
        str_to_u64(name + 4, strlen(name + 4), 0, UINT32_MAX, "loop", &number, &err) < 0 ||
        loop_open((unsigned)number, scratch, out) < 0)
        return false;
    if (loop_is_on(out, st))
        return true;
    loop_close(out);
    return false;
}

/* The device that is on the file already: sandboxes of an earlier launcher keep it. */
static bool loop_find(const struct stat *st, const char *scratch, struct loop_device *out)
{
    DIR *dir = opendir("/sys/block");
    struct dirent *entry;
    bool found = false;

    while (dir != NULL && !found && (entry = readdir(dir)) != NULL)
        found = loop_try(entry->d_name, st, scratch, out);
    if (dir != NULL)
        closedir(dir);
    return found;
}

/* Put a free device on FILE. Returns 0, or -1 with errno (EBUSY: somebody else was faster). */
static int loop_attach(int file, const char *scratch, struct loop_device *out)
{
    _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    struct loop_config config = {
        .fd = (uint32_t)file,
        .block_size = 4096,
        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO},
    };
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);

    if (number < 0 || loop_open((unsigned)number, scratch, out) < 0)
        return -1;
    if (ioctl(out->fd, LOOP_CONFIGURE, &config) == 0)
        return 0;
    if (errno == EINVAL) { /* no direct I/O here */
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
        if (ioctl(out->fd, LOOP_CONFIGURE, &config) == 0)
            return 0;
    }
    int errnum = errno;
    loop_close(out);
    errno = errnum;
    return -1;
}

static int loop_get(int file, const char *scratch, struct loop_device *out, struct err *err)
{
    static const struct timespec pause = {.tv_nsec = ATTACH_PAUSE_MS * 1000000L};
    struct stat st;

    if (fstat(file, &st) < 0)
        return err_sys(err, errno, "cannot look at the storage's image");
    for (int i = 0; i < ATTACH_TRIES; i++) {
        /* Held open from now on: a device that is found cannot go before it is mounted. */
        if (loop_find(&st, scratch, out) || loop_attach(file, scratch, out) == 0)
            return 0;
        if (errno != EBUSY && errno != ENXIO)
            break;
        nanosleep(&pause, NULL);
    }
    return err_sys(err, errno, "cannot get a loop device for the storage's image");
}

/* Returns whether the image was too small, or -1. */
static int grow_file(int file, const struct loop_device *device, uint64_t bytes, struct err *err)
{
    struct stat st;

    if (fstat(file, &st) < 0)
        return err_sys(err, errno, "cannot look at the storage's image");
    if ((uint64_t)st.st_size >= bytes)
        return 0;
    if (ftruncate(file, (off_t)bytes) < 0 || ioctl(device->fd, LOOP_SET_CAPACITY) < 0)
        return err_sys(err, errno, "cannot grow the storage's image");
    return 1;
}

int image_mount(int state, const char *name, const char *at, const char *scratch, uint64_t bytes,
                struct err *err)
{
    _cleanup_close_ int file = openat(state, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC), top = -1;
    struct loop_device device = {.fd = -1};
    int grown;

    if (file < 0)
        return err_sys(err, errno, "cannot open the storage's image %s", name);
    if (loop_get(file, scratch, &device, err) < 0)
        return -1;
    grown = grow_file(file, &device, bytes, err);
    if (grown >= 0 &&
        mount(device.node, at, "btrfs", MS_NOSUID | MS_NODEV | MS_NOATIME, "discard=async") < 0 &&
        mount(device.node, at, "btrfs", MS_NOSUID | MS_NODEV | MS_NOATIME, NULL) < 0)
        grown = err_sys(err, errno, "cannot mount the storage's image %s at %s", name, at);
    loop_close(&device);
    if (grown <= 0)
        return grown;
    top = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return top < 0 ? err_sys(err, errno, "cannot open %s", at) : btrfs_grow(top, err);
}

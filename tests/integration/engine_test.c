/*
 * tests/integration/engine_test.c - the local engine with real namespaces, as root.
 *
 * usage: engine_test ENVD      ENVD is engine_init (engine_init.c), which runs commands
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/engine/local/cgroup.h"
#include "server/engine/local/launcher_proto.h"
#include "server/engine/local/sys.h"
#include "tests/integration/engine_lib.h"

#define MEMORY_LIMIT_MB 64
#define PIDS_LIMIT 64

static bool shows(const char *text)
{
    return strstr(output, text) != NULL;
}

/* Wait up to 5 s for COMMAND to succeed on this side. */
static bool comes_true(const char *command)
{
    for (int i = 0; i < 100; i++) {
        if (run_here(command) == 0)
            return true;
        usleep(50000);
    }
    return false;
}

static void test_create(void)
{
    struct engine_spec spec = spec_default;
    struct err err = {0};

    check_err(create("a", &err), &err, "a sandbox is created");
    check(run_in("a", "config") == 0 && shows("configuration"), "its init gets its configuration");
    check(run_in("a", "id -u; hostname; echo $$") == 0 && shows("0\ne2b.local"),
          "a command runs in it as root");
    check(run_in("a", "su user -c 'id -un; pwd; sudo -n id -u'") == 0 && shows("user\n") &&
              shows("\n0"),
          "user `user` becomes root by sudo");
    check(run_in("a", "touch /usr/bin/new /home/user/x /etc/x /tmp/x && chown user:user /tmp/x "
                      "/usr/bin/new && rm /usr/bin/env && ! test -e /usr/bin/env") == 0 &&
              access("/usr/bin/env", X_OK) == 0 && access("/usr/bin/new", F_OK) != 0,
          "files of /usr can be written, changed and removed inside and stay whole outside");
    check(run_in("a", "strace -o /dev/null true || ! test -x /usr/bin/strace") == 0,
          "a debugger works on its own children");
    check(create("a", &err) < 0 && err.code == ERR_EXISTS, "a second one of that id is refused");
    spec.id = "b";
    spec.template_id = "other";
    check(create_with(&spec, &err) < 0 && err.code == ERR_NOT_FOUND,
          "an unknown template is refused");
    spec.template_id = "base";
    spec.memory_mb = 1;
    check(create_with(&spec, &err) < 0 && err.code == ERR_INVALID, "a senseless limit is refused");
    spec.id = "../a";
    check(create_with(&spec, &err) < 0 && err.code == ERR_INVALID, "a path as an id is refused");
}

static void test_dial(void)
{
    struct err err = {0};
    int fd;

    check(dial("nobody", 80, false, &err) < 0 && err.code == ERR_NOT_FOUND,
          "dial of an unknown sandbox says so");
    err = (struct err){0};
    check(dial("a", 4, false, &err) < 0 && err.code != ERR_NOT_FOUND && err.code != ERR_NONE,
          "dial of a closed port is refused");
    run_in("a", "python3 -m http.server 8000 --bind ::1 >/dev/null 2>&1 & sleep 1");
    fd = dial("a", 8000, true, &err);
    check_err(fd < 0 ? -1 : 0, &err, "dial reaches a server on [::1]");
    fd_close(&fd);
}

static void test_memory(void)
{
    struct engine_spec spec = spec_default;
    struct err err = {0};

    spec.id = "hog";
    spec.memory_mb = MEMORY_LIMIT_MB;
    check_err(create_with(&spec, &err), &err, "a sandbox with little memory is created");
    check(run_in("hog", "python3 -c 'x = bytearray(200 << 20)'") == 137, "a memory hog is killed");
    check(run_in("hog", "dd if=/dev/zero of=/dev/shm/f bs=1M count=200") != 0,
          "a hog of shared memory too");
    run_in("hog", "rm -f /dev/shm/f");
    check(run_in("hog", "echo alive") == 0 && shows("alive"), "its init lives on");
    check(run_in("a", "echo alive") == 0 && shows("alive"), "and so do the others");
    check_err(engine->ops->destroy(engine, "hog", NULL, &err), &err, "it is destroyed");
}

static void test_fork_bomb(void)
{
    struct engine_spec spec = spec_default;
    struct err err = {0};
    int64_t started_mono_ms;

    spec.id = "bomb";
    spec.pids_max = PIDS_LIMIT;
    check_err(create_with(&spec, &err), &err, "a sandbox with few processes is created");
    /* Bounded by time as well, should the limit not hold. */
    run_in("bomb", "(timeout 20 sh -c 'f() { f | f & }; f' >/dev/null 2>&1 &)");
    usleep(300000);
    started_mono_ms = time_mono_ms();
    check(run_in("a", "echo alive") == 0 && time_mono_ms() - started_mono_ms < 2000,
          "beside a fork bomb others answer");
    check(run_here("for f in /sys/fs/cgroup/pids/sandpit-*/slot-*/pids.current "
                   "/sys/fs/cgroup/sandpit-*/slot-*/pids.current; do "
                   "[ ! -e $f ] || [ $(cat $f) -le 128 ] || exit 1; done") == 0,
          "its processes stay within the limit");
    check_err(engine->ops->destroy(engine, "bomb", NULL, &err), &err, "it is destroyed");
}

static void test_cpu(void)
{
    struct engine_spec spec = spec_default;
    struct err err = {0};

    spec.id = "spin";
    spec.cpu_count = 1;
    check_err(create_with(&spec, &err), &err, "a sandbox with one CPU is created");
    /* Three busy processes for 1 s of wall time may use about 1 s of CPU. */
    run_in("spin", "for i in 1 2 3; do timeout 1 sh -c 'while :; do :; done' & done; wait; times");
    double used_s = 0;
    for (char *at = output; (at = strchr(at, 'm')) != NULL; at++)
        used_s += strtod(at + 1, NULL);
    check(used_s < 1.6, "its processes together get no more than that");
    engine->ops->destroy(engine, "spin", NULL, &err);
}

/* What root inside tries; each command must fail. */
static void test_escape_commands(void)
{
    static const struct {
        const char *command;
        const char *what;
    } cases[] = {
        {"mount -t tmpfs none /mnt", "mount is refused"},
        {"mount -t proc proc /mnt", "mount of proc is refused"},
        {"mount -o remount,rw /proc/sys", "remount is refused"},
        {"umount /proc/kcore", "umount is refused"},
        {"unshare -U true", "user namespaces are refused"},
        {"unshare -m true", "mount namespaces are refused"},
        {"nsenter -t 1 -m true", "entering namespaces is refused"},
        {"mknod /tmp/disk b 254 0", "a block device is refused"},
        {"mknod /tmp/mem c 1 1", "a character device is refused"},
        {"cat /dev/mem /dev/kmsg /dev/vda", "host devices are not there"},
        {"head -c1 /proc/kcore | grep -q .", "/proc/kcore is empty"},
        {"echo 1 > /proc/sysrq-trigger", "sysrq is refused"},
        {"echo 1 > /proc/sys/kernel/core_pattern", "core_pattern cannot be set"},
        {"echo x > /proc/sys/kernel/hostname", "sysctl cannot be set"},
        {"ls -d /sys/fs/cgroup/memory /sys/fs/cgroup/cgroup.procs", "no cgroup files are there"},
        {"find / -xdev -name cgroup.procs 2>/dev/null | grep -q .", "nor anywhere else"},
        {"mkdir /tmp/cg && mount -t cgroup -o memory cgroup /tmp/cg", "cgroups are not mounted"},
        {"prlimit --nofile=1000000000:1000000000 true", "limits cannot be raised"},
        {"ip link set eth0 down", "its network link cannot be changed"},
        {"ip addr add 100.64.0.6/30 dev eth0", "it takes no other address"},
        {"hostname other", "its host name cannot be changed"},
        {"dmesg", "the kernel's log cannot be read"},
        {"insmod /tmp/x.ko", "modules cannot be loaded"},
        {"python3 -c 'import socket; socket.socket(40, socket.SOCK_STREAM)'", "no vsock"},
        {"python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'",
         "no packet sockets"},
        {"python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(425, 1, 0) < 0)'",
         "no io_uring"},
        {"python3 -c 'import fcntl, os; fcntl.ioctl(os.openpty()[1], 0x5412, b\"x\")'",
         "no typing into terminals"},
        {"echo > /proc/1/exe", "the host's envd cannot be written"},
        {"ls /usr/src 2>/dev/null | grep -q .", "what is not listed of /usr is hidden"},
        {"ls /work /opt/* /mnt/* /srv/* 2>/dev/null | grep -q .", "no other folder is visible"},
        {"cat /etc/ssh/* /etc/machine-id /root/.ssh/* 2>/dev/null | grep -q .",
         "no secrets of the host's /etc"},
        {"test $(ls -d /proc/[0-9]* | wc -l) -gt 12", "host processes are invisible"},
        {"readlink /proc/self/root/../../../proc/1/cwd | grep -v '^/$' | grep -q .",
         "no working folder outside"},
    };

    for (size_t i = 0; i < array_size(cases); i++) {
        int status = run_in("a", cases[i].command);
        check(status > 0, cases[i].what);
        if (status <= 0)
            printf("       status %d: %s\n", status, output);
    }
}

static void test_escape_files(void)
{
    char path[] = "/var/tmp/engine-secret-XXXXXX", command[256];
    int fd = mkstemp(path);

    check(fd >= 0 && write(fd, "host-secret-4711\n", 17) == 17, "a host file is made");
    snprintf(command, sizeof(command), "cat %s", path);
    check(run_in("a", command) != 0 && !shows("host-secret"), "a host file is not readable");
    check(run_in("a", "grep -rl host-secret-4711 /var /tmp /root /home /etc /run 2>/dev/null") != 0,
          "nor found anywhere");
    check(run_in("a", "cat /proc/self/mountinfo") == 0 && !shows("/var/tmp/engine-test"),
          "mounts do not show where the state is");
    check(run_in("a", "cat /etc/passwd /etc/shadow") == 0 && shows("user:x:1000") &&
              !shows("$y$") && !shows("$6$"),
          "no password of the host is there");
    check(run_in("a", "cp /bin/sh /tmp/rootsh && chmod 6755 /tmp/rootsh") == 0 &&
              run_here("su -s /bin/sh nobody -c 'find /var/tmp/engine-test-*/state/sandboxes "
                       "2>/dev/null | grep -q rootsh'") != 0,
          "a host user does not reach set-user-ID files of a sandbox");
    fd_close(&fd);
    unlink(path);
}

static void test_ids(void)
{
    char first[128];
    struct err err = {0};

    create("ids", &err);
    run_in("a", "cat /proc/self/uid_map");
    snprintf(first, sizeof(first), "%.100s", output);
    run_in("ids", "cat /proc/self/uid_map");
    check(shows("65536") && !str_eq(first, output), "two sandboxes share no id");
    check(run_in("ids", "cat /proc/self/gid_map") == 0 && shows("65536"), "groups are mapped too");
    engine->ops->destroy(engine, "ids", NULL, &err);
}

/* A TCP connection from sandbox ID to ADDRESS:PORT within 2 s. */
static bool reaches(const char *id, const char *address, int port)
{
    char command[256];

    snprintf(command, sizeof(command),
             "python3 -c \"import socket; socket.create_connection(('%s', %d), 2)\"", address,
             port);
    return run_in(id, command) == 0;
}

/* COMMAND ends a part of egress; sandbox "a" is online again within 5 s. */
static void check_recovery(const char *command, const char *what)
{
    bool online = false;

    run_here(command);
    for (int i = 0; i < 25 && !online; i++) {
        usleep(200000);
        online = reaches("a", INTERNET_ADDRESS, 80);
    }
    check(online, what);
}

static void test_network(void)
{
    static const char *const host_addresses[] = {"127.0.0.1",  HOST_ADDRESS,      "10.0.2.2",
                                                 "100.64.0.1", "169.254.169.254", "10.9.9.9"};
    struct engine_spec spec = spec_default;
    struct err err = {0};
    pid_t server = fork();
    char address[64];

    if (server == 0) {
        execlp("python3", "python3", "-m", "http.server", "8765", "--bind", "0.0.0.0",
               "--directory", "/usr/share/common-licenses", (char *)NULL);
        _exit(1);
    }
    check(comes_true("python3 -c \"import socket; socket.create_connection(('127.0.0.1', 8765))\""),
          "the host's own server runs");
    check(comes_true("python3 -c \"import socket; socket.create_connection(('" INTERNET_ADDRESS
                     "', 80), 1)\""),
          "the host reaches the internet");
    bool online = false;
    for (int i = 0; i < 40 && !online; i++) { /* slirp4netns may still be starting */
        online = reaches("a", INTERNET_ADDRESS, 80);
        usleep(100000);
    }
    check(online, "a sandbox reaches the internet");
    for (size_t i = 0; i < array_size(host_addresses); i++) {
        char what[96];
        int port = str_eq(host_addresses[i], "10.9.9.9") ? 80 : 8765;
        snprintf(what, sizeof(what), "a sandbox does not reach %s", host_addresses[i]);
        check(!reaches("a", host_addresses[i], port), what);
    }
    check_err(create("peer", &err), &err, "another sandbox is created");
    run_in("peer", "ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'");
    snprintf(address, sizeof(address), "%.*s", (int)strcspn(output, "\n"), output);
    run_in("peer", "python3 -m http.server 8000 >/dev/null 2>&1 & sleep 1");
    check(reaches("peer", address, 8000), "its server answers itself");
    check(!reaches("a", address, 8000), "but not another sandbox");
    check_err(engine->ops->set_network(engine, "peer", false, NULL, &err), &err,
              "internet is switched off");
    check(!reaches("peer", INTERNET_ADDRESS, 80), "then there is none");
    check_err(engine->ops->set_network(engine, "peer", true, NULL, &err), &err, "and on again");
    check(reaches("peer", INTERNET_ADDRESS, 80), "then there is");
    spec.id = "offline";
    spec.internet = false;
    check_err(create_with(&spec, &err), &err, "a sandbox without internet is created");
    check(run_in("offline", "ip -4 -o addr show eth0 | grep -q inet") != 0 &&
              !reaches("offline", INTERNET_ADDRESS, 80),
          "it has no address and reaches nothing");
    check(run_in("a", "python3 -c \"import socket; print(socket.gethostbyname('x.example'))\"") ==
                  0 &&
              shows(INTERNET_ADDRESS),
          "names are resolved in a sandbox");
    check_recovery("kill -9 $(pgrep -x slirp4netns)", "a killed slirp4netns is started again");
    check_recovery("kill -9 $(pgrep -x sandpit-router)", "a killed router process is too");
    engine->ops->destroy(engine, "offline", NULL, &err);
    engine->ops->destroy(engine, "peer", NULL, &err);
    if (server > 1)
        kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

static void test_freeze(void)
{
    struct err err = {0};
    int before, after;

    run_in("a", "(while :; do echo >> /tmp/ticks; sleep 0.05; done) >/dev/null 2>&1 &");
    usleep(300000);
    check_err(engine->ops->freeze(engine, "a", &err), &err, "a sandbox is frozen");
    usleep(400000);
    check_err(engine->ops->thaw(engine, "a", &err), &err, "and thawed");
    run_in("a", "wc -l < /tmp/ticks");
    before = (int)strtol(output, NULL, 10);
    check(before > 0 && before < 13, "it stood still meanwhile");
    usleep(300000);
    run_in("a", "wc -l < /tmp/ticks");
    after = (int)strtol(output, NULL, 10);
    check(after > before, "and goes on");
    check_err(create("frozen", &err), &err, "another is created");
    engine->ops->freeze(engine, "frozen", &err);
    check_err(engine->ops->destroy(engine, "frozen", NULL, &err), &err,
              "a frozen one can be destroyed");
}

static void test_exit(void)
{
    char id[SANDBOX_ID_SIZE] = "";
    struct err err = {0};

    exit_seen(id);
    create("quitter", &err);
    run_in("quitter", "quit");
    for (int i = 0; i < 100 && id[0] == '\0'; i++) {
        usleep(20000);
        exit_seen(id);
    }
    check(str_eq(id, "quitter"), "the end of an init is told");
    check(dial("quitter", ENVD_PORT, false, &err) < 0 && err.code == ERR_NOT_FOUND,
          "it cannot be dialled then");
    check_err(engine->ops->destroy(engine, "quitter", NULL, &err), &err, "it is destroyed");
    check_err(engine->ops->destroy(engine, "quitter", NULL, &err), &err, "twice does no harm");
}

static void test_adopt(void)
{
    struct err err = {0};
    bool found = false;
    char id[SANDBOX_ID_SIZE] = "";

    check_err(create("keep", &err), &err, "a sandbox is created");
    run_in("keep", "echo 42 > /tmp/answer");
    engine_crash();
    check_err(engine_up(2, &err), &err, "after a crash of the launcher another one starts");
    check(list_count("keep", &found) == 2 && found, "it lists what runs");
    check_err(engine->ops->adopt(engine, "keep", NULL, &err), &err, "a sandbox is adopted");
    check(run_in("keep", "cat /tmp/answer") == 0 && shows("42"), "it is as it was");
    check(reaches("keep", INTERNET_ADDRESS, 80), "with its network");
    check(engine->ops->adopt(engine, "nobody", NULL, &err) < 0 && err.code == ERR_NOT_FOUND,
          "an unknown one is not");
    run_in("keep", "quit");
    for (int i = 0; i < 100 && id[0] == '\0'; i++) {
        usleep(20000);
        exit_seen(id);
    }
    check(str_eq(id, "keep"), "the end of an adopted init is told");
    check_err(engine->ops->destroy(engine, "keep", NULL, &err), &err, "it is destroyed");
    check_err(engine->ops->destroy(engine, "a", NULL, &err), &err, "one that was not adopted too");
    check(list_count(NULL, NULL) == 0, "nothing is listed then");
}

/* Requests that no honest server sends. */
static void test_bad_requests(void)
{
    struct launcher_request request = {
        .magic = LAUNCHER_MAGIC, .op = LAUNCHER_DESTROY, .serial = 9};
    struct launcher_reply reply;
    struct err err = {0};
    int sock, fds[2], count = 0, refused = 0;

    engine_down();
    check_err(local_launcher_start(&config, &sock, &err), &err, "a launcher starts");
    memcpy(request.id, "../../../etc", 12);
    packet_send(sock, &request, sizeof(request), NULL, 0, 0);
    memset(request.id, 'a', sizeof(request.id)); /* no NUL */
    packet_send(sock, &request, sizeof(request), NULL, 0, 0);
    memset(request.id, 0, sizeof(request.id));
    packet_send(sock, &request, sizeof(request), NULL, 0, 0); /* no id */
    request.op = 99;
    packet_send(sock, &request, sizeof(request), NULL, 0, 0);
    request.op = LAUNCHER_LIST;
    packet_send(sock, &request, sizeof(request), &sock, 1, 0); /* a descriptor too many */
    request.op = LAUNCHER_CREATE;
    packet_send(sock, &request, sizeof(request), NULL, 0, 0); /* one too few */
    for (int i = 0; i < 6; i++) {
        ssize_t n = packet_receive(sock, &reply, sizeof(reply), fds, 1, &count, 0);
        refused += n == (ssize_t)sizeof(reply) && reply.code == ERR_INVALID;
    }
    check(refused == 6, "malformed requests are refused");
    packet_send(sock, "short", 5, NULL, 0, 0);
    request.op = LAUNCHER_LIST;
    request.magic = LAUNCHER_MAGIC;
    packet_send(sock, &request, sizeof(request), NULL, 0, 0);
    packet_receive(sock, &reply, sizeof(reply), fds, 1, &count, 0);
    check(reply.code == ERR_INVALID &&
              packet_receive(sock, &reply, sizeof(reply), fds, 1, &count, 0) > 0 &&
              reply.code == ERR_NONE && reply.event == LAUNCHER_DONE,
          "and the launcher goes on");
    close(sock);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
    check_err(engine_up(2, &err), &err, "the next launcher waits for the last one to end");
}

struct creator {
    pthread_t thread;
    int number, made;
};

static void *creator_run(void *arg)
{
    struct creator *creator = arg;

    for (int i = 0; i < 5; i++) {
        char id[SANDBOX_ID_SIZE];
        struct err err = {0};
        snprintf(id, sizeof(id), "c%dn%d", creator->number, i);
        if (create(id, &err) == 0)
            creator->made++;
        else if (err.code != ERR_INTERNAL)
            printf("       create %s: %s (%s)\n", id, err.msg, err.detail);
    }
    return NULL;
}

static int creators_run(struct creator *creators, int count, int crash_after_us)
{
    int made = 0;

    for (int i = 0; i < count; i++) {
        creators[i] = (struct creator){.number = i};
        if (pthread_create(&creators[i].thread, NULL, creator_run, &creators[i]) != 0)
            return -1;
    }
    if (crash_after_us >= 0 && launcher_pid > 1) {
        usleep((useconds_t)crash_after_us);
        kill(launcher_pid, SIGKILL);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(creators[i].thread, NULL);
        made += creators[i].made;
    }
    return made;
}

static void test_many(void)
{
    struct creator creators[4];
    int64_t started_mono_ms = time_mono_ms();

    check(creators_run(creators, 4, -1) == 20, "20 sandboxes are created by 4 threads");
    printf("       in %lld ms\n", (long long)(time_mono_ms() - started_mono_ms));
    check(run_in("c3n4", "echo alive") == 0, "the last answers");
    destroy_all();
    check(list_count(NULL, NULL) == 0, "all of them are destroyed");
}

/* The launcher is killed in the middle of creates, at many moments. */
static void test_crashes(void)
{
    struct creator creators[4];
    struct err err = {0};
    bool clean = true;

    for (int i = 0; i < 12; i++) {
        creators_run(creators, 4, i * 3000);
        engine_down();
        if (engine_up(2, &err) < 0) {
            check_err(-1, &err, "a launcher starts after a crash");
            return;
        }
        destroy_all();
        clean &= list_count(NULL, NULL) == 0;
    }
    check(clean, "after crashes in the middle of creates all is cleaned up");
}

static void test_busy(void)
{
    struct err err = {0};
    int sock = -1;

    check(local_launcher_start(&config, &sock, &err) < 0 && err.code == ERR_BUSY,
          "a second launcher on the same state is refused");
}

/*
 * Version 2 where version 1 has all controllers: what needs none is tried here on the empty
 * cgroup2 mount; limits are in tests/unit/local/cgroup_test.c.
 */
static void test_version_2(void)
{
    struct cgroups cgroups = {.ops = &cgroup_v2_ops, .base = NULL};
    _cleanup_cgroup_ struct cgroup group = CGROUP_NONE;
    _cleanup_free_ char *base = NULL;
    struct err err = {0};
    char random[9];
    int status = -1;
    pid_t pid;

    hash_random_id(random, sizeof(random) - 1);
    cgroups.base = mem_asprintf("sandpit-%s", random);
    if (run_here("awk '/ - cgroup2 /{print $5; exit}' /proc/self/mountinfo") != 0 ||
        output[0] != '/') {
        free(cgroups.base);
        return;
    }
    output[strcspn(output, "\n")] = '\0';
    for (size_t i = 0; i < CGROUP_HIERARCHIES; i++)
        cgroups.mounts[i] = mem_strdup(output);
    base = mem_asprintf("%s/%s", output, cgroups.base);
    mkdir(base, 0755);
    check_err(cgroup_create(&cgroups, "one", &group, &err), &err, "v2: a group is made");
    pid = sys_clone(0, group.fds[0], NULL);
    if (pid == 0) {
        for (;;)
            pause();
    }
    _cleanup_free_ char *inside = mem_asprintf("grep -q %s/one /proc/%d/cgroup", cgroups.base, pid);
    check(pid > 1 && run_here(inside) == 0, "v2: a process is cloned into it");
    check_err(cgroup_v2_ops.freeze(&cgroups, "one", true, &err), &err, "v2: it is frozen");
    check_err(cgroup_v2_ops.freeze(&cgroups, "one", false, &err), &err, "v2: and thawed");
    cgroup_v2_ops.freeze(&cgroups, "one", true, &err);
    cgroup_v2_ops.kill(&cgroups, "one");
    check(pid > 1 && sys_wait(pid, &status) == pid && WIFSIGNALED(status),
          "v2: a frozen process is killed");
    check_err(cgroup_remove(&cgroups, "one", &err), &err, "v2: the group is removed");
    cgroups_remove_base(&cgroups);
    check(access(base, F_OK) < 0, "v2: and its base");
    cgroups_clear(&cgroups);
}

/* COMMAND prints nothing, at the latest after 5 s. */
static void check_nothing(const char *command, const char *what)
{
    _cleanup_free_ char *test = mem_asprintf("test -z \"$(%s)\"", command);
    bool none = comes_true(test);

    if (!none)
        run_here(command);
    check(none, what);
    if (!none)
        printf("%s\n", output);
}

static void test_nothing_left(void)
{
    _cleanup_free_ char *mounts =
        mem_asprintf("grep -h '%.26s' /proc/[0-9]*/mountinfo 2>/dev/null", config.state_dir);
    _cleanup_free_ char *files = mem_asprintf("ls -A %s/sandboxes %s/sandboxes | grep -v :$",
                                              config.state_dir, config.run_dir);
    _cleanup_free_ char *groups = NULL, *processes = NULL;
    char hex[SHA256_HEX_SIZE];

    hash_sha256_hex(config.state_dir, strlen(config.state_dir), hex);
    groups = mem_asprintf("find /sys/fs/cgroup -maxdepth 3 -name 'sandpit-%.8s' 2>/dev/null", hex);
    check_nothing(files, "no file of a sandbox is left");
    check_nothing(groups, "no control group");
    check_nothing(mounts, "no mount");
    /* Not those that only wait for this container's init to notice their end. */
    check_nothing("grep -lE '^Uid:.9[0-9]{8}' $(grep -LE '^State:.Z' /proc/[0-9]*/status) "
                  "2>/dev/null",
                  "no process of a sandbox");
    processes = mem_asprintf("ps -eo stat=,pid=,comm= | grep -E 'engine_test|sandpit-|slirp' | "
                             "grep -v '^Z' | grep -vw %d",
                             getpid());
    check_nothing(processes, "no process of the launcher"); /* in engine_test.sh's pid namespace */
}

static size_t count_mounts(void)
{
    size_t count = 0;
    FILE *file = fopen("/proc/self/mountinfo", "re");

    for (int c; file != NULL && (c = getc(file)) != EOF;)
        count += c == '\n';
    if (file != NULL)
        fclose(file);
    return count;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    size_t mounts;

    if (argc != 2) {
        fprintf(stderr, "usage: engine_test ENVD\n");
        return 2;
    }
    log_set_level(LOG_ERROR);
    lib_start(argv[1]);
    mounts = count_mounts();
    check_err(engine_up(4, &err), &err, "the launcher starts");
    if (engine != NULL) {
        test_create();
        test_dial();
        test_memory();
        test_fork_bomb();
        test_cpu();
        test_escape_commands();
        test_escape_files();
        test_ids();
        test_network();
        test_freeze();
        test_exit();
        test_adopt();
        test_bad_requests();
        test_many();
        test_crashes();
        test_busy();
        test_version_2();
        engine_down();
        check(mounts > 3 && count_mounts() == mounts, "the host's own mounts are as they were");
        test_nothing_left();
    }
    lib_end();
    return check_summary();
}

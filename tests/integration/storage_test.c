/*
 * tests/integration/storage_test.c - the local engine's storage, as root.
 *
 * usage: storage_test ENVD [plain]      ENVD is engine_init; plain: plain folders alone
 *
 * First with a btrfs image, where the machine can have one, then with plain folders.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/engine/local/storage.h"
#include "server/engine/local/storage_image.h"
#include "tests/integration/engine_lib.h"

#ifdef __SANITIZE_ADDRESS__
#define BIG_MB 64
#else
#define BIG_MB 1024
#endif
#define LIMIT_MB 64
#define IMAGE_MB 8192
#define FORKS 8

static bool shows(const char *text)
{
    return strstr(output, text) != NULL;
}

static int create_from(const char *id, const char *snapshot, uint32_t disk_mb, struct err *err)
{
    struct engine_spec spec = spec_default;

    spec.id = id;
    spec.snapshot = snapshot;
    spec.disk_mb = disk_mb;
    return create_with(&spec, err);
}

static int start_again(const char *id, struct err *err)
{
    struct engine_spec spec = spec_default;
    struct engine_sandbox out = {0};
    int rc;

    spec.id = id;
    rc = engine->ops->start(engine, &spec, &out, err);
    free(out.engine_data);
    return rc;
}

static int snapshot(const char *id, const char *name, uint64_t *size, struct err *err)
{
    uint64_t ignored;

    return engine->ops->snapshot(engine, id, name, size != NULL ? size : &ignored, err);
}

static void destroy(const char *id)
{
    struct err err = {0};

    check_err(engine->ops->destroy(engine, id, NULL, &err), &err, "it is destroyed");
}

struct found {
    const char *id;
    int count;
    uint64_t size;
};

static void on_snapshot(void *ctx, const char *id, uint64_t size)
{
    struct found *found = ctx;

    found->count++;
    if (found->id != NULL && str_eq(id, found->id))
        found->size = size;
}

static struct found snapshots(const char *id)
{
    struct found found = {.id = id};
    struct err err = {0};

    if (engine->ops->snapshot_list(engine, on_snapshot, &found, &err) < 0)
        found.count = -1;
    return found;
}

/* Root inside, then the user, fill the disk in every place; nobody else notices. */
static void test_limit(void)
{
    static const char *const places[] = {"/root", "/tmp", "/usr/lib", "/home/user", "/var/tmp"};
    struct err err = {0};

    check_err(create_from("full", NULL, LIMIT_MB, &err), &err, "one with a small disk is created");
    check_err(create("other", &err), &err, "and another beside it");
    for (size_t i = 0; i < array_size(places); i++) {
        _cleanup_free_ char *command =
            mem_asprintf("dd if=/dev/urandom of=%s/f bs=1M count=%d; s=$?; stat -c %%s %s/f; "
                         "rm %s/f; exit $s",
                         places[i], 2 * LIMIT_MB, places[i], places[i]);
        _cleanup_free_ char *what = mem_asprintf("root cannot fill %s past the limit", places[i]);
        int status = run_in("full", command);
        check(status > 0 && (shows("quota") || shows("No space")), what);
        if (status <= 0)
            printf("       status %d: %s\n", status, output);
    }
    check(run_in("full", "su user -c 'dd if=/dev/urandom of=/home/user/f bs=1M count=128' ; "
                         "test $(stat -c %s /home/user/f) -le 67108864") == 0,
          "nor can the user");
    check(run_in("full", "mkdir /tmp/m; cd /tmp/m; i=0; while [ $i -lt 100000 ] && "
                         "echo -n 2>/dev/null > $i; do i=$((i+1)); done; test $i -lt 100000") == 0,
          "empty files count, too");
    check(run_in("full", "cp /bin/true /tmp/x 2>/dev/null; echo alive") == 0 && shows("alive"),
          "with a full disk it still runs commands");
    check(run_in("other", "dd if=/dev/zero of=/root/f bs=1M count=100 && sync") == 0,
          "others can write");
    check(run_in("full", "rm -r /home/user/f /tmp/m; sync; "
                         "dd if=/dev/urandom of=/root/again bs=1M count=8") == 0,
          "what is removed can be written again");
    destroy("full");
    destroy("other");
}

static void test_snapshot(void)
{
    struct err err = {0};
    uint64_t size = 0;

    check_err(create("origin", &err), &err, "a sandbox is created");
    check(run_in("origin",
                 "echo one > /root/state; echo home > /home/user/f; "
                 "chown user:user /home/user/f; echo usr > /usr/local/f; "
                 "rm /usr/bin/env; mkdir /tmp/d; ln -s /etc/passwd /tmp/d/l; "
                 "mknod /tmp/d/p p; setfattr -n user.a -v b /root/state 2>/dev/null; "
                 "cp /bin/sh /tmp/d/suid; chmod 4755 /tmp/d/suid; "
                 "dd if=/dev/urandom of=/root/data bs=1M count=16 2>/dev/null; "
                 "md5sum /root/data | cut -c1-32 > /root/sum; "
                 "(while :; do date +%N > /root/tick; sleep 0.02; done) >/dev/null 2>&1 &") == 0,
          "it writes");
    check_err(snapshot("origin", "snapa", &size, &err), &err, "a snapshot is taken while it runs");
    check(size > (16u << 20) && size < (64u << 20), "its size is what was written");
    check(run_in("origin", "echo two > /root/state; cat /root/state") == 0 && shows("two"),
          "it goes on");
    check(run_in("origin", "a=$(cat /root/tick); sleep 0.3; b=$(cat /root/tick); "
                           "test \"$a\" != \"$b\"") == 0,
          "and so do its processes");
    check(snapshot("origin", "snapa", NULL, &err) < 0 && err.code == ERR_EXISTS,
          "a second snapshot of that name is refused");
    check(snapshot("nobody", "snapb", NULL, &err) < 0 && err.code == ERR_NOT_FOUND,
          "one of an unknown sandbox too");
    check_err(create_from("fork", "snapa", 1024, &err), &err, "a sandbox begins with the snapshot");
    check(run_in("fork", "cat /root/state /home/user/f /usr/local/f") == 0 &&
              shows("one\nhome\nusr"),
          "it has the files as they were");
    check(run_in("fork", "test \"$(md5sum /root/data | cut -c1-32)\" = \"$(cat /root/sum)\" && "
                         "! test -e /usr/bin/env && test -p /tmp/d/p && "
                         "test \"$(readlink /tmp/d/l)\" = /etc/passwd && "
                         "stat -c %U:%a /home/user/f /tmp/d/suid") == 0 &&
              shows("user:644\nroot:4755"),
          "contents, removals, links, pipes, owners and modes included");
    check(run_in("fork", "su user -c 'echo more >> /home/user/f && sudo -n id -u'") == 0 &&
              shows("0"),
          "and its users are who they were");
    run_in("fork", "echo three > /root/state");
    check(run_in("origin", "cat /root/state; cat /home/user/f") == 0 && shows("two\nhome") &&
              !shows("more"),
          "what it writes is its own");
    check(create_from("none", "nosuch", 1024, &err) < 0 && err.code == ERR_NOT_FOUND,
          "an unknown snapshot is refused");
    check_err(engine->ops->snapshot_delete(engine, "snapa", &err), &err, "the snapshot is deleted");
    check_err(engine->ops->snapshot_delete(engine, "snapa", &err), &err, "twice does no harm");
    check(run_in("fork", "cat /root/state; md5sum /root/data | cut -c1-32; cat /root/sum") == 0 &&
              shows("three"),
          "what began with it stays as it is");
    check_err(snapshot("fork", "snapc", NULL, &err), &err, "a snapshot of it is taken");
    check(snapshots("snapc").count == 1 && snapshots("snapc").size > (16u << 20),
          "it is listed, with its size");
    destroy("fork");
    check_err(create_from("fork", "snapc", 1024, &err), &err, "and is there when it is not");
    check(run_in("fork", "cat /root/state") == 0 && shows("three"), "as it was");
    destroy("fork");
    engine->ops->snapshot_delete(engine, "snapc", &err);
    destroy("origin");
}

static void test_frozen_snapshot(void)
{
    struct err err = {0};

    create("still", &err);
    run_in("still",
           "(while :; do echo >> /root/ticks; sleep 0.05; done) >/dev/null 2>&1 & sleep 0.3");
    check_err(engine->ops->freeze(engine, "still", &err), &err, "a sandbox is paused");
    check_err(snapshot("still", "snapd", NULL, &err), &err, "a snapshot of it is taken");
    check_err(create_from("after", "snapd", 1024, &err), &err, "and begun with");
    run_in("after", "wc -l < /root/ticks");
    long before = strtol(output, NULL, 10);
    usleep(300000);
    engine->ops->thaw(engine, "still", &err);
    run_in("still", "wc -l < /root/ticks");
    check(strtol(output, NULL, 10) - before < 4, "it stood still from beginning to end");
    destroy("still");
    destroy("after");
    engine->ops->snapshot_delete(engine, "snapd", &err);
}

static void test_stop_start(void)
{
    struct err err = {0};
    char id[SANDBOX_ID_SIZE];

    exit_seen(id);
    check_err(create("rest", &err), &err, "a sandbox is created");
    run_in("rest",
           "echo kept > /home/user/f; chown user: /home/user/f; sleep 1000 >/dev/null 2>&1 &");
    check(start_again("rest", &err) < 0 && err.code == ERR_CONFLICT,
          "one that runs is not started");
    check_err(engine->ops->stop(engine, "rest", &err), &err, "it is stopped");
    check_err(engine->ops->stop(engine, "rest", &err), &err, "twice does no harm");
    check(dial("rest", ENVD_PORT, false, &err) < 0 && err.code == ERR_NOT_FOUND,
          "it cannot be dialled then");
    check(engine->ops->adopt(engine, "rest", NULL, &err) < 0 && err.code == ERR_CONFLICT,
          "adopt says that its files are there");
    check_err(snapshot("rest", "snape", NULL, &err), &err, "a snapshot of its files is taken");
    check_err(start_again("rest", &err), &err, "it is started again");
    check(run_in("rest", "cat /home/user/f; stat -c %U /home/user/f; ps ax | grep -c '[s]leep'") >=
                  0 &&
              shows("kept\nuser\n0"),
          "with its files and without its processes");
    check(run_in("rest", "config") == 0 && shows("configuration"), "with a configuration");
    engine->ops->freeze(engine, "rest", &err);
    check_err(engine->ops->stop(engine, "rest", &err), &err, "a frozen one is stopped");
    check_err(start_again("rest", &err), &err, "and started again");
    exit_seen(id);
    check(id[0] == '\0', "no end is told of any of it");
    run_in("rest", "quit");
    for (int i = 0; i < 100 && id[0] == '\0'; i++) {
        usleep(20000);
        exit_seen(id);
    }
    check(str_eq(id, "rest"), "the end of its init is");
    check_err(start_again("rest", &err), &err, "one that ended by itself is started again");
    check(run_in("rest", "cat /home/user/f") == 0 && shows("kept"), "with its files");
    check(start_again("nobody", &err) < 0 && err.code == ERR_NOT_FOUND, "an unknown one is not");
    check(engine->ops->stop(engine, "nobody", &err) < 0 && err.code == ERR_NOT_FOUND,
          "nor stopped");
    engine->ops->stop(engine, "rest", &err);
    destroy("rest");
    check(start_again("rest", &err) < 0 && err.code == ERR_NOT_FOUND, "then nothing is there");
    engine->ops->snapshot_delete(engine, "snape", &err);
}

/* All processes end at once, and what is in the run folder is gone. */
static void reboot(void)
{
    _cleanup_free_ char *wipe = mem_asprintf("rm -rf %s", config.run_dir);

    kill(launcher_pid, SIGKILL);
    run_here("kill -9 $(grep -lE '^Uid:.9[0-9]{8}' /proc/[0-9]*/status | cut -d/ -f3) 2>/dev/null; "
             "pkill -9 -x sandpit-router; pkill -9 -x slirp4netns; pkill -9 -x sandpit-spare");
    engine_down();
    usleep(200000);
    run_here(wipe);
}

static void test_reboot(void)
{
    struct err err = {0};
    bool found = false;

    create("paused", &err);
    create("running", &err);
    run_in("paused", "echo kept > /root/f; dd if=/dev/urandom of=/root/g bs=1M count=4; "
                     "md5sum /root/g | cut -c1-32 > /root/sum");
    check_err(engine->ops->freeze(engine, "paused", &err), &err, "a sandbox is paused");
    reboot();
    check_err(engine_up(2, &err), &err, "after a reboot the launcher starts");
    check(list_count("paused", &found) == 2 && found, "it lists what was kept");
    check(engine->ops->adopt(engine, "paused", NULL, &err) < 0 && err.code == ERR_CONFLICT,
          "the paused one does not run, but has files");
    check(engine->ops->adopt(engine, "gone", NULL, &err) < 0 && err.code == ERR_NOT_FOUND,
          "one that never was has none");
    check_err(start_again("paused", &err), &err, "it is started");
    check(run_in("paused", "cat /root/f; test \"$(md5sum /root/g | cut -c1-32)\" = "
                           "\"$(cat /root/sum)\"") == 0 &&
              shows("kept"),
          "with what it had written");
    destroy("paused");
    destroy("running");
}

struct forker {
    pthread_t thread;
    char id[SANDBOX_ID_SIZE];
    int rc;
    struct err err;
};

static void *fork_run(void *arg)
{
    struct forker *forker = arg;

    forker->rc = create_from(forker->id, "snapf", 10240, &forker->err);
    return NULL;
}

static void test_big(void)
{
    _cleanup_free_ char *write_big =
        mem_asprintf("dd if=/dev/zero bs=1M count=%d 2>/dev/null | tr '\\0' x > /root/big", BIG_MB);
    struct forker forkers[FORKS];
    struct err err = {0};
    int64_t begun;
    int made = 0;

    check_err(create_from("big", NULL, 4096, &err), &err, "a sandbox for a big file is created");
    check(run_in("big", write_big) == 0, "it writes the file");
    begun = time_mono_ms();
    check_err(snapshot("big", "snapf", NULL, &err), &err, "a snapshot of it is taken");
    printf("       of %d MB just written: %lld ms\n", BIG_MB, (long long)(time_mono_ms() - begun));
    run_in("big", "echo > /root/small");
    begun = time_mono_ms();
    check_err(snapshot("big", "snapg", NULL, &err), &err, "and one more");
    printf("       of %d MB on the disk: %lld ms\n", BIG_MB, (long long)(time_mono_ms() - begun));
    begun = time_mono_ms();
    check_err(create_from("one", "snapf", 4096, &err), &err, "a sandbox begins with it");
    printf("       in %lld ms\n", (long long)(time_mono_ms() - begun));
    begun = time_mono_ms();
    for (int i = 0; i < FORKS; i++) {
        forkers[i] = (struct forker){.rc = -1};
        snprintf(forkers[i].id, sizeof(forkers[i].id), "f%d", i);
        if (pthread_create(&forkers[i].thread, NULL, fork_run, &forkers[i]) != 0)
            abort();
    }
    for (int i = 0; i < FORKS; i++) {
        pthread_join(forkers[i].thread, NULL);
        made += forkers[i].rc == 0;
    }
    check(made == FORKS, "several begin with it at once");
    printf("       %d in %lld ms\n", FORKS, (long long)(time_mono_ms() - begun));
    check(run_in("f3", "tail -c 3 /root/big") == 0 && shows("xxx"), "they have the file");
    begun = time_mono_ms();
    destroy("big");
    printf("       in %lld ms\n", (long long)(time_mono_ms() - begun));
    destroy_all();
    engine->ops->snapshot_delete(engine, "snapf", &err);
    engine->ops->snapshot_delete(engine, "snapg", &err);
    check(snapshots(NULL).count == 0, "no snapshot is left");
}

static void *snapshot_run(void *arg)
{
    struct forker *forker = arg;

    forker->rc = snapshot("victim", "snaph", NULL, &forker->err);
    return NULL;
}

/* The launcher and its helpers are killed at many moments of a snapshot. */
static void test_crashes(void)
{
    struct err err = {0};
    bool runs = true, whole = true;

    check_err(create("victim", &err), &err, "a sandbox is created");
    run_in("victim", "(while :; do date +%N > /root/tick; sleep 0.01; done) >/dev/null 2>&1 &");
    for (int i = 0; i < 8; i++) {
        struct forker forker = {.rc = -1};
        run_in("victim", "dd if=/dev/urandom of=/root/f bs=1M count=8; cp /root/f /root/g");
        if (pthread_create(&forker.thread, NULL, snapshot_run, &forker) != 0)
            abort();
        usleep((useconds_t)i * 4000);
        run_here("pkill -9 -x sandpit-launch"); /* helpers have that name, too */
        engine_down();
        pthread_join(forker.thread, NULL);
        if (engine_up(1, &err) < 0) {
            check_err(-1, &err, "a launcher starts after a crash");
            return;
        }
        runs &= engine->ops->adopt(engine, "victim", NULL, &err) == 0 &&
                run_in("victim", "a=$(cat /root/tick); sleep 0.3; test \"$a\" != "
                                 "\"$(cat /root/tick)\"") == 0;
        if (snapshots(NULL).count > 0) {
            whole &= create_from("copy", "snaph", 1024, &err) == 0 &&
                     run_in("copy", "cmp /root/f /root/g") == 0;
            engine->ops->destroy(engine, "copy", NULL, &err);
            engine->ops->snapshot_delete(engine, "snaph", &err);
        } else {
            whole &= forker.rc < 0;
        }
    }
    check(runs, "after crashes in the middle of snapshots it goes on");
    check(whole, "and a snapshot is whole or not there");
    destroy("victim");
    check(list_count(NULL, NULL) == 0, "nothing is left of it");
}

/* A sandbox's disk is as big as its limit, as envd sees it. */
static void test_adoption(void)
{
    struct err err = {0};

    create_from("adopt", NULL, LIMIT_MB, &err);
    run_in("adopt", "echo before > /root/f");
    engine_crash();
    check_err(engine_up(2, &err), &err, "after a crash of the launcher another one starts");
    check_err(engine->ops->adopt(engine, "adopt", NULL, &err), &err, "a sandbox is adopted");
    check(run_in("adopt", "cat /root/f; dd if=/dev/urandom of=/root/g bs=1M count=128") != 0 ||
              config.storage_plain,
          "its limit still holds");
    run_in("adopt", "rm /root/g");
    check_err(snapshot("adopt", "snapi", NULL, &err), &err, "a snapshot of it is taken");
    engine_down();
    check_err(engine_up(2, &err), &err, "another launcher starts");
    check(snapshots("snapi").count == 1, "the snapshot is there");
    destroy("adopt");
    engine->ops->snapshot_delete(engine, "snapi", &err);
}

static void test_no_room(void)
{
    struct err err = {0};

    engine_down();
    config.storage_reserve_mb = 1u << 30; /* a petabyte kept free */
    check_err(engine_up(1, &err), &err, "a launcher starts on a full disk");
    check(create("none", &err) < 0 && err.code == ERR_NO_SPACE, "no sandbox is created there");
    engine_down();
    config.storage_reserve_mb = 0;
    check_err(engine_up(2, &err), &err, "with room again");
    check_err(create("some", &err), &err, "one is");
    destroy("some");
}

static void run_all(bool limits)
{
    if (limits)
        test_limit();
    test_snapshot();
    test_frozen_snapshot();
    test_stop_start();
    test_adoption();
    test_reboot();
    test_crashes();
    test_no_room();
}

static bool empties(const char *command)
{
    for (int i = 0; i < 100; i++) {
        if (run_here(command) == 0 && output[0] == '\0')
            return true;
        usleep(50000);
    }
    printf("%s\n", output);
    return false;
}

static void test_image(void)
{
    _cleanup_free_ char *devices = mem_asprintf("losetup -a | grep %s; true", config.state_dir);
    _cleanup_free_ char *mounts =
        mem_asprintf("grep -h '%s' /proc/[0-9]*/mountinfo; true", config.state_dir);
    struct err err = {0};
    int64_t begun = time_mono_ms();

    config.storage_mb = IMAGE_MB;
    check_err(engine_up(4, &err), &err, "the launcher starts with an image");
    if (engine == NULL)
        return;
    printf("       made and mounted in %lld ms\n", (long long)(time_mono_ms() - begun));
    run_here(devices);
    check(shows(STORAGE_IMAGE_NAME), "a loop device is on it");
    run_all(true);
    test_big();
    engine_down();
    check(empties(devices), "no loop device is left");
    check(empties(mounts), "no mount");
    begun = time_mono_ms();
    config.storage_mb = 2 * IMAGE_MB;
    check_err(engine_up(0, &err), &err, "with a bigger size it starts, too");
    printf("       mounted in %lld ms\n", (long long)(time_mono_ms() - begun));
    engine_down();
    config.storage_plain = true;
    check(engine_up(0, &err) < 0 && err.code == ERR_INVALID,
          "plain folders are refused while there is an image");
    _cleanup_free_ char *image = mem_asprintf("%s/%s", config.state_dir, STORAGE_IMAGE_NAME);
    unlink(image);
}

int main(int argc, char **argv)
{
    char why[128];
    struct err err = {0};
    bool plain = argc == 3 && str_eq(argv[2], "plain");

    if (argc != 2 && !plain) {
        fprintf(stderr, "usage: storage_test ENVD [plain]\n");
        return 2;
    }
    log_set_level(LOG_ERROR);
    lib_start(argv[1]);
    if (plain)
        printf("not tried: an image\n");
    else if (image_possible(why, sizeof(why), NULL, 0))
        test_image();
    else
        printf("SKIPPED: no image: %s\n", why);
    config.storage_plain = true;
    check_err(engine_up(2, &err), &err, "the launcher starts with plain folders");
    if (engine != NULL) {
        run_all(false);
        engine_down();
    }
    lib_end();
    return check_summary();
}

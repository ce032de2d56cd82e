/*
 * tests/fuzz/driver.c - replays a corpus through a fuzz target without a fuzzer.
 *
 * Arguments are files and folders; every file is one input. Each input is also run cut to every
 * shorter length up to CUT_MAX, since most parser faults sit at an early end.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"

#define INPUT_MAX_BYTES (1 << 20)
#define CUT_MAX 2048 /* bytes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long inputs;

/* Copies exactly SIZE bytes, so that a sanitizer sees a read past the end. */
static void run(const char *data, size_t size)
{
    uint8_t *exact = mem_zalloc(size > 0 ? size : 1);

    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    inputs++;
}

static int replay(const char *path)
{
    _cleanup_free_ char *data = NULL;
    struct err err = {0};
    size_t len;

    if (file_read(AT_FDCWD, path, INPUT_MAX_BYTES, &data, &len, &err) < 0) {
        fprintf(stderr, "%s\n", err.detail);
        return -1;
    }
    run(data, len);
    for (size_t cut = 0; cut < len && cut < CUT_MAX; cut++)
        run(data, cut);
    return 0;
}

static int walk(const char *path)
{
    struct dirent *entry;
    struct stat st;
    int rc = 0;
    DIR *dir;

    if (stat(path, &st) < 0) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(st.st_mode))
        return replay(path);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        _cleanup_free_ char *child = mem_asprintf("%s/%s", path, entry->d_name);
        if (walk(child) < 0)
            rc = -1;
    }
    if (dir != NULL)
        closedir(dir);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = 0;

    hash_init();
    for (int i = 1; i < argc; i++)
        if (walk(argv[i]) < 0)
            rc = 1;
    printf("%lu inputs replayed\n", inputs);
    return rc != 0 || inputs == 0;
}

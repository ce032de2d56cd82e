/*
 * What volumes parse of what others send: paths, names, ids, kept mounts, calls and orders between
 * server, launcher and helper, and records. The first byte says which.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/engine/local/volume_mount.h"
#include "server/engine/local/volume_proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool holds)
{
    if (!holds)
        abort();
}

/* Clean: no empty, "." or ".." part, not absolute, and the same when cleaned again. */
static void check_path(const char *text)
{
    char clean[VOLUME_PATH_SIZE], again[VOLUME_PATH_SIZE];
    struct err err = {0};

    if (volume_path_clean(text, clean, &err) < 0) {
        need(err.code == ERR_INVALID);
        return;
    }
    need(clean[0] != '/' && strstr(clean, "//") == NULL);
    for (const char *part = clean; *part != '\0'; part += part[0] == '/') {
        size_t len = strcspn(part, "/");
        need(len > 0 && len <= VOLUME_FILE_NAME_MAX && !(len == 1 && part[0] == '.') &&
             !(len == 2 && part[0] == '.' && part[1] == '.'));
        part += len;
    }
    need(volume_path_clean(clean, again, &err) == 0 && strcmp(clean, again) == 0);
}

static void check_mount_path(const char *text)
{
    struct err err = {0};

    if (volume_mount_path_check(text, &err) < 0)
        return;
    need(text[0] == '/' && text[1] != '\0' && strlen(text) < VOLUME_MOUNT_PATH_SIZE);
    need(strstr(text, "/../") == NULL && strstr(text, "//") == NULL);
    need(strncmp(text, "/proc/", 6) != 0 && strcmp(text, "/proc") != 0);
}

static void check_mounts(const char *text)
{
    struct volume_mount *mounts = NULL;
    struct err err = {0};
    size_t count = 0;
    char *again;

    if (volume_mounts_parse(text, &mounts, &count, &err) < 0) {
        need(err.code == ERR_INTERNAL);
        return;
    }
    need(count <= VOLUME_MOUNTS_MAX);
    again = volume_mounts_text(mounts, count);
    for (size_t i = 0; i < count; i++)
        need(volume_mounts_have(again, mounts[i].volume_id));
    free(again);
    free(mounts);
}

static void check_call(const uint8_t *data, size_t size)
{
    struct volume_call call = {.magic = VOLUME_MAGIC};
    struct volume_order order = {.path = ""};
    struct err err = {0};

    memcpy((char *)&call + sizeof(call.magic), data,
           size < sizeof(call) - sizeof(call.magic) ? size : sizeof(call) - sizeof(call.magic));
    if (volume_call_check(&call, sizeof(call), &err) == 0)
        need(call.verb < VOLUME_CALL_COUNT && call.mode <= 07777 && call.uid <= VOLUME_ID_MAX &&
             memchr(call.path, '\0', sizeof(call.path)) != NULL && call.path[0] != '/');
    memcpy(&order, data, size < sizeof(order) ? size : sizeof(order));
    if (volume_order_check(&order, &err) == 0)
        check_mount_path(order.path);
}

static void check_records(const uint8_t *data, size_t size)
{
    struct volume_entry *entries;
    uint32_t count = size > 0 ? data[0] : 0;

    if (size == 0 || volume_records_parse(data + 1, size - 1, count, &entries) < 0)
        return;
    for (uint32_t i = 0; i < count; i++) {
        need(strlen(entries[i].path) < VOLUME_PATH_SIZE && entries[i].mode <= 07777);
        free(entries[i].path);
        free(entries[i].target);
    }
    free(entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char id[UUID_SIZE], *text;
    struct err err = {0};

    if (size == 0)
        return 0;
    text = mem_strndup((const char *)data + 1, size - 1);
    switch (data[0] % 5) {
    case 0:
        check_path(text);
        break;
    case 1:
        check_mount_path(text);
        if (volume_name_check(text, strlen(text), &err) == 0)
            need(strchr(text, '/') == NULL && strlen(text) < VOLUME_NAME_SIZE);
        if (volume_id_parse(text, id, &err) == 0)
            need(strlen(id) == UUID_SIZE - 1 && strchr(id, '/') == NULL);
        break;
    case 2:
        check_mounts(text);
        break;
    case 3:
        check_call(data + 1, size - 1);
        break;
    default:
        check_records(data + 1, size - 1);
    }
    free(text);
    return 0;
}

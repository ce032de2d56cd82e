#include "server/model/volume.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

static const char *const states[] = {
    [VOLUME_CREATING] = "creating",
    [VOLUME_READY] = "ready",
    [VOLUME_DELETING] = "deleting",
};
_Static_assert(array_size(states) == VOLUME_STATE_COUNT, "one name per state");

/* Folders that a sandbox cannot do without; what lies below them may be replaced. */
static const char *const refused[] = {
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/run", "/var",
};
/* Made by the kernel: nothing of anybody else's belongs there. */
static const char *const refused_trees[] = {"/proc", "/sys", "/dev"};

const char *volume_state_name(enum volume_state state)
{
    return states[state];
}

int volume_state_parse(const char *name, enum volume_state *out)
{
    for (size_t i = 0; i < array_size(states); i++) {
        if (!str_eq(name, states[i]))
            continue;
        *out = (enum volume_state)i;
        return 0;
    }
    return -1;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

int volume_name_check(const char *name, size_t len, struct err *err)
{
    bool ok = len > 0 && len < VOLUME_NAME_SIZE;

    for (size_t i = 0; ok && i < len; i++)
        ok = is_name_char(name[i]);
    return ok ? 0 : err_set(err, ERR_INVALID, "Invalid volume name");
}

int volume_id_parse(const char *text, char out[UUID_SIZE], struct err *err)
{
    char lower[UUID_SIZE] = "";
    size_t len = strlen(text);
    bool ok = len == UUID_SIZE - 1;

    for (size_t i = 0; ok && i < len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        char c = text[i];
        ok = dash ? c == '-' : hex_digit(c) >= 0;
        lower[i] = c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : c;
    }
    if (!ok)
        return err_set(err, ERR_INVALID, "Invalid volume ID");
    memcpy(out, lower, sizeof(lower));
    return 0;
}

static bool has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    }
    return false;
}

/* PATH begins with '/' and has no empty, "." or ".." part, nor one too long. */
static bool is_clean(const char *path)
{
    while (*path == '/') {
        size_t len = strcspn(++path, "/");
        if (len == 0 || len > VOLUME_FILE_NAME_MAX || (len == 1 && path[0] == '.') ||
            (len == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        path += len;
    }
    return *path == '\0';
}

int volume_mount_path_check(const char *path, struct err *err)
{
    size_t len = strlen(path);

    if (len >= VOLUME_MOUNT_PATH_SIZE)
        return err_set(err, ERR_INVALID, "path must be shorter than %d bytes",
                       VOLUME_MOUNT_PATH_SIZE);
    if (path[0] != '/')
        return err_set(err, ERR_INVALID, "path must be absolute");
    if (str_eq(path, "/"))
        return err_set(err, ERR_INVALID, "path '/' cannot be a volume");
    if (!is_clean(path) || has_control(path) || !str_is_utf8(path, len))
        return err_set(err, ERR_INVALID,
                       "path must be clean (no '.', '..', '//', '/' at its end or control "
                       "characters)");
    for (size_t i = 0; i < array_size(refused); i++) {
        if (str_eq(path, refused[i]))
            return err_set(err, ERR_INVALID, "path '%s' cannot be a volume", path);
    }
    for (size_t i = 0; i < array_size(refused_trees); i++) {
        size_t tree = strlen(refused_trees[i]);
        if (strncmp(path, refused_trees[i], tree) == 0 && (path[tree] == '\0' || path[tree] == '/'))
            return err_set(err, ERR_INVALID, "path '%s' cannot be a volume", refused_trees[i]);
    }
    return 0;
}

int volume_path_clean(const char *path, char out[VOLUME_PATH_SIZE], struct err *err)
{
    char text[VOLUME_PATH_SIZE];
    size_t used = 0;

    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        if (len == 2 && path[0] == '.' && path[1] == '.')
            return err_set(err, ERR_INVALID, "path must not contain '..'");
        if (len > VOLUME_FILE_NAME_MAX)
            return err_set(err, ERR_INVALID, "a part of path is longer than %d bytes",
                           VOLUME_FILE_NAME_MAX);
        if (len > 0 && !(len == 1 && path[0] == '.')) {
            if (used + len + 1 >= sizeof(text))
                return err_set(err, ERR_INVALID, "path must be shorter than %d bytes",
                               VOLUME_PATH_SIZE);
            if (used > 0)
                text[used++] = '/';
            memcpy(text + used, path, len);
            used += len;
        }
        path += len;
        path += *path == '/';
    }
    memcpy(out, text, used);
    out[used] = '\0';
    return 0;
}

static int parse_mount(const json_t *item, struct volume_mount *out, struct err *err)
{
    const char *id = NULL, *name = NULL, *path = NULL;

    if (!json_is_object(item) || json_get_str(item, "volumeID", &id, err) < 0 ||
        json_get_str(item, "name", &name, err) < 0 || json_get_str(item, "path", &path, err) < 0)
        return -1;
    if (id == NULL || name == NULL || path == NULL || volume_id_parse(id, out->volume_id, err) < 0)
        return -1;
    if (str_copy(out->name, sizeof(out->name), name, strlen(name)) < 0)
        return -1;
    return str_copy(out->path, sizeof(out->path), path, strlen(path));
}

int volume_mounts_parse(const char *text, struct volume_mount **out, size_t *count, struct err *err)
{
    _cleanup_json_ json_t *json = NULL;
    _cleanup_free_ struct volume_mount *mounts = NULL;
    size_t n;

    if (text == NULL) {
        *out = NULL;
        *count = 0;
        return 0;
    }
    json = json_parse(text, strlen(text), err);
    n = json_array_size(json);
    if (json == NULL || !json_is_array(json) || n > VOLUME_MOUNTS_MAX)
        return err_set(err, ERR_INTERNAL, "the volume mounts of a sandbox cannot be read");
    mounts = mem_calloc(n + 1, sizeof(*mounts));
    for (size_t i = 0; i < n; i++) {
        if (parse_mount(json_array_get(json, i), &mounts[i], err) < 0)
            return err_set(err, ERR_INTERNAL, "the volume mounts of a sandbox cannot be read");
    }
    *out = steal_ptr(&mounts);
    *count = n;
    return 0;
}

char *volume_mounts_text(const struct volume_mount *mounts, size_t count)
{
    _cleanup_json_ json_t *json = json_array();

    if (count == 0)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_object();
        json_put_str(item, "name", mounts[i].name);
        json_put_str(item, "path", mounts[i].path);
        json_put_str(item, "volumeID", mounts[i].volume_id);
        json_array_append_new(json, item);
    }
    return json_text(json);
}

bool volume_mounts_have(const char *text, const char *volume_id)
{
    _cleanup_free_ struct volume_mount *mounts = NULL;
    struct err ignored = {0};
    size_t count = 0;

    if (volume_mounts_parse(text, &mounts, &count, &ignored) < 0)
        return true; /* what cannot be read may have it: better kept than lost */
    for (size_t i = 0; i < count; i++) {
        if (str_eq(mounts[i].volume_id, volume_id))
            return true;
    }
    return false;
}

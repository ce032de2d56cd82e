#include "envd/path.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "server/base/mem.h"

int path_expand(const char *path, const struct path_base *base, char **out, struct err *err)
{
    if (path[0] == '\0' && base->workdir != NULL)
        path = base->workdir;
    if (path[0] == '~' && path[1] != '\0' && path[1] != '/')
        return err_set(err, ERR_INVALID,
                       "failed to expand path '' for user '%s': "
                       "cannot expand user-specific home dir",
                       base->user);
    if (path[0] == '~')
        *out = path_join(base->home, path + 1);
    else if (path[0] == '/')
        *out = mem_strdup(path);
    else
        *out = path_join(base->home, path);
    return 0;
}

/* Where the element before END of TEXT begins, not before FLOOR. */
static size_t element_start(const char *text, size_t end, size_t floor)
{
    while (end > floor && text[end - 1] != '/')
        end--;
    return end;
}

/* Append an element of a cleaned path to OUT, which holds LEN bytes; the new length. */
static size_t clean_add(char *out, size_t len, const char *element, size_t size, bool rooted)
{
    size_t root = rooted ? 1 : 0;

    if (size == 0 || (size == 1 && element[0] == '.'))
        return len;
    if (size == 2 && element[0] == '.' && element[1] == '.') {
        size_t last = element_start(out, len, root);
        bool climbs = len - last == 2 && memcmp(out + last, "..", 2) == 0;
        if (len > root && !climbs)
            return last > root ? last - 1 : root;
        if (rooted)
            return len;
    }
    if (len > root)
        out[len++] = '/';
    memcpy(out + len, element, size);
    return len + size;
}

char *path_clean(const char *path)
{
    char *out = mem_zalloc(strlen(path) + 2);
    bool rooted = path[0] == '/';
    size_t len = 0;

    if (rooted)
        out[len++] = '/';
    for (const char *at = path; *at != '\0';) {
        size_t size = strcspn(at, "/");
        len = clean_add(out, len, at, size, rooted);
        at += size;
        at += strspn(at, "/");
    }
    if (len == 0)
        out[len++] = '.';
    out[len] = '\0';
    return out;
}

char *path_join(const char *dir, const char *name)
{
    _cleanup_free_ char *joined = NULL;

    if (dir[0] == '\0' || name[0] == '\0')
        return path_clean(dir[0] == '\0' ? name : dir);
    joined = mem_asprintf("%s/%s", dir, name);
    return path_clean(joined);
}

/* The length of PATH without trailing slashes; 1 for "/" and "//". */
static size_t trimmed(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    return len;
}

char *path_name(const char *path)
{
    size_t len = trimmed(path);
    size_t start = element_start(path, len, 0);

    if (len == 0)
        return mem_strdup(".");
    if (len == 1 && path[0] == '/')
        return mem_strdup("/");
    return mem_strndup(path + start, len - start);
}

char *path_parent(const char *path)
{
    size_t start = element_start(path, trimmed(path), 0);
    _cleanup_free_ char *dir = mem_strndup(path, start);

    return path_clean(dir);
}

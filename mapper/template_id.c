#include "mapper/template_id.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "server/base/str.h"

/* Lower-case [a-z0-9-_]+, and dots where DOT. */
static bool is_word(const char *s, bool dot)
{
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++)
        if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-' && *s != '_' &&
            !(dot && *s == '.'))
            return false;
    return true;
}

static int copy_part(char *out, size_t size, const char *s, size_t len, bool dot)
{
    if (str_copy(out, size, s, len) < 0)
        return -1;
    return is_word(out, dot) ? 0 : -1;
}

int template_id_parse(const char *s, size_t len, struct template_id *out, struct err *err)
{
    char text[TEMPLATE_ID_SIZE];
    struct template_id id = {0};
    char *colon, *slash, *name = text;

    while (len > 0 && isspace((unsigned char)s[0])) {
        s++;
        len--;
    }
    while (len > 0 && isspace((unsigned char)s[len - 1]))
        len--;
    if (len == 0)
        return err_set(err, ERR_INVALID, "Invalid template reference: it is empty");
    if (str_copy(text, sizeof(text), s, len) < 0)
        return err_set(err, ERR_INVALID, "Invalid template reference: longer than %d characters",
                       TEMPLATE_ID_SIZE - 1);
    for (char *p = text; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    colon = strchr(text, ':');
    if (colon != NULL) {
        *colon++ = '\0';
        if (copy_part(id.tag, sizeof(id.tag), colon, strlen(colon), true) < 0)
            return err_set(err, ERR_INVALID,
                           "Invalid template reference: a tag is [a-z0-9-_.]{1,%d}",
                           TEMPLATE_TAG_SIZE - 1);
    }
    slash = strchr(text, '/');
    if (slash != NULL) {
        name = slash + 1;
        if (copy_part(id.namespace_, sizeof(id.namespace_), text, (size_t)(slash - text), false) <
            0)
            return err_set(err, ERR_INVALID,
                           "Invalid template reference: a namespace is [a-z0-9-_]{1,%d}",
                           NAMESPACE_SIZE - 1);
    }
    if (copy_part(id.name, sizeof(id.name), name, strlen(name), false) < 0)
        return err_set(err, ERR_INVALID, "Invalid template reference: a name is [a-z0-9-_]{1,%d}",
                       TEMPLATE_NAME_SIZE - 1);
    *out = id;
    return 0;
}

int template_id_format(const struct template_id *id, char out[TEMPLATE_ID_SIZE], struct err *err)
{
    int len = snprintf(out, TEMPLATE_ID_SIZE, "%s%s%s%s%s", id->namespace_,
                       id->namespace_[0] != '\0' ? "/" : "", id->name,
                       id->tag[0] != '\0' ? ":" : "", id->tag);

    if (len >= TEMPLATE_ID_SIZE) {
        out[0] = '\0';
        return err_set(err, ERR_INVALID, "Invalid template reference: longer than %d characters",
                       TEMPLATE_ID_SIZE - 1);
    }
    return 0;
}

size_t template_id_candidates(const struct template_id *id, const char *own_namespace,
                              struct template_id out[2])
{
    size_t count = 0;

    if (id->namespace_[0] != '\0') {
        out[0] = *id;
        return 1;
    }
    if (own_namespace != NULL && own_namespace[0] != '\0') {
        out[count] = *id;
        if (str_copy(out[count].namespace_, sizeof(out[count].namespace_), own_namespace,
                     strlen(own_namespace)) == 0)
            count++;
    }
    out[count] = *id;
    return count + 1;
}

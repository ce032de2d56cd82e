#include "server/config.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/config_private.h"

#define THREADS_AUTO_MAX 16
#define CONFIG_FILE_MAX_BYTES (1024 * 1024)
#define NAME_SIZE 64 /* of a flag, variable or key */

void settings_init(struct settings *settings)
{
    memset(settings, 0, sizeof(*settings));
}

void settings_clear(struct settings *settings)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        free(settings->text[i]);
    memset(settings, 0, sizeof(*settings));
}

const char *setting_name(enum setting id)
{
    return setting_defs[id].name;
}

/* "api-listen" to PREFIX and "API_LISTEN" (UPPER) or "api_listen". */
static void respell(enum setting id, const char *prefix, bool upper, char out[NAME_SIZE])
{
    snprintf(out, NAME_SIZE, "%s%s", prefix, setting_defs[id].name);
    for (char *p = out + strlen(prefix); *p != '\0'; p++)
        *p = *p == '-' ? '_' : upper ? (char)toupper((unsigned char)*p) : *p;
}

int setting_put(struct settings *settings, enum setting id, const char *value, const char *from,
                enum setting_source source, struct err *err)
{
    uint64_t number = 0;
    char *text;

    if (setting_parse(id, value, from, &text, &number, err) < 0)
        return -1;
    if (settings->source[id] >= source) {
        free(text);
        return 0;
    }
    free(settings->text[id]);
    settings->text[id] = text;
    settings->number[id] = number;
    settings->source[id] = source;
    return 0;
}

int settings_flag(struct settings *settings, enum setting id, const char *value, struct err *err)
{
    char from[NAME_SIZE];

    snprintf(from, sizeof(from), "--%s", setting_defs[id].name);
    if (settings->source[id] == FROM_FLAG)
        return err_set(err, ERR_INVALID, "%s is given twice", from);
    return setting_put(settings, id, value, from, FROM_FLAG, err);
}

static int find_setting(const char *name, size_t len)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        if (mem_is(name, len, setting_defs[i].name))
            return i;
    }
    return -1;
}

int settings_args(struct settings *settings, int argc, char **argv, struct err *err)
{
    for (int i = 0; i < argc; i++) {
        const char *name = argv[i] + 2, *equals, *value;
        int id;
        if (!str_starts(argv[i], "--"))
            return err_set(err, ERR_INVALID, "unexpected word '%.80s'", argv[i]);
        equals = strchr(name, '=');
        id = find_setting(name, equals != NULL ? (size_t)(equals - name) : strlen(name));
        if (id < 0)
            return err_set(err, ERR_INVALID, "unknown flag '%.80s'", argv[i]);
        if (equals != NULL)
            value = equals + 1;
        else if (setting_defs[id].kind == KIND_BOOL)
            value = "true";
        else if (i + 1 < argc)
            value = argv[++i];
        else
            return err_set(err, ERR_INVALID, "flag '%s' needs a value", argv[i]);
        if (settings_flag(settings, (enum setting)id, value, err) < 0)
            return -1;
    }
    return 0;
}

static int read_variables(struct settings *settings, struct err *err)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        char name[NAME_SIZE];
        const char *value;
        respell((enum setting)i, "SANDPIT_", true, name);
        value = getenv(name);
        if (value != NULL &&
            setting_put(settings, (enum setting)i, value, name, FROM_VARIABLE, err) < 0)
            return -1;
    }
    return 0;
}

/* The text of VALUE, which must have the type of its setting. NULL with ERR. To free(). */
static char *file_value(enum setting id, const json_t *value, const char *from, struct err *err)
{
    enum setting_kind kind = setting_defs[id].kind;

    if (kind == KIND_BOOL && json_is_boolean(value))
        return mem_strdup(json_is_true(value) ? "true" : "false");
    if (kind == KIND_NUMBER && json_is_integer(value))
        return mem_asprintf("%lld", (long long)json_integer_value(value));
    if (kind != KIND_BOOL && kind != KIND_NUMBER && json_is_string(value))
        return mem_strdup(json_string_value(value));
    err_set(err, ERR_INVALID, "%s: the value must be %s", from,
            kind == KIND_BOOL     ? "true or false"
            : kind == KIND_NUMBER ? "an integer"
                                  : "a string");
    return NULL;
}

static int put_file_key(struct settings *settings, const char *key, const json_t *value,
                        const char *path, struct err *err)
{
    _cleanup_free_ char *from = mem_asprintf("'%.60s' in %.300s", key, path);

    for (int i = 0; i < SETTING_COUNT; i++) {
        _cleanup_free_ char *text = NULL;
        char name[NAME_SIZE];
        respell((enum setting)i, "", false, name);
        if (!str_eq(name, key) || i == SETTING_CONFIG)
            continue;
        text = file_value((enum setting)i, value, from, err);
        return text == NULL ? -1
                            : setting_put(settings, (enum setting)i, text, from, FROM_FILE, err);
    }
    return err_set(err, ERR_INVALID, "unknown setting %s", from);
}

int settings_read_file(struct settings *settings, const char *path, struct err *err)
{
    _cleanup_free_ char *data = NULL;
    _cleanup_json_ json_t *json = NULL;
    json_t *value;
    const char *key;
    size_t len;

    if (file_read(AT_FDCWD, path, CONFIG_FILE_MAX_BYTES, &data, &len, err) < 0) {
        err->code = ERR_INVALID;
        return -1;
    }
    json = json_parse_object(data, len, err);
    if (json == NULL) {
        struct err why = *err;
        return err_set(err, ERR_INVALID, "%.250s: %.250s", path, why.msg);
    }
    json_object_foreach(json, key, value) {
        if (put_file_key(settings, key, value, path, err) < 0)
            return -1;
    }
    return 0;
}

/* "<folder of the running program>/<tail>" if that file is there. To free(). */
static char *beside_program(const char *tail)
{
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash, *path;

    if (len <= 0)
        return NULL;
    self[len] = '\0';
    slash = strrchr(self, '/');
    *slash = '\0';
    path = mem_asprintf("%s/%s", self, tail);
    if (access(path, F_OK) == 0)
        return path;
    free(path);
    return NULL;
}

static void find_envd(struct settings *settings)
{
    char *path;

    if (settings->text[SETTING_ENVD] != NULL)
        return;
    path = beside_program("envd");
    if (path == NULL)
        path = beside_program("../libexec/sandpit/envd");
    settings->text[SETTING_ENVD] = path;
    settings->source[SETTING_ENVD] = FROM_DEFAULT;
}

int settings_finish(struct settings *settings, struct err *err)
{
    const char *path;

    if (read_variables(settings, err) < 0)
        return -1;
    path = settings->text[SETTING_CONFIG];
    if (path != NULL && settings_read_file(settings, path, err) < 0)
        return -1;
    for (int i = 0; i < SETTING_COUNT; i++) {
        const char *value = setting_defs[i].fallback;
        if (value != NULL &&
            setting_put(settings, (enum setting)i, value, "default", FROM_DEFAULT, err) < 0)
            return -1;
    }
    if (settings_on(settings, SETTING_DEV) &&
        setting_put(settings, SETTING_TLS_LISTEN, LISTEN_DEV_TLS, "default", FROM_DEFAULT, err) < 0)
        return -1;
    find_envd(settings);
    return 0;
}

const char *settings_text(const struct settings *settings, enum setting id)
{
    return settings->text[id];
}

bool settings_on(const struct settings *settings, enum setting id)
{
    return settings->number[id] != 0;
}

unsigned settings_threads(const struct settings *settings)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (settings->number[SETTING_THREADS] > 0)
        return (unsigned)settings->number[SETTING_THREADS];
    return cores < 1 ? 1 : cores > THREADS_AUTO_MAX ? THREADS_AUTO_MAX : (unsigned)cores;
}

char *settings_state_path(const struct settings *settings, const char *name)
{
    return mem_asprintf("%s/%s", settings->text[SETTING_STATE_DIR], name);
}

size_t settings_addresses(const char *text, char out[LISTEN_MAX][ADDRESS_SIZE])
{
    size_t count = 0;

    while (text != NULL && *text != '\0' && count < LISTEN_MAX) {
        size_t len = strcspn(text, ",");
        if (str_copy(out[count], ADDRESS_SIZE, text, len) == 0)
            count++;
        text += len + (text[len] == ',');
    }
    return count;
}

json_t *settings_json(const struct settings *settings)
{
    json_t *json = json_object();

    for (int i = 0; i < SETTING_COUNT; i++) {
        char name[NAME_SIZE];
        respell((enum setting)i, "", false, name);
        if (setting_defs[i].kind == KIND_NUMBER)
            json_put_i64(json, name, (int64_t)settings->number[i]);
        else if (setting_defs[i].kind == KIND_BOOL)
            json_put_bool(json, name, settings->number[i] != 0);
        else
            json_put_str(json, name, settings->text[i]);
    }
    return json;
}

void settings_help(FILE *out)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_def *def = &setting_defs[i];
        char flag[NAME_SIZE];
        snprintf(flag, sizeof(flag), "--%s %s", def->name, def->arg != NULL ? def->arg : "");
        fprintf(out, "  %-28s %s", flag, def->help);
        if (def->fallback != NULL && def->kind != KIND_BOOL)
            fprintf(out, " [%s]", def->fallback);
        fputc('\n', out);
    }
}

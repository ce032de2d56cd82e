#include <stdlib.h>
#include <string.h>

#include "envd/process_inner.h"
#include "envd/spawn.h"
#include "server/base/mem.h"

struct strv {
    char **items;
    size_t count;
};

void strv_free(char **strings)
{
    for (char **s = strings; s != NULL && *s != NULL; s++)
        free(*s);
    free(strings);
}

/* Add NAME=VALUE, or replace it. */
static void put(struct strv *env, const char *name, const char *value)
{
    size_t len = strlen(name);
    char *item = mem_asprintf("%s=%s", name, value);

    for (size_t i = 0; i < env->count; i++) {
        if (strncmp(env->items[i], name, len) == 0 && env->items[i][len] == '=') {
            free(env->items[i]);
            env->items[i] = item;
            return;
        }
    }
    env->items[env->count++] = item;
}

char **process_environment(const struct process_spec *spec)
{
    const char *path = getenv("PATH");
    struct strv env = {0};
    const char *name;
    json_t *value;

    env.items = mem_calloc(4 + json_object_size(spec->default_envs) + spec->env_count + 1,
                           sizeof(char *));
    put(&env, "PATH", path != NULL && path[0] != '\0' ? path : SPAWN_PATH_DEFAULT);
    put(&env, "HOME", spec->user->home);
    put(&env, "USER", spec->user->name);
    put(&env, "LOGNAME", spec->user->name);
    json_object_foreach((json_t *)(uintptr_t)spec->default_envs, name, value) {
        put(&env, name, json_string_value(value));
    }
    for (size_t i = 0; i < spec->env_count; i++)
        put(&env, spec->env_names[i], spec->env_values[i]);
    return env.items;
}

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "envd/process_inner.h"
#include "envd/spawn.h"
#include "server/base/map.h"
#include "server/base/mem.h"

struct env {
    char **items;
    size_t count;
    struct map places; /* name to its place in items and 1; names are borrowed */
};

void strv_free(char **strings)
{
    for (char **s = strings; s != NULL && *s != NULL; s++)
        free(*s);
    free(strings);
}

/* Add NAME=VALUE, or replace it. */
static void put(struct env *env, const char *name, const char *value)
{
    size_t place = (size_t)(uintptr_t)map_get(&env->places, name);
    char *item = mem_asprintf("%s=%s", name, value);

    if (place > 0) {
        free(env->items[place - 1]);
        env->items[place - 1] = item;
        return;
    }
    env->items[env->count++] = item;
    map_put(&env->places, name, (void *)(uintptr_t)env->count);
}

char **process_environment(const struct process_spec *spec)
{
    const char *path = getenv("PATH");
    struct env env = {0};
    const char *name;
    json_t *value;

    map_init(&env.places);
    env.items =
        mem_calloc(4 + json_object_size(spec->default_envs) + spec->env_count + 1, sizeof(char *));
    put(&env, "PATH", path != NULL && path[0] != '\0' ? path : SPAWN_PATH_DEFAULT);
    put(&env, "HOME", spec->user->home);
    put(&env, "USER", spec->user->name);
    put(&env, "LOGNAME", spec->user->name);
    json_object_foreach((json_t *)(uintptr_t)spec->default_envs, name, value) {
        put(&env, name, json_string_value(value));
    }
    for (size_t i = 0; i < spec->env_count; i++)
        put(&env, spec->env_names[i], spec->env_values[i]);
    map_clear(&env.places);
    return env.items;
}

#include "server/model/sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

static const struct {
    const char *name;
    const char *public_name;
    bool visible;
} states[] = {
    [SANDBOX_CREATING] = {"creating", "running", false},
    [SANDBOX_RUNNING] = {"running", "running", true},
    [SANDBOX_PAUSING] = {"pausing", "paused", true},
    [SANDBOX_PAUSED] = {"paused", "paused", true},
    [SANDBOX_RESUMING] = {"resuming", "paused", true}, /* until it has resumed, it has not */
    [SANDBOX_KILLING] = {"killing", "running", false},
};
_Static_assert(array_size(states) == SANDBOX_STATE_COUNT, "one row per state");

static const char *const ends[] = {
    [SANDBOX_END_NONE] = "none",       [SANDBOX_END_KILLED] = "killed",
    [SANDBOX_END_TIMEOUT] = "timeout", [SANDBOX_END_EXITED] = "exited",
    [SANDBOX_END_LOST] = "lost",       [SANDBOX_END_FAILED] = "failed",
};
_Static_assert(array_size(ends) == SANDBOX_END_COUNT, "one name per reason");

void sandbox_copy(struct sandbox *out, const struct sandbox *from)
{
    *out = *from;
    out->metadata = mem_strdup(from->metadata);
    out->env = mem_strdup(from->env);
    out->network = mem_strdup(from->network);
    out->volume_mounts = mem_strdup(from->volume_mounts);
    out->engine_data = mem_strdup(from->engine_data);
}

void sandbox_clear(struct sandbox *sandbox)
{
    free(sandbox->metadata);
    free(sandbox->env);
    free(sandbox->network);
    free(sandbox->volume_mounts);
    free(sandbox->engine_data);
    memset(sandbox, 0, sizeof(*sandbox));
}

void sandbox_id_new(char out[SANDBOX_ID_SIZE])
{
    out[0] = 'i';
    hash_random_id(out + 1, SANDBOX_ID_CHARS);
}

static bool is_id_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

int sandbox_id_parse(const char *s, size_t len, char out[SANDBOX_ID_SIZE], struct err *err)
{
    size_t id_len = 0, dashes = 0;

    for (size_t i = 0; i < len; i++) {
        if (s[i] == '-')
            dashes++;
        else if (!is_id_char(s[i]))
            return err_set(err, ERR_INVALID, "Invalid sandbox ID");
        if (dashes == 0)
            id_len++;
    }
    if (id_len == 0 || dashes > 1 || id_len >= SANDBOX_ID_SIZE)
        return err_set(err, ERR_INVALID, "Invalid sandbox ID");
    memcpy(out, s, id_len);
    out[id_len] = '\0';
    return 0;
}

const char *sandbox_state_name(enum sandbox_state state)
{
    return (unsigned)state < SANDBOX_STATE_COUNT ? states[state].name : "?";
}

int sandbox_state_parse(const char *name, enum sandbox_state *out)
{
    for (size_t i = 0; i < array_size(states); i++) {
        if (strcmp(states[i].name, name) == 0) {
            *out = (enum sandbox_state)i;
            return 0;
        }
    }
    return -1;
}

const char *sandbox_state_public(enum sandbox_state state)
{
    return (unsigned)state < SANDBOX_STATE_COUNT ? states[state].public_name : "?";
}

bool sandbox_state_visible(enum sandbox_state state)
{
    return (unsigned)state < SANDBOX_STATE_COUNT && states[state].visible;
}

const char *sandbox_end_name(enum sandbox_end end)
{
    return (unsigned)end < array_size(ends) ? ends[end] : "?";
}

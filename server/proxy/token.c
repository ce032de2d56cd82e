#include "server/proxy/token.h"

#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/sandbox.h"

#define KEY_SIZE (SANDBOX_ID_SIZE + TOKEN_USER_MAX_BYTES + 4)
#define BASIC_MAX_BYTES 4096 /* of base64: user and password */

struct token_entry {
    char key[KEY_SIZE];
    char *jwt; /* owned */
    int64_t renew_unix_s;
};

void token_cache_init(struct token_cache *cache)
{
    map_init(&cache->entries);
}

static void forget(struct token_entry *entry)
{
    if (entry->jwt != NULL)
        secret_wipe(entry->jwt, strlen(entry->jwt));
    free(entry->jwt);
    entry->jwt = NULL;
}

void token_cache_clear(struct token_cache *cache)
{
    size_t at = 0;
    void *entry;

    while (map_next(&cache->entries, &at, &entry)) {
        forget(entry);
        free(entry);
    }
    map_clear(&cache->entries);
}

static struct token_entry *entry_of(struct token_cache *cache, const char *key)
{
    struct token_entry *entry = map_get(&cache->entries, key);

    if (entry != NULL)
        return entry;
    if (cache->entries.count >= TOKEN_CACHE_MAX)
        token_cache_clear(cache);
    entry = mem_zalloc(sizeof(*entry));
    memcpy(entry->key, key, strlen(key) + 1);
    map_put(&cache->entries, entry->key, entry);
    return entry;
}

const char *token_get(struct token_cache *cache, const uint8_t key[SHA256_BYTES], const char *id,
                      const char *user, int64_t now_unix_s, struct err *err)
{
    char name[KEY_SIZE];
    struct token_entry *entry;
    char *jwt;

    /* '=' marks a named user, so that "" and nobody differ; ids hold neither ' ' nor '=' */
    snprintf(name, sizeof(name), "%s %s%s", id, user != NULL ? "=" : "", user != NULL ? user : "");
    entry = entry_of(cache, name);
    /* a clock that was set back makes a token that is not valid yet: renew that one, too */
    if (entry->jwt != NULL && now_unix_s < entry->renew_unix_s &&
        entry->renew_unix_s - now_unix_s <= JWT_LIFE_S / 2)
        return entry->jwt;
    if (auth_jwt(key, id, user, now_unix_s, &jwt, err) < 0)
        return NULL;
    forget(entry);
    entry->jwt = jwt;
    entry->renew_unix_s = now_unix_s + JWT_LIFE_S / 2;
    return jwt;
}

int token_basic_user(const char *value, size_t len, char *out)
{
    uint8_t plain[BASIC_MAX_BYTES];
    const char *colon;
    size_t plain_len, user_len;

    if (len < 6 || !mem_is_nocase(value, 6, "basic "))
        return -1;
    value += 6;
    len -= 6;
    while (len > 0 && *value == ' ') {
        value++;
        len--;
    }
    if (len == 0 || len > BASIC_MAX_BYTES || base64_decode(value, len, plain, &plain_len) < 0)
        return -1;
    colon = memchr(plain, ':', plain_len);
    if (colon == NULL)
        return -1;
    user_len = (size_t)(colon - (const char *)plain);
    if (!str_is_utf8((const char *)plain, user_len))
        return -1;
    return str_copy(out, TOKEN_USER_MAX_BYTES, (const char *)plain, user_len);
}

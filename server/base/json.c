#include "server/base/json.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/json_long.h"
#include "server/base/mem.h"
#include "server/base/str.h"

/* 15 digits are what a double keeps of any decimal number: 32.42 stays 32.42. */
#define TEXT_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))
#define LOAD_FLAGS (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)

/* jansson's own limit is 2,048 levels; ours is checked after parsing, which is bounded by it. */
static bool too_deep(const json_t *json, int depth)
{
    const char *key;
    json_t *value;
    size_t i;

    if (depth > JSON_DEPTH_MAX)
        return true;
    if (json_is_object(json)) {
        json_object_foreach((json_t *)(uintptr_t)json, key, value)
            if (too_deep(value, depth + 1))
                return true;
    } else if (json_is_array(json)) {
        json_array_foreach(json, i, value)
            if (too_deep(value, depth + 1))
                return true;
    }
    return false;
}

/* DATA with its long string put aside; NULL when that does not work, whatever the reason. */
static json_t *load_long(const char *data, size_t len)
{
    struct json_long cut;
    json_t *json;

    if (!json_long_cut(data, len, &cut))
        return NULL;
    json = json_loadb(cut.rest, cut.rest_len, LOAD_FLAGS, NULL);
    if (json != NULL && (too_deep(json, 1) || json_long_paste(&cut, json) < 0)) {
        json_decref(json);
        json = NULL;
    }
    json_long_clear(&cut);
    return json;
}

json_t *json_parse(const char *data, size_t len, struct err *err)
{
    json_t *json = load_long(data, len);
    json_error_t error;

    if (json != NULL)
        return json;
    json = json_loadb(data, len, LOAD_FLAGS, &error);
    if (json == NULL) {
        err_set(err, ERR_INVALID, "invalid JSON at line %d column %d: %.160s", error.line,
                error.column, error.text);
        return NULL;
    }
    if (too_deep(json, 1)) {
        json_decref(json);
        err_set(err, ERR_INVALID, "invalid JSON: nested deeper than %d levels", JSON_DEPTH_MAX);
        return NULL;
    }
    return json;
}

json_t *json_parse_object(const char *data, size_t len, struct err *err)
{
    json_t *json;

    if (len == 0)
        return json_object();
    json = json_parse(data, len, err);
    if (json != NULL && !json_is_object(json)) {
        json_decref(json);
        err_set(err, ERR_INVALID, "the JSON value must be an object");
        return NULL;
    }
    return json;
}

char *json_text(const json_t *json)
{
    char *text = json == NULL ? mem_strdup("null") : json_dumps(json, TEXT_FLAGS);

    if (text == NULL)
        abort();
    return text;
}

char *json_canonical(const json_t *json)
{
    char *text = json_dumps(json, TEXT_FLAGS | JSON_SORT_KEYS | JSON_ENSURE_ASCII);

    if (text == NULL)
        abort();
    return text;
}

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    default:
        return "true or false";
    }
}

static int wrong_type(const char *key, json_type type, struct err *err)
{
    return err_set(err, ERR_INVALID, "field '%s' must be %s", key, type_name(type));
}

static json_t *get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    return json_is_null(value) ? NULL : value;
}

int json_get_str(const json_t *object, const char *key, const char **out, struct err *err)
{
    json_t *value = get(object, key);

    if (value == NULL)
        return 0;
    if (!json_is_string(value))
        return wrong_type(key, JSON_STRING, err);
    *out = json_string_value(value);
    return 0;
}

/* A whole number, also when it is written with a fraction of zero or an exponent. */
static bool whole_number(const json_t *value, int64_t *out)
{
    const double limit = 9007199254740992.0; /* 2^53: beyond, a double is not exact */
    double real;

    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    real = json_real_value(value); /* 0 for what is no number */
    if (!json_is_real(value) || real < -limit || real > limit)
        return false;
    *out = (int64_t)real;
    return (double)*out == real;
}

int json_get_i64(const json_t *object, const char *key, int64_t min, int64_t max, int64_t *out,
                 struct err *err)
{
    json_t *value = get(object, key);
    int64_t number;

    if (value == NULL)
        return 0;
    if (!whole_number(value, &number))
        return wrong_type(key, JSON_INTEGER, err);
    if (number < min || number > max)
        return err_set(err, ERR_INVALID, "field '%s' must be between %lld and %lld", key,
                       (long long)min, (long long)max);
    *out = number;
    return 0;
}

int json_get_bool(const json_t *object, const char *key, bool *out, struct err *err)
{
    json_t *value = get(object, key);

    if (value == NULL)
        return 0;
    if (!json_is_boolean(value))
        return wrong_type(key, JSON_TRUE, err);
    *out = json_is_true(value);
    return 0;
}

static int get_container(const json_t *object, const char *key, json_type type, json_t **out,
                         struct err *err)
{
    json_t *value = get(object, key);

    if (value == NULL)
        return 0;
    if (json_typeof(value) != type)
        return wrong_type(key, type, err);
    *out = value;
    return 0;
}

int json_get_object(const json_t *object, const char *key, json_t **out, struct err *err)
{
    return get_container(object, key, JSON_OBJECT, out, err);
}

int json_get_array(const json_t *object, const char *key, json_t **out, struct err *err)
{
    return get_container(object, key, JSON_ARRAY, out, err);
}

int json_get_str_map(const json_t *object, const char *key, json_t **out, struct err *err)
{
    json_t *map = NULL, *value;
    const char *name;

    if (json_get_object(object, key, &map, err) < 0)
        return -1;
    if (map == NULL)
        return 0;
    json_object_foreach(map, name, value) {
        if (!json_is_string(value))
            return err_set(err, ERR_INVALID, "every value of field '%s' must be a string", key);
    }
    *out = map;
    return 0;
}

bool json_has(const json_t *object, const char *key)
{
    return get(object, key) != NULL;
}

void json_put(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) < 0)
        abort();
}

/* jansson takes UTF-8 only; a peer's bytes, or a message cut inside a character, must not abort. */
static json_t *string_of_bytes(const char *value)
{
    _cleanup_free_ char *ascii = NULL;

    if (str_is_utf8(value, strlen(value)))
        return json_string(value);
    ascii = mem_strdup(value);
    for (char *c = ascii; *c != '\0'; c++) {
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    }
    return json_string(ascii);
}

void json_put_str(json_t *object, const char *key, const char *value)
{
    json_put(object, key, value != NULL ? string_of_bytes(value) : json_null());
}

void json_put_i64(json_t *object, const char *key, int64_t value)
{
    json_put(object, key, json_integer(value));
}

void json_put_bool(json_t *object, const char *key, bool value)
{
    json_put(object, key, json_boolean(value));
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/err.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

static void an_error_keeps_its_message_and_gathers_detail(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(err_sys(&err, ENOENT, "cannot open %s", "x"), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(err.msg, "cannot open x");
    assert_string_equal(err.detail, "cannot open x: No such file or directory");
    err_wrap(&err, "start of %s", "i1");
    assert_string_equal(err.msg, "cannot open x");
    assert_string_equal(err.detail, "start of i1: cannot open x: No such file or directory");
    char longer[2000];
    memset(longer, 'a', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    err_set(&err, ERR_INVALID, "%s", longer);
    assert_int_equal(strlen(err.msg), ERR_MSG_SIZE - 1);
}

static void hashes_match_published_vectors(void **state)
{
    uint8_t mac[SHA256_BYTES], okm[SHA256_BYTES], key[20];
    char hex[SHA256_HEX_SIZE];

    (void)state;
    hash_sha256_hex("abc", 3, hex); /* FIPS 180-4 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    memset(key, 0x0b, sizeof(key)); /* RFC 4231 case 1 */
    hash_hmac_sha256(key, sizeof(key), "Hi There", 8, mac);
    hex_encode(mac, sizeof(mac), hex);
    assert_string_equal(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    memset(mac, 0x0b, 22); /* RFC 5869 case 3: no salt, no info; first block */
    hash_hkdf_sha256(mac, 22, "", okm);
    hex_encode(okm, sizeof(okm), hex);
    assert_string_equal(hex, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
    assert_true(hash_equal_str("token", 5, "token"));
    assert_false(hash_equal_str("toke", 4, "token"));
    char uuid[UUID_SIZE], id[21];
    hash_random_uuid(uuid);
    assert_int_equal(uuid[14], '4');
    hash_random_id(id, 20);
    assert_int_equal(strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789"), 20);
}

static void dates_parse_with_any_zone_and_fraction(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } cases[] = {{"1970-01-01T00:00:00Z", 0},
                 {"2026-01-02T03:04:05.678Z", 1767323045678},
                 {"2026-01-02T03:04:05.678901234Z", 1767323045678},
                 {"2026-01-02T05:04:05+02:00", 1767323045000},
                 {"2026-01-01T22:34:05-04:30", 1767323045000},
                 {"2026-01-02 03:04:05Z", 1767323045000},
                 {"2026-01-02T03:04:05", -1},
                 {"2026-13-02T03:04:05Z", -1},
                 {"2026-01-02T24:04:05Z", -1},
                 {"2026-01-02T03:04:05.Z", -1},
                 {"2026-01-02T03:04:05+2:00", -1},
                 {"garbage", -1},
                 {"", -1}};
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        int64_t ms = -1;
        int rc = time_parse_rfc3339(cases[i].text, strlen(cases[i].text), &ms, NULL);
        if (rc != (cases[i].ms < 0 ? -1 : 0) || ms != cases[i].ms)
            fail_msg("%s: %d, %lld", cases[i].text, rc, (long long)ms);
    }
    char text[TIME_RFC3339_SIZE];
    time_rfc3339_ms(1767323045678, text);
    assert_string_equal(text, "2026-01-02T03:04:05.678Z");
}

static void json_is_parsed_strictly(void **state)
{
    static const char *const bad[] = {"{\"a\":1,\"a\":2}",   "{\"a\":\"\xff\"}", "{", "[1] x",
                                      "{\"a\":\"\\u0000\"}", "{'a':1}"};
    char deep[400];
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < array_size(bad); i++) {
        err = (struct err){0};
        if (json_parse(bad[i], strlen(bad[i]), &err) != NULL)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    assert_null(json_parse(deep, 130, &err));
    assert_null(json_parse_object("[]", 2, &err));
    _cleanup_json_ json_t *empty = json_parse_object("", 0, &err);
    assert_true(json_is_object(empty));
}

static void json_strings_take_any_bytes(void **state)
{
    _cleanup_json_ json_t *json = json_object();
    _cleanup_free_ char *text = NULL;

    (void)state;
    json_put_str(json, "a", "\xc3\xa4");
    json_put_str(json, "b", "x\xff\xc3\xa4");
    json_put_str(json, "c", "cut \xc3");
    json_put_str(json, "d", NULL);
    text = json_text(json);
    assert_string_equal(text, "{\"a\":\"\xc3\xa4\",\"b\":\"x???\",\"c\":\"cut ?\",\"d\":null}");
}

static void json_getters_name_the_wrong_field(void **state)
{
    static const char text[] = "{\"s\":\"x\",\"n\":7,\"b\":true,\"z\":null,\"m\":{\"k\":1},"
                               "\"whole\":92.0e1,\"part\":7.5,\"huge\":1e300}";
    struct err err = {0};
    _cleanup_json_ json_t *json = json_parse(text, sizeof(text) - 1, &err);
    const char *s = "default";
    int64_t n = 3;
    bool b = false;
    json_t *map = NULL;

    (void)state;
    assert_non_null(json);
    assert_int_equal(json_get_str(json, "absent", &s, &err), 0);
    assert_string_equal(s, "default");
    assert_int_equal(json_get_str(json, "z", &s, &err), 0);
    assert_string_equal(s, "default");
    assert_int_equal(json_get_str(json, "n", &s, &err), -1);
    assert_string_equal(err.msg, "field 'n' must be a string");
    assert_int_equal(json_get_i64(json, "n", 0, 6, &n, &err), -1);
    assert_string_equal(err.msg, "field 'n' must be between 0 and 6");
    assert_int_equal(n, 3);
    assert_int_equal(json_get_i64(json, "n", 0, 10, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(json_get_i64(json, "whole", 0, 1000, &n, &err), 0);
    assert_int_equal(n, 920);
    assert_int_equal(json_get_i64(json, "part", 0, 1000, &n, &err), -1);
    assert_int_equal(json_get_i64(json, "huge", INT64_MIN, INT64_MAX, &n, &err), -1);
    assert_int_equal(n, 920);
    assert_int_equal(json_get_bool(json, "b", &b, &err), 0);
    assert_true(b);
    assert_int_equal(json_get_str_map(json, "m", &map, &err), -1);
    assert_null(map);
}

static void a_map_survives_growth_and_removal(void **state)
{
    static char keys[2000][8];
    struct map map;
    size_t at = 0, seen = 0;
    void *value;

    (void)state;
    map_init(&map);
    assert_null(map_get(&map, "x"));
    for (size_t i = 0; i < array_size(keys); i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
        map_put(&map, keys[i], keys[i]);
    }
    for (size_t i = 0; i < array_size(keys); i += 2)
        assert_ptr_equal(map_remove(&map, keys[i]), keys[i]);
    for (size_t i = 0; i < array_size(keys); i++)
        assert_ptr_equal(map_get(&map, keys[i]), i % 2 == 0 ? NULL : keys[i]);
    assert_null(map_remove(&map, "k0"));
    while (map_next(&map, &at, &value))
        seen++;
    assert_int_equal(seen, 1000);
    assert_int_equal(map.count, 1000);
    map_clear(&map);
}

static void a_durable_write_replaces_the_whole_file(void **state)
{
    char dir[] = "/tmp/sandpit-base-XXXXXX";
    struct err err = {0};
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(dir));
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(file_write_durable(fd, "a", "first", 5, 0600, &err), 0);
    assert_int_equal(file_write_durable(fd, "a", "2", 1, 0600, &err), 0);
    _cleanup_free_ char *text = NULL;
    size_t len;
    assert_int_equal(file_read(fd, "a", 10, &text, &len, &err), 0);
    assert_string_equal(text, "2");
    assert_int_equal(fstatat(fd, "a", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(file_write_durable(fd, "none/a", "x", 1, 0600, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(symlinkat("/etc/passwd", fd, "out"), 0);
    assert_int_equal(fd_open_beneath(fd, "out", O_RDONLY, 0), -1);
    assert_int_equal(fd_open_beneath(fd, "../etc/passwd", O_RDONLY, 0), -1);
    int inside = fd_open_beneath(fd, "a", O_RDONLY, 0);
    assert_true(inside >= 0);
    close(inside);
    unlinkat(fd, "a", 0);
    unlinkat(fd, "out", 0);
    assert_int_equal(rmdir(dir), 0); /* no temporary file is left */
}

/* What log_write puts on standard error, read back through a pipe. */
static void log_lines_are_json_whatever_they_hold(void **state)
{
    char big[9000], line[LOG_LINE_MAX + 1];
    int fds[2], saved = dup(STDERR_FILENO);
    struct err err = {0};

    (void)state;
    memset(big, '"', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    dup2(fds[1], STDERR_FILENO);
    log_info("a \"quoted\"\n\x01 \xff", "k", "\xc3\xa9", "absent", (char *)NULL, "last", "1");
    log_info("cut", "big", big);
    log_debug("dropped");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[1]);
    FILE *in = fdopen(fds[0], "r");
    int lines = 0;
    while (fgets(line, sizeof(line), in) != NULL) {
        _cleanup_json_ json_t *json = json_parse(line, strlen(line), &err);
        if (json == NULL)
            fail_msg("%s in %s", err.msg, line);
        if (lines == 0) {
            assert_string_equal(json_string_value(json_object_get(json, "k")), "\xc3\xa9");
            assert_string_equal(json_string_value(json_object_get(json, "last")), "1");
            assert_null(json_object_get(json, "absent"));
        }
        lines++;
    }
    fclose(in);
    assert_int_equal(lines, 2);
}

static int setup(void **state)
{
    (void)state;
    return hash_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_keeps_its_message_and_gathers_detail),
        cmocka_unit_test(hashes_match_published_vectors),
        cmocka_unit_test(dates_parse_with_any_zone_and_fraction),
        cmocka_unit_test(json_is_parsed_strictly),
        cmocka_unit_test(json_strings_take_any_bytes),
        cmocka_unit_test(json_getters_name_the_wrong_field),
        cmocka_unit_test(a_map_survives_growth_and_removal),
        cmocka_unit_test(a_durable_write_replaces_the_whole_file),
        cmocka_unit_test(log_lines_are_json_whatever_they_hold),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}

/* Volumes: rows and files that agree whatever fails, and sandboxes that never lose theirs. */
#include "tests/unit/lifecycle/harness.h"

#include <string.h>

#include "server/base/str.h"

#define VOLUMES_MAX 3
#define FOLDERS_MAX 16

/* The engine's side: folders by id. */
static struct {
    char ids[FOLDERS_MAX][UUID_SIZE];
    size_t count;
    unsigned fail_create, fail_delete;
    char last_mounts[512];
} files;

static size_t find(const char *id)
{
    size_t i = 0;

    while (i < files.count && !str_eq(files.ids[i], id))
        i++;
    return i;
}

static int volume_create(struct engine *engine, const char *id, uint64_t size_mb, struct err *err)
{
    (void)engine;
    (void)size_mb;
    if (find(id) == files.count)
        memcpy(files.ids[files.count++], id, UUID_SIZE);
    if (files.fail_create > 0 && files.fail_create--)
        return err_set(err, ERR_NO_SPACE, "full");
    return 0;
}

static int volume_delete(struct engine *engine, const char *id, struct err *err)
{
    size_t at = find(id);

    (void)engine;
    if (files.fail_delete > 0 && files.fail_delete--)
        return err_set(err, ERR_INTERNAL, "no");
    if (at < files.count)
        memmove(files.ids[at], files.ids[--files.count], UUID_SIZE);
    return 0;
}

static int volume_list(struct engine *engine, engine_volume_fn fn, void *ctx, struct err *err)
{
    (void)engine;
    (void)err;
    for (size_t i = 0; i < files.count; i++)
        fn(ctx, files.ids[i]);
    return 0;
}

static int create(struct engine *engine, const struct engine_spec *spec, struct engine_sandbox *out,
                  struct err *err)
{
    snprintf(files.last_mounts, sizeof(files.last_mounts), "%s",
             spec->volume_mounts != NULL ? spec->volume_mounts : "");
    if (strstr(files.last_mounts, "/link") != NULL)
        return err_set(err, ERR_INVALID, VOLUME_PATH_WORDS "/link' has a symbolic link in it");
    return test_engine_create(engine, spec, out, err);
}

static struct engine_ops ops;

static int setup(void **state)
{
    struct harness *h;

    memset(&files, 0, sizeof(files));
    if (harness_setup(state) < 0)
        return -1;
    h = *state;
    harness_stop(h);
    ops = test_engine_ops;
    ops.create = create;
    ops.volume_create = volume_create;
    ops.volume_delete = volume_delete;
    ops.volume_list = volume_list;
    h->test.engine.ops = &ops;
    h->volume_count_max = VOLUMES_MAX;
    harness_start(h);
    return 0;
}

static enum err_code make_volume(struct harness *h, const char *name, struct volume *out)
{
    struct volume volume;
    struct err err = {0};

    if (lifecycle_volume_create(h->lifecycle, "team", name, out != NULL ? out : &volume, &err) < 0)
        return err.code;
    return ERR_NONE;
}

static enum err_code drop(struct harness *h, const char *namespace_, const char *id)
{
    struct err err = {0};

    return lifecycle_volume_delete(h->lifecycle, namespace_, id, &err) < 0 ? err.code : ERR_NONE;
}

static size_t rows(struct harness *h)
{
    struct volume *list = NULL;
    struct err err = {0};
    size_t count = 0;

    assert_int_equal(store_volume_list(h->store, NULL, &list, &count, &err), 0);
    free(list);
    return count;
}

/* A sandbox with volume NAME at PATH; "" or the message it was refused with. */
static const char *mounted(struct harness *h, const char *name, const char *path,
                           char id[SANDBOX_ID_SIZE])
{
    static char words[ERR_MSG_SIZE];
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    _cleanup_json_ json_t *list = json_array();
    struct lifecycle_create request = plain;
    json_t *item = json_object();
    struct err err = {0};

    json_put_str(item, "name", name);
    json_put_str(item, "path", path);
    json_array_append_new(list, item);
    request.volume_mounts = list;
    words[0] = '\0';
    if (lifecycle_create(h->lifecycle, &request, &sandbox, &err) < 0) {
        assert_int_equal(err.code, ERR_INVALID);
        snprintf(words, sizeof(words), "%s", err.msg);
    } else if (id != NULL) {
        memcpy(id, sandbox.id, SANDBOX_ID_SIZE);
    }
    return words;
}

static void a_volume_has_a_row_and_files_or_neither(void **state)
{
    struct harness *h = *state;
    struct volume volume;

    files.fail_create = 1;
    assert_int_equal(make_volume(h, "a", NULL), ERR_NO_SPACE);
    assert_int_equal(rows(h) + files.count, 0);
    assert_int_equal(make_volume(h, "a", &volume), ERR_NONE);
    assert_int_equal(make_volume(h, "a", NULL), ERR_EXISTS);
    assert_int_equal(make_volume(h, "a b", NULL), ERR_INVALID);
    assert_int_equal(drop(h, "other", volume.id), ERR_NOT_FOUND);
    assert_int_equal(drop(h, "team", volume.id), ERR_NONE);
    assert_int_equal(drop(h, "team", volume.id), ERR_NOT_FOUND);
    assert_int_equal(rows(h) + files.count, 0);
}

static void a_delete_that_failed_is_finished_later(void **state)
{
    struct harness *h = *state;
    struct volume one, two, out;
    struct err err = {0};

    assert_int_equal(make_volume(h, "one", &one), ERR_NONE);
    assert_int_equal(make_volume(h, "two", &two), ERR_NONE);
    files.fail_delete = 2;
    assert_int_equal(drop(h, "team", one.id), ERR_INTERNAL);
    assert_int_equal(drop(h, "team", two.id), ERR_INTERNAL);
    /* gone for everybody, with its name still taken */
    assert_int_equal(lifecycle_volume_get(h->lifecycle, "team", one.id, &out, &err), -1);
    assert_string_not_equal(mounted(h, "one", "/m", NULL), "");
    assert_int_equal(make_volume(h, "one", NULL), ERR_EXISTS);
    assert_int_equal(drop(h, "team", one.id), ERR_NONE); /* asked again */
    assert_int_equal(rows(h), 1);
    harness_stop(h);
    harness_start(h); /* or at the next start */
    assert_int_equal(rows(h) + files.count, 0);
}

static void what_a_crash_left_half_made_goes_at_start(void **state)
{
    struct harness *h = *state;
    struct volume half = {.id = "0b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11",
                          .namespace_ = "team",
                          .name = "half",
                          .state = VOLUME_CREATING};
    struct err err = {0};

    assert_int_equal(store_volume_add(h->store, &half, &err), 0);
    assert_int_equal(volume_create(NULL, half.id, 0, &err), 0);
    /* files that no row knows, as after a restore: people's data */
    assert_int_equal(volume_create(NULL, "1b6e5f0e-7f6a-4b53-9d0c-6a1f4f4f2a11", 0, &err), 0);
    assert_int_equal(drop(h, "team", half.id), ERR_NOT_FOUND);
    harness_stop(h);
    harness_start(h);
    assert_int_equal(rows(h), 0);
    assert_int_equal(files.count, 1);
    assert_int_equal(files.ids[0][0], '1');
}

static void a_namespace_has_no_more_than_it_may(void **state)
{
    struct harness *h = *state;
    struct volume other;
    struct err err = {0};

    assert_int_equal(make_volume(h, "a", NULL), ERR_NONE);
    assert_int_equal(make_volume(h, "b", NULL), ERR_NONE);
    assert_int_equal(make_volume(h, "c", NULL), ERR_NONE);
    assert_int_equal(make_volume(h, "d", NULL), ERR_LIMIT);
    assert_int_equal(lifecycle_volume_create(h->lifecycle, "other", "a", &other, &err), 0);
    harness_stop(h);
    h->volume_count_max = 0;
    harness_start(h);
    assert_int_equal(make_volume(h, "d", NULL), ERR_FORBIDDEN);
    assert_string_equal(mounted(h, "a", "/m", NULL), "Volume mounts are not enabled.");
}

static void one_that_a_sandbox_has_stays(void **state)
{
    struct harness *h = *state;
    char id[SANDBOX_ID_SIZE];
    struct volume volume;
    struct err err = {0};

    assert_int_equal(make_volume(h, "a", &volume), ERR_NONE);
    assert_string_equal(mounted(h, "a", "/m", id), "");
    assert_true(volume_mounts_have(files.last_mounts, volume.id));
    assert_int_equal(drop(h, "team", volume.id), ERR_CONFLICT);
    assert_int_equal(lifecycle_pause(h->lifecycle, "team", id, &with_memory, &err), 0);
    assert_int_equal(drop(h, "team", volume.id), ERR_CONFLICT);
    harness_stop(h);
    harness_start(h);
    assert_int_equal(drop(h, "team", volume.id), ERR_CONFLICT);
    assert_int_equal(lifecycle_kill(h->lifecycle, "team", id, SANDBOX_END_KILLED, &err), 0);
    assert_int_equal(drop(h, "team", volume.id), ERR_NONE);
}

static void mounts_that_cannot_be_make_no_sandbox(void **state)
{
    struct harness *h = *state;

    assert_int_equal(make_volume(h, "a", NULL), ERR_NONE);
    assert_string_equal(mounted(h, "b", "/m", NULL),
                        "invalid mounts:\n\t- volume mount #0: volume 'b' not found");
    assert_string_equal(mounted(h, "a", "m", NULL),
                        "invalid mounts:\n\t- volume mount #0: path must be absolute");
    assert_string_equal(mounted(h, "a", "/link", NULL),
                        VOLUME_PATH_WORDS "/link' has a symbolic link in it");
    assert_int_equal(stored_rows(h), 0);
}

#define volume_test(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        volume_test(a_volume_has_a_row_and_files_or_neither),
        volume_test(a_delete_that_failed_is_finished_later),
        volume_test(what_a_crash_left_half_made_goes_at_start),
        volume_test(a_namespace_has_no_more_than_it_may),
        volume_test(one_that_a_sandbox_has_stays),
        volume_test(mounts_that_cannot_be_make_no_sandbox),
    };

    return harness_main(tests, array_size(tests));
}

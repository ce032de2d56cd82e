/*
 * A create with an Idempotency-Key: once, also over restarts, failures and many at once.
 */
#include "tests/unit/lifecycle/harness.h"

#include <pthread.h>

#include "server/base/str.h"
#include "server/store/store.h"

static struct lifecycle_create keyed(const char *key, char body)
{
    struct lifecycle_create request = plain;

    request.idempotency_key = key;
    memset(request.body_sha256, body, sizeof(request.body_sha256));
    return request;
}

/* The code of a create, and the id of what it answered. */
static enum err_code try(struct harness *h, const struct lifecycle_create *request,
                         char id[SANDBOX_ID_SIZE], const char **error_code)
{
    _cleanup_sandbox_ struct sandbox sandbox = {0};
    struct err err = {0};

    if (lifecycle_create(h->lifecycle, request, &sandbox, &err) < 0) {
        if (error_code != NULL)
            *error_code = err.error_code;
        return err.code;
    }
    memcpy(id, sandbox.id, SANDBOX_ID_SIZE);
    assert_string_equal(sandbox.template_id, "base");
    assert_string_equal(sandbox.alias, "base");
    return ERR_NONE;
}

static void the_same_key_and_body_give_the_first_answer_again(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = keyed("key-1", 'a');
    char first[SANDBOX_ID_SIZE], again[SANDBOX_ID_SIZE];
    struct err err = {0};

    assert_int_equal(try(h, &request, first, NULL), ERR_NONE);
    assert_int_equal(try(h, &request, again, NULL), ERR_NONE);
    assert_string_equal(first, again);
    assert_int_equal(stored_rows(h), 1);
    harness_stop(h);
    harness_start(h);
    assert_int_equal(try(h, &request, again, NULL), ERR_NONE);
    assert_string_equal(first, again);
    assert_int_equal(lifecycle_kill(h->lifecycle, "team", first, SANDBOX_END_KILLED, &err), 0);
    assert_int_equal(try(h, &request, again, NULL), ERR_NONE); /* it was made, and is not again */
    assert_string_equal(first, again);
    assert_int_equal(stored_rows(h), 0);
}

static void keys_belong_to_a_namespace(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = keyed("key-1", 'a'), other = request;
    char first[SANDBOX_ID_SIZE], second[SANDBOX_ID_SIZE];

    other.namespace_ = "other";
    other.body_sha256[0] = 'b';
    assert_int_equal(try(h, &request, first, NULL), ERR_NONE);
    assert_int_equal(try(h, &other, second, NULL), ERR_NONE);
    assert_string_not_equal(first, second);
}

static void another_body_is_refused(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = keyed("key-1", 'a'), other = keyed("key-1", 'b');
    const char *error_code = NULL;
    char id[SANDBOX_ID_SIZE];

    assert_int_equal(try(h, &request, id, NULL), ERR_NONE);
    assert_int_equal(try(h, &other, id, &error_code), ERR_CONFLICT);
    assert_string_equal(error_code, "idempotency_request_mismatch");
    assert_int_equal(stored_rows(h), 1);
}

static void what_changed_nothing_is_not_kept(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create wrong = keyed("key-1", 'a'), right = keyed("key-1", 'b');
    char id[SANDBOX_ID_SIZE];

    wrong.template_ref = "no-such-template";
    assert_int_equal(try(h, &wrong, id, NULL), ERR_NOT_FOUND);
    h->test.fail[CALL_CREATE] = 1;
    h->test.fail_code = ERR_NO_SPACE;
    assert_int_equal(try(h, &right, id, NULL), ERR_NO_SPACE);
    right = keyed("key-1", 'c');
    assert_int_equal(try(h, &right, id, NULL), ERR_NONE);
    assert_int_equal(stored_rows(h), 1);
}

static void a_create_that_cannot_be_undone_holds_its_key(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = keyed("key-1", 'a');
    const char *error_code = NULL;
    char id[SANDBOX_ID_SIZE];

    h->test.fail[CALL_CREATE] = h->test.fail[CALL_DESTROY] = 1;
    assert_int_equal(try(h, &request, id, NULL), ERR_INTERNAL);
    assert_int_equal(try(h, &request, id, &error_code), ERR_CONFLICT);
    assert_string_equal(error_code, "idempotency_in_progress");
    harness_stop(h);
    harness_start(h); /* undoes it */
    assert_int_equal(stored_rows(h), 0);
    assert_int_equal(try(h, &request, id, NULL), ERR_NONE);
}

/* As a crash after the claim leaves it; the row of the sandbox, if STATE is not COUNT. */
static void leave_claim(struct harness *h, const char *key, const char *id,
                        enum sandbox_state state)
{
    struct claim claim = {.namespace_ = "team", .created_unix_ms = time_unix_ms()};
    struct sandbox row = {
        .namespace_ = "team", .client = "t", .template_id = "base", .state = state};
    struct err err = {0};
    bool is_new = false;

    memset(claim.body_sha256, 'a', sizeof(claim.body_sha256));
    snprintf(claim.key, sizeof(claim.key), "%s", key);
    snprintf(claim.sandbox_id, sizeof(claim.sandbox_id), "%s", id);
    snprintf(row.id, sizeof(row.id), "%s", id);
    assert_int_equal(store_claim_open(h->store, &claim, &is_new, NULL, NULL, &err), 0);
    assert_true(is_new);
    if (state != SANDBOX_STATE_COUNT)
        assert_int_equal(store_sandbox_put(h->store, &row, &err), 0);
}

static void a_crash_before_the_outcome_leaves_the_key_free(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create bare = keyed("bare", 'a'), begun = keyed("begun", 'a');
    char id[SANDBOX_ID_SIZE];

    leave_claim(h, "bare", "ibare", SANDBOX_STATE_COUNT);
    leave_claim(h, "begun", "ibegun", SANDBOX_CREATING);
    harness_stop(h);
    harness_start(h);
    assert_int_equal(try(h, &bare, id, NULL), ERR_NONE);
    assert_string_not_equal(id, "ibare");
    assert_int_equal(try(h, &begun, id, NULL), ERR_NONE);
    assert_string_not_equal(id, "ibegun");
    assert_int_equal(stored_rows(h), 2);
}

static void a_claim_left_over_by_this_process_is_taken_over(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = keyed("bare", 'a');
    char id[SANDBOX_ID_SIZE];

    leave_claim(h, "bare", "ibare", SANDBOX_STATE_COUNT);
    assert_int_equal(try(h, &request, id, NULL), ERR_NONE);
    assert_int_equal(stored_rows(h), 1);
}

static void a_sandbox_that_is_lost_with_its_machine_is_not_made_again(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = keyed("gone", 'a');
    const char *error_code = NULL;
    char id[SANDBOX_ID_SIZE];

    leave_claim(h, "gone", "igone", SANDBOX_RUNNING); /* the engine knows of no such sandbox */
    harness_stop(h);
    harness_start(h);
    assert_int_equal(try(h, &request, id, &error_code), ERR_UNKNOWN);
    assert_string_equal(error_code, "idempotency_outcome_unknown");
    assert_int_equal(stored_rows(h), 0);
}

static void a_key_is_forgotten_after_a_day(void **state)
{
    struct harness *h = *state;
    struct lifecycle_create request = keyed("old", 'b');
    struct claim claim = {.namespace_ = "team", .key = "old", .sandbox_id = "iold"};
    struct sandbox row = {
        .id = "iold", .namespace_ = "team", .template_id = "base", .state = SANDBOX_RUNNING};
    char id[SANDBOX_ID_SIZE];
    struct err err = {0};
    bool is_new = false;

    claim.created_unix_ms = time_unix_ms() - IDEMPOTENCY_KEEP_MS;
    assert_int_equal(store_claim_open(h->store, &claim, &is_new, NULL, NULL, &err), 0);
    assert_int_equal(store_sandbox_put(h->store, &row, &err), 0);
    assert_int_equal(store_sandbox_delete(h->store, "iold", &err), 0);
    assert_int_equal(try(h, &request, id, NULL), ERR_NONE);
    assert_string_not_equal(id, "iold");
}

struct racer {
    struct harness *h;
    pthread_t thread;
    enum err_code code;
    const char *error_code;
    char id[SANDBOX_ID_SIZE];
};

static void *race(void *arg)
{
    struct racer *racer = arg;
    struct lifecycle_create request = keyed("key-1", 'a');

    do {
        racer->code = try(racer->h, &request, racer->id, &racer->error_code);
        if (racer->code == ERR_CONFLICT)
            usleep(1000);
    } while (racer->code == ERR_CONFLICT && str_eq(racer->error_code, "idempotency_in_progress"));
    return NULL;
}

static void many_at_once_make_one_sandbox(void **state)
{
    struct harness *h = *state;
    struct racer racers[16];

    for (size_t i = 0; i < array_size(racers); i++) {
        racers[i] = (struct racer){.h = h};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < array_size(racers); i++) {
        pthread_join(racers[i].thread, NULL);
        assert_int_equal(racers[i].code, ERR_NONE);
        assert_string_equal(racers[i].id, racers[0].id);
    }
    assert_int_equal(stored_rows(h), 1);
}

static void keys_have_one_form(void **state)
{
    static const char *const bad[] = {"", "A", "a b", "a_b", "\xc3\xa4", "a\n"};
    char lengthy[CLAIM_KEY_SIZE + 1];
    struct err err = {0};
    (void)state;

    for (size_t i = 0; i < array_size(bad); i++) {
        assert_int_equal(claim_key_check(bad[i], &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    memset(lengthy, 'a', sizeof(lengthy));
    lengthy[CLAIM_KEY_SIZE] = '\0';
    assert_int_equal(claim_key_check(lengthy, &err), -1);
    assert_int_equal(claim_key_check(lengthy + 1, &err), 0);
    assert_int_equal(claim_key_check("0-9z", &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        life_test(the_same_key_and_body_give_the_first_answer_again),
        life_test(keys_belong_to_a_namespace),
        life_test(another_body_is_refused),
        life_test(what_changed_nothing_is_not_kept),
        life_test(a_create_that_cannot_be_undone_holds_its_key),
        life_test(a_crash_before_the_outcome_leaves_the_key_free),
        life_test(a_claim_left_over_by_this_process_is_taken_over),
        life_test(a_sandbox_that_is_lost_with_its_machine_is_not_made_again),
        life_test(a_key_is_forgotten_after_a_day),
        life_test(many_at_once_make_one_sandbox),
        cmocka_unit_test(keys_have_one_form),
    };

    return harness_main(tests, array_size(tests));
}

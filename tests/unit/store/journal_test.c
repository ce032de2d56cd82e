#include "server/store/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/mem.h"

#define DAY_MS ((int64_t)24 * 3600 * 1000)

struct fixture {
    char dir[64];
    struct journal *journal;
};

static int open_it(void **state)
{
    struct fixture *f = mem_zalloc(sizeof(*f));
    struct err err = {0};

    snprintf(f->dir, sizeof(f->dir), "/tmp/journal_test.XXXXXX");
    if (mkdtemp(f->dir) == NULL || journal_open(f->dir, &f->journal, &err) < 0)
        return -1;
    *state = f;
    return 0;
}

static int remove_path(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int close_it(void **state)
{
    struct fixture *f = *state;

    journal_close(f->journal);
    nftw(f->dir, remove_path, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* As after a restart. */
static void reopen(struct fixture *f)
{
    struct err err = {0};

    journal_close(f->journal);
    assert_int_equal(journal_open(f->dir, &f->journal, &err), 0);
}

static size_t add_event(struct fixture *f, const char *id, unsigned type, int64_t at, bool ends)
{
    struct journal_event event = {.namespace_ = "team",
                                  .sandbox_id = "ia",
                                  .type = type,
                                  .begins = true,
                                  .ends = ends,
                                  .at_unix_ms = at,
                                  .data = mem_asprintf("{\"id\":\"%s\"}", id)};
    struct err err = {0};
    size_t deliveries = 0;

    snprintf(event.id, sizeof(event.id), "%s", id);
    assert_int_equal(journal_event_add(f->journal, &event, &deliveries, &err), 0);
    journal_event_clear(&event);
    return deliveries;
}

static void add_webhook(struct fixture *f, const char *id, const char *namespace_, uint32_t types)
{
    struct journal_webhook webhook = {.name = mem_strdup("n"),
                                      .url = mem_strdup("u"),
                                      .secret = mem_strdup("s"),
                                      .types = types,
                                      .enabled = true};
    struct err err = {0};

    snprintf(webhook.id, sizeof(webhook.id), "%s", id);
    snprintf(webhook.namespace_, sizeof(webhook.namespace_), "%s", namespace_);
    assert_int_equal(journal_webhook_add(f->journal, &webhook, 3, &err), 0);
    journal_webhook_clear(&webhook);
}

static void an_event_told_twice_is_one_and_delivered_once(void **state)
{
    struct fixture *f = *state;
    struct journal_event_query query = {.namespace_ = "team", .types = ~0u, .limit = 10};
    struct journal_event *list = NULL;
    struct err err = {0};
    size_t count = 0;

    add_webhook(f, "w1", "team", 1u << 2);
    add_webhook(f, "w2", "other", ~0u);
    assert_int_equal(add_event(f, "e1", 2, 1000, false), 1);
    assert_int_equal(add_event(f, "e1", 2, 2000, false), 0);
    assert_int_equal(add_event(f, "e2", 1, 3000, false), 0); /* not wanted */
    reopen(f);
    assert_int_equal(journal_event_list(f->journal, &query, &list, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].id, "e2");
    assert_int_equal(list[1].at_unix_ms, 1000);
    journal_events_free(list, count);
    query.types = 1u << 2;
    assert_int_equal(journal_event_list(f->journal, &query, &list, &count, &err), 0);
    assert_int_equal(count, 1);
    journal_events_free(list, count);
    query.namespace_ = "other";
    assert_int_equal(journal_event_list(f->journal, &query, &list, &count, &err), 0);
    assert_int_equal(count, 0);
    journal_events_free(list, count);
}

static bool take(struct fixture *f, const char *busy, int64_t now, struct journal_delivery *out,
                 int64_t *until)
{
    char list[JOURNAL_BUSY_MAX][UUID_SIZE] = {{0}};
    struct err err = {0};
    bool found = false;

    snprintf(list[3], UUID_SIZE, "%s", busy);
    assert_int_equal(
        journal_delivery_take(f->journal, list, now, now + 30, &found, out, until, &err), 0);
    return found;
}

static void a_delivery_that_was_begun_comes_again_until_it_is_done(void **state)
{
    struct fixture *f = *state;
    struct journal_delivery delivery, again;
    struct err err = {0};
    int64_t until = 0;
    size_t count = 0;

    add_webhook(f, "w1", "team", ~0u);
    add_event(f, "e1", 0, 1000, false);
    assert_false(take(f, "", 999, &delivery, &until));
    assert_int_equal(until, 1000);
    assert_false(take(f, "w1", 1000, &delivery, &until)); /* its webhook is busy */
    assert_int_equal(until, INT64_MAX);
    assert_true(take(f, "", 1000, &delivery, &until));
    assert_string_equal(delivery.webhook.id, "w1");
    assert_string_equal(delivery.data, "{\"id\":\"e1\"}");
    assert_false(take(f, "", 1001, &again, &until));
    reopen(f); /* a crash in the middle: after the lease it is due again */
    assert_true(take(f, "", 1030, &again, &until));
    assert_string_equal(again.id, delivery.id);
    assert_int_equal(again.attempts, 0);
    journal_delivery_clear(&again);
    assert_int_equal(journal_delivery_retry(f->journal, delivery.id, 2000, &err), 0);
    assert_true(take(f, "", 2000, &again, &until));
    assert_int_equal(again.attempts, 1);
    journal_delivery_clear(&again);
    assert_int_equal(journal_delivery_done(f->journal, delivery.id, &err), 0);
    assert_int_equal(journal_delivery_count(f->journal, &count, &err), 0);
    assert_int_equal(count, 0);
    journal_delivery_clear(&delivery);
}

static void a_webhook_is_its_namespace_s_and_goes_with_what_waits(void **state)
{
    struct fixture *f = *state;
    struct journal_webhook found = {.name = NULL}, fourth = {.id = "w4", .namespace_ = "team"};
    struct err err = {0};
    size_t count = 0;

    for (int i = 1; i <= 3; i++)
        add_webhook(f, (char[]){'w', (char)('0' + i), '\0'}, "team", ~0u);
    fourth.name = fourth.url = fourth.secret = (char[]){"x"};
    assert_int_equal(journal_webhook_add(f->journal, &fourth, 3, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(add_event(f, "e1", 0, 1000, false), 3);
    assert_int_equal(journal_webhook_get(f->journal, "other", "w1", &found, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(journal_webhook_delete(f->journal, "other", "w1", &err), -1);
    assert_int_equal(journal_webhook_get(f->journal, "team", "w1", &found, &err), 0);
    free(found.url);
    found.url = mem_strdup("v");
    found.enabled = false;
    assert_int_equal(journal_webhook_change(f->journal, &found, &err), 0);
    journal_webhook_clear(&found);
    assert_int_equal(add_event(f, "e2", 0, 1000, false), 2); /* one is off */
    assert_int_equal(journal_webhook_delete(f->journal, "team", "w2", &err), 0);
    assert_int_equal(journal_delivery_count(f->journal, &count, &err), 0);
    assert_int_equal(count, 3);
}

static void add_lines(struct fixture *f, const char *id, int64_t at, size_t count)
{
    struct journal_line *lines = mem_calloc(count, sizeof(*lines));
    struct err err = {0};

    for (size_t i = 0; i < count; i++) {
        snprintf(lines[i].sandbox_id, sizeof(lines[i].sandbox_id), "%s", id);
        lines[i].at_unix_ms = at + (int64_t)i;
        lines[i].level = (unsigned)i % 4;
        lines[i].text = mem_asprintf("{\"message\":\"line %zu\",\"x\":\"hidden\"}", i);
    }
    assert_int_equal(journal_logs_add(f->journal, lines, count, &err), 0);
    journal_lines_free(lines, count);
}

static size_t count_lines(struct fixture *f, const struct journal_log_query *query, int64_t *first)
{
    struct journal_line *lines = NULL;
    struct err err = {0};
    size_t count = 0;

    assert_int_equal(journal_logs_list(f->journal, query, &lines, &count, &err), 0);
    if (count > 0)
        *first = lines[0].at_unix_ms;
    journal_lines_free(lines, count);
    return count;
}

static void lines_are_found_by_time_level_and_words(void **state)
{
    struct fixture *f = *state;
    struct journal_log_query query = {.sandbox_id = "ia", .to_unix_ms = INT64_MAX, .limit = 100};
    int64_t first = 0;

    add_lines(f, "ia", 1000, 8);
    add_lines(f, "ib", 1000, 8);
    assert_int_equal(count_lines(f, &query, &first), 8);
    assert_int_equal(first, 1000);
    query.descending = true;
    assert_int_equal(count_lines(f, &query, &first), 8);
    assert_int_equal(first, 1007);
    query.level = 3;
    assert_int_equal(count_lines(f, &query, &first), 2);
    query.level = 0;
    query.search = "ine 5";
    assert_int_equal(count_lines(f, &query, &first), 1);
    query.search = "hidden"; /* not in the message */
    assert_int_equal(count_lines(f, &query, &first), 0);
    query.search = "LINE";
    assert_int_equal(count_lines(f, &query, &first), 0);
    query.search = NULL;
    query.from_unix_ms = 1002;
    query.to_unix_ms = 1004;
    assert_int_equal(count_lines(f, &query, &first), 3);
}

static void one_sandbox_keeps_only_so_many_lines(void **state)
{
    struct fixture *f = *state;
    struct journal_log_query query = {
        .sandbox_id = "ia", .to_unix_ms = INT64_MAX, .limit = 1000000};
    struct err err = {0};
    int64_t first = 0;

    add_lines(f, "ia", 1000, JOURNAL_LOGS_SANDBOX_MAX + 50);
    add_lines(f, "ib", 1000, 5);
    assert_int_equal(journal_logs_trim(f->journal, "ia", &err), 0);
    assert_int_equal(count_lines(f, &query, &first), JOURNAL_LOGS_SANDBOX_MAX);
    assert_int_equal(first, 1050);
    query.sandbox_id = "ib";
    assert_int_equal(count_lines(f, &query, &first), 5);
}

static void what_is_old_goes_and_what_is_not_stays(void **state)
{
    struct fixture *f = *state;
    struct journal_log_query query = {.sandbox_id = "ia", .to_unix_ms = INT64_MAX, .limit = 100};
    struct journal_sample samples[2] = {{.sandbox_id = "ia", .at_unix_s = 100},
                                        {.sandbox_id = "ia", .at_unix_s = 100 + 86400}};
    struct journal_sample *found = NULL;
    char owner[NAMESPACE_SIZE];
    struct err err = {0};
    int64_t first = 0;
    size_t count = 0;

    add_event(f, "e1", 0, 1000, true);
    add_lines(f, "ia", 1000, 3);
    add_lines(f, "ia", 1000 + 5 * DAY_MS, 3);
    assert_int_equal(journal_samples_add(f->journal, samples, 2, &err), 0);
    assert_int_equal(journal_prune(f->journal, 200000 + DAY_MS, &err), 0);
    assert_int_equal(journal_samples_list(f->journal, "ia", 0, INT64_MAX, &found, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_int_equal(found[0].at_unix_s, 100 + 86400);
    free(found);
    assert_int_equal(count_lines(f, &query, &first), 6);
    assert_int_equal(journal_owner(f->journal, "ia", owner, &err), 0);
    assert_string_equal(owner, "team");
    assert_int_equal(journal_prune(f->journal, 2000 + 7 * DAY_MS, &err), 0);
    assert_int_equal(count_lines(f, &query, &first), 3);
    assert_int_equal(journal_owner(f->journal, "ia", owner, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void minutes_of_a_namespace_add_up(void **state)
{
    struct fixture *f = *state;
    struct journal_team row = {
        .namespace_ = "team", .at_unix_s = 60, .concurrent = 3, .started = 2};
    struct journal_team *rows = NULL;
    struct err err = {0};
    size_t count = 0;

    assert_int_equal(journal_team_add(f->journal, &row, 1, &err), 0);
    row.concurrent = 1; /* after a restart within the minute */
    assert_int_equal(journal_team_add(f->journal, &row, 1, &err), 0);
    assert_int_equal(journal_team_list(f->journal, "team", 0, 100, &rows, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].concurrent, 3);
    assert_int_equal(rows[0].started, 4);
    free(rows);
}

static void who_has_not_ended_is_known(void **state)
{
    struct fixture *f = *state;
    char(*open)[SANDBOX_ID_SIZE] = NULL;
    struct err err = {0};
    size_t count = 0;

    add_event(f, "e1", 0, 1000, false);
    assert_int_equal(journal_open_sandboxes(f->journal, &open, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_string_equal(open[0], "ia");
    free(open);
    add_event(f, "e2", 5, 2000, true);
    assert_int_equal(journal_open_sandboxes(f->journal, &open, &count, &err), 0);
    assert_int_equal(count, 0);
    free(open);
}

#define journal_test(fn) cmocka_unit_test_setup_teardown(fn, open_it, close_it)

int main(void)
{
    const struct CMUnitTest tests[] = {
        journal_test(an_event_told_twice_is_one_and_delivered_once),
        journal_test(a_delivery_that_was_begun_comes_again_until_it_is_done),
        journal_test(a_webhook_is_its_namespace_s_and_goes_with_what_waits),
        journal_test(lines_are_found_by_time_level_and_words),
        journal_test(one_sandbox_keeps_only_so_many_lines),
        journal_test(what_is_old_goes_and_what_is_not_stays),
        journal_test(minutes_of_a_namespace_add_up),
        journal_test(who_has_not_ended_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "envd/replay.h"
#include "server/base/mem.h"

static const struct process_range pipes[] = {{OUTPUT_STDOUT, 10, 20}, {OUTPUT_STDERR, 0, 5}};
static const struct process_range terminal[] = {{OUTPUT_PTY, 3, 7}};

static void replay_understands_its_header(void **state)
{
    static const struct {
        const char *text, *pipes, *terminal; /* NULL: an output it has not */
    } cases[] = {
        {"10", "stdout=10, stderr=5", NULL},
        {"earliest", "stdout=10, stderr=0", "pty=3"},
        {" 20 ", "stdout=20, stderr=5", NULL},
        {"7", NULL, "pty=7"},
        {"stdout=11", "stdout=11, stderr=5", NULL},
        {"stderr=0", "stdout=20, stderr=0", NULL},
        {"stdout=earliest,\tstderr=3", "stdout=10, stderr=3", NULL},
        {"pty=4", NULL, "pty=4"},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        uint64_t from[PROCESS_OUTPUTS];
        char text[REPLAY_OFFSETS_SIZE];
        bool out_of_range = false;
        struct replay replay;
        struct err err = {0};

        if (replay_parse(cases[i].text, &replay, &err) < 0)
            fail_msg("refused: %s", cases[i].text);
        if (cases[i].pipes != NULL) {
            assert_int_equal(replay_resolve(&replay, pipes, 2, from, &out_of_range, &err), 0);
            replay_offsets(pipes, 2, from, text);
            assert_string_equal(text, cases[i].pipes);
        }
        if (cases[i].terminal != NULL) {
            assert_int_equal(replay_resolve(&replay, terminal, 1, from, &out_of_range, &err), 0);
            replay_offsets(terminal, 1, from, text);
            assert_string_equal(text, cases[i].terminal);
        }
    }
}

static void acknowledgements_name_outputs(void **state)
{
    static const struct {
        const char *text;
        uint64_t out, error;
    } cases[] = {
        {"stdout=7, stderr=3", 7, 3},
        {"stderr=0", PROCESS_FROM_NOW, 0},
        {"stdout=99", 99, PROCESS_FROM_NOW}, /* whether it can be is the process's to say */
    };
    static const char *const wrong[] = {"", "7", "earliest", "pty=1", "stdout=1, pty=1", "stdout="};
    uint64_t at[PROCESS_OUTPUTS];
    struct err err = {0};
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        assert_int_equal(replay_acknowledged(cases[i].text, pipes, 2, at, &err), 0);
        assert_true(at[0] == cases[i].out && at[1] == cases[i].error);
    }
    assert_int_equal(replay_acknowledged("pty=4", terminal, 1, at, &err), 0);
    assert_true(at[0] == 4 && at[1] == PROCESS_FROM_NOW);
    for (size_t i = 0; i < array_size(wrong); i++) {
        if (replay_acknowledged(wrong[i], pipes, 2, at, &err) != -1)
            fail_msg("accepted: %s", wrong[i]);
    }
}

static void a_hold_is_a_number_of_seconds(void **state)
{
    static const char *const wrong[] = {"", "0", "3601", "-1", "1s", " 1", "1.5"};
    struct err err = {0};
    int64_t ms = 7;
    (void)state;
    for (size_t i = 0; i < array_size(wrong); i++) {
        if (replay_hold_parse(wrong[i], &ms, &err) != -1)
            fail_msg("accepted: %s", wrong[i]);
        assert_int_equal(ms, 7);
    }
    assert_int_equal(replay_hold_parse("3600", &ms, &err), 0);
    assert_int_equal(ms, 3600000);
}

static void replay_refuses_other_text(void **state)
{
    static const char *const cases[] = {"",
                                        " ",
                                        "x",
                                        "-1",
                                        "1x",
                                        "stdout",
                                        "stdout=",
                                        "stdout=1,",
                                        ",",
                                        "stdout=-1",
                                        "STDOUT=1",
                                        "stdin=1",
                                        "stdout=1,stdout=1",
                                        "stdout=1,earliest",
                                        "9223372036854775808",
                                        "stdout=1;stderr=2",
                                        "1,2",
                                        "=1",
                                        "pty=now"};
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        struct replay out = {.bare = true};
        struct err err = {0};

        if (replay_parse(cases[i], &out, &err) != -1)
            fail_msg("accepted: %s", cases[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_int_equal(out.from[OUTPUT_STDOUT], 0); /* untouched */
    }
}

static void replay_names_what_is_kept(void **state)
{
    static const struct {
        const char *text, *msg;
        bool out_of_range;
    } cases[] = {
        {"9", "stdout has no offset 9 to replay from: available are 10 to 20", true},
        {"0", "stdout has no offset 0 to replay from: available are 10 to 20", true},
        {"21", "stdout has no offset 21 to replay from: available are 10 to 20", true},
        {"stdout=10,stderr=6", "stderr has no offset 6 to replay from: available are 0 to 5", true},
        {"stdout=10,pty=0", "Sandpit-Replay-From: the process has no pty", false},
    };
    (void)state;
    for (size_t i = 0; i < array_size(cases); i++) {
        uint64_t from[PROCESS_OUTPUTS];
        bool out_of_range = false;
        struct replay replay;
        struct err err = {0};

        assert_int_equal(replay_parse(cases[i].text, &replay, &err), 0);
        assert_int_equal(replay_resolve(&replay, pipes, 2, from, &out_of_range, &err), -1);
        assert_string_equal(err.msg, cases[i].msg);
        assert_int_equal(out_of_range, cases[i].out_of_range);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay_understands_its_header),
        cmocka_unit_test(acknowledgements_name_outputs),
        cmocka_unit_test(a_hold_is_a_number_of_seconds),
        cmocka_unit_test(replay_refuses_other_text),
        cmocka_unit_test(replay_names_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
        cmocka_unit_test(replay_refuses_other_text),
        cmocka_unit_test(replay_names_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

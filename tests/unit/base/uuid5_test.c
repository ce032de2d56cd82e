#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/mem.h"
#include "server/base/uuid5.h"

static void names_get_the_uuids_of_the_standard(void **state)
{
    static const uint8_t dns[UUID_BYTES] = {0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1,
                                            0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8};
    char out[UUID_SIZE], lengths[200];

    (void)state;
    uuid5(dns, "www.example.com", strlen("www.example.com"), out); /* RFC 9562, appendix A.4 */
    assert_string_equal(out, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    uuid5(dns, "", 0, out); /* what Python's uuid module says, here and below */
    assert_string_equal(out, "4ebd0208-8328-5d69-8c44-ec50939c0967");
    memset(lengths, 'x', sizeof(lengths));
    uuid5(dns, lengths, 39, out);
    assert_string_equal(out, "2f80c0d1-1c62-579f-8d68-e61ad5592c9b");
    uuid5(dns, lengths, 40, out);
    assert_string_equal(out, "e56fd57a-7633-5e1d-8f80-70e05ac413e5");
    uuid5(dns, lengths, 48, out);
    assert_string_equal(out, "83993b6c-dea9-55ca-be5b-9989c85943fc");
    uuid5(dns, lengths, sizeof(lengths), out);
    assert_string_equal(out, "ddcc691a-b8e2-53e5-b059-6a232874b2eb");
}

static void uuids_are_told_from_other_text(void **state)
{
    static const char *const wrong[] = {
        "",
        "2ed6657d-e927-568b-95e1-2665a8aea6a",
        "2ed6657d-e927-568b-95e1-2665a8aea6a21",
        "2ed6657de927568b95e12665a8aea6a2",
        "2ed6657d-e927-568b-95e1-2665a8aea6g2",
        "2ed6657d-e9270568b-95e1-2665a8aea6a2",
        "{2ed6657d-e927-568b-95e1-2665a8aea6}",
    };

    (void)state;
    assert_true(uuid_is("2ed6657d-e927-568b-95e1-2665a8aea6a2"));
    assert_true(uuid_is("2ED6657D-E927-568B-95E1-2665A8AEA6A2"));
    for (size_t i = 0; i < array_size(wrong); i++)
        assert_false(uuid_is(wrong[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_get_the_uuids_of_the_standard),
        cmocka_unit_test(uuids_are_told_from_other_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

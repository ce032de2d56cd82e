#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "envd/ring.h"

/* Byte N of the stream. */
static uint8_t byte_at(uint64_t n)
{
    return (uint8_t)(n * 2654435761U >> 13);
}

static void put(struct ring *ring, size_t len)
{
    uint8_t *data = malloc(len + 1);

    for (size_t i = 0; i < len; i++)
        data[i] = byte_at(ring->end + i);
    ring_write(ring, data, len);
    free(data);
}

/* Everything from OFFSET on is there and right. */
static void expect_from(const struct ring *ring, uint64_t offset)
{
    const uint8_t *data;
    size_t len;

    while ((len = ring_peek(ring, offset, &data)) > 0) {
        for (size_t i = 0; i < len; i++, offset++)
            assert_int_equal(data[i], byte_at(offset));
    }
    assert_int_equal(offset, ring->end);
}

static void ring_keeps_the_last_bytes(void **state)
{
    struct ring ring = {0};

    (void)state;
    put(&ring, 100); /* no room at all: counted, not kept */
    assert_int_equal(ring.end, 100);
    assert_int_equal(ring_start(&ring), 100);
    assert_int_equal(ring_resize(&ring, 10), 0);
    put(&ring, 4);
    assert_int_equal(ring_start(&ring), 100);
    expect_from(&ring, 100);
    put(&ring, 25); /* more than there is room for */
    assert_int_equal(ring.end, 129);
    assert_int_equal(ring_start(&ring), 119);
    expect_from(&ring, 119);
    ring_resize(&ring, 0);
    assert_null(ring.data);
    assert_int_equal(ring_start(&ring), 129);
}

static void ring_survives_random_use(void **state)
{
    struct ring ring = {0};
    unsigned seed = 7;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t start;

        if (rand_r(&seed) % 16 == 0) {
            size_t len = ring.len, cap = (size_t)rand_r(&seed) % 97;
            uint64_t end = ring.end;

            assert_int_equal(ring_resize(&ring, cap), 0);
            assert_int_equal(ring.end, end);
            assert_int_equal(ring.len, len < cap ? len : cap);
        } else {
            size_t len = (size_t)rand_r(&seed) % 64, kept = ring.len;

            put(&ring, len);
            assert_int_equal(ring.len, kept + len < ring.cap ? kept + len : ring.cap);
        }
        start = ring_start(&ring);
        expect_from(&ring, start);
        if (ring.len > 0)
            expect_from(&ring, start + (uint64_t)rand_r(&seed) % ring.len);
    }
    ring_resize(&ring, 0);
}

static void ring_takes_bytes_in_place(void **state)
{
    struct ring ring = {0};

    (void)state;
    ring_resize(&ring, 32);
    for (size_t want = 1; want < 40; want++) {
        size_t room;
        uint8_t *to = ring_room(&ring, &room);

        assert_in_range(room, 1, 32);
        if (room > want)
            room = want;
        for (size_t i = 0; i < room; i++)
            to[i] = byte_at(ring.end + i);
        ring_commit(&ring, room);
        expect_from(&ring, ring_start(&ring));
    }
    ring_resize(&ring, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_keeps_the_last_bytes),
        cmocka_unit_test(ring_survives_random_use),
        cmocka_unit_test(ring_takes_bytes_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

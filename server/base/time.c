#include "server/base/time.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "server/base/date.h"

#define MS 1000

static int64_t clock_us(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t time_unix_ms(void)
{
    return clock_us(CLOCK_REALTIME) / MS;
}

int64_t time_mono_ms(void)
{
    return clock_us(CLOCK_MONOTONIC) / MS;
}

int64_t time_mono_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

void time_rfc3339_ms(int64_t unix_ms, char *out)
{
    int64_t ms = unix_ms % MS;
    int64_t seconds = unix_ms / MS;
    char date[DATE_ISO_SIZE];

    if (ms < 0) {
        ms += MS;
        seconds--;
    }
    date_iso(seconds, date);
    snprintf(out, TIME_RFC3339_SIZE, "%s.%03dZ", date, (int)ms);
}

static bool digits(const char *s, size_t count, int *out)
{
    int value = 0;

    for (size_t i = 0; i < count; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        value = value * 10 + (s[i] - '0');
    }
    *out = value;
    return true;
}

/* "Z", "z" or "+hh:mm"; seconds east of UTC. */
static bool parse_zone(const char *s, size_t len, int *offset)
{
    int hours, minutes;

    if (len == 1 && (s[0] == 'Z' || s[0] == 'z')) {
        *offset = 0;
        return true;
    }
    if (len != 6 || (s[0] != '+' && s[0] != '-') || s[3] != ':' || !digits(s + 1, 2, &hours) ||
        !digits(s + 4, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *offset = (hours * 3600 + minutes * 60) * (s[0] == '-' ? -1 : 1);
    return true;
}

int time_parse_rfc3339(const char *s, size_t len, int64_t *unix_ms, uint32_t *nanos)
{
    struct date date = {0};
    uint32_t fraction = 0, scale = 100000000;
    int year, offset;
    size_t at = 19;

    if (len < 20 || s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != 't' && s[10] != ' ') ||
        s[13] != ':' || s[16] != ':' || !digits(s, 4, &year) || !digits(s + 5, 2, &date.month) ||
        !digits(s + 8, 2, &date.day) || !digits(s + 11, 2, &date.hour) ||
        !digits(s + 14, 2, &date.minute) || !digits(s + 17, 2, &date.second))
        return -1;
    if (date.month < 1 || date.month > 12 || date.day < 1 || date.day > 31 || date.hour > 23 ||
        date.minute > 59 || date.second > 60)
        return -1;
    if (s[at] == '.') {
        size_t first = ++at;
        for (; at < len && s[at] >= '0' && s[at] <= '9'; at++) {
            fraction += (uint32_t)(s[at] - '0') * scale;
            scale /= 10;
        }
        if (at == first)
            return -1;
    }
    if (!parse_zone(s + at, len - at, &offset))
        return -1;
    date.year = year;
    *unix_ms = (date_to_unix(&date) - offset) * MS + fraction / 1000000;
    if (nanos != NULL)
        *nanos = fraction;
    return 0;
}

#include "server/base/date.h"

#include <stdbool.h>
#include <string.h>

#define DAY_S 86400
#define ERA_DAYS 146097   /* 400 years */
#define EPOCH_DAYS 719468 /* from 0000-03-01 to 1970-01-01 */

static const char *const days[7] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                    "Thursday", "Friday", "Saturday"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static int64_t floor_div(int64_t value, int64_t by)
{
    return value / by - (value % by < 0 ? 1 : 0);
}

/* Years begin in March here, so that a leap day is the last of its year. */
void date_from_unix(int64_t unix_s, struct date *out)
{
    int64_t total = floor_div(unix_s, DAY_S);
    int rest = (int)(unix_s - total * DAY_S);
    int64_t era = floor_div(total + EPOCH_DAYS, ERA_DAYS);
    int in_era = (int)(total + EPOCH_DAYS - era * ERA_DAYS);
    int year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int in_year = in_era - (365 * year + year / 4 - year / 100);
    int month = (5 * in_year + 2) / 153; /* 0: March */

    out->day = in_year - (153 * month + 2) / 5 + 1;
    out->month = month < 10 ? month + 3 : month - 9;
    out->year = era * 400 + year + (out->month <= 2 ? 1 : 0);
    out->hour = rest / 3600;
    out->minute = rest / 60 % 60;
    out->second = rest % 60;
    out->weekday = (int)(total + 4 - floor_div(total + 4, 7) * 7);
}

int64_t date_to_unix(const struct date *date)
{
    int64_t from_march = date->year - (date->month <= 2 ? 1 : 0);
    int64_t era = floor_div(from_march, 400);
    int year = (int)(from_march - era * 400);
    int month = date->month <= 2 ? date->month + 9 : date->month - 3;
    int in_year = (153 * month + 2) / 5 + date->day - 1;
    int64_t total = era * ERA_DAYS + 365 * year + year / 4 - year / 100 + in_year - EPOCH_DAYS;

    return total * DAY_S + date->hour * 3600 + date->minute * 60 + date->second;
}

/* ---- Writing ---- */

static char *put_two(char *to, int value)
{
    *to++ = (char)('0' + value / 10);
    *to++ = (char)('0' + value % 10);
    return to;
}

static char *put_year(char *to, const struct date *date)
{
    return put_two(put_two(to, (int)date->year / 100), (int)date->year % 100);
}

static char *put_clock(char *to, const struct date *date)
{
    to = put_two(to, date->hour);
    *to++ = ':';
    to = put_two(to, date->minute);
    *to++ = ':';
    return put_two(to, date->second);
}

static char *put(char *to, const char *text, size_t len)
{
    memcpy(to, text, len);
    return to + len;
}

static void writable(int64_t unix_s, struct date *out)
{
    date_from_unix(unix_s, out);
    if (out->year < 0 || out->year > 9999)
        date_from_unix(0, out);
}

void date_http(int64_t unix_s, char out[DATE_HTTP_SIZE])
{
    struct date date;

    writable(unix_s, &date);
    out = put(put(out, days[date.weekday], 3), ", ", 2);
    out = put(put_two(out, date.day), " ", 1);
    out = put(put(out, months[date.month - 1], 3), " ", 1);
    out = put(put_year(out, &date), " ", 1);
    out = put(put_clock(out, &date), " GMT", 4);
    *out = '\0';
}

void date_iso(int64_t unix_s, char out[DATE_ISO_SIZE])
{
    struct date date;

    writable(unix_s, &date);
    out = put(put_year(out, &date), "-", 1);
    out = put(put_two(out, date.month), "-", 1);
    out = put(put_two(out, date.day), "T", 1);
    out = put_clock(out, &date);
    *out = '\0';
}

/* ---- Parsing ---- */

static bool take_number(const char **at, int count, int *out)
{
    int value = 0;

    for (; count > 0; count--, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        value = value * 10 + (**at - '0');
    }
    *out = value;
    return true;
}

static bool take_weekday(const char **at, bool whole)
{
    for (int i = 0; i < 7; i++) {
        size_t len = whole ? strlen(days[i]) : 3;

        if (strncmp(*at, days[i], len) == 0) {
            *at += len;
            return true;
        }
    }
    return false;
}

static bool take_month(const char **at, int *out)
{
    for (int i = 0; i < 12; i++) {
        if (strncmp(*at, months[i], 3) == 0) {
            *at += 3;
            *out = i + 1;
            return true;
        }
    }
    return false;
}

/* One letter of a form; any other character stands for itself. */
static bool take(const char **at, char form, struct date *date)
{
    int year;

    switch (form) {
    case 'a':
    case 'A':
        return take_weekday(at, form == 'A');
    case 'b':
        return take_month(at, &date->month);
    case 'e':
        if (**at == ' ') {
            (*at)++;
            return take_number(at, 1, &date->day);
        }
        return take_number(at, 2, &date->day);
    case 'd':
        return take_number(at, 2, &date->day);
    case 'H':
        return take_number(at, 2, &date->hour);
    case 'm':
        return take_number(at, 2, &date->minute);
    case 's':
        return take_number(at, 2, &date->second);
    case 'y':
    case 'Y':
        if (!take_number(at, form == 'Y' ? 4 : 2, &year))
            return false;
        date->year = form == 'Y' ? year : year + (year < 70 ? 2000 : 1900);
        return true;
    default:
        return *(*at)++ == form;
    }
}

int date_parse_http(const char *text, int64_t *unix_s)
{
    static const char *const forms[] = {
        "a, d b Y H:m:s \1", /* IMF-fixdate; \1: GMT */
        "A, d-b-y H:m:s \1", /* RFC 850 */
        "a b e H:m:s Y",     /* asctime */
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct date date = {0};
        const char *at = text, *form = forms[i];

        for (; *form > '\1' && take(&at, *form, &date); form++)
            ;
        if (*form == '\1' && strncmp(at, "GMT", 3) == 0)
            form++, at += 3;
        if (*form != '\0' || *at != '\0' || date.day < 1 || date.day > 31 || date.hour > 23 ||
            date.minute > 59 || date.second > 60)
            continue;
        *unix_s = date_to_unix(&date);
        return 0;
    }
    return -1;
}

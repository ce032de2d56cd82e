/*
 * server/base/date.h - calendar dates in UTC and how HTTP and RFC 3339 write them.
 *
 * libc's gmtime and strftime look at the time zone and the locale, take locks and bring a tenth of
 * envd's binary; a reply has two dates. Any thread, no allocation.
 * Source: RFC 9110 section 5.6.7, RFC 3339 section 5.6.
 */
#ifndef SANDPIT_BASE_DATE_H
#define SANDPIT_BASE_DATE_H

#include <stdint.h>

#define DATE_HTTP_SIZE 30 /* "Sun, 06 Nov 1994 08:49:37 GMT" and a NUL */
#define DATE_ISO_SIZE 20  /* "1994-11-06T08:49:37" and a NUL */

struct date {
    int64_t year;
    int month; /* 1..12 */
    int day;   /* 1..31 */
    int hour, minute, second;
    int weekday; /* 0: Sunday; date_to_unix does not look */
};

void date_from_unix(int64_t unix_s, struct date *out);
/* A day past the month's end runs over into the next, as second 60 does. */
int64_t date_to_unix(const struct date *date);

/* A time outside years 0..9999 is written as the epoch. */
void date_http(int64_t unix_s, char out[DATE_HTTP_SIZE]);
void date_iso(int64_t unix_s, char out[DATE_ISO_SIZE]);

/* One of the three forms of RFC 9110, whole. Returns 0 and *UNIX_S, or -1. */
int date_parse_http(const char *text, int64_t *unix_s);

#endif

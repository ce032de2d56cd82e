/*
 * server/base/str.h - strings and numbers from untrusted text; hex, base64, percent-encoding.
 *
 * Pure: no globals, no I/O. Any thread. Wire data is pointer and length; no NUL is needed.
 */
#ifndef SANDPIT_BASE_STR_H
#define SANDPIT_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"

bool str_eq(const char *a, const char *b);
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* S (LEN bytes) equals the string WORD; case-insensitive ASCII in the second. */
bool mem_is(const char *s, size_t len, const char *word);
bool mem_is_nocase(const char *s, size_t len, const char *word);

/*
 * Copy S (LEN bytes) and a NUL to OUT (SIZE bytes). Returns 0, or -1 when it does not fit or holds
 * a NUL; OUT is untouched then.
 */
int str_copy(char *out, size_t size, const char *s, size_t len);

/* The whole of S is a decimal number between MIN and MAX. ERR_INVALID naming WHAT otherwise. */
int str_to_u64(const char *s, size_t len, uint64_t min, uint64_t max, const char *what,
               uint64_t *out, struct err *err);
int str_to_i64(const char *s, size_t len, int64_t min, int64_t max, const char *what, int64_t *out,
               struct err *err);
/* "90", "90s", "15m", "2h", "30d", "500ms" to milliseconds; a bare number is seconds. */
int str_to_duration_ms(const char *s, int64_t *out, struct err *err);

/* S is well-formed UTF-8 without NUL (RFC 3629: no surrogates, no overlong forms). */
bool str_is_utf8(const char *s, size_t len);

/* The value of a hex digit of either case, or -1. */
int hex_digit(char c);
/* Lower-case hex of LEN bytes and a NUL; OUT holds 2 * LEN + 1. */
void hex_encode(const void *data, size_t len, char *out);
/* Hex (either case) of exactly LEN bytes. Returns 0 or -1. */
int hex_decode(const char *hex, size_t hex_len, uint8_t *out, size_t len);

enum base64_kind {
    BASE64_STD,     /* RFC 4648 section 4, padded */
    BASE64_STD_RAW, /* the same without padding */
    BASE64_URL_RAW, /* section 5 without padding (JWT) */
};
/* Bytes, with the NUL, that base64 of LEN bytes needs at most. */
#define BASE64_SIZE(len) (((len) + 2) / 3 * 4 + 1)
/* Encode; OUT holds BASE64_SIZE(LEN). Returns the length without the NUL. */
size_t base64_encode(enum base64_kind kind, const void *data, size_t len, char *out);
/*
 * Decode either alphabet, padded or not (protobuf JSON wants that). OUT holds at least
 * LEN / 4 * 3 + 3 bytes. Returns 0 and *OUT_LEN, or -1 on a wrong character or length.
 */
int base64_decode(const char *s, size_t len, uint8_t *out, size_t *out_len);

/* Percent-decode LEN bytes to OUT; PLUS turns '+' into a space. -1 on a bad escape or overflow. */
int url_decode(const char *s, size_t len, bool plus, struct buf *out);
/* Percent-encode everything but RFC 3986 unreserved characters. */
int url_encode(const char *s, size_t len, struct buf *out);

#endif

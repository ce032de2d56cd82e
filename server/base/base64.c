#include <stdbool.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

/*
 * The output of every process passes here, so whole blocks are done 24 bytes (32 characters) at a
 * time where the CPU has AVX2: about ten times as fast. The vector functions return how many bytes
 * or characters of the front they did; the rest, and what they do not like, is left to the others.
 */

#ifdef __x86_64__

/* Six-bit numbers, one a byte, of 24 bytes. */
__attribute__((target("avx2"))) static __m256i split_24(const uint8_t *in)
{
    /* of each 3 bytes a b c, as 16-bit numbers: ab in the one half, bc in the other */
    const __m256i order = _mm256_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10, 1, 0,
                                           2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)in);
    __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(in + 12));
    __m256i v = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), order);
    /* shifts that differ by place are multiplications */
    __m256i even = _mm256_mulhi_epu16(_mm256_and_si256(v, _mm256_set1_epi32(0x0fc0fc00)),
                                      _mm256_set1_epi32(0x04000040));
    __m256i odd = _mm256_mullo_epi16(_mm256_and_si256(v, _mm256_set1_epi32(0x003f03f0)),
                                     _mm256_set1_epi32(0x01000010));

    return _mm256_or_si256(even, odd);
}

/* The standard alphabet's characters of six-bit numbers. */
__attribute__((target("avx2"))) static __m256i digits_of(__m256i v)
{
    /* what to add, by range: 0 is a-z, 1 to 10 are 0-9, 11 and 12 + and /, 13 is A-Z */
    const __m256i add =
        _mm256_setr_epi8(71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0, 71, -4, -4,
                         -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0);
    __m256i range = _mm256_subs_epu8(v, _mm256_set1_epi8(51));
    __m256i upper = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), v);

    range = _mm256_or_si256(range, _mm256_and_si256(upper, _mm256_set1_epi8(13)));
    return _mm256_add_epi8(v, _mm256_shuffle_epi8(add, range));
}

__attribute__((target("avx2"))) static size_t encode_blocks(const uint8_t *in, size_t len,
                                                            char *out)
{
    size_t done = 0;

    for (; len - done >= 28; done += 24, out += 32) /* 28: as many are loaded */
        _mm256_storeu_si256((__m256i *)(void *)out, digits_of(split_24(in + done)));
    return done;
}

/* Six-bit numbers of 32 characters of the standard alphabet. False: others are among them. */
__attribute__((target("avx2"))) static bool numbers_of(__m256i v, __m256i *out)
{
    /* a character is wrong if the sets of its low and its high half share a bit */
    const __m256i low_sets =
        _mm256_setr_epi8(21, 17, 17, 17, 17, 17, 17, 17, 17, 17, 19, 26, 27, 27, 27, 26, 21, 17, 17,
                         17, 17, 17, 17, 17, 17, 17, 19, 26, 27, 27, 27, 26);
    const __m256i high_sets =
        _mm256_setr_epi8(16, 16, 1, 2, 4, 8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 1, 2, 4,
                         8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16);
    /* what to add, by the high half; '/' is one less than its neighbours */
    const __m256i add = _mm256_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0,
                                         0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i half = _mm256_set1_epi8(15);
    __m256i high = _mm256_and_si256(_mm256_srli_epi32(v, 4), half);
    __m256i low = _mm256_and_si256(v, half);
    __m256i slash = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('/'));

    if (!_mm256_testz_si256(_mm256_shuffle_epi8(low_sets, low),
                            _mm256_shuffle_epi8(high_sets, high)))
        return false;
    *out = _mm256_add_epi8(v, _mm256_shuffle_epi8(add, _mm256_add_epi8(slash, high)));
    return true;
}

/* Writes 32 bytes for each 24. */
__attribute__((target("avx2"))) static size_t decode_blocks(const char *s, size_t len, uint8_t *out)
{
    const __m256i order = _mm256_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1,
                                           2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    const __m256i together = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, -1, -1);
    size_t done = 0;

    for (; len - done >= 48; done += 32, out += 24) {
        __m256i v;

        if (!numbers_of(_mm256_loadu_si256((const __m256i *)(const void *)(s + done)), &v))
            break;
        v = _mm256_maddubs_epi16(v, _mm256_set1_epi32(0x01400140));
        v = _mm256_madd_epi16(v, _mm256_set1_epi32(0x00011000));
        v = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(v, order), together);
        _mm256_storeu_si256((__m256i *)(void *)out, v);
    }
    return done;
}

static bool has_vectors(void)
{
    return __builtin_cpu_supports("avx2");
}

#else

static size_t encode_blocks(const uint8_t *in, size_t len, char *out)
{
    (void)in;
    (void)len;
    (void)out;
    return 0;
}

static size_t decode_blocks(const char *s, size_t len, uint8_t *out)
{
    (void)s;
    (void)len;
    (void)out;
    return 0;
}

static bool has_vectors(void)
{
    return false;
}

#endif

/* The last one or two bytes. */
static size_t encode_tail(enum base64_kind kind, const char *alphabet, const uint8_t *in,
                          size_t len, char *out)
{
    uint32_t v = (uint32_t)in[0] << 16 | (len > 1 ? (uint32_t)in[1] << 8 : 0);

    out[0] = alphabet[v >> 18 & 63];
    out[1] = alphabet[v >> 12 & 63];
    if (len > 1)
        out[2] = alphabet[v >> 6 & 63];
    if (kind != BASE64_STD)
        return len + 1;
    memset(out + len + 1, '=', 3 - len);
    return 4;
}

size_t base64_encode(enum base64_kind kind, const void *data, size_t len, char *out)
{
    static const char std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *alphabet = kind == BASE64_URL_RAW ? url : std;
    const uint8_t *in = data;
    size_t i = 0, n;

    if (kind != BASE64_URL_RAW && has_vectors())
        i = encode_blocks(in, len, out);
    n = i / 3 * 4;
    for (; len - i >= 3; i += 3, n += 4) {
        uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];

        out[n] = alphabet[v >> 18 & 63];
        out[n + 1] = alphabet[v >> 12 & 63];
        out[n + 2] = alphabet[v >> 6 & 63];
        out[n + 3] = alphabet[v & 63];
    }
    if (i < len)
        n += encode_tail(kind, alphabet, in + i, len - i, out + n);
    out[n] = '\0';
    return n;
}

/* Of either alphabet; -1: none of theirs. */
static int digit(char c)
{
    static const int8_t values['z' - '+' + 1] = {
        62, -1, 62, -1, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -1, -1, -1, -1, -1,
        -1, -1, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17,
        18, 19, 20, 21, 22, 23, 24, 25, -1, -1, -1, -1, 63, -1, 26, 27, 28, 29, 30, 31,
        32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51};
    unsigned place = (unsigned)(unsigned char)c - '+';

    return place < array_size(values) ? values[place] : -1;
}

/* COUNT characters, 2 to 4, and the bytes they make. */
static int decode_group(const char *s, size_t count, uint8_t *out)
{
    uint32_t v = 0;
    int bad = 0;

    for (size_t i = 0; i < 4; i++) {
        int n = i < count ? digit(s[i]) : 0;

        bad |= n;
        v = v << 6 | (uint32_t)(n & 63);
    }
    out[0] = (uint8_t)(v >> 16);
    if (count > 2)
        out[1] = (uint8_t)(v >> 8);
    if (count > 3)
        out[2] = (uint8_t)v;
    return bad < 0 ? -1 : 0;
}

int base64_decode(const char *s, size_t len, uint8_t *out, size_t *out_len)
{
    size_t i = 0, n;

    if (len % 4 == 0 && len > 0 && s[len - 1] == '=')
        len -= len > 1 && s[len - 2] == '=' ? 2 : 1;
    if (len % 4 == 1)
        return -1;
    if (has_vectors())
        i = decode_blocks(s, len, out);
    for (n = i / 4 * 3; i < len; i += 4, n += 3) {
        if (decode_group(s + i, len - i < 4 ? len - i : 4, out + n) < 0)
            return -1;
    }
    *out_len = len / 4 * 3 + (len % 4 > 0 ? len % 4 - 1 : 0);
    return 0;
}

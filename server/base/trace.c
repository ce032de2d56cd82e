#include "server/base/trace.h"

#include <stdbool.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/str.h"

#define HEAD_LEN 55 /* "00-<32>-<16>-<2>" */

/* LEN lower-case hex digits, not all of them 0 unless ZERO will do. */
static bool hex_ok(const char *s, size_t len, bool zero)
{
    bool some = zero;

    for (size_t i = 0; i < len; i++) {
        if ((s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f'))
            return false;
        some |= s[i] != '0';
    }
    return some;
}

int trace_parse(const char *text, size_t len, char out[TRACE_ID_SIZE])
{
    if (len < HEAD_LEN || !hex_ok(text, 2, true) || memcmp(text, "ff", 2) == 0 || text[2] != '-' ||
        !hex_ok(text + 3, 32, false) || text[35] != '-' || !hex_ok(text + 36, 16, false) ||
        text[52] != '-' || !hex_ok(text + 53, 2, true))
        return -1;
    /* a later version may say more after another '-' */
    if (len > HEAD_LEN && (memcmp(text, "00", 2) == 0 || text[HEAD_LEN] != '-'))
        return -1;
    memcpy(out, text + 3, TRACE_ID_SIZE - 1);
    out[TRACE_ID_SIZE - 1] = '\0';
    return 0;
}

void trace_new(char out[TRACE_ID_SIZE])
{
    uint8_t bytes[16];

    do {
        hash_random(bytes, sizeof(bytes));
        hex_encode(bytes, sizeof(bytes), out);
    } while (!hex_ok(out, TRACE_ID_SIZE - 1, false));
}

#include "server/gateway/hello.h"

#include <string.h>

#include "server/model/network.h"

#define RECORD_HEAD 5
#define RECORD_HANDSHAKE 22
#define RECORD_MAX 16384 /* a record in clear text */
#define CLIENT_HELLO 1
#define EXTENSION_NAME 0
#define EXTENSION_ECH 0xfe0d
#define EXTENSIONS_MAX 128

/* What is left to read. A read past the end sets BAD and gives zeros. */
struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static uint32_t take(struct reader *in, size_t bytes)
{
    uint32_t value = 0;

    if (bytes > in->left) {
        in->bad = true;
        in->left = 0;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | in->at[i];
    in->at += bytes;
    in->left -= bytes;
    return value;
}

/* A vector whose length stands before it in LENGTH_BYTES bytes. */
static struct reader vector(struct reader *in, size_t length_bytes)
{
    size_t len = take(in, length_bytes);
    struct reader out = {.at = in->at, .left = len};

    if (len > in->left) {
        in->bad = true;
        return (struct reader){.bad = true};
    }
    in->at += len;
    in->left -= len;
    return out;
}

/*
 * The handshake message of the records in DATA put together in OUT (HELLO_MAX_BYTES). *USED is how
 * much of it is there, *WHOLE its size by its own head.
 */
static enum hello_result collect(const uint8_t *data, size_t len, uint8_t *out, size_t *used,
                                 size_t *whole)
{
    *used = 0;
    for (;;) {
        size_t size;
        if ((len >= 1 && data[0] != RECORD_HANDSHAKE) || (len >= 2 && data[1] != 3))
            return *used == 0 ? HELLO_NONE : HELLO_BAD;
        if (len < RECORD_HEAD)
            return HELLO_MORE;
        size = (size_t)data[3] << 8 | data[4];
        if (size == 0 || size > RECORD_MAX)
            return HELLO_BAD;
        data += RECORD_HEAD;
        len -= RECORD_HEAD;
        for (size_t i = 0; i < size && i < len; i++) {
            if (*used == HELLO_MAX_BYTES)
                return HELLO_BAD;
            out[(*used)++] = data[i];
        }
        if (*used >= 1 && out[0] != CLIENT_HELLO)
            return HELLO_BAD;
        if (*used >= 4) {
            *whole = 4 + ((size_t)out[1] << 16 | (size_t)out[2] << 8 | out[3]);
            if (*whole > HELLO_MAX_BYTES)
                return HELLO_BAD;
            if (*used >= *whole) /* a client has nothing to say after it yet */
                return *used == *whole && size <= len ? HELLO_DONE : HELLO_BAD;
        }
        if (size > len)
            return HELLO_MORE;
        data += size;
        len -= size;
    }
}

/* server_name: exactly one name, of the only type there is. */
static bool read_name(struct reader in, struct hello *out)
{
    struct reader list = vector(&in, 2), name;

    if (in.bad || in.left != 0 || take(&list, 1) != 0)
        return false;
    name = vector(&list, 2);
    if (list.bad || list.left != 0 || name.left == 0 || name.left >= sizeof(out->name))
        return false;
    if (!net_host_valid((const char *)name.at, name.left, false))
        return true; /* an address, say: no name */
    for (size_t i = 0; i < name.left; i++) {
        char c = (char)name.at[i];
        out->name[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    out->name[name.left] = '\0';
    return true;
}

static bool read_extensions(struct reader in, struct hello *out)
{
    uint32_t seen[EXTENSIONS_MAX];
    size_t count = 0;

    while (in.left > 0) {
        uint32_t type = take(&in, 2);
        struct reader data = vector(&in, 2);
        if (in.bad || count == EXTENSIONS_MAX)
            return false;
        for (size_t i = 0; i < count; i++) {
            if (seen[i] == type)
                return false;
        }
        seen[count++] = type;
        if (type == EXTENSION_ECH)
            out->encrypted = true;
        else if (type == EXTENSION_NAME && !read_name(data, out))
            return false;
    }
    return !in.bad;
}

static bool read_hello(struct reader in, struct hello *out)
{
    struct reader session, suites, compression, extensions;

    take(&in, 4); /* type and length, seen before */
    if (take(&in, 2) >> 8 != 3)
        return false;
    for (size_t i = 0; i < 8; i++)
        take(&in, 4); /* random */
    session = vector(&in, 1);
    suites = vector(&in, 2);
    compression = vector(&in, 1);
    if (in.bad || session.left > 32 || suites.left < 2 || suites.left % 2 != 0 ||
        compression.left < 1)
        return false;
    if (in.left == 0)
        return true; /* none at all, as in TLS 1.0 */
    extensions = vector(&in, 2);
    return !in.bad && in.left == 0 && read_extensions(extensions, out);
}

enum hello_result hello_parse(const uint8_t *data, size_t len, struct hello *out)
{
    uint8_t message[HELLO_MAX_BYTES];
    struct hello hello = {.name = ""};
    size_t used, whole = 0;
    enum hello_result result = collect(data, len, message, &used, &whole);

    if (result != HELLO_DONE)
        return result;
    if (!read_hello((struct reader){.at = message, .left = whole}, &hello))
        return HELLO_BAD;
    if (hello.encrypted)
        hello.name[0] = '\0';
    *out = hello;
    return HELLO_DONE;
}

#include "envd/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"

#define GATHER_BYTES (64 << 10)
#define LENGTH_BYTES 8 /* of a record, little-endian, in front of it */

/* protobuf-c writes to this, piece by piece; small ones are gathered. */
struct handover_out {
    ProtobufCBuffer base;
    int fd;
    struct err err; /* the first failure */
    uint64_t total;
    uint64_t records;
    size_t gathered;
    int *fds;
    size_t fd_count, fd_cap;
    uint8_t gather[GATHER_BYTES];
};

/* ---- Writing ---- */

static void write_all(struct handover_out *out, const void *data, size_t len)
{
    if (out->err.code != ERR_NONE || len == 0)
        return;
    if (out->total + len > HANDOVER_MAX_BYTES)
        err_set(&out->err, ERR_LIMIT, "more than %d bytes would have to be handed over",
                HANDOVER_MAX_BYTES);
    else if (fd_write_full(out->fd, data, len) < 0)
        err_sys(&out->err, errno, "cannot write the state that is handed over");
    out->total += len;
}

static void flush(struct handover_out *out)
{
    write_all(out, out->gather, out->gathered);
    out->gathered = 0;
}

static void append(ProtobufCBuffer *buffer, size_t len, const uint8_t *data)
{
    struct handover_out *out = container_of(buffer, struct handover_out, base);

    if (len > GATHER_BYTES - out->gathered)
        flush(out);
    if (len > GATHER_BYTES) {
        write_all(out, data, len);
        return;
    }
    if (len > 0)
        memcpy(out->gather + out->gathered, data, len);
    out->gathered += len;
}

struct handover_out *handover_out_new(struct err *err)
{
    struct handover_out *out = mem_zalloc(sizeof(*out));

    out->base.append = append;
    out->fd = memfd_create("envd-handover", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (out->fd >= 0)
        return out;
    err_sys(err, errno, "cannot make room for the state that is handed over");
    free(out);
    return NULL;
}

void handover_out_free(struct handover_out *out)
{
    if (out == NULL)
        return;
    secret_wipe(out->gather, sizeof(out->gather));
    fd_close(&out->fd);
    free(out->fds);
    free(out);
}

void handover_put(struct handover_out *out, const Handover__Record *record)
{
    size_t len = handover__record__get_packed_size(record);
    uint8_t head[LENGTH_BYTES];

    for (size_t i = 0; i < LENGTH_BYTES; i++)
        head[i] = (uint8_t)((uint64_t)len >> (8 * i));
    append(&out->base, sizeof(head), head);
    handover__record__pack_to_buffer(record, &out->base);
    out->records++;
}

int32_t handover_fd(struct handover_out *out, int fd)
{
    if (fd < 0)
        return -1;
    if (out->fd_count == out->fd_cap) {
        out->fd_cap = out->fd_cap > 0 ? out->fd_cap * 2 : 64;
        out->fds = mem_realloc_array(out->fds, out->fd_cap, sizeof(int));
    }
    out->fds[out->fd_count++] = fd;
    return fd;
}

void handover_refuse(struct handover_out *out, const char *what)
{
    if (out->err.code == ERR_NONE)
        err_set(&out->err, ERR_UNSUPPORTED, "%s cannot be handed over", what);
}

int handover_out_seal(struct handover_out *out, struct err *err)
{
    Handover__Record record = HANDOVER__RECORD__INIT;
    Handover__End end = HANDOVER__END__INIT;

    end.records = out->records;
    record.kind_case = HANDOVER__RECORD__KIND_END;
    record.end = &end;
    handover_put(out, &record);
    flush(out);
    if (out->err.code == ERR_NONE &&
        fcntl(out->fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        err_sys(&out->err, errno, "cannot seal the state that is handed over");
    if (out->err.code == ERR_NONE)
        return out->fd;
    *err = out->err;
    return -1;
}

const int *handover_out_fds(const struct handover_out *out, size_t *count)
{
    *count = out->fd_count;
    return out->fds;
}

/* ---- Reading ---- */

void handover_in_memory(const void *data, size_t len, struct handover_in *in)
{
    *in = (struct handover_in){.data = data, .len = len};
}

int handover_in_open(int fd, struct handover_in *in, struct err *err)
{
    struct stat st;
    void *data;

    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot look at the state");
    if (st.st_size <= 0 || st.st_size > HANDOVER_MAX_BYTES + LENGTH_BYTES + GATHER_BYTES)
        return err_set(err, ERR_INVALID, "the state has %lld bytes", (long long)st.st_size);
    data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return err_sys(err, errno, "cannot map the state");
    handover_in_memory(data, (size_t)st.st_size, in);
    return 0;
}

void handover_in_clear(struct handover_in *in)
{
    if (in->data != NULL)
        munmap((void *)(uintptr_t)in->data, in->len);
    *in = (struct handover_in){0};
}

/* The next record's bytes. */
static int next_bytes(struct handover_in *in, const uint8_t **data, size_t *len, struct err *err)
{
    uint64_t size = 0;

    if (in->len - in->at < LENGTH_BYTES)
        return err_set(err, ERR_INVALID, "the state is cut short");
    for (size_t i = 0; i < LENGTH_BYTES; i++)
        size |= (uint64_t)in->data[in->at + i] << (8 * i);
    in->at += LENGTH_BYTES;
    if (size > in->len - in->at)
        return err_set(err, ERR_INVALID, "the state is cut short");
    *data = in->data + in->at;
    *len = (size_t)size;
    in->at += (size_t)size;
    return 0;
}

int handover_next(struct handover_in *in, Handover__Record **out, struct err *err)
{
    _cleanup_record_ Handover__Record *record = NULL;
    const uint8_t *data = NULL;
    size_t len = 0;

    if (in->ended)
        return 0;
    if (next_bytes(in, &data, &len, err) < 0)
        return -1;
    record = handover__record__unpack(NULL, len, data);
    if (record == NULL)
        return err_set(err, ERR_INVALID, "record %llu of the state cannot be read",
                       (unsigned long long)in->records);
    if (record->kind_case != HANDOVER__RECORD__KIND_END) {
        in->records++;
        *out = steal_ptr(&record);
        return 1;
    }
    if (record->end->records != in->records || in->at != in->len)
        return err_set(err, ERR_INVALID, "the state does not end where it should");
    in->ended = true;
    return 0;
}

/* ---- Values ---- */

ProtobufCBinaryData handover_str(const char *s)
{
    return handover_bytes(s, s != NULL ? strlen(s) : 0);
}

int handover_take_str(const ProtobufCBinaryData *bytes, char **out, struct err *err)
{
    if (bytes->len > 0 && memchr(bytes->data, '\0', bytes->len) != NULL)
        return err_set(err, ERR_INVALID, "a string of the state holds a NUL");
    *out = mem_strndup(bytes->len > 0 ? (const char *)bytes->data : "", bytes->len);
    return 0;
}

int handover_take_fd(int32_t fd, int *out, struct err *err)
{
    if (fd < -1 || fd >= HANDOVER_FDS_MAX || (fd >= 0 && fd < 3))
        return err_set(err, ERR_INVALID, "the state names descriptor %d", fd);
    if (fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_set(err, ERR_INVALID, "descriptor %d of the state is not open", fd);
    *out = fd;
    return 0;
}

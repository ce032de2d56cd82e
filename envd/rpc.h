/*
 * envd/rpc.h - Connect methods: what a handler of process.Process or filesystem.Filesystem sees.
 *
 * A method is a constant `struct rpc_method` that a row of the route table (route.c) points to.
 * Decoding, encoding (JSON and binary), envelopes, timeouts, keep-alive events and errors are
 * the work of rpc.c and connect/. Messages are protobuf-c structs of openapi/<service>.pb-c.h.
 *
 * Errors: the err's code gives the Connect code and HTTP status (error_table.h); rpc_set_code()
 * picks one that enum err_code lacks. The err's msg is the message the client sees.
 * Source: envd-api section 2; the Connect protocol specification.
 */
#ifndef ENVD_RPC_H
#define ENVD_RPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "envd/config.h"
#include "envd/error_table.h"
#include "envd/user.h"
#include "server/base/err.h"

#define RPC_BODY_MAX_BYTES (3 << 20)         /* of a request message, unless the method says more */
#define RPC_GZIP_MIN_BYTES (4 << 10)         /* a smaller answer is not worth compressing */
#define RPC_KEEPALIVE_DEFAULT_MS (90 * 1000) /* without Keepalive-Ping-Interval */

struct loop;
struct rpc_call;
struct handover_call;
struct Handover__Call;

/*
 * Fill *RESPONSE with a message on the heap in protobuf-c's own way (every pointer by malloc; it is
 * freed with protobuf_c_message_free_unpacked) and return 0, or return -1 with *ERR.
 * REQUEST is borrowed. RPC_UNARY: loop thread, must not block. RPC_WORKER: worker thread.
 */
typedef int (*rpc_unary_fn)(struct rpc_call *call, const ProtobufCMessage *request,
                            ProtobufCMessage **response, struct err *err);

/*
 * RPC_DEFERRED and RPC_STREAM: loop thread. REQUEST is borrowed until return. 0: the handler has
 * taken charge and will call rpc_finish (it may have done so already); -1 with *ERR: sent.
 */
typedef int (*rpc_start_fn)(struct rpc_call *call, const ProtobufCMessage *request,
                            struct err *err);

enum rpc_kind {
    RPC_UNARY,         /* answered before the handler returns, on the loop */
    RPC_WORKER,        /* the same on a worker thread, for whatever touches the disk */
    RPC_DEFERRED,      /* unary, answered later with rpc_finish */
    RPC_STREAM,        /* one request, many responses (rpc_send), rpc_finish */
    RPC_CLIENT_STREAM, /* many requests (start, once each), one response */
};

/*
 * A RPC_WORKER method that returns this before it has changed anything will take long: it is called
 * again by one of the threads for such calls, where rpc_may_take_long, and short calls do not wait.
 */
#define RPC_AGAIN 1
bool rpc_may_take_long(const struct rpc_call *call);

struct rpc_method {
    const char *service; /* "process.Process" */
    const char *name;    /* "Start" */
    enum rpc_kind kind;
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    rpc_unary_fn unary; /* RPC_UNARY, RPC_WORKER */
    /* RPC_WORKER: tried first, on the loop. 1: answered, 0: it might block, so call `unary`. */
    int (*quick)(struct rpc_call *call, const ProtobufCMessage *request,
                 ProtobufCMessage **response);
    rpc_start_fn start; /* RPC_DEFERRED, RPC_STREAM; each message of RPC_CLIENT_STREAM */
    /* RPC_CLIENT_STREAM: the client sent all it has; answer with rpc_finish. */
    void (*end)(struct rpc_call *call);
    /* RPC_STREAM: the connection takes more again after rpc_send returned 0. May be NULL. */
    void (*writable)(struct rpc_call *call);
    /*
     * The call is over though the handler did not finish it: client gone, or its
     * Connect-Timeout-Ms passed (then answered already). The handler must drop its pointer to CALL.
     */
    void (*closed)(struct rpc_call *call);
    /* RPC_STREAM: sent after each interval of silence. NULL: none. */
    const ProtobufCMessage *keepalive;
    size_t body_max_bytes; /* 0: RPC_BODY_MAX_BYTES */
    size_t gzip_min_bytes; /* 0: RPC_GZIP_MIN_BYTES */
    bool owns_timeout;     /* the handler enforces rpc_timeout_ms itself */
    /*
     * A call under way for the envd that replaces this one, and from the one before (handover.h).
     * `save` returns 1 when nothing has been done yet: the request is handled again, as it always
     * is when there is no `save`. `load` takes charge as `start` does, but sends nothing.
     */
    int (*save)(struct rpc_call *call, struct handover_call *out);
    int (*load)(struct rpc_call *call, const struct Handover__Call *in, struct err *err);
    bool idempotent; /* unary, without side effects: answers GET too */
};

/* ---- The request ---- */

const struct settings *rpc_settings(const struct rpc_call *call);
/* First header of that lower-case name, or NULL. */
const char *rpc_header(const struct rpc_call *call, const char *name);
/*
 * The user this call runs as: the Basic or JWT user, else the default user. NULL with *ERR
 * (ERR_UNAUTHENTICATED "no user specified"; "invalid default user: 'x'"). Borrowed.
 */
const struct user *rpc_user(struct rpc_call *call, struct err *err);
/* Connect-Timeout-Ms; 0 when absent. */
int64_t rpc_timeout_ms(const struct rpc_call *call);

/* So much waits for clients that messages should be small now. Loop thread. */
bool rpc_is_scarce(const struct rpc_call *call);

/* The loop all calls live on. Loop thread. */
struct loop *rpc_loop(const struct rpc_call *call);

/* Asked with GET: of an idempotent method only. */
bool rpc_is_get(const struct rpc_call *call);

/* ---- Beside the answer. Loop thread. ---- */

/* A header, before anything is sent; a trailer, before the end. Those of one NAME add up. */
void rpc_add_header(struct rpc_call *call, const char *name, const char *value);
void rpc_add_trailer(struct rpc_call *call, const char *name, const char *value);
/* A detail of the error that follows: DATA is the binary form of a TYPE ("package.Message"). */
void rpc_add_detail(struct rpc_call *call, const char *type, const void *data, size_t len);
/* RPC_STREAM: send the head now, before the first message. */
void rpc_send_head(struct rpc_call *call);

/* ---- State of the handler ---- */

void rpc_set_state(struct rpc_call *call, void *state);
void *rpc_state(const struct rpc_call *call);
/* A header of the answer, before the first rpc_send or rpc_finish. */
void rpc_set_header(struct rpc_call *call, const char *name, const char *value);
/* The Connect code of the error that follows, where enum err_code has none that fits. */
void rpc_set_code(struct rpc_call *call, enum connect_code code);

/* ---- Loop thread: RPC_DEFERRED, RPC_STREAM, RPC_CLIENT_STREAM ---- */

/*
 * Send one message of a stream. It is always taken. Returns 1 while the connection keeps up, 0
 * when the sender must stop until `writable`, -1 when the client is gone (`closed` will be called).
 */
int rpc_send(struct rpc_call *call, const ProtobufCMessage *message);

/* A message that is nothing but bytes in messages in messages, such as a chunk of output. */
struct rpc_bytes_form {
    const char *json_head; /* up to the base64, its quote included */
    const char *json_tail;
    const uint8_t *ids; /* protobuf field numbers below 16, the outermost first, the bytes' last */
    size_t depth;       /* of ids, at most 4 */
};
/* As rpc_send, encoded without a detour into the connection's buffer. */
int rpc_send_bytes(struct rpc_call *call, const struct rpc_bytes_form *form, const void *data,
                   size_t len);
/*
 * End the call: with ERR not NULL as that error, else with RESPONSE (borrowed; NULL for a stream).
 * CALL is gone on return; `closed` is not called.
 */
void rpc_finish(struct rpc_call *call, const ProtobufCMessage *response, const struct err *err);
/* RPC_CLIENT_STREAM: no further `start` calls until rpc_resume; the client is held back. */
void rpc_pause(struct rpc_call *call);
void rpc_resume(struct rpc_call *call);

#endif

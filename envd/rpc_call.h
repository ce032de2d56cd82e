/*
 * envd/rpc_call.h - the inside of envd/rpc.h, shared by rpc.c (the life of a call), rpc_start.c
 * (requests to methods), rpc_client_stream.c, rpc_head.c (what a request's head asks for) and
 * rpc_wire.c (what goes over the wire).
 */
#ifndef ENVD_RPC_CALL_H
#define ENVD_RPC_CALL_H

#include "envd/connect/codec.h"
#include "envd/connect/envelope.h"
#include "envd/exchange.h"
#include "envd/rpc.h"

/* RPC_WORKER: the method at work. */
struct rpc_work {
    struct job job;
    struct rpc_call *call;
    bool bulk; /* by a thread for long calls */
    int rc;
    struct err err;
    struct buf out; /* the answer, encoded by the worker: it may be long */
    bool packed;    /* `out` is compressed */
};

/* RPC_CLIENT_STREAM: the bytes between two messages. */
struct client_stream {
    struct envelope_reader reader;
    struct buf pending; /* bytes that came while paused */
    bool paused;
    bool taking; /* take_pending is on the stack */
};

/* Small on purpose: ten thousand of them stay open for idle streams. */
struct rpc_call {
    unsigned refs; /* loop thread */
    bool over;     /* answered, or the client is gone: nothing more is sent */
    bool begun;    /* a stream's head is out */
    bool started;  /* a stream's handler has seen its request */
    struct exchange *ex;
    const struct rpc_method *method;
    enum codec codec;
    bool stream;      /* enveloped, by its content type */
    bool get;         /* the message is in the query */
    bool gzip;        /* the request is, or may be, compressed */
    bool gzip_answer; /* the client asked for it */
    int64_t timeout_ms;
    int64_t keepalive_ms;
    struct loop_timer deadline;
    struct loop_timer keepalive;
    enum connect_code code; /* rpc_set_code */
    void *state;
    struct user *user; /* rpc_user */

    json_t *trailers;            /* {name: [value, …]}, NULL: none */
    json_t *details;             /* [{"type", "value"}, …], NULL: none */
    struct client_stream *input; /* NULL: the method is none */
    struct rpc_work *work;       /* NULL: no worker has it */
    ProtobufCMessage *request;
    ProtobufCMessage *response;
};

/* ---- rpc.c: the life of a call ---- */

struct rpc_call *call_new(struct exchange *ex, const struct rpc_method *method);
void call_unref(struct rpc_call *call);
/* Nothing more is sent or heard. Drops the reference that the open call was. */
void call_over(struct rpc_call *call);
/* Tell a handler that has taken charge and did not finish. */
void call_tell_closed(struct rpc_call *call);
/* A stream has begun and its handler has seen the request: free what only the start needed. */
void call_trim(struct rpc_call *call);
/* End it when its Connect-Timeout-Ms passes, unless the method does so itself. */
void call_arm_deadline(struct rpc_call *call);
void call_arm_deadline_in(struct rpc_call *call, int64_t ms);
/* A message of a stream is out: the next keep-alive, and what rpc_send returns. */
int call_sent(struct rpc_call *call);
/* rpc_finish with an error. */
void call_fail(struct rpc_call *call, const struct err *err);

/* The keep-alive event comes after MS of silence. */
void call_arm_keepalive(struct rpc_call *call, int64_t ms);

/* ---- rpc_handover.c ---- */

/* What a call under way is, into *OUT. 1: nothing has been done for it, handle it again. */
int call_save(struct rpc_call *call, struct handover_call *out);
/* The call that IN is, on EX. -1 with *ERR: EX is as it was. */
int call_load(struct exchange *ex, const struct Handover__Call *in, int64_t deadline_mono_ms,
              struct err *err);

/* ---- rpc_client_stream.c ---- */

/* A client stream holds at most this beside its message while it is paused. */
#define CLIENT_STREAM_PENDING_MAX (1 << 20)

void client_stream_init(struct rpc_call *call, size_t message_max);
void client_stream_free(struct client_stream *input);
/* Bytes of the body, and its end. */
void client_stream_body(struct exchange *ex, const char *data, size_t len);
void client_stream_end(struct rpc_call *call);

/* ---- rpc_head.c, rpc_wire.c ---- */

/* Read codec, version, timeout and compression from the head. -1 with *ERR: to be sent as one. */
int wire_read_head(struct rpc_call *call, struct err *err);
/* Which codec and form the content type asks for. False: it is not served for this method. */
bool wire_read_type(struct rpc_call *call);
/* The content type of the call's answer. */
const char *wire_content_type(const struct rpc_call *call);
/* The message of a GET: its query parameters to *TEXT and *COMPRESSED. -1 with *ERR. */
int wire_read_query(struct rpc_call *call, struct buf *text, bool *compressed, struct err *err);
/* 415, naming what is served. */
void wire_refuse_type(struct exchange *ex, const struct rpc_method *method);
/* Of a request message, in bytes. */
size_t wire_message_max(const struct rpc_method *method);
/* Decode one message, decompressed if COMPRESSED. */
int wire_decode(struct rpc_call *call, const char *data, size_t len, bool compressed,
                ProtobufCMessage **out, struct err *err);
/* Send a stream's head, if it is not out. */
void wire_begin(struct rpc_call *call);
/* An envelope to be filled: space for its head; then its payload is added, and it is sent. */
void wire_envelope_open(struct buf *out);
void wire_envelope_send(struct rpc_call *call, struct buf *out, uint8_t flags);
/* Send one enveloped message. */
int wire_send(struct rpc_call *call, const ProtobufCMessage *message, struct err *err);
/* The unary answer to CALL: its response, encoded and maybe compressed. Any thread. */
int wire_encode(const struct rpc_call *call, const ProtobufCMessage *response, struct buf *out,
                bool *packed, struct err *err);
/* Send the end: a unary answer or error, or the last envelope of a stream. */
void wire_finish(struct rpc_call *call, const ProtobufCMessage *response, const struct err *err);

/* ---- rpc_start.c, for http_dispatch.c ---- */

/* The head of a request for METHOD is there. */
void rpc_begin(struct exchange *ex, const struct rpc_method *method);
void rpc_body_done(struct exchange *ex);
/* The body passes its maximum. */
void rpc_body_too_large(struct exchange *ex);
/* It waited for memory, or held some, for too long. */
void rpc_body_starved(struct exchange *ex);
/* An error outside any method: unary JSON. */
void rpc_refuse(struct exchange *ex, const struct err *err);

#endif

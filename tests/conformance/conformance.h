/*
 * tests/conformance/conformance.h - a server for the Connect conformance suite, of envd's own
 * HTTP, RPC and connect/ code with other methods behind it. Never part of envd.
 *
 * The suite's .proto files come from its Go module at build time (run.sh); the messages' names
 * are long, so CC() shortens them.
 */
#ifndef TESTS_CONFORMANCE_H
#define TESTS_CONFORMANCE_H

#include "connectrpc/conformance/v1/server_compat.pb-c.h"
#include "connectrpc/conformance/v1/service.pb-c.h"
#include "google/protobuf/any.pb-c.h"

#include "envd/rpc_call.h"

#define CC(name) Connectrpc__Conformance__V1__##name
#define DESC(name) (&connectrpc__conformance__v1__##name##__descriptor)

/* any.c: google.protobuf.Any in JSON, for the messages of the suite. */
void any_init(void);
/* MESSAGE in an Any, on the heap. */
Google__Protobuf__Any *any_of(const ProtobufCMessage *message);

/* info.c: what the suite wants echoed. On the heap. */
CC(ConformancePayload__RequestInfo) * info_of(struct rpc_call *call);
/* Add MESSAGE to the requests of INFO. */
void info_add(CC(ConformancePayload__RequestInfo) * info, const ProtobufCMessage *message);

/* methods.c; not const, because the runner chooses the largest message. */
extern struct rpc_method methods[];
extern const size_t method_count;

#endif

/*
 * envd/rpc_process.h - shared by the files that serve process.Process.
 */
#ifndef ENVD_RPC_PROCESS_H
#define ENVD_RPC_PROCESS_H

#include "envd/process.h"
#include "openapi/process.pb-c.h"

/* The process that SELECTOR names, ended ones only if ENDED. NULL with *ERR. */
struct process *select_process(const Process__ProcessSelector *selector, bool ended,
                               struct err *err);

/* Bytes that waited for a process in the envd before this one; their sender is not there yet. */
struct input *input_restore(const uint8_t *data, size_t len);

/* An empty answer of DESC on the heap. */
ProtobufCMessage *empty_message(const ProtobufCMessageDescriptor *desc);

#endif

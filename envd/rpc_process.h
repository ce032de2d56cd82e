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

/* An empty answer of DESC on the heap. */
ProtobufCMessage *empty_message(const ProtobufCMessageDescriptor *desc);

#endif

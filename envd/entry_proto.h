/*
 * envd/entry_proto.h - a struct entry as the message filesystem.EntryInfo.
 *
 * Pure. Any thread.
 */
#ifndef SANDPIT_ENVD_ENTRY_PROTO_H
#define SANDPIT_ENVD_ENTRY_PROTO_H

#include "envd/entry.h"
#include "openapi/filesystem.pb-c.h"

/*
 * A message on the heap (protobuf_c_message_free_unpacked), taking the strings out of ENTRY, which
 * is empty after. Bytes of names that are not UTF-8, which the wire cannot carry, become U+FFFD.
 */
Filesystem__EntryInfo *entry_to_proto(struct entry *entry);

/* TEXT itself, or a copy with each stray byte replaced. Takes TEXT, gives ownership. */
char *entry_proto_text(char *text);

#endif

/*
 * server/proxy/head_fields.h - small helpers for header fields, shared by the head_*.c files.
 *
 * Pure. Any thread.
 */
#ifndef SANDPIT_PROXY_HEAD_FIELDS_H
#define SANDPIT_PROXY_HEAD_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/buf.h"

/* NAME is one of the lower-case NAMES, which NULL ends. */
bool field_in(const char *name, size_t len, const char *const *names);
/*
 * A Connection field's VALUE names NAME, so that the field is for this hop alone. Fields that
 * framing and routing depend on cannot be taken away like this.
 */
bool field_named_by(const char *value, size_t value_len, const char *name, size_t len);
/* "NAME: VALUE" and a line end. */
void field_add(struct buf *out, const char *name, const char *value, size_t value_len);

#endif

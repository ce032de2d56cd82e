/*
 * mapper/template_id.h - "[namespace/]name[:tag]".
 *
 * Pure. Any thread. Source: templates-api.md section 1: trimmed and lower-cased; namespace and name
 * [a-z0-9-_]+, tag [a-z0-9-_.]+; cut at the first ':' and then at the first '/'; name at most 128.
 */
#ifndef SANDPIT_MAPPER_TEMPLATE_ID_H
#define SANDPIT_MAPPER_TEMPLATE_ID_H

#include <stddef.h>

#include "server/base/err.h"
#include "server/model/sandbox.h"

#define TEMPLATE_NAME_SIZE 129 /* with the NUL */
#define TEMPLATE_TAG_SIZE 129
#define TEMPLATE_TAG_DEFAULT "default"

struct template_id {
    char namespace_[NAMESPACE_SIZE]; /* "" when the reference has none */
    char name[TEMPLATE_NAME_SIZE];
    char tag[TEMPLATE_TAG_SIZE]; /* "" when the reference has none */
};

/* Parse S (LEN bytes, untrusted). ERR_INVALID "Invalid template reference: …"; *OUT untouched. */
int template_id_parse(const char *s, size_t len, struct template_id *out, struct err *err);
/* "namespace/name:tag" without the empty parts. OUT holds TEMPLATE_ID_SIZE. ERR_INVALID: long. */
int template_id_format(const struct template_id *id, char out[TEMPLATE_ID_SIZE], struct err *err);
/*
 * The names to look up, in order: with a namespace exactly that; bare: OWN_NAMESPACE first, then
 * the public one (""). Fills OUT and returns how many (1 or 2).
 */
size_t template_id_candidates(const struct template_id *id, const char *own_namespace,
                              struct template_id out[2]);

#endif

/*
 * mapper/labels.h - names and values that Kubernetes accepts, made from ours and back.
 *
 * Pure. Any thread. Source: Kubernetes "Object Names and IDs" (RFC 1123 label, 63 characters) and
 * "Labels and Selectors" (value: 63 characters, alphanumeric at both ends, [-_.] inside).
 */
#ifndef SANDPIT_MAPPER_LABELS_H
#define SANDPIT_MAPPER_LABELS_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/err.h"

#define LABEL_PREFIX "sandpit.dev/"
#define LABEL_SANDBOX_ID LABEL_PREFIX "sandbox-id"
#define LABEL_NAMESPACE LABEL_PREFIX "namespace"
#define LABEL_CLIENT LABEL_PREFIX "client"
#define LABEL_TEMPLATE LABEL_PREFIX "template" /* template_id as label_encode makes it */
#define LABEL_STATE LABEL_PREFIX "state"
#define LABEL_META_HASH LABEL_PREFIX "metadata-hash"
#define ANNOTATION_METADATA LABEL_PREFIX "metadata" /* JSON object of strings */
#define ANNOTATION_TEMPLATE LABEL_PREFIX "template-id"
#define ANNOTATION_STARTED LABEL_PREFIX "started-at" /* RFC 3339 */
#define ANNOTATION_END LABEL_PREFIX "end-at"         /* RFC 3339 */
#define ANNOTATION_OPTIONS LABEL_PREFIX "options"    /* JSON: secure, autoPause, … */
#define MANAGED_BY_LABEL "app.kubernetes.io/managed-by"
#define MANAGED_BY "sandpit"

#define LABEL_VALUE_SIZE 64 /* with the NUL */
#define DNS_LABEL_SIZE 64   /* with the NUL */

/* VALUE may be a label value as it is. The empty string may. */
bool label_value_valid(const char *value);
/* NAME is an RFC 1123 label: [a-z0-9]([-a-z0-9]*[a-z0-9])?, at most 63. */
bool dns_label_valid(const char *name);
/*
 * A label value for TEXT: itself when valid, else its allowed characters (others become '.'), cut,
 * and "-" with 10 hex digits of TEXT's SHA-256, so that different texts stay different.
 */
void label_encode(const char *text, char out[LABEL_VALUE_SIZE]);
/* The same for an object name (RFC 1123 label; others become '-'). */
void dns_label_encode(const char *text, char out[DNS_LABEL_SIZE]);

#endif

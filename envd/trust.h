/*
 * envd/trust.h - certificates of the platform in the sandbox's trust store.
 *
 * Source: envd-api section 7.3, caBundle; RFC 7468 sections 2, 5.
 */
#ifndef ENVD_TRUST_H
#define ENVD_TRUST_H

#include <stddef.h>

#include "server/base/buf.h"
#include "server/base/err.h"

#define TRUST_BUNDLE "/etc/ssl/certs/ca-certificates.crt" /* what programs read */
#define TRUST_SOURCE "/usr/local/share/ca-certificates/sandpit-platform.crt"
#define TRUST_MAX_BYTES (512 << 10) /* of a bundle that is given */
#define TRUST_FILE_MAX_BYTES (8 << 20)
#define TRUST_BEGIN "# BEGIN certificates of the sandbox's platform\n"
#define TRUST_END "# END certificates of the sandbox's platform\n"

/*
 * Append to OUT the certificates of TEXT, each as one PEM block in its usual form; text around
 * the blocks is left out. ERR_INVALID when there is none, on a block of another kind, or when one
 * does not hold exactly one DER sequence. Pure.
 */
int trust_parse(const char *text, size_t len, struct buf *out, struct err *err);

/*
 * Let the marked part of the file BUNDLE be PEM (from trust_parse) and nothing else of it change.
 * The file is replaced at once, or stays as it was. SOURCE, from which update-ca-certificates
 * makes BUNDLE anew, gets the same; where it cannot be written it is left alone. Blocking, and not
 * by two threads at once.
 */
int trust_install(const char *bundle, const char *source, const struct buf *pem, struct err *err);

#endif

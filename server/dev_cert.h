/*
 * server/dev_cert.h - the certificates of `serve --dev`: a CA of this installation alone and a
 * certificate for sandpit.localhost and *.sandpit.localhost.
 *
 * Start-up thread, as root.
 */
#ifndef SANDPIT_DEV_CERT_H
#define SANDPIT_DEV_CERT_H

#include "server/base/err.h"

#define DEV_DOMAIN "sandpit.localhost"

/*
 * Make what is missing, damaged or ends within 30 days in TLS_DIR: ca.pem, ca.key, server.pem
 * (certificate and CA), server.key, bundle.pem (the system's roots and our CA). Keys are 0600. The
 * CA signs names below DEV_DOMAIN only (name constraint, RFC 5280 section 4.2.1.10), so that
 * trusting it is harmless.
 */
int dev_cert_ensure(const char *tls_dir, struct err *err);

#endif

/*
 * server/gateway/ca.h - the CA of this installation that signs for hosts with header rules.
 *
 * gateway_ca_ensure and gateway_ca_text: start-up, as root. The rest: the gateway's process alone.
 */
#ifndef SANDPIT_GATEWAY_CA_H
#define SANDPIT_GATEWAY_CA_H

#include <openssl/ssl.h>

#include "server/base/err.h"

/*
 * DIR/ca.pem and DIR/ca.key (0600), made when missing, damaged or ending within a year; DIR is
 * made, too, for root alone.
 */
int gateway_ca_ensure(const char *dir, struct err *err);
/* DIR/ca.pem, to free(). */
int gateway_ca_text(const char *dir, char **out, struct err *err);

struct ca;
/* Read both. The key stays in this process. */
int ca_load(const char *dir, struct ca **out, struct err *err);
/* Give SSL a certificate for NAME; those made are kept, up to CA_LEAVES_MAX. */
#define CA_LEAVES_MAX 1024
int ca_use(struct ca *ca, SSL *ssl, const char *name, struct err *err);

#endif

/*
 * server/gateway/cert.h - what every X.509 certificate that we make begins with.
 *
 * Used by the egress gateway's CA and by the development certificate. Any thread.
 */
#ifndef SANDPIT_GATEWAY_CERT_H
#define SANDPIT_GATEWAY_CERT_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#define DAY_S 86400L

/*
 * Version 3, a random serial number of 127 bits, the subject O=Sandpit, CN=COMMON_NAME, the public
 * half of KEY, valid for DAYS from now and since a day ago, for clocks that differ. Issuer,
 * extensions and signature are missing. To X509_free; NULL: failed, OpenSSL's queue says why.
 */
X509 *cert_begin(EVP_PKEY *key, const char *common_name, long days);
/* Extension NID with the text VALUE (openssl x509v3_config); 1, or 0 as OpenSSL's own. */
int cert_extend(X509 *cert, X509 *issuer, int nid, const char *value);

#endif

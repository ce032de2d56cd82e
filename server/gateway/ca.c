#include "server/gateway/ca.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/map.h"
#include "server/base/mem.h"
#include "server/gateway/cert.h"

#define CA_DAYS 3650
#define CA_LEFT_DAYS 365 /* a younger one is made before */
#define LEAF_DAYS 90
#define LEAF_LEFT_DAYS 30
#define PEM_MAX_BYTES 65536

struct leaf {
    char *name;
    X509 *cert;
};

struct ca {
    X509 *cert;
    EVP_PKEY *key;
    EVP_PKEY *leaf_key; /* of all leaves: made by this process, and gone with it */
    struct map leaves;
};

static int fail(struct err *err, const char *what)
{
    char reason[256] = "";

    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    ERR_clear_error();
    err_set(err, ERR_INTERNAL, "the egress gateway's CA: %s", what);
    return err_detail(err, "%s: %s", what, reason);
}

static void cleanup_bio(BIO **bio)
{
    BIO_free(*bio);
}

/* --- the CA itself --------------------------------------------------------------------------- */

static X509 *make_ca(EVP_PKEY *key)
{
    char name[64], suffix[7];
    X509 *cert;

    hash_random_id(suffix, sizeof(suffix) - 1);
    snprintf(name, sizeof(name), "Sandpit egress CA %s", suffix);
    cert = cert_begin(key, name, CA_DAYS);
    if (cert != NULL && X509_set_issuer_name(cert, X509_get_subject_name(cert)) &&
        cert_extend(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        cert_extend(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        cert_extend(cert, cert, NID_subject_key_identifier, "hash") &&
        X509_sign(cert, key, EVP_sha256()))
        return cert;
    X509_free(cert);
    return NULL;
}

static int write_bio(const char *dir, const char *name, BIO *bio, mode_t mode, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/%s", dir, name);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);

    return file_write_durable(AT_FDCWD, path, data, (size_t)len, mode, err);
}

static int write_ca(const char *dir, X509 *cert, EVP_PKEY *key, struct err *err)
{
    _cleanup_(cleanup_bio) BIO *cert_bio = BIO_new(BIO_s_mem());
    _cleanup_(cleanup_bio) BIO *key_bio = BIO_new(BIO_s_secmem());

    if (cert_bio == NULL || key_bio == NULL || !PEM_write_bio_X509(cert_bio, cert) ||
        !PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL))
        return fail(err, "encoding");
    /* the key first: a certificate without its key would be trusted for nothing */
    if (write_bio(dir, "ca.key", key_bio, 0600, err) < 0)
        return -1;
    return write_bio(dir, "ca.pem", cert_bio, 0600, err);
}

static bool lasts(const X509 *cert, long days)
{
    time_t until = time(NULL) + days * DAY_S;

    return X509_cmp_time(X509_get0_notAfter(cert), &until) > 0;
}

static bool read_pair(const char *dir, X509 **cert, EVP_PKEY **key)
{
    _cleanup_free_ char *cert_path = mem_asprintf("%s/ca.pem", dir);
    _cleanup_free_ char *key_path = mem_asprintf("%s/ca.key", dir);
    _cleanup_(cleanup_bio) BIO *cert_bio = BIO_new_file(cert_path, "re");
    _cleanup_(cleanup_bio) BIO *key_bio = BIO_new_file(key_path, "re");

    *cert = cert_bio != NULL ? PEM_read_bio_X509(cert_bio, NULL, NULL, NULL) : NULL;
    *key = key_bio != NULL ? PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL) : NULL;
    if (*cert != NULL && *key != NULL && X509_check_private_key(*cert, *key) == 1)
        return true;
    ERR_clear_error();
    X509_free(*cert);
    EVP_PKEY_free(*key);
    *cert = NULL;
    *key = NULL;
    return false;
}

int gateway_ca_ensure(const char *dir, struct err *err)
{
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    bool good;
    int rc;

    if (dir_make(dir, 0700, err) < 0)
        return -1;
    good = read_pair(dir, &cert, &key) && lasts(cert, CA_LEFT_DAYS);
    X509_free(cert);
    EVP_PKEY_free(key);
    if (good)
        return 0;
    key = EVP_EC_gen("P-256");
    cert = key != NULL ? make_ca(key) : NULL;
    rc = cert != NULL ? write_ca(dir, cert, key, err) : fail(err, "making it");
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}

int gateway_ca_text(const char *dir, char **out, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/ca.pem", dir);
    size_t len;

    return file_read(AT_FDCWD, path, PEM_MAX_BYTES, out, &len, err);
}

/* --- certificates for hosts ------------------------------------------------------------------ */

int ca_load(const char *dir, struct ca **out, struct err *err)
{
    struct ca *ca = mem_zalloc(sizeof(*ca));

    ca->leaf_key = EVP_EC_gen("P-256");
    if (ca->leaf_key == NULL || !read_pair(dir, &ca->cert, &ca->key)) {
        EVP_PKEY_free(ca->leaf_key);
        free(ca);
        return fail(err, "reading it");
    }
    map_init(&ca->leaves);
    *out = ca;
    return 0;
}

static X509 *make_leaf(struct ca *ca, const char *name)
{
    _cleanup_free_ char *san = mem_asprintf("DNS:%s", name); /* a host name: no comma in it */
    X509 *cert = cert_begin(ca->leaf_key, "egress", LEAF_DAYS);

    if (cert != NULL && X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) &&
        cert_extend(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
        cert_extend(cert, ca->cert, NID_key_usage, "critical,digitalSignature") &&
        cert_extend(cert, ca->cert, NID_ext_key_usage, "serverAuth") &&
        cert_extend(cert, ca->cert, NID_subject_alt_name, san) &&
        cert_extend(cert, ca->cert, NID_authority_key_identifier, "keyid") &&
        X509_sign(cert, ca->key, EVP_sha256()))
        return cert;
    X509_free(cert);
    return NULL;
}

static void leaf_free(struct leaf *leaf)
{
    if (leaf == NULL)
        return;
    free(leaf->name);
    X509_free(leaf->cert);
    free(leaf);
}

static void forget_all(struct ca *ca)
{
    size_t at = 0;
    void *value;

    while (map_next(&ca->leaves, &at, &value))
        leaf_free(value);
    map_clear(&ca->leaves);
    map_init(&ca->leaves);
}

int ca_use(struct ca *ca, SSL *ssl, const char *name, struct err *err)
{
    struct leaf *leaf = map_get(&ca->leaves, name);

    if (leaf != NULL && !lasts(leaf->cert, LEAF_LEFT_DAYS)) {
        leaf_free(map_remove(&ca->leaves, name));
        leaf = NULL;
    }
    if (leaf == NULL) {
        X509 *cert = make_leaf(ca, name);
        if (cert == NULL)
            return fail(err, "signing for a host");
        if (ca->leaves.count >= CA_LEAVES_MAX)
            forget_all(ca);
        leaf = mem_zalloc(sizeof(*leaf));
        leaf->name = mem_strdup(name);
        leaf->cert = cert;
        map_put(&ca->leaves, leaf->name, leaf);
    }
    if (SSL_use_certificate(ssl, leaf->cert) != 1 || SSL_use_PrivateKey(ssl, ca->leaf_key) != 1)
        return fail(err, "a host's certificate");
    return 0;
}

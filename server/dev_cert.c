#include "server/dev_cert.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

#include "server/base/buf.h"
#include "server/base/fd.h"
#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/gateway/cert.h"

#define CA_DAYS 3650
#define LEAF_DAYS 397
#define RENEW_DAYS 30 /* before the end */
#define SYSTEM_ROOTS "/etc/ssl/certs/ca-certificates.crt"
#define ROOTS_MAX_BYTES (16u * 1024 * 1024)
#define PEM_MAX_BYTES 65536

struct pair { /* a certificate and its key */
    X509 *cert;
    EVP_PKEY *key;
};

static void pair_clear(struct pair *pair)
{
    X509_free(pair->cert);
    EVP_PKEY_free(pair->key);
    memset(pair, 0, sizeof(*pair));
}

static void cleanup_bio(BIO **bio)
{
    BIO_free(*bio);
}

static int openssl_fail(struct err *err, const char *what)
{
    char reason[256] = "";

    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    ERR_clear_error();
    err_set(err, ERR_INTERNAL, "cannot make the development certificate");
    return err_detail(err, "%s: %s", what, reason);
}

static BIO *read_bio(const char *dir, const char *name)
{
    _cleanup_free_ char *path = mem_asprintf("%s/%s", dir, name);

    return BIO_new_file(path, "re");
}

/* False when either is missing, unreadable, or does not belong to the other. */
static bool read_pair(const char *dir, const char *cert, const char *key, struct pair *out)
{
    _cleanup_(cleanup_bio) BIO *cert_bio = read_bio(dir, cert);
    _cleanup_(cleanup_bio) BIO *key_bio = read_bio(dir, key);

    if (cert_bio != NULL)
        out->cert = PEM_read_bio_X509(cert_bio, NULL, NULL, NULL);
    if (key_bio != NULL)
        out->key = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
    if (out->cert != NULL && out->key != NULL && X509_check_private_key(out->cert, out->key) == 1)
        return true;
    ERR_clear_error();
    pair_clear(out);
    return false;
}

static bool lasts(const X509 *cert)
{
    time_t until = time(NULL) + RENEW_DAYS * DAY_S;

    return X509_cmp_time(X509_get0_notAfter(cert), &until) > 0;
}

/* Key, serial, validity and subject of a new certificate; extensions and signature are missing. */
static int begin(struct pair *out, const char *common_name, long days, struct err *err)
{
    out->key = EVP_EC_gen("P-256");
    out->cert = out->key != NULL ? cert_begin(out->key, common_name, days) : NULL;
    if (out->cert == NULL)
        return openssl_fail(err, common_name);
    return 0;
}

static int make_ca(struct pair *out, struct err *err)
{
    char name[64], suffix[7];

    hash_random_id(suffix, sizeof(suffix) - 1); /* two installations are told apart in a list */
    snprintf(name, sizeof(name), "Sandpit development CA %s", suffix);
    if (begin(out, name, CA_DAYS, err) < 0)
        return -1;
    if (!X509_set_issuer_name(out->cert, X509_get_subject_name(out->cert)) ||
        !cert_extend(out->cert, out->cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !cert_extend(out->cert, out->cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !cert_extend(out->cert, out->cert, NID_name_constraints,
                     "critical,permitted;DNS:" DEV_DOMAIN) ||
        !cert_extend(out->cert, out->cert, NID_subject_key_identifier, "hash") ||
        !X509_sign(out->cert, out->key, EVP_sha256()))
        return openssl_fail(err, "CA");
    return 0;
}

static int make_leaf(const struct pair *ca, struct pair *out, struct err *err)
{
    if (begin(out, DEV_DOMAIN, LEAF_DAYS, err) < 0)
        return -1;
    if (!X509_set_issuer_name(out->cert, X509_get_subject_name(ca->cert)) ||
        !cert_extend(out->cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") ||
        !cert_extend(out->cert, ca->cert, NID_key_usage, "critical,digitalSignature") ||
        !cert_extend(out->cert, ca->cert, NID_ext_key_usage, "serverAuth") ||
        !cert_extend(out->cert, ca->cert, NID_subject_alt_name,
                     "DNS:" DEV_DOMAIN ",DNS:*." DEV_DOMAIN) ||
        !cert_extend(out->cert, ca->cert, NID_subject_key_identifier, "hash") ||
        !cert_extend(out->cert, ca->cert, NID_authority_key_identifier, "keyid") ||
        !X509_sign(out->cert, ca->key, EVP_sha256()))
        return openssl_fail(err, "certificate");
    return 0;
}

static int write_bio(const char *dir, const char *name, BIO *bio, mode_t mode, struct err *err)
{
    _cleanup_free_ char *path = mem_asprintf("%s/%s", dir, name);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);

    return file_write_durable(AT_FDCWD, path, data, (size_t)len, mode, err);
}

/* The certificate, and ISSUER behind it unless NULL. */
static int write_certs(const char *dir, const char *name, X509 *cert, X509 *issuer, struct err *err)
{
    _cleanup_(cleanup_bio) BIO *bio = BIO_new(BIO_s_mem());

    if (bio == NULL || !PEM_write_bio_X509(bio, cert) ||
        (issuer != NULL && !PEM_write_bio_X509(bio, issuer)))
        return openssl_fail(err, name);
    return write_bio(dir, name, bio, 0644, err);
}

static int write_key(const char *dir, const char *name, EVP_PKEY *key, struct err *err)
{
    _cleanup_(cleanup_bio) BIO *bio = BIO_new(BIO_s_secmem());

    if (bio == NULL || !PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL))
        return openssl_fail(err, name);
    return write_bio(dir, name, bio, 0600, err);
}

static int ensure_ca(const char *dir, struct pair *ca, struct err *err)
{
    if (read_pair(dir, "ca.pem", "ca.key", ca) && lasts(ca->cert))
        return 0;
    pair_clear(ca);
    if (make_ca(ca, err) < 0 || write_key(dir, "ca.key", ca->key, err) < 0)
        return -1;
    return write_certs(dir, "ca.pem", ca->cert, NULL, err);
}

static bool leaf_is_good(const struct pair *leaf, const struct pair *ca)
{
    return lasts(leaf->cert) && X509_verify(leaf->cert, ca->key) == 1 &&
           X509_check_host(leaf->cert, "x." DEV_DOMAIN, 0, 0, NULL) == 1;
}

static int ensure_leaf(const char *dir, const struct pair *ca, struct err *err)
{
    _cleanup_(pair_clear) struct pair leaf = {0};

    if (read_pair(dir, "server.pem", "server.key", &leaf) && leaf_is_good(&leaf, ca))
        return 0;
    ERR_clear_error();
    pair_clear(&leaf);
    if (make_leaf(ca, &leaf, err) < 0 || write_key(dir, "server.key", leaf.key, err) < 0)
        return -1;
    return write_certs(dir, "server.pem", leaf.cert, ca->cert, err);
}

/* SSL_CERT_FILE replaces the system's roots, so the bundle repeats them. Made at every start. */
static int write_bundle(const char *dir, struct err *err)
{
    _cleanup_free_ char *ca_path = mem_asprintf("%s/ca.pem", dir);
    _cleanup_free_ char *path = mem_asprintf("%s/bundle.pem", dir);
    _cleanup_free_ char *roots = NULL, *ca = NULL;
    _cleanup_buf_ struct buf buf;
    size_t roots_len = 0, ca_len;

    buf_init(&buf, ROOTS_MAX_BYTES + PEM_MAX_BYTES + 1);
    if (access(SYSTEM_ROOTS, R_OK) == 0 &&
        file_read(AT_FDCWD, SYSTEM_ROOTS, ROOTS_MAX_BYTES, &roots, &roots_len, err) < 0)
        return -1;
    if (file_read(AT_FDCWD, ca_path, PEM_MAX_BYTES, &ca, &ca_len, err) < 0)
        return -1;
    if (roots != NULL)
        buf_add(&buf, roots, roots_len);
    if (roots_len > 0 && roots[roots_len - 1] != '\n')
        buf_add_char(&buf, '\n');
    buf_add(&buf, ca, ca_len);
    return file_write_durable(AT_FDCWD, path, buf.data, buf.len, 0644, err);
}

int dev_cert_ensure(const char *tls_dir, struct err *err)
{
    _cleanup_(pair_clear) struct pair ca = {0};

    if (dir_make(tls_dir, 0700, err) < 0 || ensure_ca(tls_dir, &ca, err) < 0 ||
        ensure_leaf(tls_dir, &ca, err) < 0)
        return -1;
    return write_bundle(tls_dir, err);
}

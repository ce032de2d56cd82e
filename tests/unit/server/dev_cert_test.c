#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/dev_cert.h"

static char dir[64];
static char path_buf[160];

static const char *path_of(const char *name)
{
    snprintf(path_buf, sizeof(path_buf), "%s/%s", dir, name);
    return path_buf;
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/dev-cert-test-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"ca.pem", "ca.key", "server.pem", "server.key",
                                        "bundle.pem"};

    (void)state;
    for (size_t i = 0; i < array_size(names); i++)
        unlink(path_of(names[i]));
    return rmdir(dir);
}

static void ensure(void)
{
    struct err err = {0};

    if (dev_cert_ensure(dir, &err) < 0)
        fail_msg("%s (%s)", err.msg, err.detail);
}

static X509 *read_cert(const char *name)
{
    FILE *file = fopen(path_of(name), "re");
    X509 *cert;

    assert_non_null(file);
    cert = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(cert);
    return cert;
}

/* What a client that trusts CA says of CERT under NAME. */
static int verify(X509 *ca, X509 *cert, const char *name)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    int result;

    assert_true(X509_STORE_add_cert(store, ca) == 1);
    assert_true(X509_STORE_CTX_init(context, store, cert, NULL) == 1);
    assert_true(X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(context), name, 0) == 1);
    X509_verify_cert(context);
    result = X509_STORE_CTX_get_error(context);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    return result;
}

static void clients_accept_names_of_sandboxes(void **state)
{
    X509 *ca, *leaf;

    (void)state;
    ensure();
    ca = read_cert("ca.pem");
    leaf = read_cert("server.pem");
    assert_int_equal(verify(ca, leaf, "api.sandpit.localhost"), X509_V_OK);
    assert_int_equal(verify(ca, leaf, "49983-iabc.sandpit.localhost"), X509_V_OK);
    assert_int_equal(verify(ca, leaf, "sandpit.localhost"), X509_V_OK);
    assert_int_not_equal(verify(ca, leaf, "a.b.sandpit.localhost"), X509_V_OK);
    assert_int_not_equal(verify(ca, leaf, "example.com"), X509_V_OK);
    X509_free(ca);
    X509_free(leaf);
}

/* A certificate for NAME, signed by the CA in dir: what a thief of ca.key would make. */
static X509 *forge(const char *name)
{
    FILE *file = fopen(path_of("ca.key"), "re");
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    X509 *ca = read_cert("ca.pem"), *cert = X509_new();
    char value[80];
    X509_EXTENSION *san;

    fclose(file);
    snprintf(value, sizeof(value), "DNS:%s", name);
    san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, value);
    assert_non_null(san);
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_issuer_name(cert, X509_get_subject_name(ca));
    X509_set_pubkey(cert, key);
    X509_add_ext(cert, san, -1);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    X509_EXTENSION_free(san);
    EVP_PKEY_free(key);
    X509_free(ca);
    return cert;
}

static void ca_cannot_sign_other_names(void **state)
{
    X509 *ca, *forged, *allowed;

    (void)state;
    ensure();
    ca = read_cert("ca.pem");
    forged = forge("www.example.com");
    allowed = forge("x.sandpit.localhost");
    assert_int_equal(verify(ca, forged, "www.example.com"), X509_V_ERR_PERMITTED_VIOLATION);
    assert_int_equal(verify(ca, allowed, "x.sandpit.localhost"), X509_V_OK);
    X509_free(ca);
    X509_free(forged);
    X509_free(allowed);
}

static void good_files_are_kept_and_bad_ones_replaced(void **state)
{
    X509 *ca, *leaf, *again, *fresh;

    (void)state;
    ensure();
    ca = read_cert("ca.pem");
    leaf = read_cert("server.pem");
    ensure();
    again = read_cert("server.pem");
    assert_int_equal(X509_cmp(leaf, again), 0);
    assert_int_equal(truncate(path_of("server.key"), 20), 0);
    ensure();
    fresh = read_cert("server.pem");
    assert_int_not_equal(X509_cmp(leaf, fresh), 0);
    assert_int_equal(verify(ca, fresh, "x.sandpit.localhost"), X509_V_OK);
    X509_free(again);
    X509_free(fresh);
    unlink(path_of("ca.key")); /* a new CA, and so a new certificate */
    ensure();
    again = read_cert("ca.pem");
    fresh = read_cert("server.pem");
    assert_int_not_equal(X509_cmp(ca, again), 0);
    assert_int_equal(verify(again, fresh, "x.sandpit.localhost"), X509_V_OK);
    X509_free(ca);
    X509_free(leaf);
    X509_free(again);
    X509_free(fresh);
}

static void keys_are_private(void **state)
{
    static const char *const names[] = {"ca.key", "server.key"};
    struct stat st;

    (void)state;
    ensure();
    for (size_t i = 0; i < array_size(names); i++) {
        assert_int_equal(stat(path_of(names[i]), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(clients_accept_names_of_sandboxes),
        TEST(ca_cannot_sign_other_names),
        TEST(good_files_are_kept_and_bad_ones_replaced),
        TEST(keys_are_private),
    };

    return hash_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}

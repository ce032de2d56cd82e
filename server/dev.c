#include "server/dev.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/base/buf.h"
#include "server/base/fd.h"
#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/dev_cert.h"
#include "server/model/key.h"
#include "server/state.h"

#define ENV_MAX_BYTES 65536
#define KEY_LINE "export E2B_API_KEY="

/* Append "export NAME=VALUE", quoted for a shell where VALUE needs it. */
static void add_export(struct buf *buf, const char *name, const char *value)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./:[]@%+=";
    bool quote = value[strspn(value, plain)] != '\0';

    buf_printf(buf, "export %s=", name);
    if (quote)
        buf_add_char(buf, '\'');
    for (; *value != '\0'; value++) {
        if (*value == '\'')
            buf_add_str(buf, "'\\''");
        else
            buf_add_char(buf, *value);
    }
    buf_add_str(buf, quote ? "'\n" : "\n");
}

/* The key of the dev.env that an earlier start wrote. False when there is none. */
static bool read_key(const char *path, char text[KEY_TEXT_SIZE])
{
    _cleanup_free_ char *data = NULL;
    const char *line, *value;
    struct err ignored;

    if (file_read(AT_FDCWD, path, ENV_MAX_BYTES, &data, NULL, &ignored) < 0)
        return false;
    line = strstr(data, KEY_LINE);
    if (line == NULL)
        return false;
    value = line + strlen(KEY_LINE);
    return str_copy(text, KEY_TEXT_SIZE, value, strcspn(value, "\n")) == 0;
}

static int key_is_valid(struct store *store, const char *text, bool *out, struct err *err)
{
    _cleanup_free_ struct key *keys = NULL;
    uint8_t sha256[SHA256_BYTES];
    size_t count = 0;

    *out = false;
    if (key_text_hash(text, strlen(text), sha256) < 0)
        return 0;
    if (store_key_list(store, &keys, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (hash_equal(keys[i].sha256, sha256, SHA256_BYTES))
            *out = key_usable(&keys[i], time_unix_ms());
    }
    return 0;
}

static int make_key(struct store *store, char text[KEY_TEXT_SIZE], struct err *err)
{
    struct key key = {
        .namespace_ = "default", .client = "dev", .scopes = SCOPE_READ | SCOPE_WRITE | SCOPE_KEYS};

    key_make(&key, text);
    return store_key_add(store, &key, err);
}

static int find_or_make_key(const struct settings *settings, const char *env_path,
                            char text[KEY_TEXT_SIZE], struct err *err)
{
    struct store *store = NULL;
    bool valid = false;
    int rc;

    if (state_store(settings, true, &store, err) < 0)
        return -1;
    rc = read_key(env_path, text) ? key_is_valid(store, text, &valid, err) : 0;
    if (rc == 0 && !valid)
        rc = make_key(store, text, err);
    store_close(store);
    return rc;
}

/* "http://HOST:PORT" that reaches a listener of ADDRESS from this machine. To free(). */
static char *local_url(const char *address, uint16_t port)
{
    char first[LISTEN_MAX][ADDRESS_SIZE];
    char *colon;

    settings_addresses(address, first);
    colon = strrchr(first[0], ':');
    *colon = '\0';
    if (first[0][0] == '\0' || str_eq(first[0], "0.0.0.0") || str_eq(first[0], "[::]"))
        return mem_asprintf("http://127.0.0.1:%u", port);
    return mem_asprintf("http://%s:%u", first[0], port);
}

static const char *dev_domain(const struct settings *settings)
{
    const char *domain = settings_text(settings, SETTING_DOMAIN);

    return domain != NULL ? domain : DEV_DOMAIN;
}

/* E2B_DOMAIN of domain mode: with the port of TLS, unless --domain names one. */
static char *domain_of_tls(const struct settings *settings, uint16_t port)
{
    const char *domain = dev_domain(settings);

    return strchr(domain, ':') != NULL ? mem_strdup(domain) : mem_asprintf("%s:%u", domain, port);
}

/* E2B_DOMAIN of URL mode: with the traffic port, so that http:// and getHost() reach a sandbox. */
static char *domain_of_traffic(const struct settings *settings, uint16_t port)
{
    const char *domain = dev_domain(settings);

    return mem_asprintf("%.*s:%u", (int)strcspn(domain, ":"), domain, port);
}

static int write_env(const char *path, struct buf *buf, struct err *err)
{
    int rc = file_write_durable(AT_FDCWD, path, buf_str(buf), buf->len, 0600, err);

    if (buf->data != NULL)
        secret_wipe(buf->data, buf->len);
    return rc;
}

static int write_domain_mode(const struct settings *settings, const char *path, const char *key,
                             const char *domain, struct err *err)
{
    _cleanup_buf_ struct buf buf;

    buf_init(&buf, ENV_MAX_BYTES);
    add_export(&buf, "E2B_API_KEY", key);
    add_export(&buf, "E2B_DOMAIN", domain);
    if (settings_text(settings, SETTING_TLS_CERT) == NULL) { /* then the CA is ours */
        _cleanup_free_ char *ca = settings_state_path(settings, "tls/ca.pem");
        _cleanup_free_ char *bundle = settings_state_path(settings, "tls/bundle.pem");
        add_export(&buf, "NODE_EXTRA_CA_CERTS", ca);
        add_export(&buf, "SSL_CERT_FILE", bundle);
    }
    return write_env(path, &buf, err);
}

static int write_url_mode(const struct settings *settings, const struct dev_ports *ports,
                          const char *key, struct err *err)
{
    _cleanup_free_ char *domain = domain_of_traffic(settings, ports->traffic);
    _cleanup_free_ char *path = settings_state_path(settings, "dev-plain.env");
    _cleanup_free_ char *api = local_url(settings_text(settings, SETTING_API_LISTEN), ports->api);
    _cleanup_free_ char *sandbox =
        local_url(settings_text(settings, SETTING_TRAFFIC_LISTEN), ports->traffic);
    _cleanup_buf_ struct buf buf;

    buf_init(&buf, ENV_MAX_BYTES);
    add_export(&buf, "E2B_API_KEY", key);
    add_export(&buf, "E2B_API_URL", api);
    add_export(&buf, "E2B_VOLUME_API_URL", api);
    add_export(&buf, "E2B_SANDBOX_URL", sandbox);
    add_export(&buf, "E2B_DOMAIN", domain);
    return write_env(path, &buf, err);
}

/* The API names --domain as it is given, and SDKs then look for it on port 443. */
static void warn_of_port(const struct settings *settings, uint16_t port)
{
    const char *domain = settings_text(settings, SETTING_DOMAIN);

    if (domain != NULL && strchr(domain, ':') == NULL && port != 443)
        log_warn("clients will look for sandboxes on port 443: give --domain its port, too",
                 "domain", domain, "tls_port", log_num(port));
}

int dev_write_env(const struct settings *settings, const struct dev_ports *ports, struct err *err)
{
    _cleanup_free_ char *path = settings_state_path(settings, "dev.env");
    _cleanup_free_ char *domain = domain_of_tls(settings, ports->tls);
    char key[KEY_TEXT_SIZE];
    int rc;

    warn_of_port(settings, ports->tls);
    if (find_or_make_key(settings, path, key, err) < 0)
        return -1;
    rc = write_domain_mode(settings, path, key, domain, err);
    if (rc == 0)
        rc = write_url_mode(settings, ports, key, err);
    secret_wipe(key, sizeof(key));
    return rc;
}

/*
 * The lines of an env file. Unless SHOW_KEY the line of the key is one that reads it from the file:
 * it works the same and may be kept in a log.
 */
static void add_lines(struct buf *buf, const char *path, bool show_key)
{
    _cleanup_free_ char *data = NULL;
    struct err ignored;
    size_t len;

    if (file_read(AT_FDCWD, path, ENV_MAX_BYTES, &data, &len, &ignored) < 0)
        return;
    for (const char *line = data; *line != '\0';) {
        size_t line_len = strcspn(line, "\n");
        line_len += line[line_len] == '\n';
        if (!show_key && str_starts(line, KEY_LINE))
            buf_printf(buf, KEY_LINE "$(sed -n 's/^" KEY_LINE "//p' '%s')\n", path);
        else
            buf_add(buf, line, line_len);
        line += line_len;
    }
    secret_wipe(data, len);
}

char *dev_help(const struct settings *settings)
{
    _cleanup_free_ char *domain = settings_state_path(settings, "dev.env");
    _cleanup_free_ char *plain = settings_state_path(settings, "dev-plain.env");
    bool show_key = isatty(STDOUT_FILENO) == 1;
    _cleanup_buf_ struct buf buf;

    buf_init(&buf, 4 * ENV_MAX_BYTES);
    buf_printf(&buf, "\nSandpit is ready. In another shell:\n\n  source '%s'\n\nwhich says:\n\n",
               domain);
    add_lines(&buf, domain, show_key);
    buf_printf(&buf, "\nOr without TLS:\n\n  source '%s'\n\nwhich says:\n\n", plain);
    add_lines(&buf, plain, show_key);
    buf_add_str(&buf, "\nJavaScript (npm install e2b):\n\n"
                      "  import { Sandbox } from 'e2b'\n"
                      "  const sandbox = await Sandbox.create()\n"
                      "  console.log((await sandbox.commands.run('echo hello')).stdout)\n"
                      "\nPython (pip install e2b):\n\n"
                      "  from e2b import Sandbox\n"
                      "  sandbox = Sandbox.create()\n"
                      "  print(sandbox.commands.run(\"echo hello\").stdout)\n\n");
    return buf_steal(&buf);
}

/* Checks of settings against each other and against this machine. */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/config_private.h"
#include "server/dev_cert.h"

static int check_file(const struct settings *settings, enum setting id, int mode, struct err *err)
{
    const char *path = settings->text[id];
    struct stat st;

    if (path == NULL)
        return 0;
    if (stat(path, &st) < 0 || access(path, mode) < 0) {
        int saved = errno;
        err_sys(err, saved, "--%s: cannot use %s", setting_name(id), path);
        err->code = ERR_INVALID;
        return -1;
    }
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "--%s: %s is not a file", setting_name(id), path);
    return 0;
}

/* A folder may be missing, as it is made at start; something else in its place is wrong. */
static int check_dir(const struct settings *settings, enum setting id, struct err *err)
{
    const char *path = settings->text[id];
    struct stat st;

    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "--%s: %s is not a folder", setting_name(id), path);
    return 0;
}

static int check_tls(const struct settings *settings, struct err *err)
{
    bool cert = settings->text[SETTING_TLS_CERT] != NULL;
    bool key = settings->text[SETTING_TLS_KEY] != NULL;
    const char *domain = settings->text[SETTING_DOMAIN];

    if (cert != key)
        return err_set(err, ERR_INVALID, "--tls-cert and --tls-key belong together");
    if (cert && settings->text[SETTING_TLS_LISTEN] == NULL)
        return err_set(err, ERR_INVALID, "--tls-cert needs --tls-listen");
    if (settings->text[SETTING_TLS_LISTEN] != NULL && !cert && !settings_on(settings, SETTING_DEV))
        return err_set(err, ERR_INVALID,
                       "--tls-listen needs --tls-cert and --tls-key (or --dev, which makes them)");
    if (settings_on(settings, SETTING_DEV) && !cert && domain != NULL &&
        (strcspn(domain, ":") != strlen(DEV_DOMAIN) ||
         strncasecmp(domain, DEV_DOMAIN, strlen(DEV_DOMAIN)) != 0))
        return err_set(err, ERR_INVALID,
                       "--dev makes a certificate for " DEV_DOMAIN " only: give --tls-cert and "
                       "--tls-key for %.200s, or leave --domain out",
                       domain);
    if (check_file(settings, SETTING_EGRESS_CA_FILE, R_OK, err) < 0 ||
        check_file(settings, SETTING_TLS_CERT, R_OK, err) < 0 ||
        check_file(settings, SETTING_TLS_KEY, R_OK, err) < 0)
        return -1;
    return 0;
}

static int check_engine(const struct settings *settings, struct err *err)
{
    bool kubernetes = str_eq(settings->text[SETTING_ENGINE], "kubernetes");

    if (kubernetes)
        return check_file(settings, SETTING_KUBECONFIG, R_OK, err);
    if (settings->text[SETTING_KUBECONFIG] != NULL)
        return err_set(err, ERR_INVALID, "--kubeconfig belongs to --engine kubernetes");
    if (settings->text[SETTING_NAMESPACE] != NULL)
        return err_set(err, ERR_INVALID, "--namespace belongs to --engine kubernetes");
    if (settings->text[SETTING_ENVD] == NULL)
        return err_set(err, ERR_INVALID,
                       "envd is neither beside sandpit nor in ../libexec/sandpit: give --envd");
    return check_file(settings, SETTING_ENVD, X_OK, err);
}

int settings_check(const struct settings *settings, struct err *err)
{
    if (check_tls(settings, err) < 0 || check_engine(settings, err) < 0 ||
        check_dir(settings, SETTING_STATE_DIR, err) < 0 ||
        check_dir(settings, SETTING_RUN_DIR, err) < 0)
        return -1;
    return 0;
}

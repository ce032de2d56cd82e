/*
 * server/client/client.h - our own commands as a client of a running server, by libcurl.
 *
 * Finds the server as E2B's SDKs do, by the environment: E2B_API_KEY, and E2B_DOMAIN (host names,
 * TLS) or E2B_API_URL and E2B_SANDBOX_URL. SSL_CERT_FILE names the certificates to trust. Any
 * thread, one at a time.
 */
#ifndef SANDPIT_CLIENT_H
#define SANDPIT_CLIENT_H

#include <curl/curl.h>
#include <stdbool.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/json.h"

struct client {
    const char *key; /* of the environment */
    const char *domain;
    const char *ca_file;
    const char *sandbox_url; /* NULL: by host name */
    char *api_url;
};

/* A sandbox's envd, and what opens it. */
struct client_sandbox {
    char *id;
    char *url;
    char *token; /* NULL: it wants none */
};

/* ERR_INVALID says which variable is missing or wrong. */
int client_init(struct client *client, struct err *err);
void client_clear(struct client *client);

/* Whether the environment names a key: then commands ask the server and not the state folder. */
bool client_configured(void);

/*
 * METHOD PATH of the Platform API. 2xx: 0 and the JSON (NULL when there is none) in *OUT; else the
 * server's message with the code that fits. *NEXT (not NULL): the token of the next page or NULL,
 * to free().
 */
int client_api(const struct client *client, const char *method, const char *path, json_t **out,
               char **next, struct err *err);

/* Look up sandbox ID, which may be any text. ERR_NOT_FOUND when there is none. */
int client_sandbox_find(const struct client *client, const char *id, struct client_sandbox *out,
                        struct err *err);
void client_sandbox_clear(struct client_sandbox *sandbox);

/* ERR_INVALID: cannot be a sandbox's id. */
int client_check_id(const char *id, struct err *err);

/* A handle with what every request of ours has. */
CURL *client_handle(const struct client *client);
/* Say in ERR why a transfer to URL failed. */
int client_failed(CURLcode code, const char *url, const char *why, struct err *err);

/* Append the header "NAME: VALUE". */
void client_header(struct curl_slist **list, const char *name, const char *value);

#define _cleanup_client_ __attribute__((cleanup(client_clear)))
#define _cleanup_client_sandbox_ __attribute__((cleanup(client_sandbox_clear)))

#endif

#include "server/client/client.h"

#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/model/sandbox.h"

#define CONNECT_S 10
#define ANSWER_MAX (16 << 20)
#define API_S 60

struct api_answer {
    struct buf body;
    char *next;
};

static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

bool client_configured(void)
{
    return variable("E2B_API_KEY") != NULL;
}

static bool is_url(const char *text)
{
    return str_starts(text, "http://") || str_starts(text, "https://");
}

/* TEXT without slashes at its end. */
static char *url_copy(const char *text)
{
    size_t len = strlen(text);

    while (len > 0 && text[len - 1] == '/')
        len--;
    return mem_strndup(text, len);
}

int client_init(struct client *client, struct err *err)
{
    const char *api = variable("E2B_API_URL");

    *client = (struct client){.key = variable("E2B_API_KEY"),
                              .domain = variable("E2B_DOMAIN"),
                              .ca_file = variable("SSL_CERT_FILE"),
                              .sandbox_url = variable("E2B_SANDBOX_URL")};
    if (client->key == NULL)
        return err_set(err, ERR_INVALID,
                       "no API key: set E2B_API_KEY (serve --dev writes dev.env to source)");
    if (api == NULL && client->domain == NULL)
        return err_set(err, ERR_INVALID, "no server: set E2B_DOMAIN, or E2B_API_URL");
    if (api != NULL && !is_url(api))
        return err_set(err, ERR_INVALID, "E2B_API_URL must begin with http:// or https://");
    if (client->sandbox_url != NULL && !is_url(client->sandbox_url))
        return err_set(err, ERR_INVALID, "E2B_SANDBOX_URL must begin with http:// or https://");
    client->api_url = api != NULL ? url_copy(api) : mem_asprintf("https://api.%s", client->domain);
    return 0;
}

void client_clear(struct client *client)
{
    free(client->api_url);
    client->api_url = NULL;
}

CURL *client_handle(const struct client *client)
{
    CURL *curl = curl_easy_init();

    if (curl == NULL)
        abort(); /* no memory */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "sandpit");
    if (client->ca_file != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
    return curl;
}

int client_failed(CURLcode code, const char *url, const char *why, struct err *err)
{
    err_set(err, code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_BUSY, "cannot reach %.200s",
            url);
    return err_detail(err, "%s", why[0] != '\0' ? why : curl_easy_strerror(code));
}

void client_header(struct curl_slist **list, const char *name, const char *value)
{
    _cleanup_free_ char *line = mem_asprintf("%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(*list, line);

    if (longer == NULL)
        abort(); /* no memory */
    *list = longer;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct api_answer *answer = arg;

    (void)size; /* 1 */
    return buf_add(&answer->body, data, count) < 0 ? 0 : count;
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    static const char name[] = "x-next-token:";
    struct api_answer *answer = arg;
    size_t at = sizeof(name) - 1, len = count;

    (void)size;
    if (len <= at || !mem_is_nocase(data, at, name))
        return count;
    while (at < len && data[at] == ' ')
        at++;
    while (len > at && (data[len - 1] == '\r' || data[len - 1] == '\n'))
        len--;
    free(answer->next);
    answer->next = len > at ? mem_strndup(data + at, len - at) : NULL;
    return count;
}

static enum err_code code_of(long status)
{
    switch (status) {
    case 400:
        return ERR_INVALID;
    case 401:
        return ERR_UNAUTHENTICATED;
    case 403:
        return ERR_FORBIDDEN;
    case 404:
        return ERR_NOT_FOUND;
    case 429:
        return ERR_LIMIT;
    case 501:
        return ERR_UNSUPPORTED;
    case 503:
        return ERR_BUSY;
    default:
        return ERR_INTERNAL;
    }
}

/* The server's words about STATUS. */
static int refused(long status, const struct buf *body, struct err *err)
{
    struct err ignored = {0};
    _cleanup_json_ json_t *json = json_parse(buf_str(body), body->len, &ignored);
    const char *message = json_string_value(json_object_get(json, "message"));

    if (message == NULL)
        return err_set(err, code_of(status), "the server answered with status %ld", status);
    return err_set(err, code_of(status), "%.400s", message);
}

static int perform(const struct client *client, const char *method, const char *url,
                   struct api_answer *answer, long *status, struct err *err)
{
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    CURL *curl = client_handle(client);
    CURLcode rc;

    client_header(&headers, "X-API-Key", client->key);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)API_S);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, answer);
    rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return rc == CURLE_OK ? 0 : client_failed(rc, url, why, err);
}

int client_api(const struct client *client, const char *method, const char *path, json_t **out,
               char **next, struct err *err)
{
    _cleanup_free_ char *url = mem_asprintf("%s%s", client->api_url, path);
    struct api_answer answer = {.next = NULL};
    long status = 0;
    int rc;

    buf_init(&answer.body, ANSWER_MAX);
    rc = perform(client, method, url, &answer, &status, err);
    if (rc == 0 && (status < 200 || status > 299))
        rc = refused(status, &answer.body, err);
    if (rc == 0 && out != NULL) {
        json_t *json =
            answer.body.len > 0 ? json_parse(answer.body.data, answer.body.len, err) : NULL;

        if (json == NULL && answer.body.len > 0)
            rc = err_set(err, ERR_INTERNAL, "%.200s does not answer as a sandbox server does", url);
        else
            *out = json;
    }
    if (rc == 0 && next != NULL)
        *next = steal_ptr(&answer.next);
    buf_clear(&answer.body);
    free(answer.next);
    return rc;
}

int client_check_id(const char *id, struct err *err)
{
    char parsed[SANDBOX_ID_SIZE];
    struct err ignored = {0};

    if (sandbox_id_parse(id, strlen(id), parsed, &ignored) < 0 || !str_eq(id, parsed))
        return err_set(err, ERR_INVALID, "'%.80s' is not a sandbox id", id);
    return 0;
}

int client_sandbox_find(const struct client *client, const char *id, struct client_sandbox *out,
                        struct err *err)
{
    _cleanup_json_ json_t *json = NULL;
    _cleanup_free_ char *path = NULL;
    const char *domain, *token;

    if (client_check_id(id, err) < 0)
        return -1;
    path = mem_asprintf("/sandboxes/%s", id);
    if (client_api(client, "GET", path, &json, NULL, err) < 0)
        return err->code == ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "no sandbox %s", id) : -1;
    domain = json_string_value(json_object_get(json, "domain"));
    token = json_string_value(json_object_get(json, "envdAccessToken"));
    if (domain == NULL || domain[0] == '\0')
        domain = client->domain;
    if (domain == NULL && client->sandbox_url == NULL)
        return err_set(err, ERR_INVALID, "set E2B_DOMAIN or E2B_SANDBOX_URL to reach sandboxes");
    out->id = mem_strdup(id);
    out->token = mem_strdup(token);
    out->url = client->sandbox_url != NULL ? url_copy(client->sandbox_url)
                                           : mem_asprintf("https://49983-%s.%s", id, domain);
    return 0;
}

void client_sandbox_clear(struct client_sandbox *sandbox)
{
    free(sandbox->id);
    free(sandbox->url);
    free(sandbox->token);
    *sandbox = (struct client_sandbox){0};
}

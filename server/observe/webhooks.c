/*
 * server/observe/webhooks.c - threads that deliver events to webhooks.
 *
 * A delivery is a row before the first attempt and until it is over, so none is lost with this
 * process; one that was under way is tried again after WEBHOOK_LEASE_MS. A webhook has one at a
 * time: a slow receiver holds up itself and one thread. The address is checked when it is called,
 * after the name was looked up, so no name leads inside.
 */
#include <curl/curl.h>

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"
#include "server/observe/address.h"
#include "server/observe/internal.h"
#include "server/observe/signature.h"

#define URL_MAX_BYTES 2048
#define CONNECT_TIMEOUT_MS 5000
#define IDLE_MAX_MS 60000 /* the clock may be set: look again by then */

_Static_assert(WEBHOOK_THREADS <= JOURNAL_BUSY_MAX, "each thread may name its webhook");

struct worker {
    struct webhooks *webhooks;
    pthread_t thread;
    bool started;
    char busy[UUID_SIZE]; /* the webhook it is at; "" for none. Under the lock */
};

struct webhooks {
    struct observe *observe;
    struct worker workers[WEBHOOK_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t wake;
    uint64_t wakes;
    bool stop;
};

/* --- one attempt ----------------------------------------------------------------------------- */

/* Before a connection: the address, looked up. */
static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    const struct observe *observe = ctx;

    (void)purpose;
    if (!observe->webhook_private && address_is_private(&address->addr)) {
        errno = EACCES;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t ignore_body(char *data, size_t size, size_t count, void *ctx)
{
    size_t *left = ctx;

    (void)data;
    if (size * count > *left)
        return 0; /* ends the transfer; the status is known by then */
    *left -= size * count;
    return size * count;
}

/* Stopping ends what is under way. */
static int progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct webhooks *webhooks = ctx;
    bool stop;

    (void)a, (void)b, (void)c, (void)d;
    pthread_mutex_lock(&webhooks->lock);
    stop = webhooks->stop;
    pthread_mutex_unlock(&webhooks->lock);
    return stop;
}

static void add_header(struct curl_slist **list, const char *name, const char *value)
{
    _cleanup_free_ char *line = mem_asprintf("%s: %s", name, value);

    *list = curl_slist_append(*list, line);
}

static struct curl_slist *headers_of(const struct journal_delivery *delivery, const char *signature)
{
    struct curl_slist *list = NULL;

    add_header(&list, "content-type", "application/json");
    add_header(&list, "e2b-webhook-id", delivery->webhook.id);
    add_header(&list, "e2b-delivery-id", delivery->id);
    add_header(&list, "e2b-signature-version", "v1");
    add_header(&list, "e2b-signature", signature);
    add_header(&list, "expect", ""); /* no 100-continue: one round trip less */
    return list;
}

static void set_options(CURL *curl, struct webhooks *webhooks,
                        const struct journal_delivery *delivery, size_t *body_left)
{
    curl_easy_setopt(curl, CURLOPT_URL, delivery->webhook.url);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, delivery->data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(delivery->data));
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L); /* it could lead inside */
    curl_easy_setopt(curl, CURLOPT_PROXY, "");          /* none of the environment's either */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)WEBHOOK_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "sandpit-webhooks");
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, webhooks->observe);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body_left);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, webhooks);
}

/* POST it. True: the receiver took it. STATUS 0: there was no answer, WHY says it. */
static bool post(struct webhooks *webhooks, const struct journal_delivery *delivery,
                 const char *signature, long *status, const char **why)
{
    struct curl_slist *headers = headers_of(delivery, signature);
    size_t body_left = 64 * 1024;
    CURL *curl = curl_easy_init();
    CURLcode code = CURLE_FAILED_INIT;

    *status = 0;
    if (curl != NULL) {
        set_options(curl, webhooks, delivery, &body_left);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        code = curl_easy_perform(curl);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
        curl_easy_cleanup(curl);
    }
    curl_slist_free_all(headers);
    *why = curl_easy_strerror(code);
    return (code == CURLE_OK || code == CURLE_WRITE_ERROR) && *status >= 200 && *status < 300;
}

static bool attempt(struct webhooks *webhooks, const struct journal_delivery *delivery,
                    long *status, const char **why)
{
    struct err err = {0};
    char signature[SIGNATURE_SIZE];
    size_t len = 0;
    char *secret = seal_open(webhooks->observe->seal_key, delivery->webhook.secret, &len, &err);
    bool ok;

    *status = 0;
    *why = "its secret cannot be read: was master.key replaced?";
    if (secret == NULL)
        return false;
    signature_make(secret, len, delivery->data, strlen(delivery->data), signature);
    secret_wipe(secret, len);
    free(secret);
    ok = post(webhooks, delivery, signature, status, why);
    return ok;
}

/* --- its outcome ----------------------------------------------------------------------------- */

static bool stopping(struct webhooks *webhooks)
{
    return progress(webhooks, 0, 0, 0, 0) != 0;
}

static void tell(const char *msg, const struct journal_delivery *delivery, long status,
                 const char *why)
{
    char code[16];

    snprintf(code, sizeof(code), "%ld", status);
    log_warn(msg, "webhook_id", delivery->webhook.id, "delivery_id", delivery->id, "status",
             status > 0 ? code : NULL, "detail", status > 0 ? NULL : why);
}

static void finish(struct webhooks *webhooks, const struct journal_delivery *delivery, bool ok,
                   long status, const char *why)
{
    struct observe *observe = webhooks->observe;
    struct err err = {0};
    int rc;

    atomic_fetch_add(ok ? &observe->delivered : &observe->failed, 1);
    if (ok || delivery->attempts >= WEBHOOK_RETRIES) {
        if (!ok) {
            atomic_fetch_add(&observe->given_up, 1);
            tell("an event was not delivered", delivery, status, why);
        }
        rc = journal_delivery_done(observe->journal, delivery->id, &err);
    } else {
        tell("a webhook will be tried again", delivery, status, why);
        rc = journal_delivery_retry(observe->journal, delivery->id,
                                    time_unix_ms() + WEBHOOK_RETRY_MS, &err);
    }
    if (rc < 0)
        log_err(LOG_WARN, "a delivery's outcome was not kept", NULL, &err);
}

static void deliver(struct webhooks *webhooks, const struct journal_delivery *delivery)
{
    struct err err = {0};
    const char *why = NULL;
    long status = 0;
    bool ok;

    /* Switched off or removed meanwhile, or its event is too old: nobody wants it any more. */
    if (delivery->data == NULL || !delivery->webhook.enabled || delivery->webhook.url == NULL) {
        journal_delivery_done(webhooks->observe->journal, delivery->id, &err);
        return;
    }
    ok = attempt(webhooks, delivery, &status, &why);
    if (!ok && stopping(webhooks))
        return; /* not its fault: the next start tries again */
    finish(webhooks, delivery, ok, status, why);
}

/* --- threads --------------------------------------------------------------------------------- */

/*
 * Choose the next one and mark its webhook as busy, in one step for other threads. False: wait
 * until *UNTIL_UNIX_MS.
 */
static bool take(struct worker *worker, struct journal_delivery *out, int64_t *until_unix_ms)
{
    struct webhooks *webhooks = worker->webhooks;
    char busy[JOURNAL_BUSY_MAX][UUID_SIZE] = {{0}};
    int64_t now = time_unix_ms();
    struct err err = {0};
    bool found = false;

    pthread_mutex_lock(&webhooks->lock);
    for (size_t i = 0; i < WEBHOOK_THREADS; i++)
        memcpy(busy[i], webhooks->workers[i].busy, UUID_SIZE);
    if (journal_delivery_take(webhooks->observe->journal, busy, now, now + WEBHOOK_LEASE_MS, &found,
                              out, until_unix_ms, &err) < 0) {
        log_err(LOG_WARN, "deliveries cannot be read", NULL, &err);
        *until_unix_ms = now + WEBHOOK_RETRY_MS;
    }
    if (found)
        memcpy(worker->busy, out->webhook.id, sizeof(worker->busy));
    pthread_mutex_unlock(&webhooks->lock);
    return found;
}

/* Until UNTIL_UNIX_MS, or something has changed since SEEN. False: stop. */
static bool wait_until(struct webhooks *webhooks, int64_t until_unix_ms, uint64_t seen)
{
    int64_t left = until_unix_ms == INT64_MAX ? IDLE_MAX_MS : until_unix_ms - time_unix_ms();
    int64_t when;
    struct timespec until;
    bool stop;

    if (left > IDLE_MAX_MS)
        left = IDLE_MAX_MS;
    when = time_mono_ms() + (left > 0 ? left : 0);
    until = (struct timespec){.tv_sec = when / 1000, .tv_nsec = (long)(when % 1000) * 1000000};
    pthread_mutex_lock(&webhooks->lock);
    while (!webhooks->stop && webhooks->wakes == seen &&
           pthread_cond_timedwait(&webhooks->wake, &webhooks->lock, &until) != ETIMEDOUT)
        continue;
    stop = webhooks->stop;
    pthread_mutex_unlock(&webhooks->lock);
    return !stop;
}

static uint64_t wakes_now(struct webhooks *webhooks)
{
    uint64_t wakes;

    pthread_mutex_lock(&webhooks->lock);
    wakes = webhooks->wakes;
    pthread_mutex_unlock(&webhooks->lock);
    return wakes;
}

static void *worker_main(void *ctx)
{
    struct worker *worker = ctx;
    struct webhooks *webhooks = worker->webhooks;

    for (;;) {
        uint64_t seen = wakes_now(webhooks);
        struct journal_delivery delivery;
        int64_t until = INT64_MAX;
        if (stopping(webhooks))
            break;
        if (!take(worker, &delivery, &until)) {
            if (!wait_until(webhooks, until, seen))
                break;
            continue;
        }
        deliver(webhooks, &delivery);
        journal_delivery_clear(&delivery);
        pthread_mutex_lock(&webhooks->lock);
        worker->busy[0] = '\0';
        webhooks->wakes++; /* the next of this webhook may go */
        pthread_cond_broadcast(&webhooks->wake);
        pthread_mutex_unlock(&webhooks->lock);
    }
    return NULL;
}

int webhooks_new(struct observe *observe, struct webhooks **out, struct err *err)
{
    struct webhooks *webhooks = mem_zalloc(sizeof(*webhooks));
    pthread_condattr_t attr;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(webhooks);
        return err_set(err, ERR_INTERNAL, "libcurl cannot start");
    }
    webhooks->observe = observe;
    pthread_mutex_init(&webhooks->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&webhooks->wake, &attr);
    pthread_condattr_destroy(&attr);
    *out = webhooks;
    return 0;
}

int webhooks_start(struct webhooks *webhooks, struct err *err)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (size_t i = 0; i < WEBHOOK_THREADS && rc == 0; i++) {
        struct worker *worker = &webhooks->workers[i];
        worker->webhooks = webhooks;
        rc = pthread_create(&worker->thread, NULL, worker_main, worker);
        worker->started = rc == 0;
        if (worker->started)
            pthread_setname_np(worker->thread, "webhooks");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : err_sys(err, rc, "cannot start a thread for webhooks");
}

void webhooks_stop(struct webhooks *webhooks)
{
    pthread_mutex_lock(&webhooks->lock);
    webhooks->stop = true;
    pthread_cond_broadcast(&webhooks->wake);
    pthread_mutex_unlock(&webhooks->lock);
    for (size_t i = 0; i < WEBHOOK_THREADS; i++) {
        if (webhooks->workers[i].started)
            pthread_join(webhooks->workers[i].thread, NULL);
        webhooks->workers[i].started = false;
    }
}

void webhooks_free(struct webhooks *webhooks)
{
    if (webhooks == NULL)
        return;
    pthread_cond_destroy(&webhooks->wake);
    pthread_mutex_destroy(&webhooks->lock);
    free(webhooks);
}

void webhooks_wake(struct webhooks *webhooks)
{
    pthread_mutex_lock(&webhooks->lock);
    webhooks->wakes++;
    pthread_cond_broadcast(&webhooks->wake);
    pthread_mutex_unlock(&webhooks->lock);
}

/* --- which URL ------------------------------------------------------------------------------- */

static int refuse_url(const char *why, struct err *err)
{
    return err_set(err, ERR_INVALID, "the webhook's url %s", why);
}

/* A host that is an address: it can be judged at once. Names are when they are looked up. */
static bool host_is_private(const char *host)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char bare[64];
    size_t len = strlen(host);

    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
        return address_is_private((struct sockaddr *)&v4);
    if (len > 2 && host[0] == '[' && host[len - 1] == ']' &&
        str_copy(bare, sizeof(bare), host + 1, len - 2) == 0 &&
        inet_pton(AF_INET6, bare, &v6.sin6_addr) == 1)
        return address_is_private((struct sockaddr *)&v6);
    return str_eq(host, "localhost") || str_ends(host, ".localhost");
}

static int check_parts(const struct observe *observe, CURLU *url, const char *text, struct err *err)
{
    char *scheme = NULL, *host = NULL;
    int rc = 0;

    if (curl_url_set(url, CURLUPART_URL, text, CURLU_DISALLOW_USER) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        rc = refuse_url("must be http:// or https:// with a host, without a user", err);
    else if (!str_eq(scheme, "http") && !str_eq(scheme, "https"))
        rc = refuse_url("must begin with http:// or https://", err);
    else if (!observe->webhook_private && host_is_private(host))
        rc = refuse_url("leads to a loopback or private address; --webhook-private allows that",
                        err);
    curl_free(scheme);
    curl_free(host);
    return rc;
}

int observe_url_check(const struct observe *observe, const char *url, struct err *err)
{
    CURLU *parsed;
    int rc;

    if (strlen(url) > URL_MAX_BYTES)
        return refuse_url("is longer than 2048 bytes", err);
    for (const char *p = url; *p != '\0'; p++) {
        if ((unsigned char)*p <= ' ' || (unsigned char)*p > '~')
            return refuse_url("has a character that a URL cannot have", err);
    }
    parsed = curl_url();
    if (parsed == NULL)
        return err_set(err, ERR_INTERNAL, "libcurl cannot read URLs");
    rc = check_parts(observe, parsed, url, err);
    curl_url_cleanup(parsed);
    return rc;
}

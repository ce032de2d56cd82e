#include "server/gateway/resolver.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/hash.h"
#include "server/base/map.h"
#include "server/base/mem.h"
#include "server/base/time.h"

#define TRY_MS 1500
#define TRIES 3
#define TTL_MIN_S 1
#define TTL_MAX_S 300
#define TTL_NONE_S 5 /* "no such name" is believed for that long */

struct known {
    char *name;
    enum dns_result result;
    struct dns_answer answer;
    int64_t until_mono_ms;
};

struct question {
    struct ev_io io;
    struct resolver *resolver;
    struct question *next; /* of the resolver's, or of those to free */
    char *name;
    uint16_t id;
    int tries;
    int64_t retry_mono_ms;
    struct resolver_wait *waits;
};

struct resolver {
    struct ev *ev;
    struct sockaddr_in server;
    struct map known; /* struct known by name */
    struct question *open, *ended;
    size_t open_count;
};

struct resolver *resolver_new(struct ev *ev, uint32_t server, uint16_t port)
{
    struct resolver *resolver = mem_zalloc(sizeof(*resolver));

    resolver->ev = ev;
    resolver->server.sin_family = AF_INET;
    resolver->server.sin_addr.s_addr = htonl(server);
    resolver->server.sin_port = htons(port);
    map_init(&resolver->known);
    return resolver;
}

static void known_free(struct known *known)
{
    if (known != NULL)
        free(known->name);
    free(known);
}

/* Simple and bounded: when it is full, everything is forgotten. */
static void forget_all(struct resolver *resolver)
{
    size_t at = 0;
    void *value;

    while (map_next(&resolver->known, &at, &value))
        known_free(value);
    map_clear(&resolver->known);
    map_init(&resolver->known);
}

static void remember(struct resolver *resolver, const char *name, enum dns_result result,
                     const struct dns_answer *answer)
{
    struct known *known = mem_zalloc(sizeof(*known));
    uint32_t ttl_s = result == DNS_OK ? answer->ttl_s : TTL_NONE_S;

    if (resolver->known.count >= RESOLVER_CACHE_MAX)
        forget_all(resolver);
    ttl_s = ttl_s < TTL_MIN_S ? TTL_MIN_S : ttl_s > TTL_MAX_S ? TTL_MAX_S : ttl_s;
    known->name = mem_strdup(name);
    known->result = result;
    if (result == DNS_OK)
        known->answer = *answer;
    known->until_mono_ms = time_mono_ms() + (int64_t)ttl_s * 1000;
    known_free(map_remove(&resolver->known, name));
    map_put(&resolver->known, known->name, known);
}

static const char *why_not(enum dns_result result)
{
    return result == DNS_NO_NAME ? "the name has no IPv4 address" : "the name cannot be resolved";
}

static void tell(struct resolver_wait *wait, enum dns_result result,
                 const struct dns_answer *answer)
{
    wait->question = NULL;
    if (result == DNS_OK)
        wait->done(wait, answer, NULL);
    else
        wait->done(wait, NULL, why_not(result));
}

/* Take QUESTION out and tell all who wait; freed on the next tick. */
static void end_question(struct question *question, enum dns_result result,
                         const struct dns_answer *answer)
{
    struct resolver *resolver = question->resolver;
    struct question **at = &resolver->open;
    struct resolver_wait *wait;

    while (*at != question)
        at = &(*at)->next;
    *at = question->next;
    resolver->open_count--;
    ev_close(resolver->ev, &question->io);
    question->next = resolver->ended;
    resolver->ended = question;
    while ((wait = question->waits) != NULL) {
        question->waits = wait->next;
        tell(wait, result, answer);
    }
}

static void on_readable(struct ev_io *io)
{
    struct question *question = container_of(io, struct question, io);
    uint8_t data[DNS_MESSAGE_MAX + 512];
    struct dns_answer answer;
    ssize_t len;

    while ((len = recv(io->fd, data, sizeof(data), 0)) >= 0) {
        enum dns_result result =
            dns_answer_parse(data, (size_t)len, question->id, question->name, &answer);
        if (result == DNS_BAD)
            continue;
        if (result != DNS_FAILED)
            remember(question->resolver, question->name, result, &answer);
        end_question(question, result, &answer);
        return;
    }
}

/* A new socket, so a new port, for each try. */
static int send_question(struct question *question)
{
    struct resolver *resolver = question->resolver;
    uint8_t data[DNS_MESSAGE_MAX];
    size_t len;

    ev_close(resolver->ev, &question->io);
    hash_random(&question->id, sizeof(question->id));
    question->retry_mono_ms = time_mono_ms() + TRY_MS;
    len = dns_question(question->id, question->name, data);
    question->io.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (len == 0 || question->io.fd < 0 ||
        connect(question->io.fd, (struct sockaddr *)&resolver->server, sizeof(resolver->server)) <
            0 ||
        ev_watch(resolver->ev, &question->io) < 0)
        return -1;
    return send(question->io.fd, data, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}

static struct question *find_question(struct resolver *resolver, const char *name)
{
    for (struct question *at = resolver->open; at != NULL; at = at->next) {
        if (strcmp(at->name, name) == 0)
            return at;
    }
    return NULL;
}

void resolver_ask(struct resolver *resolver, const char *name, struct resolver_wait *wait)
{
    struct known *known = map_get(&resolver->known, name);
    struct question *question;

    if (known != NULL && known->until_mono_ms > time_mono_ms()) {
        tell(wait, known->result, &known->answer);
        return;
    }
    question = find_question(resolver, name);
    if (question == NULL && resolver->open_count >= RESOLVER_QUESTIONS_MAX) {
        tell(wait, DNS_FAILED, NULL);
        return;
    }
    if (question == NULL) {
        question = mem_zalloc(sizeof(*question));
        question->io = (struct ev_io){.fd = -1, .fn = on_readable};
        question->resolver = resolver;
        question->name = mem_strdup(name);
        question->next = resolver->open;
        resolver->open = question;
        resolver->open_count++;
        send_question(question); /* what fails now is tried again */
    }
    wait->question = question;
    wait->next = question->waits;
    question->waits = wait;
}

void resolver_cancel(struct resolver_wait *wait)
{
    if (wait->question == NULL)
        return;
    for (struct resolver_wait **at = &wait->question->waits; *at != NULL; at = &(*at)->next) {
        if (*at == wait) {
            *at = wait->next;
            break;
        }
    }
    wait->question = NULL;
}

void resolver_tick(struct resolver *resolver)
{
    int64_t now = time_mono_ms();
    struct question *next;

    for (struct question *at = resolver->ended; at != NULL; at = next) {
        next = at->next;
        free(at->name);
        free(at);
    }
    resolver->ended = NULL;
    for (struct question *at = resolver->open; at != NULL; at = next) {
        next = at->next; /* those told may ask anew: at the front */
        if (now < at->retry_mono_ms)
            continue;
        if (++at->tries >= TRIES)
            end_question(at, DNS_FAILED, NULL);
        else
            send_question(at);
    }
}

/*
 * server/proxy/respond.h - the proxy's own answers, byte for byte as SDKs expect them.
 *
 * Pure. Any thread. Source: routing.md sections 2 and 4. SDKs match on the messages and on the
 * integer `code`; the HTML pages are for people and free in wording.
 */
#ifndef SANDPIT_PROXY_RESPOND_H
#define SANDPIT_PROXY_RESPOND_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/http_head.h"

#define RESPOND_HOST_SIZE 256         /* what a page shows of the host */
#define RESPOND_MAX_BYTES (16 * 1024) /* any answer with its head */

enum respond_case {
    RESPOND_NOT_FOUND,      /* 502 unknown, killed or paused sandbox */
    RESPOND_PORT_CLOSED,    /* 502 nothing listens, or it does not speak HTTP */
    RESPOND_TOKEN_MISSING,  /* 403 */
    RESPOND_TOKEN_WRONG,    /* 403 */
    RESPOND_INTERNAL_PATH,  /* 404 envd's control plane */
    RESPOND_RESUME_REFUSED, /* 403 paused, and not for who asks */
    RESPOND_TRANSITION,     /* 409 still being paused or resumed */
    RESPOND_LIMIT,          /* 429 no room for one more that runs */
    RESPOND_CASE_COUNT
};

/* Who is answered and about what. */
struct respond_to {
    bool html;
    bool head_request; /* a head without the body */
    bool close;        /* Connection: close */
    char id[32];
    char host[RESPOND_HOST_SIZE]; /* cut when longer */
    uint64_t port;
    const char *path; /* of RESPOND_INTERNAL_PATH */
};

/* The request is a person's browser asking for a page, not a program. */
bool respond_wants_html(const struct http_head *head);
/* Add the whole answer to OUT. */
void respond_case(struct buf *out, const struct respond_to *to, enum respond_case what);
/* A plain-text answer: TEXT and a newline. */
void respond_text(struct buf *out, const struct respond_to *to, int status, const char *text);

#endif

/*
 * server/client/console_inner.h - the inside of server/client/console.h, for console*.c only.
 */
#ifndef SANDPIT_CONSOLE_INNER_H
#define SANDPIT_CONSOLE_INNER_H

#include <poll.h>
#include <stdint.h>
#include <termios.h>

#include "server/client/console.h"

struct console;

#define CONSOLE_OUTPUTS 2
#define ENVELOPE_HEAD 5 /* flags and a length of 4 bytes */
#define ENVELOPE_MAX (8 << 20)
#define CONSOLE_BUFFER_MAX (16 << 20)  /* bytes that wait for one of our outputs */
#define CONSOLE_BUFFER_FULL (4 << 20)  /* no more is taken from the server then */
#define CONSOLE_INPUT_BYTES (64 << 10) /* at once */

struct console_output { /* stdout or the terminal, and stderr */
    int fd;
    struct buf buf;
    size_t sent;       /* of buf, already written */
    uint64_t received; /* the offset of the next byte from the sandbox */
    uint64_t written;
    uint64_t acknowledged;
    bool closed; /* nobody reads it: what comes is dropped */
};

/* The stream of events: Start, then Connect as often as it must. */
struct console_events {
    CURL *curl;
    struct curl_slist *headers;
    char *url;
    char *body;
    size_t body_len;
    struct buf in;     /* of the answer, not yet parsed */
    char offsets[128]; /* Sandpit-Offsets, "" without */
    char why[CURL_ERROR_SIZE];
    bool running; /* a transfer is under way */
    bool live;    /* and has brought its start event */
    bool paused;
    bool closed;         /* its end envelope came */
    bool again;          /* not the first */
    char error_code[64]; /* of the end envelope, "" without */
    char error[ERR_MSG_SIZE];
    int64_t lost_ms; /* since when there is none; 0: there is */
    int64_t next_try_ms;
    int64_t delay_ms;
};

enum call_result {
    CALL_DONE,     /* 200 */
    CALL_NOT_SENT, /* never reached the sandbox: do it again */
    CALL_UNKNOWN,  /* the connection broke in between */
    CALL_REFUSED,  /* by the sandbox */
};

/* Unary calls, one at a time. */
struct console_call {
    CURL *curl;
    struct curl_slist *headers;
    char *url;
    char *body;
    struct buf answer;
    bool busy;
    void (*done)(struct console *console, enum call_result result);
};

struct console {
    const struct console_spec *spec;
    CURLM *multi;
    struct console_events events;
    struct console_call input;   /* SendInput, CloseStdin: waits for the process */
    struct console_call control; /* everything else */
    struct console_output outputs[CONSOLE_OUTPUTS];

    char tag[48]; /* names the process before its pid is known; "" when attached by pid */
    uint32_t pid;
    bool pty;
    bool started; /* a start event came */

    char *typed; /* input under way, kept to be sent again */
    size_t typed_len;
    uint64_t typed_from; /* its offset in all input of ours */
    bool stdin_over;     /* no more is read from it */
    bool close_wanted;   /* and the process is to be told */
    bool resize_wanted;
    int signal_wanted; /* to send to the process */
    int signal_under_way;
    int interrupts;                /* signals so far */
    uint64_t ack[CONSOLE_OUTPUTS]; /* under way */
    uint64_t ack_bytes;            /* said when there are so many */
    int64_t came_ms;               /* when output came last */
    char call_error[ERR_MSG_SIZE];

    int signal_fd;
    bool raw; /* the terminal is ours */
    struct termios was;

    bool over;
    bool ended; /* the process, with exit_code */
    int exit_code;
    struct err err;
};

/* console_events.c */
void events_begin(struct console *console); /* start, or connect again */
void events_finished(struct console *console, CURLcode rc);
/* Take more again when the outputs have room. */
void events_resume(struct console *console);
void events_clear(struct console *console);

/*
 * console_stream.c: take the whole envelopes at the beginning of events.in (untrusted), up to the
 * process's end or the first that is not one, which ends CONSOLE with ERR_INTERNAL.
 * Source: envd-api sections 2.2 and 3.
 */
void stream_read(struct console *console);

/* console_calls.c: start what is due. */
void calls_pump(struct console *console);
/* How long that may be put off at most. */
int calls_wait_ms(const struct console *console);
void calls_finished(struct console *console, struct console_call *call, CURLcode rc);
void calls_clear(struct console *console);
/* Headers of every request; TYPE is the content type. */
struct curl_slist *console_headers(const struct console *console, const char *type);
/* {"tag": …} or {"pid": …}. */
json_t *console_selector(const struct console *console);

/* console_local.c: our own side. */
int local_open(struct console *console, struct err *err);
void local_close(struct console *console);
/* A start event came: take the terminal, if there is one on either side. */
void local_started(struct console *console);
/* What to poll for; at most 4. */
unsigned local_poll(struct console *console, struct curl_waitfd fds[4]);
void local_handle(struct console *console, const struct curl_waitfd *fds, unsigned count);
/* Bytes of OUTPUT that are not written yet. */
size_t local_pending(const struct console_output *output);
/* Write all that is left; may wait. */
void local_flush(struct console *console);
bool local_size(struct console *console, unsigned short *cols, unsigned short *rows);

/* console.c: end with an error. */
int console_fail(struct console *console, enum err_code code, const char *fmt, ...) _printf_(3, 4);

#endif

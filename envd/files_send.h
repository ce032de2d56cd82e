/*
 * envd/files_send.h - the content of a file on its way to the client of GET /files.
 *
 * Worker threads. Kept while the client is slow: files_send_run goes on where it stopped.
 */
#ifndef ENVD_FILES_SEND_H
#define ENVD_FILES_SEND_H

#include <stdbool.h>
#include <sys/stat.h>
#include <zlib.h>

#include "envd/content.h"
#include "envd/http.h"
#include "envd/scratch.h"

#define FILES_GZIP_MAX 16 /* packed answers at once: each keeps 270 KiB; more wait */

struct files_send;

struct files_send {
    struct exchange *ex;
    int fd;
    struct stat st;
    const char *type;
    int (*run)(struct files_send *send, struct err *err); /* 0, HTTP_AGAIN, -1 */

    /* ranges of the file as they are */
    struct content_range *ranges;
    size_t count;
    size_t at;         /* the range being sent */
    bool head_sent;    /* of that range */
    char boundary[41]; /* "": one range, not multipart/byteranges */

    /* what has to be read first: packed, or made up by the kernel */
    struct scratch scratch; /* while the handler runs */
    bool gzip;
    z_stream stream;
};

struct files_send *files_send_new(struct exchange *ex);
void files_send_free(void *send);

/* Begin the answer; each returns 0, HTTP_AGAIN or -1. After 0 files_send_run is due. */
int files_send_ranges(struct files_send *send, int status, const struct content_range *ranges,
                      size_t count, struct err *err);
int files_send_gzip(struct files_send *send, struct err *err);
/* To the end of what can be read, whatever the size of the file. */
int files_send_generated(struct files_send *send, struct err *err);

/* Send on. 0: all is on its way, the answer has ended; HTTP_AGAIN; -1. */
int files_send_run(struct files_send *send, struct err *err);

#endif

/*
 * envd/files_meta.h - the X-Metadata-* headers of an upload.
 *
 * Any thread. Source: envd API section 7.6.
 */
#ifndef SANDPIT_ENVD_FILES_META_H
#define SANDPIT_ENVD_FILES_META_H

#include "envd/entry.h"
#include "envd/http.h"

#define FILES_META_KEY_MAX_BYTES 246
#define FILES_META_TOTAL_MAX_BYTES 4096 /* sum of prefix, key and value over all */

struct files_meta {
    struct entry_meta *rows;
    size_t count;
};

/*
 * Gather the headers; of a repeated one the first counts. On success files_meta_clear is due.
 * ERR_INVALID "invalid metadata: …".
 */
int files_meta_read(const struct exchange *ex, struct files_meta *out, struct err *err);
void files_meta_clear(struct files_meta *meta);

/* May KEY and VALUE be stored? Pure. ERR_INVALID otherwise. */
int files_meta_check(const char *key, const char *value, struct err *err);

#endif

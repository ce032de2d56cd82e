/*
 * server/model/placeholder.h - "${e2b.…}" in the values of header transforms.
 *
 * Pure, no allocation. Any thread. Source: platform-api.md section 4, NetworkConfig.
 */
#ifndef SANDPIT_MODEL_PLACEHOLDER_H
#define SANDPIT_MODEL_PLACEHOLDER_H

#include <stddef.h>

#include "server/base/err.h"

enum placeholder_kind {
    PLACEHOLDER_END,    /* nothing more */
    PLACEHOLDER_TEXT,   /* as it stands */
    PLACEHOLDER_SECRET, /* ${e2b.secrets.<name>} */
    PLACEHOLDER_TOKEN,  /* ${e2b.identity.tokens.<name>} */
};

struct placeholder {
    enum placeholder_kind kind;
    const char *text; /* the text, or the name; borrowed, not NUL-terminated */
    size_t len;
};

/*
 * The part of VALUE (a string) that begins at *AT, which moves behind it. "${" that is not followed
 * by "e2b." is text. ERR_INVALID with the contract's words for anything else that begins "${e2b.":
 * no end, another kind, no name, or a name with '{', '$' or a control character.
 */
int placeholder_next(const char *value, size_t *at, struct placeholder *out, struct err *err);

#endif

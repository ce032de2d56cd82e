/*
 * server/config_private.h - the table of settings, for config*.c only.
 */
#ifndef SANDPIT_CONFIG_PRIVATE_H
#define SANDPIT_CONFIG_PRIVATE_H

#include "server/config.h"

enum setting_kind {
    KIND_TEXT,
    KIND_LISTEN, /* addresses, comma-separated */
    KIND_PATH,   /* made absolute */
    KIND_NUMBER,
    KIND_BOOL,
    KIND_LEVEL,
    KIND_ENGINE,
    KIND_DOMAIN,
};

struct setting_def {
    const char *name; /* flag without dashes */
    enum setting_kind kind;
    const char *arg;      /* placeholder in help */
    const char *fallback; /* default, NULL for none */
    uint64_t min, max;    /* of numbers */
    bool reload;          /* SIGHUP applies it */
    const char *help;
};

extern const struct setting_def setting_defs[SETTING_COUNT];

/*
 * Check VALUE of setting ID; FROM ("--x", "SANDPIT_X", "x in FILE") begins the message. Fills *TEXT
 * (owned) and *NUMBER.
 */
int setting_parse(enum setting id, const char *value, const char *from, char **text,
                  uint64_t *number, struct err *err);
/* Set ID unless it has a source of equal or higher precedence. */
int setting_put(struct settings *settings, enum setting id, const char *value, const char *from,
                enum setting_source source, struct err *err);
/* Read the file of --config. */
int settings_read_file(struct settings *settings, const char *path, struct err *err);

#endif

/*
 * server/config.h - the settings of `sandpit serve`: one table for flags, SANDPIT_… variables, the
 * JSON file of --config, help and docs/configuration.md.
 *
 * Precedence: flags, variables, file, default. An unknown flag or key, or a value that is not
 * valid, is ERR_INVALID naming it and where it came from. Start-up thread only.
 */
#ifndef SANDPIT_CONFIG_H
#define SANDPIT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "server/base/err.h"
#include "server/base/json.h"

enum setting {
    SETTING_API_LISTEN,
    SETTING_TRAFFIC_LISTEN,
    SETTING_OPS_LISTEN,
    SETTING_TLS_LISTEN,
    SETTING_TLS_CERT,
    SETTING_TLS_KEY,
    SETTING_DOMAIN,
    SETTING_STATE_DIR,
    SETTING_RUN_DIR,
    SETTING_ENGINE,
    SETTING_KUBECONFIG,
    SETTING_NAMESPACE,
    SETTING_ENVD,
    SETTING_USER,
    SETTING_ID_BASE,
    SETTING_THREADS,
    SETTING_WORKERS,
    SETTING_WARM_MIN,
    SETTING_WARM_MAX,
    SETTING_WARM_IDLE,
    SETTING_STORAGE_MB,
    SETTING_STORAGE_RESERVE_MB,
    SETTING_STORAGE_PLAIN,
    SETTING_REPLAY_BYTES,
    SETTING_REPLAY_TOTAL_BYTES,
    SETTING_MAX_SANDBOXES,
    SETTING_CREATES_PER_SECOND,
    SETTING_MAX_CPU,
    SETTING_MAX_MEMORY_MB,
    SETTING_MAX_DISK_MB,
    SETTING_MAX_LIFETIME,
    SETTING_VOLUMES_MAX,
    SETTING_VOLUME_SIZE,
    SETTING_EGRESS_RESOLVER,
    SETTING_EGRESS_CA_FILE,
    SETTING_NO_PRIVATE_EGRESS,
    SETTING_SAMPLE_SECONDS,
    SETTING_WEBHOOK_PRIVATE,
    SETTING_LOG_LEVEL,
    SETTING_DEV,
    SETTING_CONFIG,
    SETTING_COUNT
};

enum setting_source { FROM_NOWHERE, FROM_DEFAULT, FROM_FILE, FROM_VARIABLE, FROM_FLAG };

struct settings {
    char *text[SETTING_COUNT];      /* owned; NULL: not set. Paths are absolute after finish */
    uint64_t number[SETTING_COUNT]; /* of number and boolean settings */
    enum setting_source source[SETTING_COUNT];
};

#define LISTEN_DEV_TLS "127.0.0.1:3443,[::1]:3443"
#define LISTEN_MAX 4 /* addresses, comma-separated, of one setting */
#define ADDRESS_SIZE 128

/* Empty settings; SETTINGS is then settings_clear'ed. */
void settings_init(struct settings *settings);
void settings_clear(struct settings *settings);
#define _cleanup_settings_ __attribute__((cleanup(settings_clear)))

/* Set one as a flag would. */
int settings_flag(struct settings *settings, enum setting id, const char *value, struct err *err);
/* Take `--x-y VALUE`, `--x-y=VALUE` and `--dev` from ARGV. */
int settings_args(struct settings *settings, int argc, char **argv, struct err *err);
/* Add variables, file and defaults, and check what needs no look at the machine. */
int settings_finish(struct settings *settings, struct err *err);
/* Look at the machine: files exist, what belongs together is there. For check-config and serve. */
int settings_check(const struct settings *settings, struct err *err);

/* Text of a setting or NULL; borrowed. */
const char *settings_text(const struct settings *settings, enum setting id);
bool settings_on(const struct settings *settings, enum setting id);
/* Threads to use: --threads, or one for each core, at most 16. */
unsigned settings_threads(const struct settings *settings);
/* "<state-dir>/<name>", to free(). */
char *settings_state_path(const struct settings *settings, const char *name);
/* The flag's name without dashes: "api-listen". */
const char *setting_name(enum setting id);
/* Split comma-separated TEXT. Returns how many; parts beyond LISTEN_MAX were refused before. */
size_t settings_addresses(const char *text, char out[LISTEN_MAX][ADDRESS_SIZE]);

/* Effective values as a JSON object, keys "x_y". There are no secrets among them. */
json_t *settings_json(const struct settings *settings);
/* The lines of `serve --help`. */
void settings_help(FILE *out);

#endif

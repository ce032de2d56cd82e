/*
 * server/cmd.h - the subcommands, and what they share: options, messages, exit codes.
 *
 * Each command gets the words after its name and returns the program's exit code.
 */
#ifndef SANDPIT_CMD_H
#define SANDPIT_CMD_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/err.h"
#include "server/base/json.h"
#include "server/config.h"

#define EXIT_FAILED 1 /* tried and failed */
#define EXIT_USAGE 2  /* wrong words or settings: nothing was tried */

int cmd_serve(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_limit(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_sandbox(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_check_config(int argc, char **argv);
int cmd_version(int argc, char **argv);

/* One option of a subcommand: `--name VALUE`, `--name=VALUE`, or with `flag` set just `--name`. */
struct option_def {
    const char *name;   /* without the dashes */
    const char **value; /* borrowed from argv */
    bool *flag;
};

/*
 * Sort ARGV into DEFS and at most POSITIONAL_MAX other words. ERR_INVALID naming the word that is
 * unknown, given twice, or lacks its value. "--" ends the options.
 */
int options_parse(int argc, char **argv, const struct option_def *defs, size_t def_count,
                  const char **positional, size_t positional_max, size_t *positional_count,
                  struct err *err);
/* ARGV holds --help or -h. */
bool options_want_help(int argc, char **argv);

/* Print "sandpit: MSG (DETAIL)" on stderr; EXIT_USAGE for ERR_INVALID, else EXIT_FAILED. */
int cmd_fail(const struct err *err);
/* Print MSG and USAGE on stderr; EXIT_USAGE. */
int cmd_usage(const struct err *err, const char *usage);
/* Print JSON and a newline on stdout, taking the reference. EXIT_FAILED when that fails. */
int cmd_print_json(json_t *json);
/* End of a command that wrote to stdout: EXIT_FAILED if it did not get there. */
int cmd_flush(void);

/* Settings of a command that takes only --state-dir and --config (NULL: not given). */
int cmd_state_settings(const char *state_dir, const char *config, struct settings *out,
                       struct err *err);

#endif

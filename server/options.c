#include <stdio.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/cmd.h"

static const struct option_def *find(const struct option_def *defs, size_t count, const char *name,
                                     size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (mem_is(name, len, defs[i].name))
            return &defs[i];
    }
    return NULL;
}

/* ARGV[AT] is "--name" or "--name=value". Returns how many words it took, or -1. */
static int take_option(int argc, char **argv, int at, const struct option_def *defs, size_t count,
                       struct err *err)
{
    const char *name = argv[at] + 2, *equals = strchr(name, '=');
    size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct option_def *def = find(defs, count, name, len);

    if (def == NULL)
        return err_set(err, ERR_INVALID, "unknown option '%.80s'", argv[at]);
    if (def->flag != NULL) {
        if (equals != NULL)
            return err_set(err, ERR_INVALID, "option '--%s' takes no value", def->name);
        *def->flag = true;
        return 1;
    }
    if (*def->value != NULL)
        return err_set(err, ERR_INVALID, "option '--%s' is given twice", def->name);
    if (equals == NULL && at + 1 >= argc)
        return err_set(err, ERR_INVALID, "option '--%s' needs a value", def->name);
    *def->value = equals != NULL ? equals + 1 : argv[at + 1];
    return equals != NULL ? 1 : 2;
}

int options_parse(int argc, char **argv, const struct option_def *defs, size_t def_count,
                  const char **positional, size_t positional_max, size_t *positional_count,
                  struct err *err)
{
    bool only_words = false;
    size_t words = 0;

    for (int i = 0; i < argc;) {
        if (!only_words && str_eq(argv[i], "--")) {
            only_words = true;
            i++;
        } else if (!only_words && argv[i][0] == '-') {
            int took = argv[i][1] == '-'
                           ? take_option(argc, argv, i, defs, def_count, err)
                           : err_set(err, ERR_INVALID, "unknown option '%.80s'", argv[i]);
            if (took < 0)
                return -1;
            i += took;
        } else if (words == positional_max) {
            return err_set(err, ERR_INVALID, "unexpected word '%.80s'", argv[i]);
        } else {
            positional[words++] = argv[i++];
        }
    }
    if (positional_count != NULL)
        *positional_count = words;
    return 0;
}

bool options_want_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (str_eq(argv[i], "--help") || str_eq(argv[i], "-h"))
            return true;
    }
    return false;
}

int cmd_fail(const struct err *err)
{
    if (err->detail[0] == '\0')
        fprintf(stderr, "sandpit: %s\n", err->msg);
    else if (str_starts(err->detail, err->msg)) /* err_sys: the same and the errno */
        fprintf(stderr, "sandpit: %s\n", err->detail);
    else
        fprintf(stderr, "sandpit: %s (%s)\n", err->msg, err->detail);
    return err->code == ERR_INVALID ? EXIT_USAGE : EXIT_FAILED;
}

int cmd_usage(const struct err *err, const char *usage)
{
    cmd_fail(err);
    fputs(usage, stderr);
    return EXIT_USAGE;
}

int cmd_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    fputs("sandpit: cannot write to standard output\n", stderr);
    return EXIT_FAILED;
}

int cmd_print_json(json_t *json)
{
    _cleanup_free_ char *text = json_text(json);

    json_decref(json);
    puts(text);
    return cmd_flush();
}

int cmd_state_settings(const char *state_dir, const char *config, struct settings *out,
                       struct err *err)
{
    if (config != NULL && settings_flag(out, SETTING_CONFIG, config, err) < 0)
        return -1;
    if (state_dir != NULL && settings_flag(out, SETTING_STATE_DIR, state_dir, err) < 0)
        return -1;
    return settings_finish(out, err);
}

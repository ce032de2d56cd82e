#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/cmd.h"
#include "server/cmd_sandbox.h"
#include "server/client/console.h"

/* A login shell, as the SDKs open one. */
static char *const shell[] = {"/bin/bash", "-i", "-l", NULL};

static int add_env(json_t *envs, const char *pair, struct err *err)
{
    const char *equals = strchr(pair, '=');
    _cleanup_free_ char *name = NULL;

    if (equals == NULL || equals == pair)
        return err_set(err, ERR_INVALID, "--env wants NAME=VALUE, not '%.80s'", pair);
    if (!str_is_utf8(pair, strlen(pair)))
        return err_set(err, ERR_INVALID, "--env: not UTF-8");
    name = mem_strndup(pair, (size_t)(equals - pair));
    json_put_str(envs, name, equals + 1);
    return 0;
}

/* Take every --env out of ARGV into ENVS. Returns how many words are left, or -1. */
static int take_envs(int argc, char **argv, json_t *envs, struct err *err)
{
    int kept = 0;

    for (int i = 0; i < argc; i++) {
        const char *pair = NULL;

        if (str_starts(argv[i], "--env="))
            pair = argv[i] + strlen("--env=");
        else if (str_eq(argv[i], "--env") && i + 1 < argc)
            pair = argv[++i];
        if (pair == NULL)
            argv[kept++] = argv[i];
        else if (add_env(envs, pair, err) < 0)
            return -1;
    }
    return kept;
}

/* What a terminal's programs want to know, unless it was given. */
static void terminal_envs(json_t *envs)
{
    const char *term = getenv("TERM");

    if (!json_has(envs, "TERM"))
        json_put_str(envs, "TERM", term != NULL && term[0] != '\0' ? term : "xterm-256color");
    if (!json_has(envs, "LANG"))
        json_put_str(envs, "LANG", "C.UTF-8");
    if (!json_has(envs, "LC_ALL"))
        json_put_str(envs, "LC_ALL", "C.UTF-8");
}

static int failed(const struct err *err)
{
    int rc = cmd_fail(err);

    return rc == EXIT_USAGE ? rc : EXIT_CONSOLE;
}

static int run(const char *id, struct console_spec *spec)
{
    _cleanup_client_ struct client client = {0};
    _cleanup_client_sandbox_ struct client_sandbox sandbox = {0};
    struct err err = {0};
    int rc;

    if (client_init(&client, &err) < 0 || client_sandbox_find(&client, id, &sandbox, &err) < 0)
        return failed(&err);
    spec->client = &client;
    spec->sandbox = &sandbox;
    rc = console_run(spec, &err);
    if (err.code != ERR_NONE)
        cmd_fail(&err);
    return rc;
}

/* The words after "--", NULL without it. */
static char **command_of(int argc, char **argv, int *before)
{
    for (int i = 0; i < argc; i++) {
        if (str_eq(argv[i], "--")) {
            *before = i;
            return argv + i + 1;
        }
    }
    *before = argc;
    return NULL;
}

static int check_words(char *const *words, struct err *err)
{
    for (; *words != NULL; words++) {
        if (!str_is_utf8(*words, strlen(*words)))
            return err_set(err, ERR_INVALID, "the command is not UTF-8");
    }
    return 0;
}

int sandbox_exec(int argc, char **argv)
{
    _cleanup_json_ json_t *envs = json_object();
    const char *id = NULL;
    struct console_spec spec = {.envs = envs};
    const struct option_def defs[] = {
        {"user", &spec.user, NULL}, {"cwd", &spec.cwd, NULL}, {"tty", NULL, &spec.tty}};
    struct err err = {0};
    int before;

    spec.command = command_of(argc, argv, &before);
    before = take_envs(before, argv, envs, &err);
    if (before < 0 || options_parse(before, argv, defs, array_size(defs), &id, 1, NULL, &err) < 0)
        return sandbox_usage(&err);
    if (id == NULL || spec.command == NULL || spec.command[0] == NULL) {
        err_set(&err, ERR_INVALID, id == NULL ? "which sandbox?" : "which command? It follows --");
        return sandbox_usage(&err);
    }
    if (check_words(spec.command, &err) < 0)
        return failed(&err);
    if (spec.tty && !isatty(STDIN_FILENO)) {
        err_set(&err, ERR_INVALID, "--tty wants a terminal on standard input");
        return failed(&err);
    }
    if (spec.tty)
        terminal_envs(envs);
    return run(id, &spec);
}

int sandbox_connect(int argc, char **argv)
{
    _cleanup_json_ json_t *envs = json_object();
    const char *words[2] = {NULL, NULL};
    struct console_spec spec = {.envs = envs};
    const struct option_def defs[] = {{"user", &spec.user, NULL}, {"replay", NULL, &spec.replay}};
    struct err err = {0};
    uint64_t pid = 0;

    if (options_parse(argc, argv, defs, array_size(defs), words, 2, NULL, &err) < 0)
        return sandbox_usage(&err);
    if (words[0] == NULL) {
        err_set(&err, ERR_INVALID, "which sandbox?");
        return sandbox_usage(&err);
    }
    if (words[1] != NULL &&
        str_to_u64(words[1], strlen(words[1]), 1, UINT32_MAX, "PID", &pid, &err) < 0)
        return failed(&err);
    spec.pid = (uint32_t)pid;
    if (words[1] != NULL)
        return run(words[0], &spec);
    if (!isatty(STDIN_FILENO)) {
        err_set(&err, ERR_INVALID,
                "a shell wants a terminal on standard input; name a PID, or use "
                "sandbox exec");
        return failed(&err);
    }
    spec.command = shell;
    spec.tty = true;
    terminal_envs(envs);
    return run(words[0], &spec);
}

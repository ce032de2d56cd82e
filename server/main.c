/* The program: finds the subcommand and runs it. */
#include <stdio.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/cmd.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"serve", cmd_serve, "run the server"},
    {"key", cmd_key, "create, list, revoke and rotate API keys"},
    {"limit", cmd_limit, "limits of namespaces and keys"},
    {"template", cmd_template, "templates (not built yet)"},
    {"sandbox", cmd_sandbox, "list and kill sandboxes, run commands in them"},
    {"doctor", cmd_doctor, "check what this machine offers, in one table"},
    {"check-config", cmd_check_config, "check settings and print what is in effect"},
    {"version", cmd_version, "print the version"},
};

static void print_help(FILE *out)
{
    fputs("usage: sandpit COMMAND [OPTIONS]\n\n", out);
    for (size_t i = 0; i < array_size(commands); i++)
        fprintf(out, "  %-14s %s\n", commands[i].name, commands[i].help);
    fputs("\nsandpit COMMAND --help says more.\n", out);
}

int main(int argc, char **argv)
{
    if (hash_init() < 0) {
        fputs("sandpit: no source of random numbers\n", stderr);
        return EXIT_FAILED;
    }
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (str_eq(argv[1], "--help") || str_eq(argv[1], "-h") || str_eq(argv[1], "help")) {
        print_help(stdout);
        return cmd_flush();
    }
    if (str_eq(argv[1], "--version"))
        return cmd_version(0, NULL);
    for (size_t i = 0; i < array_size(commands); i++) {
        if (str_eq(argv[1], commands[i].name))
            return commands[i].run(argc - 2, argv + 2);
    }
    fprintf(stderr, "sandpit: unknown command '%.80s'\n", argv[1]);
    print_help(stderr);
    return EXIT_USAGE;
}

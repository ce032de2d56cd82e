#include <stdio.h>

#include "server/base/version.h"
#include "server/cmd.h"

int cmd_version(int argc, char **argv)
{
    bool json = false;
    const struct option_def defs[] = {{"json", NULL, &json}};
    struct err err = {0};
    json_t *out;

    if (options_parse(argc, argv, defs, 1, NULL, 0, NULL, &err) < 0)
        return cmd_usage(&err, "usage: sandpit version [--json]\n");
    if (!json) {
        printf("sandpit %s (envd %s)\n", SANDPIT_VERSION, ENVD_VERSION);
        return cmd_flush();
    }
    out = json_object();
    json_put_str(out, "version", SANDPIT_VERSION);
    json_put_str(out, "envd_version", ENVD_VERSION);
    return cmd_print_json(out);
}

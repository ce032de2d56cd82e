#include <stdio.h>

#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/cmd.h"
#include "server/privsep.h"

int cmd_check_config(int argc, char **argv)
{
    _cleanup_settings_ struct settings settings;
    struct privsep_user user;
    struct err err = {0};

    settings_init(&settings);
    if (options_want_help(argc, argv)) {
        puts("usage: sandpit check-config [FLAGS OF serve]\n"
             "Checks flags, variables and the file of --config, and prints what is in effect.");
        return cmd_flush();
    }
    if (settings_args(&settings, argc, argv, &err) < 0 || settings_finish(&settings, &err) < 0 ||
        settings_check(&settings, &err) < 0 || privsep_find_user(&settings, &user, &err) < 0) {
        err.code = ERR_INVALID;
        return cmd_fail(&err);
    }
    if (str_eq(settings_text(&settings, SETTING_ENGINE), "kubernetes"))
        fputs("sandpit: this version has no kubernetes engine yet: serve will refuse to start\n",
              stderr);
    return cmd_print_json(settings_json(&settings));
}

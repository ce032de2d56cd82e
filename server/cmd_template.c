#include <stdio.h>

#include "server/cmd.h"

int cmd_template(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    fputs("sandpit: this version cannot build or list templates by command; every sandbox starts "
          "from the built-in template 'base' (GET /templates shows it)\n",
          stderr);
    return EXIT_FAILED;
}

/*
 * A program that is no envd, or a faulty one, for tests/integration/envd_upgrade_test.py. The last
 * byte of its file says in which way.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int how(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char c = '?';

    if (fd < 0 || lseek(fd, -1, SEEK_END) < 0 || read(fd, &c, 1) != 1)
        return '?';
    close(fd);
    return c;
}

/* It says that it can read the state. What becomes of it then? */
static int rehearse(int kind)
{
    switch (kind) {
    case 'C':
        abort();
    case 'H':
        for (;;)
            pause();
    case 'W':
        puts("no\tstate \033[1mof mine");
        return 1;
    case 'B': /* more than anyone reads */
        for (int i = 0; i < 100000; i++)
            puts("envd-handover ready");
        return 0;
    default:
        return 0; /* not a word */
    }
}

int main(int argc, char **argv)
{
    int kind = how();

    if (argc > 1 && strcmp(argv[1], "--resume-handover") == 0)
        return rehearse(kind);
    if (kind == 'U') { /* an envd of before there were upgrades */
        fprintf(stderr, "envd: unrecognized option '%s'\n", argc > 1 ? argv[1] : "");
        return 2;
    }
    if (kind == 'X')
        abort();
    if (kind == 'T')
        sleep(2);
    puts(kind == 'N' ? "envd-handover 7 9 9.9.9" : "envd-handover 1 1 0.0.1");
    return 0;
}

#include "server/base/fault.h"

#ifdef SANDPIT_FAULTS

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const char *wanted; /* written once */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void look(void)
{
    wanted = getenv("SANDPIT_FAULT");
}

void fault_point(const char *name)
{
    pthread_once(&once, look);
    if (wanted != NULL && strcmp(wanted, name) == 0)
        raise(SIGKILL);
}

#endif

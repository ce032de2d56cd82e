/*
 * envd/hosts.h - the name of the platform's event service, for programs in the sandbox.
 *
 * Source: envd-api section 7.3, hyperloopIP.
 */
#ifndef ENVD_HOSTS_H
#define ENVD_HOSTS_H

#include "server/base/err.h"

#define HOSTS_EVENTS_NAME "events.e2b.local"
#define HOSTS_FILE_MAX_BYTES (1 << 20)

/*
 * Let the file PATH (/etc/hosts) say that HOSTS_EVENTS_NAME is IP, and no other line does.
 * Blocking.
 */
int hosts_set_events(const char *path, const char *ip, struct err *err);

#endif

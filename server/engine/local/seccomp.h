/*
 * server/engine/local/seccomp.h - which system calls a sandbox may make.
 *
 * A deny list in Docker's spirit on top of namespaces, shifted ids and dropped capabilities. The
 * program is compiled once by the launcher and loaded by each sandbox's first process. Calls newer
 * than this list answer ENOSYS, as an older kernel would. Calls of another architecture (32-bit
 * programs) answer ENOSYS too.
 */
#ifndef SANDPIT_ENGINE_LOCAL_SECCOMP_H
#define SANDPIT_ENGINE_LOCAL_SECCOMP_H

#include "server/base/err.h"

struct seccomp_program;

/* Compile. ERR_UNSUPPORTED when the kernel has no seccomp filters. */
int seccomp_compile(struct seccomp_program **out, struct err *err);
void seccomp_free(struct seccomp_program *program);
/*
 * Load for the calling process and its children, for good. Needs CAP_SYS_ADMIN in the caller's user
 * namespace, because no_new_privs stays off (sudo). Returns 0 or -1 with errno.
 */
int seccomp_load_program(const struct seccomp_program *program);

#endif

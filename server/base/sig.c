#include "server/base/sig.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KERNEL_SIGNALS 64 /* _NSIG of the kernel */

/* The kernel's struct sigaction (asm-generic/signal.h), all zero: SIG_DFL, no flags, no mask. */
struct kernel_sigaction {
    uintptr_t handler;
    unsigned long flags;
    uintptr_t restorer;
    uint64_t mask;
};

void sig_defaults(void)
{
    static const struct kernel_sigaction none;
    uint64_t mask = 0;

    for (int sig = 1; sig <= KERNEL_SIGNALS; sig++)
        syscall(SYS_rt_sigaction, sig, &none, NULL, sizeof(mask)); /* not KILL and STOP */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

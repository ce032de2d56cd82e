/*
 * server/loop/signal.c - signals from a signalfd; see signal.h.
 */
#include "server/loop/signal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "server/base/mem.h"
#include "server/loop/loop_private.h"

struct signal_watch {
    h2o_socket_t *sock; /* owns the signalfd */
    int fd;
    void (*on_signal)(void *ctx, int signo);
    void *ctx;
};

static void wanted_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

void signal_block(void)
{
    sigset_t set;

    wanted_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void on_readable(h2o_socket_t *sock, const char *h2o_err)
{
    struct signal_watch *watch = sock->data;
    struct signalfd_siginfo info;

    (void)h2o_err;
    /* One a round: the callback may free WATCH. epoll tells us again when more wait. */
    if (read(watch->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        watch->on_signal(watch->ctx, (int)info.ssi_signo);
}

int signal_watch_new(struct loop *loop, void (*on_signal)(void *ctx, int signo), void *ctx,
                     struct signal_watch **out, struct err *err)
{
    struct signal_watch *watch;
    sigset_t set;
    int fd;

    wanted_signals(&set);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a signalfd");
    watch = mem_zalloc(sizeof(*watch));
    watch->fd = fd;
    watch->on_signal = on_signal;
    watch->ctx = ctx;
    watch->sock = h2o_evloop_socket_create(loop_h2o(loop), fd, H2O_SOCKET_FLAG_DONT_READ);
    watch->sock->data = watch;
    h2o_socket_read_start(watch->sock, on_readable);
    *out = watch;
    return 0;
}

void signal_watch_free(struct signal_watch *watch)
{
    if (watch == NULL)
        return;
    h2o_socket_close(watch->sock);
    free(watch);
}

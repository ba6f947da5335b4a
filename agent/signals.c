/* signals: see signals.h. */
#include "agent/signals.h"

#include "agent/agent.h"
#include "agent/reload.h"
#include "lib/base/bytes.h"
#include "lib/base/ensure.h"

#include <signal.h>
#include <stdlib.h>

enum { SIGNALS = 4 };
struct signals {
    uv_signal_t handles[SIGNALS]; /* .data == the agent */
    unsigned open;
};

static void on_signal(uv_signal_t *handle, int signum)
{
    struct agent *a = handle->data;
    switch (signum) {
    case SIGTERM:
    case SIGINT:
        agent_stop(a);
        return;
    case SIGHUP:
        (void)reload_ask(a->reload); /* nobody waits: the log has the answer */
        return;
    case SIGUSR1:
        agent_flush(a);
        return;
    default:
        return;
    }
}

static void mask_requests(int how)
{
    sigset_t requests;
    (void)sigemptyset(&requests);
    (void)sigaddset(&requests, SIGHUP);
    (void)sigaddset(&requests, SIGUSR1);
    (void)sigprocmask(how, &requests, NULL);
}

void signals_hold(void)
{
    mask_requests(SIG_BLOCK);
}

void signals_open(struct agent *a)
{
    static const int wanted[SIGNALS] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* A limit on file sizes is an error of a write, and is told as one. */
    a->signals = must_alloc(sizeof *a->signals);
    for (unsigned i = 0; i < SIGNALS; i++) {
        int r = uv_signal_init(a->loop, &a->signals->handles[i]);
        ensure(r == 0);
        a->signals->handles[i].data = a;
        r = uv_signal_start(&a->signals->handles[i], on_signal, wanted[i]);
        ensure(r == 0);
        a->signals->open++;
    }
    mask_requests(SIG_UNBLOCK);
}

static void on_closed(uv_handle_t *handle)
{
    struct agent *a = handle->data;
    if (--a->signals->open > 0)
        return;
    free(a->signals);
    a->signals = NULL;
}

void signals_close(struct agent *a)
{
    for (unsigned i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&a->signals->handles[i], on_closed);
}

/* input_dgram: see input_dgram.h. */
#include "agent/input_dgram.h"

#include "agent/agent.h"
#include "agent/dgram_senders.h"
#include "agent/event_batch.h"
#include "agent/gather.h"
#include "agent/listener.h"
#include "lib/base/ensure.h"
#include "lib/base/log.h"
#include "lib/config/config.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOTS 64 /* datagrams per recvmmsg(2) */
#define CALLS_PER_TURN 4
#define UDP_SLOT_BYTES (64 * 1024)   /* no UDP datagram is longer */
#define UNIX_SLOT_BYTES (256 * 1024) /* the kernel's default lets nobody send more than 208 KiB */
#define KEEP_BYTES (1024 * 1024)     /* after a call that brought more, the memory is given back */
#define ARENA_MAX (256 * 1024 * 1024)
#define UNDERWAY_BYTES \
    (8 * 1024 * 1024) /* offers that wait for the disk; then the kernel's buffer is the queue */
#define SPARE_MAX 4
#define GATHER_MS 2 /* shorter than streams do: what the kernel has no room for meanwhile is lost */
#define REPEAT_LOG_US (10 * US_PER_S)

struct dgram_batch {
    struct event_batch events;
    struct list node; /* in the input's underway, or spare */
    struct input_dgram *input;
    size_t bytes; /* as counted in underway_bytes */
};

enum dgram_wait {
    WAIT_READY, /* for the kernel to say that there is something */
    WAIT_TIMER, /* for the next look */
    WAIT_DISK,  /* for an offer of ours */
    WAIT_NOT,   /* not started, or stopped */
};

struct input_dgram {
    struct input input;
    struct listener listener;
    uv_poll_t poll;   /* .data == this */
    uv_timer_t timer; /* .data == this */
    unsigned handles_open;
    enum dgram_wait wait;
    bool polling;
    uint64_t woken_us;
    uint8_t *memory; /* SLOTS slots, mapped, touched only as far as datagrams reach */
    size_t slot_bytes;
    struct mmsghdr messages[SLOTS];
    struct iovec parts[SLOTS];
    struct sockaddr_in6 from[SLOTS]; /* or sockaddr_in; of a Unix socket nothing */
    /* On a Unix socket exactly what the sender's credentials take, which come first, so that no descriptor that a
     * sender passes finds room. */
    struct {
        _Alignas(struct cmsghdr) uint8_t at[CMSG_SPACE(sizeof(struct ucred))];
    } control[SLOTS];
    unsigned stale; /* messages whose lengths the last call has overwritten */
    struct dgram_senders senders;
    uint32_t kernel_drops;
    struct list underway, spare; /* struct dgram_batch */
    size_t underway_bytes;
    unsigned spare_count;
    struct dgram_batch *waiting; /* its events still point into `memory` */
    struct log_limit drop_limit, error_limit;
};

static struct input_dgram *of(const struct input *in)
{
    return CONTAINER_OF((struct input *)(uintptr_t)in, struct input_dgram, input);
}

static void go_on(struct input_dgram *d);

/* --- batches -------------------------------------------------------------------------------------------- */

static struct dgram_batch *batch_take(struct input_dgram *d)
{
    struct list *spare = list_first(&d->spare);
    struct dgram_batch *b;
    if (spare != NULL) {
        list_remove(spare);
        d->spare_count--;
        b = CONTAINER_OF(spare, struct dgram_batch, node);
    } else {
        b = must_alloc(sizeof *b);
        b->input = d;
        list_init(&b->node);
        event_batch_init(&b->events, ARENA_MAX);
    }
    event_batch_begin(&b->events, d->input.agent);
    return b;
}

static void batch_free(struct dgram_batch *b)
{
    event_batch_deinit(&b->events);
    free(b);
}

static void batch_release(struct dgram_batch *b)
{
    struct input_dgram *d = b->input;
    list_remove(&b->node);
    if (d->waiting == b)
        d->waiting = NULL;
    d->underway_bytes -= b->bytes;
    b->bytes = 0;
    if (d->spare_count >= SPARE_MAX) {
        batch_free(b);
        return;
    }
    arena_reset(&b->events.arena);
    list_append(&d->spare, &b->node);
    d->spare_count++;
}

static void on_done(struct intake_offer *offer, enum api_condition condition, const char *text)
{
    struct dgram_batch *b = offer->ctx;
    struct input_dgram *d = b->input;
    (void)condition; /* nobody hears of a refusal */
    (void)text;
    batch_release(b);
    if (d->wait == WAIT_DISK && d->waiting == NULL && d->underway_bytes < UNDERWAY_BYTES / 2)
        go_on(d);
}

static void batch_offer(struct dgram_batch *b)
{
    struct input_dgram *d = b->input;
    if (b->events.x.offered == 0) {
        batch_release(b);
        return;
    }
    list_append(&d->underway, &b->node);
    event_batch_offer(&b->events, &d->input, INTAKE_WAIT_DISK, on_done, b);
    b->bytes = b->events.arena.used;
    d->underway_bytes += b->bytes;
    if (b->events.offer.state == OFFER_WAITS_ROOM)
        d->waiting = b;
}

/* --- reading -------------------------------------------------------------------------------------------- */

static void reject(struct input_dgram *d, enum api_reject reason, uint64_t count)
{
    d->input.counters.received += count;
    d->input.counters.rejected[reason] += count;
}

/* The kernel's count since the socket was made, in 32 bits that run over. */
static void note_drops(struct input_dgram *d, uint32_t drops)
{
    uint32_t more = drops - d->kernel_drops;
    if (more == 0 || more > UINT32_MAX / 2)
        return;
    d->kernel_drops = drops;
    reject(d, REJECT_KERNEL_DROPPED, more);
    log_every(
        &d->drop_limit, clock_mono_us(&d->input.agent->clock), REPEAT_LOG_US, LOG_WARN, d->input.subject,
        "the kernel dropped %u datagrams because the receive buffer was full; a larger receive_buffer helps "
        "against bursts",
        more);
}

static void read_control(struct input_dgram *d, const struct mmsghdr *m)
{
    struct msghdr *h = (struct msghdr *)(uintptr_t)&m->msg_hdr;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
        uint32_t drops;
        struct ucred who;
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&drops, CMSG_DATA(c), sizeof drops);
            note_drops(d, drops);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&who, CMSG_DATA(c), sizeof who);
            dgram_senders_process(&d->senders, &who, m->msg_len);
        }
    }
}

static void take_datagram(struct input_dgram *d, struct dgram_batch *b, const struct mmsghdr *m)
{
    struct span rest = span_of(m->msg_hdr.msg_iov->iov_base, m->msg_len), line;
    d->input.counters.bytes_in += m->msg_len;
    read_control(d, m);
    if (m->msg_hdr.msg_namelen >= sizeof(struct sockaddr_in))
        dgram_senders_host(&d->senders, m->msg_hdr.msg_name, m->msg_len);
    if ((m->msg_hdr.msg_flags & MSG_TRUNC) != 0) {
        reject(d, REJECT_TRUNCATED, 1);
        return;
    }
    rest = event_skip_mark(rest);
    bool any = false;
    while (event_next_line(&rest, &line)) {
        any = true;
        if (event_batch_line(&b->events, line) != OK)
            reject(d, REJECT_TOO_LARGE, 1);
    }
    if (!any)
        reject(d, REJECT_MALFORMED, 1);
}

static void prepare_slots(struct input_dgram *d)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        d->parts[i] = (struct iovec){d->memory + i * d->slot_bytes, d->slot_bytes};
        d->messages[i].msg_hdr = (struct msghdr){.msg_iov = &d->parts[i], .msg_iovlen = 1};
    }
    d->stale = SLOTS;
}

/* Room for who sent it, in those that the last call has used. The drop counter comes with each datagram; the first
 * one's is enough. */
static void refresh_slots(struct input_dgram *d)
{
    bool host = d->input.config->type == CONFIG_INPUT_UDP;
    for (unsigned i = 0; i < d->stale; i++) {
        struct msghdr *h = &d->messages[i].msg_hdr;
        h->msg_name = host ? &d->from[i] : NULL;
        h->msg_namelen = host ? sizeof d->from[i] : 0;
        h->msg_control = host && i > 0 ? NULL : d->control[i].at;
        h->msg_controllen = host && i > 0 ? 0 : sizeof d->control[i].at;
    }
    d->stale = 0;
}

/* One call of the kernel, one offer. Returns how many datagrams came. */
static unsigned receive_some(struct input_dgram *d)
{
    size_t bytes = 0;
    refresh_slots(d);
    int n = recvmmsg(d->listener.fd, d->messages, SLOTS, MSG_DONTWAIT, NULL);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            log_every(&d->error_limit, clock_mono_us(&d->input.agent->clock), REPEAT_LOG_US, LOG_WARN,
                      d->input.subject, "cannot receive: %s", strerror(errno));
        return 0;
    }
    if (n == 0)
        return 0;
    d->stale = (unsigned)n;
    struct dgram_batch *b = batch_take(d);
    for (int i = 0; i < n; i++)
        bytes += d->messages[i].msg_len;
    event_batch_expect(&b->events, bytes);
    for (int i = 0; i < n; i++)
        take_datagram(d, b, &d->messages[i]);
    batch_offer(b);
    if (bytes > KEEP_BYTES && d->waiting == NULL)
        (void)madvise(d->memory, SLOTS * d->slot_bytes, MADV_DONTNEED);
    return (unsigned)n;
}

static bool disk_is_behind(const struct input_dgram *d)
{
    return d->waiting != NULL || d->underway_bytes >= UNDERWAY_BYTES;
}

/* Reads until there is no more, or this turn's share is used up. *ret_all: there is no more. */
static unsigned receive_turn(struct input_dgram *d, bool *ret_all)
{
    unsigned total = 0;
    *ret_all = false;
    for (unsigned call = 0; call < CALLS_PER_TURN && !disk_is_behind(d); call++) {
        unsigned n = receive_some(d);
        total += n;
        if (n < SLOTS) {
            *ret_all = true;
            break;
        }
    }
    return total;
}

/* --- when to look --------------------------------------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void poll_set(struct input_dgram *d, bool on)
{
    if (d->polling == on)
        return;
    int r = on ? uv_poll_start(&d->poll, UV_READABLE, on_readable) : uv_poll_stop(&d->poll);
    ensure(r == 0);
    d->polling = on;
}

static void on_timer(uv_timer_t *timer)
{
    struct input_dgram *d = timer->data;
    if (d->wait == WAIT_TIMER)
        go_on(d);
}

static void wait_for(struct input_dgram *d, enum dgram_wait wait)
{
    d->wait = wait;
    poll_set(d, wait == WAIT_READY);
    if (wait == WAIT_TIMER) {
        int r = uv_timer_start(&d->timer, on_timer, GATHER_MS, 0);
        ensure(r == 0);
    }
}

static void go_on(struct input_dgram *d)
{
    bool all;
    uint64_t now = clock_mono_us(&d->input.agent->clock);
    bool soon = now - d->woken_us < GATHER_WITHIN_US;
    d->woken_us = now;
    unsigned n = receive_turn(d, &all);
    if (disk_is_behind(d))
        wait_for(d, WAIT_DISK);
    else if (all && soon && n > 0)
        wait_for(d, WAIT_TIMER);
    else
        wait_for(d, WAIT_READY);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct input_dgram *d = poll->data;
    (void)status, (void)events; /* an error is met again by the read, which says which one */
    if (d->wait == WAIT_READY)
        go_on(d);
}

/* --- life ----------------------------------------------------------------------------------------------- */

/* The kernel doubles what it is asked for, to pay for its own bookkeeping, and says the doubled number. */
static void set_buffer(struct input_dgram *d)
{
    uint64_t asked = d->input.config->receive_buffer;
    int value = (int)(asked > INT32_MAX / 2 ? INT32_MAX / 2 : asked), granted = 0, fd = d->listener.fd;
    socklen_t len = sizeof granted;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &value, sizeof value) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value);
    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &len) == 0 && granted / 2 < value)
        log_warn(d->input.subject,
                 "the kernel grants a receive buffer of %d of the %d bytes asked for; raise "
                 "net.core.rmem_max or lower "
                 "receive_buffer",
                 granted / 2, value);
}

/* A socket that is shared with the input before a reload has a count of drops which that one has told of. */
static void skip_old_drops(struct input_dgram *d)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t len = sizeof info;
    if (d->listener.shared && getsockopt(d->listener.fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 &&
        len > SK_MEMINFO_DROPS * sizeof info[0])
        d->kernel_drops = info[SK_MEMINFO_DROPS];
}

static enum err bind_dgram(struct agent *a, const struct config_input *config, struct input **ret,
                           struct fault *why)
{
    struct input_dgram *d = must_alloc(sizeof *d);
    int on = 1;
    input_init(&d->input, &input_dgram_kind, a, config);
    enum err err =
        listener_bind(&d->listener, config->name, &config->listen, &config->socket, SOCK_DGRAM, why);
    if (err != OK) {
        free(d);
        return err;
    }
    list_init(&d->underway);
    list_init(&d->spare);
    d->wait = WAIT_NOT;
    d->slot_bytes = config->type == CONFIG_INPUT_UDP ? UDP_SLOT_BYTES : UNIX_SLOT_BYTES;
    d->memory = mmap(NULL, SLOTS * d->slot_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ensure(d->memory != MAP_FAILED);
    prepare_slots(d);
    set_buffer(d);
    (void)setsockopt(d->listener.fd, SOL_SOCKET, config->type == CONFIG_INPUT_UDP ? SO_RXQ_OVFL : SO_PASSCRED, &on, sizeof on);
    int r = uv_poll_init(a->loop, &d->poll, d->listener.fd);
    ensure(r == 0);
    r = uv_timer_init(a->loop, &d->timer);
    ensure(r == 0);
    d->poll.data = d->timer.data = d;
    d->handles_open = 2;
    skip_old_drops(d);
    *ret = &d->input;
    return OK;
}

static enum err start_dgram(struct input *in, struct fault *why)
{
    (void)why;
    wait_for(of(in), WAIT_READY);
    log_info(in->subject, "listening on %s", of(in)->listener.text);
    return OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct input_dgram *d = handle->data;
    ensure(d->handles_open > 0);
    if (--d->handles_open == 0)
        input_gone(&d->input);
}

/* What still waits in the kernel stays there: for the next process where the socket is inherited. */
static void stop_dgram(struct input *in)
{
    struct input_dgram *d = of(in);
    if (uv_is_closing((uv_handle_t *)&d->poll))
        return;
    wait_for(d, WAIT_NOT);
    listener_remove_file(&d->listener);
    uv_close((uv_handle_t *)&d->poll, on_closed);
    (void)close(d->listener.fd);
}

static void close_dgram(struct input *in)
{
    struct input_dgram *d = of(in);
    stop_dgram(in);
    struct list *node;
    while ((node = list_first(&d->underway)) != NULL) {
        struct dgram_batch *b = CONTAINER_OF(node, struct dgram_batch, node);
        intake_forget(&in->agent->intake, &b->events.offer);
        batch_release(b);
    }
    if (!uv_is_closing((uv_handle_t *)&d->timer))
        uv_close((uv_handle_t *)&d->timer, on_closed);
}

static void free_dgram(struct input *in)
{
    struct input_dgram *d = of(in);
    struct list *node;
    while ((node = list_first(&d->spare)) != NULL) {
        list_remove(node);
        batch_free(CONTAINER_OF(node, struct dgram_batch, node));
    }
    (void)munmap(d->memory, SLOTS * d->slot_bytes);
    free(d);
}

/* Drops are told with the next datagram; after the last one only the socket itself knows of them. */
static void refresh_dgram(struct input *in)
{
    struct input_dgram *d = of(in);
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t len = sizeof info;
    if (d->wait == WAIT_NOT || in->config->type != CONFIG_INPUT_UDP)
        return;
    if (getsockopt(d->listener.fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 &&
        len > SK_MEMINFO_DROPS * sizeof info[0])
        note_drops(d, info[SK_MEMINFO_DROPS]);
}

static unsigned loudest_dgram(const struct input *in, struct input_sender *into, unsigned room)
{
    return dgram_senders_loudest(&of(in)->senders, into, room);
}

static struct listener *listener_dgram(struct input *in)
{
    return &of(in)->listener;
}

const struct input_kind input_dgram_kind = {
    .bind = bind_dgram,
    .start = start_dgram,
    .stop = stop_dgram,
    .close = close_dgram,
    .free = free_dgram,
    .listener = listener_dgram,
    .refresh = refresh_dgram,
    .loudest = loudest_dgram,
};

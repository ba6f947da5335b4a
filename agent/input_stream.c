/* input_stream: the listener of the Unix stream input, and who may connect. See input_stream.h. */
#include "agent/input_stream.h"

#include "agent/agent.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 512
#define ACCEPTS_PER_TURN 64
#define RETRY_MS 100
#define GROUPS_MAX 1024 /* of a process; one in more groups than that is not known by its groups */
#define RENDERED_MAX (256u << 20)
#define REPEAT_LOG_US (10 * US_PER_S)

static struct input_stream *of(const struct input *in)
{
    return CONTAINER_OF((struct input *)(uintptr_t)in, struct input_stream, input);
}

static uint64_t now_us(const struct input_stream *in)
{
    return clock_mono_us(&in->input.agent->clock);
}

/* --- accepting ------------------------------------------------------------------------------------------ */

static void on_connection(uv_poll_t *poll, int status, int events);

static void poll_set(struct input_stream *in, bool on)
{
    if (in->polling == on)
        return;
    int r = on ? uv_poll_start(&in->poll, UV_READABLE, on_connection) : uv_poll_stop(&in->poll);
    ensure(r == 0);
    in->polling = on;
}

void stream_accept_again(struct input_stream *in)
{
    if (in->listening && !in->input.stopping)
        poll_set(in, true);
}

static void on_retry(uv_timer_t *timer)
{
    stream_accept_again(timer->data);
}

/* Without a descriptor for it a connection cannot even be refused; it waits in the kernel's queue. Asking
 * again at once would only spin. */
static void wait_for_descriptors(struct input_stream *in, int e)
{
    log_every(&in->accept_limit, now_us(in), REPEAT_LOG_US, LOG_WARN, in->input.subject,
              "cannot accept a connection: %s; it waits until a descriptor is free", strerror(e));
    poll_set(in, false);
    int r = uv_timer_start(&in->retry, on_retry, RETRY_MS, 0);
    ensure(r == 0);
}

/* Beyond max_connections the longest idle one makes room. */
static bool make_room(struct input_stream *in)
{
    struct stream_conn *victim = NULL;
    if (in->conn_count < in->input.config->max_connections)
        return true;
    for (struct list *node = in->conns.next; node != &in->conns && victim == NULL; node = node->next) {
        struct stream_conn *c = CONTAINER_OF(node, struct stream_conn, node);
        if (stream_conn_idle(c))
            victim = c;
    }
    log_every(&in->accept_limit, now_us(in), REPEAT_LOG_US, LOG_WARN, in->input.subject,
              "max_connections (%u) reached: %s", in->input.config->max_connections,
              victim != NULL ? "the longest idle connection is closed" : "a new connection is refused");
    if (victim != NULL)
        stream_conn_close(victim);
    return victim != NULL;
}

static bool is_among(uint32_t id, const uint32_t *ids, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* `allow`: by user, or by any group of the process. The kernel says who it is, not the peer. */
static bool may_connect(const struct config_input *config, int fd, const struct ucred *peer)
{
    gid_t groups[GROUPS_MAX];
    socklen_t len = sizeof groups;
    if (config->allow.uid_count + config->allow.gid_count == 0 ||
        is_among(peer->uid, config->allow.uids, config->allow.uid_count) ||
        is_among(peer->gid, config->allow.gids, config->allow.gid_count))
        return true;
    if (config->allow.gid_count == 0 || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
        return false;
    for (unsigned i = 0; i < len / sizeof groups[0]; i++)
        if (is_among(groups[i], config->allow.gids, config->allow.gid_count))
            return true;
    return false;
}

static void deny(struct input_stream *in, const struct ucred *peer)
{
    in->input.counters.received++;
    in->input.counters.rejected[REJECT_UNAUTHORIZED]++;
    log_every(&in->denied_limit, now_us(in), REPEAT_LOG_US, LOG_WARN, in->input.subject,
              "a connection from pid %ld, uid %ld, gid %ld is refused: `allow` has neither its user nor a "
              "group of it",
              (long)peer->pid, (long)peer->uid, (long)peer->gid);
}

static void take_connection(struct input_stream *in, int fd)
{
    struct ucred peer = {.pid = -1, .uid = (uid_t)-1, .gid = (gid_t)-1};
    socklen_t len = sizeof peer;
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    log_debug(in->input.subject, "connection from pid %ld, uid %ld, gid %ld", (long)peer.pid, (long)peer.uid,
              (long)peer.gid);
    bool allowed = may_connect(in->input.config, fd, &peer);
    if (!allowed)
        deny(in, &peer);
    if (!allowed || !make_room(in)) {
        (void)close(fd);
        return;
    }
    stream_conn_begin(in, fd, peer.pid, peer.uid);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct input_stream *in = poll->data;
    (void)events;
    if (status < 0)
        in->polling = false; /* the loop has stopped watching */
    for (unsigned i = 0; i < ACCEPTS_PER_TURN && in->listening; i++) {
        int fd = accept4(in->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take_connection(in, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            wait_for_descriptors(in, errno);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            break;
        }
    }
    stream_accept_again(in);
}

/* --- life ----------------------------------------------------------------------------------------------- */

static enum err bind_stream(struct agent *a, const struct config_input *config, struct input **ret,
                            struct fault *why)
{
    struct input_stream *in = must_alloc(sizeof *in);
    input_init(&in->input, &input_stream_kind, a, config);
    enum err err =
        listener_bind(&in->listener, config->name, &config->listen, &config->socket, SOCK_STREAM, why);
    if (err != OK) {
        free(in);
        return err;
    }
    list_init(&in->conns);
    list_init(&in->paused);
    list_init(&in->gathering);
    list_init(&in->spare);
    list_init(&in->waiters);
    uint64_t seed;
    entropy_fill(&a->entropy, &seed, sizeof seed);
    chunk_memory_init(&in->chunks, seed);
    msgpack_renderer_init(&in->renderer, MSGPACK_TIMES_FLUENT);
    in->renderer.wanted = SPAN("container_id");
    bytes_init(&in->scratch, RENDERED_MAX);
    int r = uv_poll_init(a->loop, &in->poll, in->listener.fd);
    ensure(r == 0);
    r = uv_timer_init(a->loop, &in->retry);
    ensure(r == 0);
    r = uv_timer_init(a->loop, &in->gather);
    ensure(r == 0);
    in->poll.data = in->retry.data = in->gather.data = in;
    in->poll_open = true;
    in->timers_open = 2;
    *ret = &in->input;
    return OK;
}

static enum err start_stream(struct input *input, struct fault *why)
{
    struct input_stream *in = of(input);
    if (listen(in->listener.fd, BACKLOG) < 0)
        return fault_sys(why, errno, "cannot listen on %s", in->listener.text);
    in->listening = true;
    poll_set(in, true);
    log_info(input->subject, "listening on %s", in->listener.text);
    return OK;
}

void stream_maybe_gone(struct input_stream *in)
{
    if (in->closing && in->conn_count == 0 && !in->poll_open && in->timers_open == 0)
        input_gone(&in->input);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct input_stream *in = handle->data;
    in->poll_open = false;
    stream_maybe_gone(in);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct input_stream *in = handle->data;
    in->timers_open--;
    stream_maybe_gone(in);
}

static void for_each_conn(struct input_stream *in, void (*what)(struct stream_conn *c))
{
    struct list *node = in->conns.next;
    while (node != &in->conns) {
        struct stream_conn *c = CONTAINER_OF(node, struct stream_conn, node);
        node = node->next;
        what(c);
    }
}

static void stop_stream(struct input *input)
{
    struct input_stream *in = of(input);
    if (uv_is_closing((uv_handle_t *)&in->poll))
        return;
    in->listening = false;
    listener_remove_file(&in->listener);
    uv_close((uv_handle_t *)&in->poll, on_poll_closed);
    (void)close(in->listener.fd);
    for_each_conn(in, stream_conn_finish);
}

static void close_stream(struct input *input)
{
    struct input_stream *in = of(input);
    stop_stream(input);
    if (in->closing)
        return;
    in->closing = true;
    for_each_conn(in, stream_conn_close);
    uv_close((uv_handle_t *)&in->retry, on_timer_closed);
    uv_close((uv_handle_t *)&in->gather, on_timer_closed);
}

static void free_stream(struct input *input)
{
    struct input_stream *in = of(input);
    struct list *node;
    while ((node = list_first(&in->spare)) != NULL) {
        list_remove(node);
        stream_batch_free(CONTAINER_OF(node, struct stream_batch, node));
    }
    chunk_memory_deinit(&in->chunks);
    msgpack_renderer_deinit(&in->renderer);
    bytes_deinit(&in->scratch);
    free(in->spare_block);
    free(in);
}

static void second_stream(struct input *input)
{
    for_each_conn(of(input), stream_conn_second);
}

static void reread_stream(struct input *input)
{
    input_reread(input, NULL, NULL, 0);
}

static struct listener *listener_stream(struct input *input)
{
    return &of(input)->listener;
}

static unsigned connections_stream(const struct input *input)
{
    return of(input)->conn_count;
}

static unsigned loudest_stream(const struct input *input, struct input_sender *into, unsigned room)
{
    const struct input_stream *in = CONTAINER_OF(input, const struct input_stream, input);
    unsigned count = 0;
    for (const struct list *node = in->conns.next; node != &in->conns; node = node->next) {
        const struct stream_conn *c = CONTAINER_OF(node, const struct stream_conn, node);
        struct input_sender *s = input_sender_place(into, &count, room, c->bytes_in);
        if (s != NULL)
            (void)snprintf(s->who, sizeof s->who, "pid %ld of uid %ld", (long)c->pid, (long)c->uid);
    }
    return count;
}

const struct input_kind input_stream_kind = {
    .bind = bind_stream,
    .start = start_stream,
    .stop = stop_stream,
    .close = close_stream,
    .free = free_stream,
    .listener = listener_stream,
    .second = second_stream,
    .reread = reread_stream,
    .connections = connections_stream,
    .loudest = loudest_stream,
};

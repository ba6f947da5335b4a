/* load: sends a fixed number of events to an agent and says how many it answered for.
 *
 *   bench_load http  HOST:PORT --events N [--per-request M] [--connections C] [--bytes B] [--rate R]
 *   bench_load udp   HOST:PORT --events N [--bytes B] [--rate R]
 *   bench_load unix  PATH      --events N [--write BYTES] [--bytes B] [--rate R] [--ack 0]
 *                                            (NDJSON; one event a write: --write 0; --ack 0: nobody answers
 * there) bench_load fwd   PATH      --events N [--per-request M] [--bytes B]             (forward protocol,
 * packed, acks)
 *
 * Each event is a whole CloudEvent of about B bytes with an id of its own ("SEED-number"), so that the sink
 * can tell unique ones from repeats; --types N gives them N types, bench.request.0 and on, in turn. HTTP
 * keeps one request in flight per connection; a 429 or 503 is tried again. Prints one JSON object: events
 * answered for, requests, retries, seconds, and latency percentiles. */
#include "tests/bench/event.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct {
    const char *mode, *where;
    uint64_t events, per_request, connections, rate, write_bytes, ack;
    struct event_shape shape;
    double time_limit_s;
} opt = {.events = 100000,
         .per_request = 1,
         .connections = 64,
         .ack = 1,
         .shape = {.seed = 1, .bytes = 300, .types = 1},
         .time_limit_s = 120};

static struct {
    uint64_t next_event, accepted, requests, retries, refused;
    double *latency_s;
    uint64_t latency_count, latency_max;
} run;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void note_latency(double s)
{
    if (run.latency_count < run.latency_max)
        run.latency_s[run.latency_count++] = s;
}

static size_t put_body(char *out, uint64_t first, uint64_t count)
{
    size_t len = 0;
    if (count == 1)
        return put_event(out, first, &opt.shape);
    out[len++] = '[';
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0)
            out[len++] = ',';
        len += put_event(out + len, first + i, &opt.shape);
    }
    out[len++] = ']';
    return len;
}

static int tcp_address(struct sockaddr_in *to)
{
    char host[64];
    const char *colon = strrchr(opt.where, ':');
    if (colon == NULL || (size_t)(colon - opt.where) >= sizeof host)
        return -1;
    memcpy(host, opt.where, (size_t)(colon - opt.where));
    host[colon - opt.where] = '\0';
    *to = (struct sockaddr_in){.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10))};
    return inet_pton(AF_INET, host, &to->sin_addr) == 1 ? 0 : -1;
}

/* Holds the sender to opt.rate events a second. */
static void pace(double started, uint64_t sent)
{
    if (opt.rate == 0)
        return;
    double due = started + (double)sent / (double)opt.rate;
    double left = due - now_s();
    if (left > 0) {
        struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
        nanosleep(&t, NULL);
    }
}

/* --- HTTP ----------------------------------------------------------------------------------------------- */

struct conn {
    int fd;
    char *out;
    size_t out_len, out_at;
    char in[4096];
    size_t in_len;
    uint64_t count;
    double started, due;
    bool busy;
};

static double next_due(double started)
{
    return started + (double)run.next_event / (double)opt.rate;
}

static bool is_due(double started)
{
    return opt.rate == 0 || now_s() >= next_due(started);
}

/* Until the next request is due, at most 0.1 s: whole milliseconds would count as the agent's latency. What is due
 * already found every connection busy and waits for an answer. */
static struct timespec wait_of(double started)
{
    double left = opt.rate == 0 ? 0.1 : next_due(started) - now_s();
    left = left <= 0 || left > 0.1 ? 0.1 : left;
    return (struct timespec){.tv_nsec = (long)(left * 1e9)};
}

static bool next_request(struct conn *c, double started)
{
    if (run.next_event >= opt.events)
        return false;
    uint64_t left = opt.events - run.next_event;
    c->count = left < opt.per_request ? left : opt.per_request;
    char *body = c->out + 256;
    size_t len = put_body(body, run.next_event, c->count);
    char head[256];
    int head_len =
        snprintf(head, sizeof head,
                 "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
                 "Content-Length: %zu\r\n\r\n",
                 c->count == 1 ? "application/cloudevents+json" : "application/cloudevents-batch+json", len);
    memmove(c->out, head, (size_t)head_len);
    memmove(c->out + head_len, body, len);
    c->out_len = (size_t)head_len + len;
    c->out_at = 0;
    /* With a rate, latency counts from when the request was due: an agent that stalls cannot hide it. */
    c->due = opt.rate == 0 ? now_s() : next_due(started);
    run.next_event += c->count;
    c->busy = true;
    c->in_len = 0;
    return true;
}

static void push(struct conn *c)
{
    while (c->out_at < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            die("send");
        c->out_at += (size_t)n;
    }
}

/* Returns true when a whole answer was read. */
static bool pull(struct conn *c, unsigned *status)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, sizeof c->in - 1 - c->in_len, 0);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        (void)fprintf(stderr, "bench_load: the agent closed a connection\n");
        exit(1);
    }
    c->in_len += (size_t)n;
    c->in[c->in_len] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    if (end == NULL)
        return false;
    char *length = strcasestr(c->in, "content-length:");
    size_t body = length == NULL ? 0 : strtoul(length + 15, NULL, 10);
    if (c->in_len < (size_t)(end + 4 - c->in) + body)
        return false;
    *status = (unsigned)strtoul(c->in + 9, NULL, 10);
    return true;
}

static void settle_request(struct conn *c, unsigned status)
{
    run.requests++;
    if (status == 429 || status == 503) {
        run.retries++;
        c->out_at = 0;
        c->in_len = 0;
        usleep(1000);
        push(c);
        return;
    }
    note_latency(now_s() - c->due);
    if (status >= 200 && status < 300)
        run.accepted += c->count;
    else
        run.refused += c->count;
    c->busy = false;
}

static int connect_tcp(const struct sockaddr_in *to)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof *to) < 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void drive_http(void)
{
    struct sockaddr_in to;
    if (tcp_address(&to) < 0)
        die("address");
    struct conn *conns = calloc(opt.connections, sizeof *conns);
    int ep = epoll_create1(0);
    for (uint64_t i = 0; i < opt.connections; i++) {
        conns[i].fd = connect_tcp(&to);
        conns[i].out = malloc((opt.shape.bytes + 256) * opt.per_request + 1024);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &conns[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, conns[i].fd, &e);
    }
    double started = now_s();
    uint64_t turn = 0;
    while (run.accepted + run.refused < opt.events && now_s() - started < opt.time_limit_s) {
        /* In turn, so that none is idle for so long that the agent closes it. */
        for (uint64_t i = 0; i < opt.connections && is_due(started); i++) {
            struct conn *c = &conns[turn++ % opt.connections];
            if (!c->busy && next_request(c, started))
                push(c);
        }
        struct epoll_event events[64];
        struct timespec until_due = wait_of(started);
        int n = epoll_pwait2(ep, events, 64, &until_due, NULL);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            unsigned status;
            if (c->busy)
                push(c);
            if ((events[i].events & EPOLLIN) != 0 && c->busy && pull(c, &status)) {
                settle_request(c, status);
            }
        }
    }
}

/* --- datagrams and Unix streams ------------------------------------------------------------------------- */

static void drive_udp(void)
{
    struct sockaddr_in to;
    if (tcp_address(&to) < 0)
        die("address");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    enum { AT_ONCE = 32 };
    char *buffers = malloc(AT_ONCE * (opt.shape.bytes + 512));
    struct mmsghdr messages[AT_ONCE];
    struct iovec iov[AT_ONCE];
    double started = now_s();
    while (run.next_event < opt.events) {
        unsigned n = 0;
        unsigned at_once = opt.rate > 0 && opt.rate < 50000 ? 1 : AT_ONCE;
        for (; n < at_once && run.next_event < opt.events; n++) {
            char *b = buffers + n * (opt.shape.bytes + 512);
            iov[n] = (struct iovec){b, put_event(b, run.next_event++, &opt.shape)};
            messages[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[n], .msg_iovlen = 1}};
        }
        unsigned at = 0;
        while (at < n) {
            int r = sendmmsg(fd, messages + at, n - at, 0);
            if (r < 0)
                die("sendmmsg");
            at += (unsigned)r;
        }
        pace(started, run.next_event);
    }
    run.accepted = run.next_event; /* sent; nobody answers datagrams */
}

static int connect_unix(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)snprintf(to.sun_path, sizeof to.sun_path, "%s", opt.where);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    return fd;
}

static void write_all(int fd, const char *at, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n < 0)
            die("send");
        at += n;
        len -= (size_t)n;
    }
}

static void drive_unix(void)
{
    int fd = connect_unix();
    char *buffer = malloc(opt.write_bytes + opt.shape.bytes + 1024);
    double started = now_s();
    while (run.next_event < opt.events) {
        size_t len = 0;
        do {
            len += put_event(buffer + len, run.next_event++, &opt.shape);
            buffer[len++] = '\n';
        } while (run.next_event < opt.events && len < opt.write_bytes);
        write_all(fd, buffer, len);
        pace(started, run.next_event);
    }
    if (opt.ack == 0) {
        run.accepted = run.next_event;
        close(fd);
        return;
    }
    static const char ask[] = "{\"penstock\":\"ack\"}\n";
    write_all(fd, ask, sizeof ask - 1);
    char answer[1024];
    ssize_t n = recv(fd, answer, sizeof answer - 1, 0);
    if (n <= 0)
        die("no answer to the ack line");
    answer[n] = '\0';
    const char *accepted = strstr(answer, "\"accepted\":");
    if (accepted != NULL)
        run.accepted = strtoull(accepted + 11, NULL, 10);
    run.refused = run.next_event - run.accepted;
}

/* Forward protocol, PackedForward with a chunk id per message, one message in flight. */
static void drive_forward(void)
{
    int fd = connect_unix();
    size_t cap = opt.per_request * (opt.shape.bytes + 64) + 256;
    char *entries = malloc(cap), *message = malloc(cap + 256), text[64 << 10];
    while (run.next_event < opt.events) {
        size_t len = 0;
        uint64_t first = run.next_event, count = 0;
        for (; count < opt.per_request && run.next_event < opt.events; count++) {
            uint32_t sec = htonl(1777885953), nsec = htonl((uint32_t)(run.next_event % 1000000000));
            entries[len++] = (char)0x92;
            entries[len++] = (char)0xd7;
            entries[len++] = 0;
            memcpy(entries + len, &sec, 4), len += 4;
            memcpy(entries + len, &nsec, 4), len += 4;
            size_t n = put_event(text, run.next_event++, &opt.shape);
            entries[len++] = (char)0x81; /* {"log": text} */
            memcpy(entries + len, "\xa3log\xda", 5), len += 5;
            entries[len++] = (char)(n >> 8);
            entries[len++] = (char)n;
            memcpy(entries + len, text, n), len += n;
        }
        size_t m = 0;
        memcpy(message + m,
               "\x93\xa5"
               "bench\xc6",
               8),
            m += 8;
        uint32_t be = htonl((uint32_t)len);
        memcpy(message + m, &be, 4), m += 4;
        memcpy(message + m, entries, len), m += len;
        char chunk[32];
        int chunk_len = snprintf(chunk, sizeof chunk, "%010llu-%010llu", (unsigned long long)opt.shape.seed,
                                 (unsigned long long)first);
        memcpy(message + m,
               "\x81\xa5"
               "chunk",
               7),
            m += 7;
        message[m++] = (char)(0xa0 | chunk_len);
        memcpy(message + m, chunk, (size_t)chunk_len), m += (size_t)chunk_len;
        double t = now_s();
        write_all(fd, message, m);
        char answer[256];
        size_t want = 6 + (size_t)chunk_len, have = 0; /* 81 a3 "ack" str */
        while (have < want) {
            ssize_t n = recv(fd, answer + have, sizeof answer - have, 0);
            if (n <= 0)
                die("no ack");
            have += (size_t)n;
        }
        note_latency(now_s() - t);
        run.accepted += count;
        run.requests++;
    }
}

/* --- main ----------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double percentile(double p)
{
    if (run.latency_count == 0)
        return 0;
    uint64_t at = (uint64_t)(p * (double)(run.latency_count - 1));
    return run.latency_s[at] * 1000;
}

static void parse(int argc, char **argv)
{
    if (argc < 3) {
        (void)fprintf(stderr, "usage: bench_load http|udp|unix|fwd WHERE [--events N] …\n");
        exit(64);
    }
    opt.mode = argv[1];
    opt.where = argv[2];
    for (int i = 3; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--events") == 0)
            opt.events = value;
        else if (strcmp(argv[i], "--per-request") == 0)
            opt.per_request = value;
        else if (strcmp(argv[i], "--connections") == 0)
            opt.connections = value;
        else if (strcmp(argv[i], "--bytes") == 0)
            opt.shape.bytes = value;
        else if (strcmp(argv[i], "--rate") == 0)
            opt.rate = value;
        else if (strcmp(argv[i], "--write") == 0)
            opt.write_bytes = value;
        else if (strcmp(argv[i], "--types") == 0)
            opt.shape.types = value == 0 ? 1 : value;
        else if (strcmp(argv[i], "--ack") == 0)
            opt.ack = value;
        else if (strcmp(argv[i], "--seed") == 0)
            opt.shape.seed = value;
        else if (strcmp(argv[i], "--time-limit") == 0)
            opt.time_limit_s = (double)value;
        else {
            (void)fprintf(stderr, "bench_load: unknown option %s\n", argv[i]);
            exit(64);
        }
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    run.latency_max = opt.events / opt.per_request + 1;
    run.latency_s = malloc(run.latency_max * sizeof *run.latency_s);
    double started = now_s();
    if (strcmp(opt.mode, "http") == 0)
        drive_http();
    else if (strcmp(opt.mode, "udp") == 0)
        drive_udp();
    else if (strcmp(opt.mode, "unix") == 0)
        drive_unix();
    else if (strcmp(opt.mode, "fwd") == 0)
        drive_forward();
    else
        return 64;
    double took = now_s() - started;
    qsort(run.latency_s, run.latency_count, sizeof *run.latency_s, by_value);
    (void)printf("{\"accepted\":%llu,\"refused\":%llu,\"requests\":%llu,\"retries\":%llu,\"seconds\":%.3f,"
                 "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
                 (unsigned long long)run.accepted, (unsigned long long)run.refused,
                 (unsigned long long)run.requests, (unsigned long long)run.retries, took, percentile(0.5),
                 percentile(0.99), percentile(1));
    return run.refused == 0 && run.accepted == opt.events ? 0 : 1;
}

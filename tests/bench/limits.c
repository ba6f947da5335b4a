/* limits: the price of what no forwarder of this kind can leave out, measured on this machine in this minute.
 *
 *     bench_limits receive http|udp|unix|fwd WHERE EVENTS GATHER_MS
 *
 * listens at WHERE (HOST:PORT or a path), takes EVENTS events from bench_load, answers them, and does nothing
 * else: the system calls and the wake-ups with the least possible program around them. With GATHER_MS it sleeps that long
 * after each round of reading, which takes fewer of both where nobody waits for an answer.
 *
 *     bench_limits parts EVENTS BYTES PER_REQUEST COMMIT DIR
 *
 * does everything after the socket, one part at a time: `http` (the parser over the requests), `validate`
 * (JSON, once), `checksum` (CRC-32C, once), `copy` (once), `write` (to a file below DIR, with fdatasync each
 * COMMIT bytes, since no more than that is under way at once, into a file that was written before), `identity`
 * (the same with 4 KiB for each COMMIT bytes: what a batch is called and which events it has), `read` (that
 * file), `hop` (a commit that does not stop the loop is handed to another thread and back: two wake-ups per
 * COMMIT bytes), `compress` (gzip as the agent does it, in blocks of 256 KiB), `encrypt` (the cheaper of
 * AES-GCM and ChaCha20-Poly1305, in TLS records), `send` (to loopback TCP, where a child reads it).
 *
 * Both print one JSON object of processor microseconds (user + system) per event; `sync_p99_ms`, which is no part, is
 * how long one of those writes with its sync took. tests/bench/run adds up
 * what a path needs; an agent's cost over that sum is what its own bookkeeping costs. */
#include "lib/base/crc32c.h"
#include "lib/codec/compress.h"
#include "lib/codec/json.h"
#include "tests/bench/event.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <llhttp.h>
#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 << 10, RECORD = 16 << 10, CONNECTIONS = 128, DATAGRAMS = 64 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void *memory(size_t size)
{
    void *at = calloc(1, size);
    if (at == NULL)
        die("memory");
    return at;
}

/* Processor time of this process: user and system. */
static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* --- receive -------------------------------------------------------------------------------------------- */

struct peer {
    int fd;
    size_t len;
    char in[BLOCK];
};

static struct {
    uint64_t events, seen;
    struct timespec gather;
} server;

static int listen_at(const char *where, int type)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_un un;
    } to = {0};
    socklen_t len;
    const char *colon = strrchr(where, ':');
    if (where[0] == '/') {
        to.un.sun_family = AF_UNIX;
        (void)snprintf(to.un.sun_path, sizeof to.un.sun_path, "%s", where);
        len = sizeof to.un;
    } else if (colon != NULL) {
        to.in = (struct sockaddr_in){.sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10)),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        len = sizeof to.in;
    } else {
        die("address");
        return -1;
    }
    int fd = socket(to.any.sa_family, type | SOCK_CLOEXEC, 0), on = 1, room = 16 << 20;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (fd < 0 || bind(fd, &to.any, len) < 0 || (type == SOCK_STREAM && listen(fd, CONNECTIONS) < 0))
        die("listen");
    return fd;
}

static void answer(int fd, const char *text, size_t len)
{
    if (send(fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
        die("answer");
}

static uint64_t count_of(const char *at, size_t len, const char *mark)
{
    uint64_t n = 0;
    size_t mark_len = strlen(mark);
    for (const char *end = at + len; (at = memmem(at, (size_t)(end - at), mark, mark_len)) != NULL;
         at += mark_len)
        n++;
    return n;
}

/* Whole requests at the start of the buffer are answered and dropped; bench_load has one in flight. */
static void take_http(struct peer *p)
{
    char *end = memmem(p->in, p->len, "\r\n\r\n", 4);
    char *length = end == NULL ? NULL : memmem(p->in, p->len, "Content-Length: ", 16);
    if (length == NULL || p->len < (size_t)(end + 4 - p->in) + strtoul(length + 16, NULL, 10))
        return;
    static const char ok[] = "HTTP/1.1 202 Accepted\r\nDate: Mon, 04 May 2026 09:12:33 GMT\r\n"
                             "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"accepted\":1}";
    server.seen += count_of(end, p->len - (size_t)(end - p->in), "{\"specversion\"");
    answer(p->fd, ok, sizeof ok - 1);
    p->len = 0;
}

/* Lines are not looked at; the ack line ends the run. */
static void take_unix(struct peer *p)
{
    static const char ask[] = "{\"penstock\":\"ack\"}\n";
    if (p->len >= sizeof ask - 1 && memcmp(p->in + p->len - (sizeof ask - 1), ask, sizeof ask - 1) == 0) {
        char text[64];
        int len = snprintf(text, sizeof text, "{\"accepted\":%llu,\"rejected\":0}\n",
                           (unsigned long long)server.events);
        answer(p->fd, text, (size_t)len);
        server.seen = server.events;
    }
    p->len = 0;
}

/* A message of bench_load: 93 a5 "bench" c6 length entries 81 a5 "chunk" string. */
static void take_forward(struct peer *p)
{
    uint32_t entries;
    if (p->len < 12)
        return;
    memcpy(&entries, p->in + 8, 4);
    size_t at = 12 + (size_t)ntohl(entries) + 7;
    if (p->len <= at || p->len < at + 1 + ((size_t)p->in[at] & 0x1f))
        return;
    char text[64] = "\x81\xa3"
                    "ack";
    memcpy(text + 5, p->in + at, p->len - at);
    answer(p->fd, text, 5 + p->len - at);
    server.seen += count_of(p->in, p->len, "\"specversion\"");
    p->len = 0;
}

static void serve_stream(int listener, void (*take)(struct peer *p))
{
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN}, ready[CONNECTIONS];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    while (server.seen < server.events) {
        int n = epoll_wait(ep, ready, CONNECTIONS, 10000);
        if (n <= 0)
            die("nothing comes");
        for (int i = 0; i < n; i++) {
            struct peer *p = ready[i].data.ptr;
            if (p == NULL) {
                p = memory(sizeof *p);
                p->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                struct epoll_event of_peer = {.events = EPOLLIN, .data.ptr = p};
                epoll_ctl(ep, EPOLL_CTL_ADD, p->fd, &of_peer);
                continue;
            }
            ssize_t got = read(p->fd, p->in + p->len, sizeof p->in - p->len);
            if (got <= 0) {
                epoll_ctl(ep, EPOLL_CTL_DEL, p->fd, NULL);
                continue;
            }
            p->len += (size_t)got;
            take(p);
        }
        if (server.gather.tv_nsec > 0)
            nanosleep(&server.gather, NULL);
    }
}

static void serve_datagrams(int fd)
{
    static char buffers[DATAGRAMS][2048];
    struct iovec iov[DATAGRAMS];
    struct mmsghdr messages[DATAGRAMS];
    for (int i = 0; i < DATAGRAMS; i++) {
        iov[i] = (struct iovec){buffers[i], sizeof buffers[i]};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
    }
    struct timeval patience = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (server.seen < server.events) {
        int n = recvmmsg(fd, messages, DATAGRAMS, MSG_WAITFORONE, NULL);
        if (n <= 0)
            break; /* what the kernel dropped does not come */
        server.seen += (uint64_t)n;
        if (n < DATAGRAMS)
            nanosleep(&server.gather, NULL);
    }
}

static int receive(char **argv)
{
    server.events = strtoull(argv[4], NULL, 10);
    server.gather.tv_nsec = (long)strtoul(argv[5], NULL, 10) * 1000000;
    bool udp = strcmp(argv[2], "udp") == 0;
    int fd = listen_at(argv[3], udp ? SOCK_DGRAM : SOCK_STREAM);
    double from = cpu_us();
    if (udp)
        serve_datagrams(fd);
    else
        serve_stream(fd, strcmp(argv[2], "http") == 0   ? take_http
                         : strcmp(argv[2], "unix") == 0 ? take_unix
                                                        : take_forward);
    (void)printf("{\"receive\":%.4f}\n", (cpu_us() - from) / (double)(server.seen == 0 ? 1 : server.seen));
    return 0;
}

/* --- parts ---------------------------------------------------------------------------------------------- */

static struct {
    uint64_t count, per_request;
    size_t commit_bytes;
    char *text; /* all events, one after another, each followed by LF */
    size_t len;
    struct bytes packed;
} load;

/* A function of its own also where it has one caller: callgrind is asked for its instructions by its name. */
#define PART __attribute__((noinline))

static void say(const char *name, double from, const char *end)
{
    (void)printf("\"%s\":%.4f%s", name, (cpu_us() - from) / (double)load.count, end);
}

static PART double part_http(void)
{
    llhttp_settings_t settings;
    llhttp_t parser;
    llhttp_settings_init(&settings);
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    size_t body = load.len / (size_t)load.count * (size_t)load.per_request;
    char head[256];
    int len = snprintf(head, sizeof head,
                       "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\n"
                       "Content-Length: %zu\r\n\r\n",
                       body);
    double from = cpu_us();
    for (uint64_t i = 0; i < load.count / load.per_request; i++)
        if (llhttp_execute(&parser, head, (size_t)len) != HPE_OK ||
            llhttp_execute(&parser, load.text, body) != HPE_OK)
            die("llhttp");
    return from;
}

static PART double part_validate(void)
{
    double from = cpu_us();
    for (char *at = load.text, *end = load.text + load.len; at < end;) {
        char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (json_check((struct span){(const uint8_t *)at, (size_t)(line_end - at)}, NULL, NULL) != OK)
            die("json");
        at = line_end + 1;
    }
    return from;
}

static PART double part_checksum(void)
{
    double from = cpu_us();
    uint32_t crc = 0;
    for (size_t at = 0; at < load.len; at += BLOCK)
        crc = crc32c(crc, load.text + at, load.len - at < BLOCK ? load.len - at : BLOCK);
    volatile uint32_t used = crc;
    (void)used;
    return from;
}

static PART double part_copy(void)
{
    char *to = memory(BLOCK);
    double from = cpu_us();
    for (size_t at = 0; at < load.len; at += BLOCK) {
        memcpy(to, load.text + at, load.len - at < BLOCK ? load.len - at : BLOCK);
        __asm__ volatile("" ::"r"(to) : "memory");
    }
    free(to);
    return from;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* From the file that part_write() left, which the kernel still has in memory, as it has a log's last gigabytes. */
static PART double part_read(const char *path)
{
    char *to = memory(BLOCK);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    double from = cpu_us();
    for (size_t at = 0; at < load.len; at += BLOCK)
        if (pread(fd, to, BLOCK, (off_t)at) <= 0)
            die("read");
    double spent = cpu_us() - from;
    close(fd);
    free(to);
    return cpu_us() - spent;
}

/* `piece` bytes of each commit: all of it, or what only says which events a batch has. */
static PART double part_write(const char *path, size_t piece, double *ret_sync_p99_ms)
{
    size_t commits = load.len / load.commit_bytes + 1, n = 0;
    double *took_ms = memory(commits * sizeof *took_ms);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || pwrite(fd, load.text, load.len, 0) != (ssize_t)load.len || fdatasync(fd) < 0)
        die(path);
    double from = cpu_us();
    for (size_t at = 0; at < load.len; at += load.commit_bytes) {
        size_t len = load.len - at < piece ? load.len - at : piece;
        double began_ms = wall_ms();
        if (pwrite(fd, load.text + at, len, (off_t)at) != (ssize_t)len || fdatasync(fd) < 0)
            die("write");
        took_ms[n++] = wall_ms() - began_ms;
    }
    double spent = cpu_us() - from;
    close(fd);
    qsort(took_ms, n, sizeof *took_ms, by_value);
    *ret_sync_p99_ms = took_ms[(n - 1) * 99 / 100];
    free(took_ms);
    return cpu_us() - spent;
}

/* One thread waits for work, the other for its end, as a loop and its disk thread do. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t come;
    uint64_t asked;
    int done;
} hop = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};

static void *worker(void *unused)
{
    uint64_t next = 1;
    bool last = false;
    for (; !last; next++) {
        pthread_mutex_lock(&hop.lock);
        while (hop.asked < next)
            pthread_cond_wait(&hop.come, &hop.lock);
        last = hop.asked == UINT64_MAX;
        pthread_mutex_unlock(&hop.lock);
        const uint64_t one = 1;
        if (write(hop.done, &one, sizeof one) != sizeof one)
            die("eventfd");
    }
    return unused;
}

static void hand_over(int ep, uint64_t number)
{
    struct epoll_event ready;
    uint64_t count;
    pthread_mutex_lock(&hop.lock);
    hop.asked = number;
    pthread_cond_signal(&hop.come);
    pthread_mutex_unlock(&hop.lock);
    if (epoll_wait(ep, &ready, 1, -1) != 1 || read(hop.done, &count, sizeof count) != sizeof count)
        die("hop");
}

static PART double part_hop(void)
{
    pthread_t thread;
    struct epoll_event e = {.events = EPOLLIN};
    int ep = epoll_create1(EPOLL_CLOEXEC);
    hop.done = eventfd(0, EFD_CLOEXEC);
    epoll_ctl(ep, EPOLL_CTL_ADD, hop.done, &e);
    if (pthread_create(&thread, NULL, worker, NULL) != 0)
        die("thread");
    double from = cpu_us();
    for (uint64_t i = 1; i <= load.len / load.commit_bytes; i++)
        hand_over(ep, i);
    double spent = cpu_us() - from;
    hand_over(ep, UINT64_MAX);
    pthread_join(thread, NULL);
    close(hop.done);
    close(ep);
    return cpu_us() - spent;
}

static PART double part_compress(void)
{
    struct encoder *encoder = encoder_new();
    bytes_init(&load.packed, load.len + (1 << 20));
    double from = cpu_us();
    for (size_t at = 0; at < load.len; at += BLOCK) {
        struct span block = {(const uint8_t *)load.text + at, load.len - at < BLOCK ? load.len - at : BLOCK};
        if (encoder_encode(encoder, ENCODING_GZIP, &block, 1, &load.packed, NULL) != OK)
            die("compress");
    }
    encoder_free(encoder);
    return from;
}

/* What the compressed events cost in records of 16 KiB, by either cipher. */
static PART double part_encrypt_aes(void)
{
    unsigned char key[32] = {1}, nonce[12] = {2}, tag[16], *out = memory(RECORD);
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    if (mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, 256) != 0)
        die("key");
    double from = cpu_us();
    for (size_t at = 0; at < load.packed.len; at += RECORD) {
        size_t len = load.packed.len - at < RECORD ? load.packed.len - at : RECORD;
        if (mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, len, nonce, 12, NULL, 0, load.packed.at + at,
                                      out, 16, tag) != 0)
            die("encrypt");
    }
    double spent = cpu_us() - from;
    mbedtls_gcm_free(&gcm);
    free(out);
    return spent;
}

static PART double part_encrypt_chacha(void)
{
    unsigned char key[32] = {1}, nonce[12] = {2}, tag[16], *out = memory(RECORD);
    mbedtls_chachapoly_context chacha;
    mbedtls_chachapoly_init(&chacha);
    if (mbedtls_chachapoly_setkey(&chacha, key) != 0)
        die("key");
    double from = cpu_us();
    for (size_t at = 0; at < load.packed.len; at += RECORD) {
        size_t len = load.packed.len - at < RECORD ? load.packed.len - at : RECORD;
        if (mbedtls_chachapoly_encrypt_and_tag(&chacha, len, nonce, NULL, 0, load.packed.at + at, out, tag) != 0)
            die("encrypt");
    }
    double spent = cpu_us() - from;
    mbedtls_chachapoly_free(&chacha);
    free(out);
    return spent;
}

static double part_encrypt(void)
{
    double aes = part_encrypt_aes(), chacha = part_encrypt_chacha();
    return cpu_us() - (aes < chacha ? aes : chacha);
}

static PART double part_send(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof to;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&to, len) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&to, &len) < 0 ||
        connect(fd, (struct sockaddr *)&to, len) < 0)
        die("loopback");
    pid_t child = fork();
    if (child == 0) {
        static char sunk[BLOCK];
        int in = accept(listener, NULL, NULL);
        close(fd);
        while (read(in, sunk, sizeof sunk) > 0)
            ;
        _exit(0);
    }
    double from = cpu_us();
    for (size_t at = 0; at < load.packed.len;) {
        ssize_t n = send(fd, load.packed.at + at,
                         load.packed.len - at < RECORD ? load.packed.len - at : RECORD, MSG_NOSIGNAL);
        if (n < 0)
            die("send");
        at += (size_t)n;
    }
    double spent = cpu_us() - from;
    close(fd);
    (void)waitpid(child, NULL, 0);
    return cpu_us() - spent;
}

static int parts(char **argv)
{
    load.count = strtoull(argv[2], NULL, 10);
    load.per_request = strtoull(argv[4], NULL, 10);
    load.commit_bytes = strtoull(argv[5], NULL, 10);
    struct event_shape shape = {.seed = 1, .bytes = strtoull(argv[3], NULL, 10), .types = 1};
    load.text = memory((size_t)load.count * (size_t)(shape.bytes + 400));
    for (uint64_t i = 0; i < load.count; i++) {
        load.len += put_event(load.text + load.len, i, &shape);
        load.text[load.len++] = '\n';
    }
    (void)printf("{");
    say("http", part_http(), ",");
    say("validate", part_validate(), ",");
    say("checksum", part_checksum(), ",");
    say("copy", part_copy(), ",");
    double sync_p99_ms, unused;
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/limits.data", argv[6]);
    say("write", part_write(path, load.commit_bytes, &sync_p99_ms), ",");
    say("identity", part_write(path, 4096, &unused), ",");
    say("read", part_read(path), ",");
    unlink(path);
    say("hop", part_hop(), ",");
    say("compress", part_compress(), ",");
    say("encrypt", part_encrypt(), ",");
    say("send", part_send(), ",");
    (void)printf("\"sync_p99_ms\":%.3f}\n", sync_p99_ms);
    bytes_deinit(&load.packed);
    free(load.text);
    return 0;
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc == 6 && strcmp(argv[1], "receive") == 0)
        return receive(argv);
    if (argc == 7 && strcmp(argv[1], "parts") == 0)
        return parts(argv);
    (void)fprintf(
        stderr,
        "usage: bench_limits receive DRIVER WHERE EVENTS GATHER_MS | parts EVENTS BYTES PER_REQUEST COMMIT DIR\n");
    return 64;
}

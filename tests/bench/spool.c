/* bench_spool: what the spool alone costs, on a real directory. Jobs run on the one thread, between appends,
 * so that the figures are those of one core with the disk's waiting in them; but for those of `latency`, which have
 * threads beside it as they have in the agent, one for each kind.
 *
 *   bench_spool append  DIR EVENTS [BYTES]   appends with fdatasync, fifty at a time: events a second, processor time,
 *                                            commits, bytes written per byte of event
 *   bench_spool latency DIR EVENTS RATE      events of 300 bytes come one by one, RATE a second: the time from when each was
 *                                            due until it is durable, and the disk's own syncs beside it
 *   bench_spool recover DIR MIB              a backlog of so many MiB, then the time from spool_open() to NOTE_OPENED,
 *                                            from a warm page cache, three times
 *   bench_spool backlog DIR GIB              a sparse backlog of so many GiB, opened under an address space
 * of 256 MiB; fails when that is not enough
 *
 * DIR must be there and empty. Prints one JSON object. */
#include "agent/disk_uv.h"
#include "lib/base/ensure.h"
#include "lib/spool/accounts.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/internal.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define SEGMENT (16 * MIB)

static struct {
    struct spool *spool;
    struct spool_vfs vfs;
    struct spool_job *jobs[8];
    unsigned job_count;
    uint64_t timer_us, random;
    bool opened, closed;
} b;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t); /* cannot fail for these clocks */
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* A thread for the jobs of one kind, of which there is one at a time. */
struct lane {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct spool_job *job, *done;
    struct spool_vfs vfs;
};

static struct lane lanes[SPOOL_JOB_KINDS];
static bool threaded;

static void *run_lane(void *arg)
{
    struct lane *l = arg;
    (void)pthread_mutex_lock(&l->mutex); /* of a default kind, as below: cannot fail */
    for (;;) {
        while (l->job == NULL)
            (void)pthread_cond_wait(&l->changed, &l->mutex);
        struct spool_job *job = l->job;
        (void)pthread_mutex_unlock(&l->mutex);
        job->run(job, &l->vfs);
        (void)pthread_mutex_lock(&l->mutex);
        l->done = job;
        l->job = NULL;
    }
    return NULL;
}

static void start_lanes(void)
{
    for (unsigned k = 0; k < SPOOL_JOB_KINDS; k++) {
        struct lane *l = &lanes[k];
        l->vfs = b.vfs;
        (void)pthread_mutex_init(&l->mutex, NULL);
        (void)pthread_cond_init(&l->changed, NULL);
        int err = pthread_create(&l->thread, NULL, run_lane, l);
        ensure(err == 0);
    }
    threaded = true;
}

static void lane_submit(struct lane *l, struct spool_job *job)
{
    (void)pthread_mutex_lock(&l->mutex);
    ensure(l->job == NULL && l->done == NULL);
    l->job = job;
    (void)pthread_cond_signal(&l->changed);
    (void)pthread_mutex_unlock(&l->mutex);
}

static bool lane_turn(struct lane *l)
{
    (void)pthread_mutex_lock(&l->mutex);
    struct spool_job *done = l->done;
    l->done = NULL;
    (void)pthread_mutex_unlock(&l->mutex);
    if (done != NULL)
        spool_job_done(done);
    return done != NULL;
}

static void on_submit(void *ctx, struct spool_job *job)
{
    (void)ctx;
    if (threaded) {
        lane_submit(&lanes[job->kind], job);
        return;
    }
    ensure(b.job_count < 8);
    b.jobs[b.job_count++] = job;
}

static uint64_t on_mono(void *ctx)
{
    (void)ctx;
    return now_ns(CLOCK_MONOTONIC) / 1000;
}

static uint64_t on_wall(void *ctx)
{
    (void)ctx;
    return now_ns(CLOCK_REALTIME);
}

static uint64_t on_random(void *ctx)
{
    (void)ctx;
    b.random = b.random * 6364136223846793005u + 1442695040888963407u;
    return b.random ^ (b.random >> 29);
}

static void on_timer(void *ctx, uint64_t at)
{
    (void)ctx;
    b.timer_us = at;
}

static void on_note(void *ctx, const struct spool_note *note)
{
    (void)ctx;
    b.opened |= note->kind == NOTE_OPENED;
    b.closed |= note->kind == NOTE_CLOSED;
    if (note->kind != NOTE_WARNING && note->kind != NOTE_FAILED)
        return;
    (void)fprintf(stderr, "%s\n", note->fault->text);
    if (note->kind == NOTE_FAILED)
        exit(74);
}

static bool turn(void)
{
    if (b.job_count > 0) {
        struct spool_job *job = b.jobs[0];
        memmove(b.jobs, b.jobs + 1, --b.job_count * sizeof b.jobs[0]);
        job->run(job, &b.vfs);
        spool_job_done(job);
        return true;
    }
    for (unsigned k = 0; threaded && k < SPOOL_JOB_KINDS; k++)
        if (lane_turn(&lanes[k]))
            return true;
    if (b.timer_us == 0 || b.timer_us > on_mono(NULL))
        return false;
    b.timer_us = 0;
    spool_tick(b.spool);
    return true;
}

/* Returns the microseconds that opening took. */
static uint64_t open_spool(enum spool_durability durability, uint64_t max_bytes)
{
    struct spool_config config = {.name = "bench",
                                  .max_bytes = max_bytes,
                                  .segment_bytes = SEGMENT,
                                  .dead_max_bytes = MIB,
                                  .durability = durability,
                                  .recent_us = 300 * US_PER_S,
                                  .recent_max = 65536};
    struct spool_host host = {NULL, on_submit, on_mono, on_wall, on_random, on_timer, on_note};
    b.opened = b.closed = false;
    b.spool = spool_new(&config, &b.vfs, &host);
    uint64_t from = on_mono(NULL);
    spool_open(b.spool);
    while (!b.opened)
        (void)turn();
    return on_mono(NULL) - from;
}

static void close_spool(void)
{
    spool_close(b.spool);
    while (!b.closed)
        (void)turn();
    spool_free(b.spool);
}

static void append(uint64_t events, size_t bytes)
{
    enum { TOGETHER = 50 };
    struct spool_record records[TOGETHER];
    char *body = must_alloc(bytes);
    memset(body, 'e', bytes);
    uint64_t seq = 0;
    for (uint64_t done = 0; done < events;) {
        for (unsigned i = 0; i < TOGETHER; i++)
            records[i] = (struct spool_record){.id = SPAN("0190c3f2-0000-7000-8000-000000000000"),
                                               .body = span_of(body, bytes),
                                               .wall_ns = on_wall(NULL)};
        enum err err = spool_append(b.spool, records, TOGETHER, &seq);
        ensure(err == OK || err == ERR_AGAIN || err == ERR_FULL);
        ensure(err != ERR_FULL);
        if (err == OK)
            done += TOGETHER;
        else
            (void)turn();
    }
    while (spool_acked(b.spool) < seq)
        (void)turn();
    free(body);
}

static int bench_append(uint64_t events, size_t bytes)
{
    (void)open_spool(SPOOL_FSYNC, 64 * 1024 * MIB);
    struct spool_ledger before, after;
    spool_ledger(b.spool, &before);
    uint64_t wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    append(events, bytes);
    wall = now_ns(CLOCK_MONOTONIC) - wall;
    cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    spool_ledger(b.spool, &after);
    uint64_t commits = after.commits - before.commits, written = after.commit_bytes - before.commit_bytes;
    printf("{\"events\":%llu,\"bytes\":%zu,\"events_per_second\":%.0f,\"cpu_us_per_event\":%.3f,\"commits\":%"
           "llu,"
           "\"written_per_byte\":%.3f}\n",
           (unsigned long long)events, bytes, (double)events * 1e9 / (double)wall,
           (double)cpu / 1e3 / (double)events, (unsigned long long)commits,
           (double)written / (double)(events * bytes));
    close_spool();
    return 0;
}

/* --- latency -------------------------------------------------------------------------------------------- */

struct samples {
    uint64_t *ns;
    size_t count, room;
};

static struct samples syncs;
static int (*real_fdatasync)(void *ctx, int fd);

static void sample(struct samples *s, uint64_t ns)
{
    if (s->count < s->room)
        s->ns[s->count++] = ns;
}

static int timed_fdatasync(void *ctx, int fd)
{
    uint64_t from = now_ns(CLOCK_MONOTONIC);
    int r = real_fdatasync(ctx, fd);
    sample(&syncs, now_ns(CLOCK_MONOTONIC) - from);
    return r;
}

static int by_size(const void *left_at, const void *right_at)
{
    const uint64_t *left = left_at, *right = right_at;
    return (*left > *right) - (*left < *right);
}

static double part_ms(struct samples *s, double part)
{
    qsort(s->ns, s->count, sizeof *s->ns, by_size);
    return s->count == 0 ? 0 : (double)s->ns[(size_t)((double)(s->count - 1) * part)] / 1e6;
}

/* Those that are due by now. */
static uint64_t append_due(uint64_t done, uint64_t due, uint64_t *seq)
{
    static char body[300];
    while (done < due) {
        struct spool_record record = {.id = SPAN("0190c3f2-0000-7000-8000-000000000000"),
                                      .body = span_of(body, sizeof body),
                                      .wall_ns = on_wall(NULL)};
        if (spool_append(b.spool, &record, 1, seq) != OK)
            break;
        done++;
    }
    return done;
}

static int bench_latency(uint64_t events, uint64_t rate)
{
    struct samples waits = {must_alloc(events * sizeof(uint64_t)), 0, events};
    syncs = (struct samples){must_alloc(events * sizeof(uint64_t)), 0, events};
    (void)open_spool(SPOOL_FSYNC, 64 * 1024 * MIB);
    start_lanes();
    real_fdatasync = b.vfs.fdatasync;
    lanes[SPOOL_JOB_COMMIT].vfs.fdatasync = timed_fdatasync;
    uint64_t step_ns = 1000000000 / rate, start = now_ns(CLOCK_MONOTONIC), done = 0, seq = 0, first_seq = 0;
    while (waits.count < events) {
        uint64_t now = now_ns(CLOCK_MONOTONIC), due = (now - start) / step_ns + 1;
        uint64_t before = done;
        done = append_due(done, due < events ? due : events, &seq);
        if (before == 0 && done > 0)
            first_seq = seq - done + 1;
        (void)turn();
        now = now_ns(CLOCK_MONOTONIC);
        while (done > 0 && waits.count < events && first_seq + waits.count <= spool_acked(b.spool))
            sample(&waits, now - start - waits.count * step_ns);
    }
    printf("{\"events\":%llu,\"rate\":%llu,\"wait_ms\":{\"p50\":%.2f,\"p99\":%.2f},\"sync_ms\":{\"p50\":%.2f,"
           "\"p99\":%.2f},\"syncs\":%zu}\n",
           (unsigned long long)events, (unsigned long long)rate, part_ms(&waits, 0.5), part_ms(&waits, 0.99),
           part_ms(&syncs, 0.5), part_ms(&syncs, 0.99), syncs.count);
    close_spool();
    free(waits.ns);
    free(syncs.ns);
    return 0;
}

static int bench_recover(uint64_t mib)
{
    (void)open_spool(SPOOL_NO_SYNC, 64 * 1024 * MIB);
    append(mib * MIB / 300, 300);
    spool_abandon(b.spool); /* as a kill does */
    b.job_count = 0;
    uint64_t us[3];
    for (unsigned i = 0; i < 3; i++) {
        us[i] = open_spool(SPOOL_FSYNC, 64 * 1024 * MIB);
        struct spool_ledger ledger;
        spool_ledger(b.spool, &ledger);
        ensure(ledger.pending >= mib * MIB / 300);
        spool_abandon(b.spool);
        b.job_count = 0;
    }
    printf("{\"mib\":%llu,\"open_ms\":[%.1f,%.1f,%.1f]}\n", (unsigned long long)mib, (double)us[0] / 1e3,
           (double)us[1] / 1e3, (double)us[2] / 1e3);
    return 0;
}

/* A sealed segment as recovery sees it: header and STATE are there, events are a hole in the file. */
static void make_segment(uint64_t id, uint64_t first_seq, uint64_t end_seq, uint32_t *prev_hcrc,
                         const uint8_t uuid[16])
{
    char name[SEGMENT_NAME_MAX];
    struct segment_header header = {.major = SPOOL_FORMAT_MAJOR,
                                    .id = id,
                                    .salt = id * 77,
                                    .first_seq = first_seq,
                                    .epoch = 1,
                                    .prev_id = id - 1,
                                    .prev_end = id > 1 ? SEGMENT : 0,
                                    .prev_next_seq = id > 1 ? first_seq : 0,
                                    .prev_last_hcrc = *prev_hcrc,
                                    .commit_align = 4096,
                                    .capacity = SEGMENT,
                                    .wall_ns = 1};
    struct accounts accounts;
    struct bytes bytes;
    memcpy(header.uuid, uuid, 16);
    bytes_init(&bytes, MIB);
    enum err err = bytes_reserve(&bytes, SEGMENT_HEADER_AREA);
    ensure(err == OK);
    segment_header_encode(&header, bytes.at);
    bytes.len = SEGMENT_HEADER_AREA;
    accounts_init(&accounts);
    accounts.epoch = 1;
    accounts_stored(&accounts, 1, end_seq - 1);
    err = state_frames(&accounts, first_seq, 0, first_seq, 0, true, &bytes);
    ensure(err == OK);
    struct frame_place place = {.offset = SEGMENT_HEADER_AREA,
                                .durable = SEGMENT_HEADER_AREA,
                                .tag = segment_tag(header.salt),
                                .prev_hcrc = header.hcrc};
    while (place.offset < bytes.len) {
        uint8_t *frame = bytes.at + place.offset;
        place.prev_hcrc = frame_seal(frame, &place);
        place.offset += frame_bytes(frame_payload_len(frame));
    }
    *prev_hcrc = place.prev_hcrc;
    segment_name(id, name);
    int fd = b.vfs.open(b.vfs.ctx, name, VFS_RDWR | VFS_CREATE | VFS_EXCL);
    struct iovec iov = {.iov_base = bytes.at, .iov_len = bytes.len};
    ensure(fd >= 0 && b.vfs.ftruncate(b.vfs.ctx, fd, SEGMENT) == 0);
    int wrote = write_fully(&b.vfs, fd, &iov, 1, 0);
    ensure(wrote == 0);
    (void)b.vfs.close(b.vfs.ctx, fd); /* a bench's file */
    accounts_deinit(&accounts);
    bytes_deinit(&bytes);
}

static int bench_backlog(uint64_t gib)
{
    static const uint8_t uuid[16] = {1, 2, 3};
    uint64_t count = gib * 1024 * MIB / SEGMENT;
    uint32_t hcrc = 0;
    struct format_id id = {.major = SPOOL_FORMAT_MAJOR};
    uint8_t raw[FORMAT_BYTES];
    for (uint64_t i = 1; i <= count; i++)
        make_segment(i, 1 + (i - 1) * 50000, 1 + i * 50000, &hcrc, uuid);
    memcpy(id.uuid, uuid, 16);
    format_encode(&id, raw);
    int fd = b.vfs.open(b.vfs.ctx, FORMAT_FILE, VFS_RDWR | VFS_CREATE | VFS_EXCL);
    struct iovec iov = {.iov_base = raw, .iov_len = sizeof raw};
    ensure(fd >= 0);
    int wrote = write_fully(&b.vfs, fd, &iov, 1, 0);
    ensure(wrote == 0);
    (void)b.vfs.close(b.vfs.ctx, fd); /* a bench's file */
    struct rlimit limit = {256 * MIB, 256 * MIB};
    int r = setrlimit(RLIMIT_AS, &limit);
    ensure(r == 0);
    uint64_t us = open_spool(SPOOL_FSYNC, UINT64_MAX / 4);
    struct spool_ledger ledger;
    struct rusage usage;
    spool_ledger(b.spool, &ledger);
    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail */
    printf("{\"gib\":%llu,\"segments\":%llu,\"pending\":%llu,\"open_ms\":%.1f,\"peak_rss_mib\":%.1f}\n",
           (unsigned long long)gib, (unsigned long long)ledger.segments, (unsigned long long)ledger.pending,
           (double)us / 1e3, (double)usage.ru_maxrss / 1024);
    bool good = ledger.segments >= count && ledger.pending >= (count - 1) * 50000;
    spool_abandon(b.spool);
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    static int dir_fd = -1;
    if (argc < 4)
        return 64;
    dir_fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        perror(argv[2]);
        return 73;
    }
    b.random = 42;
    b.vfs = disk_uv_vfs_for(&dir_fd);
    uint64_t n = strtoull(argv[3], NULL, 10);
    if (strcmp(argv[1], "append") == 0)
        return bench_append(n, argc > 4 ? (size_t)strtoull(argv[4], NULL, 10) : 300);
    if (strcmp(argv[1], "latency") == 0 && argc > 4)
        return bench_latency(n, strtoull(argv[4], NULL, 10));
    if (strcmp(argv[1], "recover") == 0)
        return bench_recover(n);
    return strcmp(argv[1], "backlog") == 0 ? bench_backlog(n) : 64;
}

/* fuzz_spool_recover: a whole directory. A small spool with a sealed segment, open batches and dead letters
 * is patched as the input says (file, offset, bytes; truncate; remove; swap), optionally with checksums made
 * good again behind it, so that what they protect is reached. Then: verification ends, a start serves or
 * refuses with a reason, what is served drains, and the ledger balances. */
#include "tests/unit/spool/memfs.c" /* the disk in memory is small enough to be part of this program */

#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/verify.h"

#include <stdio.h>

static struct memfs base, fs;
static struct spool_vfs vfs;
static struct spool_job *jobs[8];
static unsigned job_count;
static uint64_t now_us, timer_us, seed;

static void on_submit(void *ctx, struct spool_job *job)
{
    (void)ctx;
    ensure(job_count < 8);
    jobs[job_count++] = job;
}

static uint64_t on_mono(void *ctx)
{
    (void)ctx;
    return now_us;
}

static uint64_t on_wall(void *ctx)
{
    (void)ctx;
    return UINT64_C(1790000000000000000) + now_us * 1000;
}

static uint64_t on_random(void *ctx)
{
    (void)ctx;
    return seed = seed * 6364136223846793005u + 1442695040888963407u;
}

static void on_timer(void *ctx, uint64_t at)
{
    (void)ctx;
    timer_us = at;
}

static void on_note(void *ctx, const struct spool_note *note)
{
    (void)ctx;
    (void)note;
}

static void run(struct spool *s, uint64_t us)
{
    uint64_t until = now_us + us;
    for (unsigned turns = 0; turns < 20000; turns++) {
        if (job_count > 0) {
            struct spool_job *job = jobs[0];
            memmove(jobs, jobs + 1, --job_count * sizeof *jobs);
            job->run(job, &vfs);
            spool_job_done(job);
        } else if (timer_us != 0 && timer_us <= until) {
            now_us = timer_us > now_us ? timer_us : now_us;
            timer_us = 0;
            spool_tick(s);
        } else {
            now_us = until;
            return;
        }
    }
    ensure(!"the spool never comes to rest");
}

static struct spool *open_spool(void)
{
    static const struct spool_config config = {.name = "fuzz",
                                               .max_bytes = 8 << 20,
                                               .segment_bytes = 1 << 20,
                                               .dead_max_bytes = 1 << 20,
                                               .recent_us = 1000000,
                                               .recent_max = 100};
    struct spool_host host = {NULL, on_submit, on_mono, on_wall, on_random, on_timer, on_note};
    job_count = 0;
    timer_us = 0;
    struct spool *s = spool_new(&config, &vfs, &host);
    spool_open(s);
    run(s, 1000);
    return s;
}

static void close_spool(struct spool *s)
{
    job_count = 0;
    spool_abandon(s);
    memfs_kill(&fs);
}

static void check_ledger(const struct spool *s)
{
    struct spool_ledger l;
    uint64_t dropped = 0;
    spool_ledger(s, &l);
    for (int i = 0; i < SPOOL_DROP_REASONS; i++)
        dropped += l.dropped[i];
    ensure(l.accepted == l.pending + l.delivered + l.dead + dropped);
}

static void settle_open(struct spool *s, bool die)
{
    struct spool_open_batch open;
    uint64_t after = 0;
    while (spool_open_batch_next(s, after, &open)) {
        const struct spool_assignment *a = &open.assignment;
        struct spool_run *runs = must_alloc((a->run_count + 1) * sizeof *runs);
        memcpy(runs, a->runs, a->run_count * sizeof *runs);
        struct spool_death death = {.seq = runs[0].first, .answer = SPAN("no")};
        struct spool_outcome o = {.all_delivered = true};
        unsigned from = --runs[0].count == 0 ? 1 : 0;
        runs[0].first++;
        if (die)
            o = (struct spool_outcome){.dead = &death,
                                       .dead_count = 1,
                                       .delivered = runs + from,
                                       .delivered_count = a->run_count - from};
        after = open.id.batch_no;
        if (spool_settle(s, after, &o) == OK)
            run(s, 300000);
        free(runs);
    }
}

static void assign_some(struct spool *s, unsigned n)
{
    struct spool_run runs[64];
    unsigned count = 0;
    struct spool_item item;
    for (unsigned tries = 0; count < n && tries < 200; tries++) {
        enum err err = spool_next(s, &item);
        if (err == OK && (count == 0 || item.seq > runs[count - 1].first))
            runs[count++] = (struct spool_run){item.seq, 1};
        else if (err != ERR_AGAIN)
            break;
        else
            run(s, 1000);
        if (err == ERR_AGAIN && job_count == 0 && tries > 20)
            break;
    }
    struct spool_assignment a = {.partition = SPAN("p"), .runs = runs, .run_count = count};
    struct spool_batch_id id;
    if (count > 0 && spool_assign(s, &a, &id) == OK)
        run(s, 1000);
}

/* A sealed segment, one that is not, an open batch, a dead letter. */
static void make_base(void)
{
    memfs_init(&base);
    memfs_init(&fs);
    vfs = memfs_vfs(&fs);
    for (int life = 0; life < 2; life++) {
        struct spool *s = open_spool();
        for (int i = 0; i < 12; i++) {
            struct spool_record r = {.partition = SPAN("p"),
                                     .id = SPAN("id"),
                                     .body = SPAN("{\"a\":1}"),
                                     .wall_ns = on_wall(NULL)};
            uint64_t seq;
            enum err err = spool_append(s, &r, 1, &seq);
            ensure(err == OK);
            run(s, 1000);
        }
        if (life == 1) {
            assign_some(s, 1);
            settle_open(s, true);
            assign_some(s, 5);
        }
        run(s, 2000000);
        close_spool(s);
    }
    memfs_copy(&base, &fs);
    for (size_t i = 0; i < base.cache_count; i++)
        if (base.cache[i].inode->size > 131072)
            memfs_truncate(&base, base.cache[i].name, 65536); /* Behind are zeros. */
}

/* Makes the checksums of all that still looks like a header or a frame of ours good again. */
static void make_good(const char *name)
{
    size_t size;
    uint8_t *at = memfs_file(&fs, name, &size);
    if (at == NULL || size < SEGMENT_HEADER_AREA) {
        if (at != NULL && size >= FORMAT_BYTES)
            le32_put(at + 60, crc32c(0, at, 60));
        return;
    }
    le32_put(at + 124, crc32c(0, at, 124));
    memcpy(at + SEGMENT_HEADER_COPY, at, SEGMENT_HEADER_BYTES);
    uint32_t tag = segment_tag(le64_get(at + 40)), prev = le32_get(at + 124);
    for (size_t k = SEGMENT_HEADER_AREA; k + FRAME_HEADER_BYTES <= size; k += FRAME_ALIGN) {
        if (le32_get(at + k) != FRAME_MAGIC || le32_get(at + k + 8) > size - k - FRAME_HEADER_BYTES)
            continue;
        struct frame_place place = {.offset = k,
                                    .durable = (uint64_t)le32_get(at + k + 28) * 16,
                                    .tag = tag,
                                    .prev_hcrc = prev,
                                    .commit = le32_get(at + k + 36),
                                    .flags = at[k + 5]};
        prev = frame_seal(at + k, &place);
    }
}

static void patch(struct span *input)
{
    const uint8_t *at = input->at;
    const char *name = fs.cache[at[1] % fs.cache_count].name;
    char copy[64];
    size_t size, offset = le16_get(at + 2) * (size_t)(at[0] % 2 == 0 ? 1 : 4), len = at[4] % 64;
    (void)snprintf(copy, sizeof copy, "%s", name);
    input->at += 5;
    input->len -= 5;
    uint8_t *file = memfs_file(&fs, copy, &size);
    switch (at[0] / 2 % 8) {
    case 0:
        memfs_truncate(&fs, copy, offset < size ? offset : size);
        break;
    case 1:
        if (fs.cache_count > 1)
            memfs_remove(&fs, copy);
        break;
    default:
        if (len > input->len)
            len = input->len;
        if (offset + len <= size && len > 0)
            memcpy(file + offset, input->at, len);
        input->at += len;
        input->len -= len;
        break;
    }
    if (at[0] / 16 % 2 == 1)
        make_good(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (base.cache_count == 0)
        make_base();
    memfs_deinit(&fs);
    memfs_init(&fs);
    memfs_copy(&fs, &base);
    now_us = 1000000;
    seed = 99;
    struct span input = span_of(data, size);
    for (unsigned n = 0; n < 16 && input.len >= 5; n++)
        patch(&input);
    struct spool_verify v = {0};
    struct spool_verdict verdict;
    struct fault why = {0};
    enum err err = spool_verify(&vfs, &v, &verdict, &why);
    ensure(err == OK || why.text[0] != '\0');
    struct spool *s = open_spool();
    if (spool_state(s) == SPOOL_OK || spool_state(s) == SPOOL_FULL) {
        check_ledger(s);
        for (int round = 0; round < 4; round++) {
            settle_open(s, round == 1);
            assign_some(s, 50);
            check_ledger(s);
        }
    }
    close_spool(s);
    return 0;
}

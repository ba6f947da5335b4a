/* bench: see bench.h. */
#include "tests/unit/spool/bench.h"

#include "lib/base/crc32c.h"
#include "lib/base/ensure.h"
#include "lib/base/le.h"
#include "lib/spool/format.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static void on_submit(void *ctx, struct spool_job *job)
{
    struct bench *b = ctx;
    ensure(b->job_count < 8);
    b->jobs[b->job_count++] = job;
}

static uint64_t on_mono(void *ctx)
{
    return ((struct bench *)ctx)->mono_us;
}

static uint64_t on_wall(void *ctx)
{
    return ((struct bench *)ctx)->wall_ns;
}

static uint64_t on_random(void *ctx)
{
    struct bench *b = ctx;
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return b->random ^ (b->random >> 29);
}

static void on_timer(void *ctx, uint64_t at)
{
    ((struct bench *)ctx)->timer_us = at;
}

static void on_note(void *ctx, const struct spool_note *note)
{
    struct bench *b = ctx;
    b->notes[note->kind]++;
    if (note->kind == NOTE_BATCH || note->kind == NOTE_LOST) {
        b->last_batch = note->batch_no;
        if (b->batch_notes < 64)
            b->batches_noted[b->batch_notes++] = note->batch_no;
    }
    if (note->fault != NULL && note->kind == NOTE_WARNING)
        b->last_warning = *note->fault;
    else if (note->fault != NULL)
        b->last_fault = *note->fault;
    if (b->log_notes)
        (void)fprintf(stderr, "note %d batch %llu %s\n", note->kind, (unsigned long long)note->batch_no,
                      note->fault == NULL ? "" : note->fault->text);
}

void bench_init(struct bench *b)
{
    memset(b, 0, sizeof *b);
    memfs_init(&b->fs);
    b->vfs = memfs_vfs(&b->fs);
    b->mono_us = 1000 * 1000;
    b->wall_ns = UINT64_C(1790000000000000000);
    b->random = 42;
    b->config = (struct spool_config){.name = "test",
                                      .max_bytes = 16 * BENCH_MIB,
                                      .segment_bytes = 1 * BENCH_MIB,
                                      .dead_max_bytes = BENCH_MIB,
                                      .api_version = 7,
                                      .recent_us = 300 * UINT64_C(1000000),
                                      .recent_max = 10000};
}

void bench_deinit(struct bench *b)
{
    if (b->spool != NULL)
        bench_crash(b, false);
    memfs_deinit(&b->fs);
}

bool bench_job(struct bench *b)
{
    if (b->job_count == 0)
        return false;
    struct spool_job *job = b->jobs[0];
    b->job_count--;
    memmove(b->jobs, b->jobs + 1, b->job_count * sizeof *b->jobs);
    job->run(job, &b->vfs);
    spool_job_done(job);
    return true;
}

static bool fire_timer(struct bench *b)
{
    if (b->timer_us == 0 || b->timer_us > b->mono_us)
        return false;
    b->timer_us = 0;
    spool_tick(b->spool);
    return true;
}

void bench_settle(struct bench *b)
{
    unsigned turns = 0;
    while (bench_job(b) || fire_timer(b))
        cr_assert_lt(++turns, 100000, "the spool never comes to rest");
}

static void turn_clock(struct bench *b, uint64_t to)
{
    if (to <= b->mono_us)
        return;
    b->wall_ns += (to - b->mono_us) * 1000;
    b->mono_us = to;
}

void bench_sleep(struct bench *b, uint64_t us)
{
    uint64_t until = b->mono_us + us;
    unsigned turns = 0;
    bench_settle(b);
    while (b->timer_us != 0 && b->timer_us <= until) {
        turn_clock(b, b->timer_us);
        bench_settle(b);
        cr_assert_lt(++turns, 100000, "timers fire without end");
    }
    turn_clock(b, until);
    bench_settle(b);
}

enum spool_state bench_open(struct bench *b)
{
    struct spool_host host = {b, on_submit, on_mono, on_wall, on_random, on_timer, on_note};
    b->timer_us = 0;
    b->job_count = 0;
    memset(b->notes, 0, sizeof b->notes);
    b->spool = spool_new(&b->config, &b->vfs, &host);
    spool_open(b->spool);
    bench_settle(b);
    return spool_state(b->spool);
}

void bench_crash(struct bench *b, bool power)
{
    b->job_count = 0;
    spool_abandon(b->spool);
    b->spool = NULL;
    if (power)
        memfs_crash(&b->fs);
    else
        memfs_kill(&b->fs);
}

void bench_close(struct bench *b)
{
    spool_close(b->spool);
    bench_sleep(b, 2000000);
    cr_assert_eq(b->notes[NOTE_CLOSED], 1);
    cr_assert_eq(memfs_open_files(&b->fs), 0);
    spool_free(b->spool);
    b->spool = NULL;
}

enum err bench_append_body(struct bench *b, const void *body, size_t len, uint64_t *ret_seq)
{
    struct spool_record r = {
        .partition = SPAN("p"), .id = SPAN("id"), .body = span_of(body, len), .wall_ns = b->wall_ns};
    return spool_append(b->spool, &r, 1, ret_seq);
}

uint64_t bench_append(struct bench *b, uint64_t number)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    uint64_t seq = 0;
    return bench_append_body(b, text, (size_t)n, &seq) == OK ? seq : 0;
}

void bench_fill(struct bench *b, unsigned n, size_t len)
{
    char *body = must_alloc(len);
    memset(body, 'x', len);
    for (unsigned i = 0; i < n; i++) {
        uint64_t seq;
        enum err err = bench_append_body(b, body, len, &seq);
        if (err == ERR_AGAIN) {
            bench_sleep(b, 1000);
            err = bench_append_body(b, body, len, &seq);
        }
        cr_assert_eq(err, OK, "append %u: %s", i, err_name(err));
        if (i % 16 == 15)
            bench_sleep(b, 1000);
    }
    bench_sleep(b, 1000);
    free(body);
}

bool bench_next(struct bench *b, struct spool_item *ret)
{
    for (int i = 0; i < 100; i++) {
        enum err err = spool_next(b->spool, ret);
        if (err == OK)
            return true;
        cr_assert_eq(err, ERR_AGAIN);
        if (b->job_count == 0)
            return false;
        bench_settle(b);
    }
    return false;
}

uint64_t bench_assign(struct bench *b, unsigned n)
{
    struct spool_run runs[1000];
    unsigned count = 0;
    struct spool_item item;
    while (n > 0 && count < 1000 && bench_next(b, &item)) {
        if (count > 0 && runs[count - 1].first + runs[count - 1].count == item.seq)
            runs[count - 1].count++;
        else
            runs[count++] = (struct spool_run){item.seq, 1};
        n--;
    }
    if (count == 0)
        return 0;
    struct spool_assignment a = {.partition = SPAN("p"),
                                 .runs = runs,
                                 .run_count = count,
                                 .raw_len = 10,
                                 .raw_crc32c = 20,
                                 .envelope_version = 1,
                                 .envelope_hash = 99,
                                 .codec = 1,
                                 .level = 3};
    struct spool_batch_id id;
    enum err err = spool_assign(b->spool, &a, &id);
    if (err == ERR_FULL) {
        bench_sleep(b, 1100000); /* On a full disk the next segment is tried for every second. */
        err = spool_assign(b->spool, &a, &id);
    }
    cr_assert_eq(err, OK, "%s", err_name(err));
    bench_sleep(b, 1000);
    return id.batch_no;
}

void bench_deliver(struct bench *b, uint64_t batch_no)
{
    struct spool_outcome o = {.all_delivered = true};
    cr_assert_eq(spool_settle(b->spool, batch_no, &o), OK);
    bench_settle(b);
}

uint64_t bench_drain(struct bench *b)
{
    struct spool_open_batch open;
    uint64_t before = bench_ledger(b).delivered;
    while (spool_open_batch_next(b->spool, 0, &open))
        bench_deliver(b, open.id.batch_no);
    for (uint64_t no; (no = bench_assign(b, 100)) != 0;)
        bench_deliver(b, no);
    bench_sleep(b, 300000);
    return bench_ledger(b).delivered - before;
}

struct spool_ledger bench_ledger(struct bench *b)
{
    struct spool_ledger l;
    spool_ledger(b->spool, &l);
    uint64_t dropped = 0;
    for (int i = 0; i < SPOOL_DROP_REASONS; i++)
        dropped += l.dropped[i];
    cr_assert_eq(l.accepted, l.pending + l.delivered + l.dead + dropped, "the ledger does not balance");
    return l;
}

void bench_backlog(struct bench *b)
{
    struct spool_item item;
    b->config.cache_bytes = 1;
    b->config.window_seqs = 16;
    cr_assert_eq(bench_open(b), SPOOL_OK);
    bench_fill(b, 300, 10000);
    bench_crash(b, false);
    cr_assert_eq(bench_open(b), SPOOL_OK);
    cr_assert(bench_next(b, &item));
}

/* --- verification ----------------------------------------------------------------------------------------- */

static void on_damage(void *ctx, const struct fault *what)
{
    struct bench *b = ctx;
    b->verified.damages++;
    (void)snprintf(b->verified.text, sizeof b->verified.text, "%s", what->text);
}

static void on_pending(void *ctx, const struct spool_item *item)
{
    struct bench *b = ctx;
    cr_assert_gt(item->seq, b->verified.last_seq);
    b->verified.last_seq = item->seq;
    b->verified.pending++;
}

static void on_verified_letter(void *ctx, const struct spool_letter *letter)
{
    struct bench *b = ctx;
    (void)letter;
    b->verified.letters++;
}

static long writing_calls(const struct bench *b)
{
    return b->fs.calls[MEMFS_PWRITEV] + b->fs.calls[MEMFS_FDATASYNC] + b->fs.calls[MEMFS_RENAME] +
           b->fs.calls[MEMFS_UNLINK];
}

struct spool_verdict bench_verify(struct bench *b)
{
    struct spool_verify v = {.ctx = b, .damage = on_damage, .pending = on_pending, .letter = on_verified_letter};
    struct spool_verdict verdict;
    struct fault why = {0};
    long writes = writing_calls(b);
    memset(&b->verified, 0, sizeof b->verified);
    cr_assert_eq(spool_verify(&b->vfs, &v, &verdict, &why), OK, "%s", why.text);
    cr_assert_eq(writing_calls(b), writes);
    cr_assert_eq(verdict.damages, b->verified.damages);
    cr_assert_eq(verdict.pending_found, b->verified.pending);
    cr_assert_eq(verdict.letters_found, b->verified.letters);
    return verdict;
}

/* --- frames that are changed ------------------------------------------------------------------------------ */

unsigned char *bench_frame(struct bench *b, const char *name, uint8_t type, unsigned n, uint32_t *ret_tag)
{
    size_t size;
    unsigned char *file = memfs_file(&b->fs, name, &size);
    cr_assert_not_null(file);
    *ret_tag = segment_tag(le64_get(file + 40));
    for (size_t at = SEGMENT_HEADER_AREA; at + FRAME_HEADER_BYTES < size; at += FRAME_ALIGN) {
        struct frame f;
        if (frame_parse(file + at, at, *ret_tag, FRAME_PAYLOAD_MAX, &f) && f.type == type && n-- == 0)
            return file + at;
    }
    cr_assert_fail("no such frame");
    return NULL;
}

static void seal_header(unsigned char *frame, uint32_t tag)
{
    le32_put(frame + 44, crc32c(tag, frame, 44));
}

void bench_reseal(struct bench *b, const char *name, unsigned char *frame, uint32_t tag)
{
    size_t size;
    unsigned char *file = memfs_file(&b->fs, name, &size);
    uint32_t was = le32_get(frame + 44);
    le32_put(frame + 40, crc32c(tag, frame + FRAME_HEADER_BYTES, frame_payload_len(frame)));
    seal_header(frame, tag);
    for (size_t at = (size_t)(frame - file) + FRAME_ALIGN; at + FRAME_HEADER_BYTES < size; at += FRAME_ALIGN) {
        struct frame f;
        if (!frame_parse(file + at, at, tag, FRAME_PAYLOAD_MAX, &f) || f.prev_hcrc != was)
            continue;
        was = f.hcrc;
        le32_put(file + at + 32, le32_get(frame + 44));
        frame = file + at;
        seal_header(frame, tag);
    }
}

/* Corruption, swept over a small spool: every bit of its headers and frames, every sector, every length, every file.
 *
 * Whatever is done to it, verification ends and says what a start will find; the start serves; what is delivered is what
 * was stored, each event once; and what is lost is counted, to the event. PENSTOCK_SWEEP_STRIDE=1 takes every place
 * (some minutes); by default one in some dozens is taken. */
#include "lib/base/le.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/verify.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENTS 50
#define SETTLED 12 /* ten delivered, two dead */
#define SECTOR 512

static struct bench b;
static struct memfs sound;

static unsigned long stride(unsigned long usual)
{
    const char *text = getenv("PENSTOCK_SWEEP_STRIDE");
    unsigned long n = text == NULL ? 0 : strtoul(text, NULL, 10);
    return n == 0 ? usual : n;
}

/* Two sealed segments and one that is not, which a PAD attests; an open batch, letters, events of nobody yet. */
static void setup(void)
{
    bench_init(&b);
    b.config.recent_us = 0;
    for (unsigned life = 0; life < 3; life++) {
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        for (unsigned i = 0; i < (life == 0 ? 30 : 10); i++) {
            cr_assert_neq(bench_append(&b, i), 0);
            if (i % 4 == 3)
                bench_sleep(&b, 1000);
        }
        bench_sleep(&b, 1000);
        if (life == 0) {
            uint64_t no = bench_assign(&b, SETTLED);
            struct spool_death deaths[2] = {{.seq = 1, .answer = SPAN("no")}, {.seq = 2, .answer = SPAN("no")}};
            struct spool_run rest = {3, SETTLED - 2};
            struct spool_outcome o = {.dead = deaths, .dead_count = 2, .delivered = &rest, .delivered_count = 1};
            cr_assert_eq(spool_settle(b.spool, no, &o), OK);
            bench_sleep(&b, SECOND_US);
            cr_assert_neq(bench_assign(&b, 5), 0);
        }
        bench_sleep(&b, 3 * SECOND_US);
        bench_crash(&b, true);
    }
    memfs_init(&sound);
    memfs_copy(&sound, &b.fs);
    for (size_t i = 0; i < sound.cache_count; i++) { /* What is behind says nothing. */
        size_t size;
        const unsigned char *at = memfs_file(&sound, sound.cache[i].name, &size);
        while (size > 0 && at[size - 1] == 0)
            size--;
        if (size > FORMAT_BYTES)
            memfs_truncate(&sound, sound.cache[i].name, (size + 4095) / 4096 * 4096);
    }
}

static void teardown(void)
{
    bench_deinit(&b);
    memfs_deinit(&sound);
}

TestSuite(spool_sweep, .init = setup, .fini = teardown, .timeout = 3600);

static void begin_again(void)
{
    memfs_deinit(&b.fs);
    memfs_init(&b.fs);
    memfs_copy(&b.fs, &sound);
}

static struct {
    bool met[EVENTS + 1];
    unsigned count;
    const char *what;
    size_t at;
} seen;
static uint64_t lost_in_all, turn;

static void see(const struct spool_item *item)
{
    char text[32];
    uint64_t number = item->seq <= 30 ? item->seq - 1 : (item->seq - 31) % 10;
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    cr_assert(item->seq >= 1 && item->seq <= EVENTS, "%s %zu: nobody stored event %llu", seen.what, seen.at,
              (unsigned long long)item->seq);
    cr_assert(span_equal(item->body, span_of(text, (size_t)n)), "%s %zu: event %llu has another's body", seen.what,
              seen.at, (unsigned long long)item->seq);
    cr_assert_not(seen.met[item->seq], "%s %zu: event %llu came twice", seen.what, seen.at,
                  (unsigned long long)item->seq);
    seen.met[item->seq] = true;
    seen.count++;
}

static void on_item(void *ctx, const struct spool_item *item)
{
    (void)ctx;
    see(item);
}

static void on_loaded(void *ctx, enum err err)
{
    *(enum err *)ctx = err;
}

/* Open batches first, then what is in none. A batch that lost members is told so, and comes again without them. */
static void drain(void)
{
    struct spool_open_batch open;
    struct spool_item item;
    while (spool_open_batch_next(b.spool, 0, &open)) {
        enum err err = ERR_AGAIN;
        struct spool_loader loader = {.ctx = &err, .item = on_item, .done = on_loaded};
        bool met[EVENTS + 1];
        unsigned count = seen.count;
        uint64_t no = open.id.batch_no;
        memcpy(met, seen.met, sizeof met);
        spool_load(b.spool, no, &loader);
        bench_sleep(&b, 10000);
        cr_assert_neq(err, ERR_AGAIN, "%s %zu: a batch is never loaded", seen.what, seen.at);
        if (err == OK) {
            bench_deliver(&b, no);
        } else {
            memcpy(seen.met, met, sizeof met);
            seen.count = count;
        }
    }
    while (bench_next(&b, &item)) {
        struct spool_run run = {item.seq, 1};
        struct spool_assignment a = {.partition = SPAN("p"), .runs = &run, .run_count = 1};
        struct spool_batch_id id;
        see(&item);
        cr_assert_eq(spool_assign(b.spool, &a, &id), OK);
        bench_sleep(&b, 1000);
        bench_deliver(&b, id.batch_no);
    }
    bench_sleep(&b, 300000);
}

enum { MAY_LOSE_NOTHING = 0, MAY_LOSE_ALL = EVENTS };

/* Verifies, starts, drains. Of what was pending at most `loss` may be lost. Returns how many were. */
static uint64_t survive(const char *what, size_t at, uint64_t loss)
{
    struct spool_verify v = {0};
    struct spool_verdict verdict;
    struct fault why = {0};
    memset(&seen, 0, sizeof seen);
    seen.what = what;
    seen.at = at;
    cr_assert_eq(spool_verify(&b.vfs, &v, &verdict, &why), OK, "%s %zu: %s", what, at, why.text);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s %zu: %s", what, at, b.last_fault.text);
    uint64_t accepted = bench_ledger(&b).accepted;
    cr_assert_leq(accepted, EVENTS, "%s %zu", what, at);
    drain();
    struct spool_ledger l = bench_ledger(&b);
    uint64_t lost = l.dropped[SPOOL_DROP_CORRUPT];
    cr_assert_eq(l.pending, 0, "%s %zu: %lu pending", what, at, (unsigned long)l.pending);
    cr_assert_eq(l.delivered + l.dead + lost, accepted, "%s %zu", what, at);
    cr_assert_eq(verdict.pending_found, seen.count, "%s %zu: verification found %lu, %u were delivered", what, at,
                 (unsigned long)verdict.pending_found, seen.count);
    cr_assert(lost == 0 || verdict.damages > 0, "%s %zu: %lu lost, and verification found all well", what, at,
              (unsigned long)lost);
    uint64_t owed = EVENTS - SETTLED, missing = owed > seen.count ? owed - seen.count : 0;
    cr_assert_leq(missing, loss, "%s %zu: %lu missing; %s", what, at, (unsigned long)missing, b.last_warning.text);
    cr_assert_leq(missing, lost + (EVENTS - accepted), "%s %zu: not all that is lost is counted", what, at);
    bench_crash(&b, true);
    lost_in_all += lost;
    return lost;
}

Test(spool_sweep, it_is_sound_to_begin_with)
{
    begin_again();
    cr_assert_eq(survive("untouched", 0, MAY_LOSE_NOTHING), 0);
    cr_assert_eq(seen.count, EVENTS - SETTLED);
}

/* What a place belongs to: the header area, the head of a frame, its payload, or nothing. */
enum place { HEAD, PAYLOAD, NOTHING };
static enum place place_of_byte(const unsigned char *file, size_t size, size_t at)
{
    if (size <= FORMAT_BYTES || at < SEGMENT_HEADER_BYTES ||
        (at >= SEGMENT_HEADER_COPY && at < SEGMENT_HEADER_COPY + SEGMENT_HEADER_BYTES))
        return HEAD;
    for (size_t k = SEGMENT_HEADER_AREA; k + FRAME_HEADER_BYTES <= size && k <= at; k += FRAME_ALIGN) {
        if (memcmp(file + k, "FRM1", 4) != 0)
            continue;
        if (at < k + FRAME_HEADER_BYTES)
            return HEAD;
        if (at < k + FRAME_HEADER_BYTES + frame_payload_len(file + k))
            return PAYLOAD;
    }
    return NOTHING;
}

static void each_file(void (*sweep)(const char *name, size_t size))
{
    for (size_t i = 0; i < sound.cache_count; i++) {
        size_t size;
        (void)memfs_file(&sound, sound.cache[i].name, &size);
        sweep(sound.cache[i].name, size);
    }
    cr_assert_gt(lost_in_all, 0, "nothing was ever hurt: nothing was shown");
}

static void flip_bits(const char *name, size_t size)
{
    unsigned long every = stride(97), payload_every = every == 1 ? 64 : every * 4;
    unsigned long heads = 0, payloads = 0;
    for (size_t bit = 0; bit < size * 8; bit++) {
        enum place place = NOTHING;
        if (bit % 8 == 0 || every == 1 || bit % every == 0) {
            size_t ignored;
            place = place_of_byte(memfs_file(&sound, name, &ignored), size, bit / 8);
        }
        if (place == NOTHING) {
            bit |= 7;
            continue;
        }
        if ((place == HEAD ? heads++ % every : payloads++ % payload_every) != 0)
            continue;
        size_t ignored;
        begin_again();
        memfs_file(&b.fs, name, &ignored)[bit / 8] ^= (unsigned char)(1u << bit % 8);
        /* A frame has at most four events here. */
        (void)survive(name, bit, strncmp(name, "seg-", 4) == 0 ? 4 : MAY_LOSE_NOTHING);
    }
}

Test(spool_sweep, any_bit_flips)
{
    each_file(flip_bits);
}

/* Events in frames that do not end before `at`. */
static uint64_t events_behind(const unsigned char *file, size_t size, size_t at)
{
    uint64_t count = 0;
    for (size_t k = SEGMENT_HEADER_AREA; k + FRAME_HEADER_BYTES <= size; k += FRAME_ALIGN) {
        struct frame f;
        uint32_t tag = segment_tag(le64_get(file + 40));
        if (frame_parse(file + k, k, tag, FRAME_PAYLOAD_MAX, &f) && f.type == FRAME_DATA &&
            k + FRAME_HEADER_BYTES + f.payload_len > at)
            count += f.count;
    }
    return count;
}

static void cut(const char *name, size_t size)
{
    unsigned long every = stride(263);
    size_t ignored;
    const unsigned char *file = memfs_file(&sound, name, &ignored);
    bool is_segment = strncmp(name, "seg-", 4) == 0;
    for (size_t at = 0; at < size; at += every) {
        begin_again();
        memfs_truncate(&b.fs, name, at);
        uint64_t loss = is_segment ? events_behind(file, size, at < SEGMENT_HEADER_AREA ? 0 : at) : 0;
        (void)survive(name, at, loss);
    }
}

Test(spool_sweep, any_cut)
{
    each_file(cut);
}

static void lose_sectors(const char *name, size_t size)
{
    bool is_segment = strncmp(name, "seg-", 4) == 0;
    for (size_t at = 0; at + SECTOR <= size; at += SECTOR) {
        size_t ignored;
        if (turn++ % stride(5) != 0)
            continue;
        begin_again();
        unsigned char *file = memfs_file(&b.fs, name, &ignored), other[SECTOR];
        memset(file + at, 0, SECTOR);
        (void)survive(name, at, is_segment ? 4 : MAY_LOSE_NOTHING);
        if (at + 2 * SECTOR > size)
            continue;
        begin_again();
        file = memfs_file(&b.fs, name, &ignored);
        memcpy(other, file + at, SECTOR);
        memcpy(file + at, file + at + SECTOR, SECTOR);
        memcpy(file + at + SECTOR, other, SECTOR);
        (void)survive(name, at, is_segment ? 8 : MAY_LOSE_NOTHING);
    }
}

Test(spool_sweep, any_sector_is_zeroed_or_changes_places_with_the_next)
{
    each_file(lose_sectors);
}

/* What stands in one place comes to stand in another, in the same file or in another one. */
static void misplace(const char *name, size_t size)
{
    for (size_t i = 0; i < sound.cache_count; i++) {
        size_t to_size, ignored;
        const char *to = sound.cache[i].name;
        (void)memfs_file(&sound, to, &to_size);
        for (size_t at = SEGMENT_HEADER_AREA; at + 4096 <= size && at + 8192 <= to_size; at += 4096) {
            if (turn++ % stride(5) != 0)
                continue;
            begin_again();
            memcpy(memfs_file(&b.fs, to, &ignored) + at + 4096, memfs_file(&sound, name, &ignored) + at, 4096);
            (void)survive(to, at, strncmp(to, "seg-", 4) == 0 ? 4 : MAY_LOSE_NOTHING);
        }
    }
}

Test(spool_sweep, any_block_is_written_to_the_wrong_place)
{
    each_file(misplace);
}

static void lose_file(const char *name, size_t size)
{
    size_t ignored;
    uint64_t loss = strncmp(name, "seg-", 4) == 0 ? events_behind(memfs_file(&sound, name, &ignored), size, 0) : 0;
    begin_again();
    memfs_remove(&b.fs, name);
    (void)survive(name, 0, loss);
    begin_again();
    memfs_truncate(&b.fs, name, 0);
    (void)survive(name, 1, loss);
}

Test(spool_sweep, any_file_is_deleted_or_emptied)
{
    each_file(lose_file);
}

/* Each takes the other's place; a third may still stand where it did. */
static void change_places(const char *name, size_t size)
{
    for (size_t i = 0; i < sound.cache_count; i++) {
        size_t other_size;
        const char *other = sound.cache[i].name;
        const unsigned char *theirs = memfs_file(&sound, other, &other_size);
        if (strcmp(name, other) >= 0)
            continue;
        begin_again();
        size_t ignored;
        memfs_put(&b.fs, other, memfs_file(&sound, name, &ignored), size);
        memfs_truncate(&b.fs, other, size);
        memfs_put(&b.fs, name, theirs, other_size);
        memfs_truncate(&b.fs, name, other_size);
        (void)survive(name, i, MAY_LOSE_ALL);
    }
}

Test(spool_sweep, any_two_files_change_places)
{
    each_file(change_places);
}

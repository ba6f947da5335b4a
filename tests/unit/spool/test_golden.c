/* Spools that earlier versions wrote: every later version opens them and finds the same. golden/v1 was made
 * by the test `writes_golden_files`, which does nothing unless PENSTOCK_WRITE_GOLDEN names a directory; files
 * of a released version are never made again. Zeros at the end of a file are left out. */
#include "tests/unit/spool/bench.h"

#include "lib/base/bytes.h"
#include "lib/spool/verify.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct bench b;

static void setup(void)
{
    bench_init(&b);
    b.config.dead_max_bytes = 64 * BENCH_MIB;
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(spool_golden, .init = setup, .fini = teardown);

static const char *const files[] = {"FORMAT", "seg-0000000000000001.wal", "seg-0000000000000002.wal",
                                    "dead/dlq-0000000000000001.wal"};

static void path_of(const char *dir, const char *name, char ret[512])
{
    (void)snprintf(ret, 512, "%s/%s", dir, name);
    char *slash = strrchr(ret, '/');
    if (strncmp(name, "dead/", 5) == 0)
        *slash = '-'; /* one flat directory */
}

static void load(const char *dir)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[512];
        static unsigned char content[1 << 20];
        path_of(dir, files[i], path);
        FILE *f = fopen(path, "rb");
        cr_assert_not_null(f, "%s", path);
        memset(content, 0, sizeof content);
        size_t n = fread(content, 1, sizeof content, f);
        (void)fclose(f); /* Nothing was written. */
        memfs_put(&b.fs, files[i], content, n == 64 ? n : sizeof content);
    }
}

/* Ten events, three of them delivered, one dead, three in an open batch; then a second life with two more
 * events. */
static void make(void)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (uint64_t i = 1; i <= 10; i++)
        (void)bench_append(&b, i);
    bench_sleep(&b, 1000);
    uint64_t no = bench_assign(&b, 4);
    struct spool_death death = {.seq = 2, .reason = 3, .status = 422, .attempts = 1, .answer = SPAN("no")};
    struct spool_run rest[2] = {{1, 1}, {3, 2}};
    struct spool_outcome o = {.dead = &death, .dead_count = 1, .delivered = rest, .delivered_count = 2};
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, 1000);
    (void)bench_assign(&b, 3);
    spool_set_user(b.spool, SPAN("user counters"));
    bench_sleep(&b, 2000000);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    (void)bench_append(&b, 11);
    (void)bench_append(&b, 12);
    bench_sleep(&b, 2000000);
    bench_close(&b);
}

static void check(void)
{
    struct spool_verify v = {0};
    struct spool_verdict verdict;
    struct fault why;
    cr_assert_eq(spool_verify(&b.vfs, &v, &verdict, &why), OK);
    cr_assert_eq(verdict.damages, 0);
    cr_assert_eq(verdict.epoch, 2);
    cr_assert(verdict.clean);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert_eq(b.notes[NOTE_WARNING], 0, "%s", b.last_warning.text);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.accepted, 12);
    cr_assert_eq(l.delivered, 3);
    cr_assert_eq(l.dead, 1);
    cr_assert_eq(l.dead_total[3], 1);
    cr_assert_eq(l.pending, 8);
    cr_assert(span_is(spool_user(b.spool), "user counters"));
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    cr_assert_eq(open.id.batch_no, 2);
    cr_assert_eq(open.id.epoch, 1);
    cr_assert_eq(open.assignment.runs[0].first, 5);
    cr_assert_eq(open.assignment.runs[0].count, 3);
    cr_assert_eq(open.assignment.raw_crc32c, 20);
    static const char *const bodies[] = {"8", "9", "10", "11", "12"};
    for (size_t i = 0; i < 5; i++) {
        struct spool_item item;
        cr_assert(bench_next(&b, &item));
        cr_assert_eq(item.seq, 8 + i);
        cr_assert(span_is(item.body, bodies[i]));
        cr_assert(span_is(item.id, "id"));
        cr_assert(span_is(item.partition, "p"));
        cr_assert_eq(item.api_version, 7);
    }
    spool_rewind(b.spool);
    cr_assert_eq(bench_drain(&b), 8);
}

Test(spool_golden, version_1_opens)
{
    load(PENSTOCK_SOURCE_DIR "/tests/unit/spool/golden/v1");
    check();
}

Test(spool_golden, what_is_written_today_is_version_1_byte_for_byte)
{
    /* The workbench has a clock and randomness of its own, so the same life leaves the same bytes. */
    make();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[512];
        static unsigned char content[1 << 20];
        size_t size = 0;
        unsigned char *at = memfs_file(&b.fs, files[i], &size);
        cr_assert_not_null(at, "%s", files[i]);
        path_of(PENSTOCK_SOURCE_DIR "/tests/unit/spool/golden/v1", files[i], path);
        FILE *f = fopen(path, "rb");
        cr_assert_not_null(f, "%s", path);
        memset(content, 0, sizeof content);
        size_t golden = fread(content, 1, sizeof content, f);
        (void)fclose(f); /* Nothing was written. */
        /* Behind the end of the first segment, as the second one states it, there may be anything, or nothing. */
        cr_assert(size >= golden || i == 1, "%s", files[i]);
        cr_assert_eq(memcmp(at, content, size), 0, "%s", files[i]);
    }
    check();
}

Test(spool_golden, writes_golden_files)
{
    const char *dir = getenv("PENSTOCK_WRITE_GOLDEN");
    make();
    for (size_t i = 0; dir != NULL && i < sizeof files / sizeof files[0]; i++) {
        char path[512];
        size_t size;
        unsigned char *at = memfs_file(&b.fs, files[i], &size);
        cr_assert_not_null(at, "%s", files[i]);
        while (size > 64 && at[size - 1] == 0)
            size--;
        path_of(dir, files[i], path);
        FILE *f = fopen(path, "wb");
        cr_assert_not_null(f, "%s", path);
        cr_assert_eq(fwrite(at, 1, size, f), size);
        cr_assert_eq(fclose(f), 0);
    }
}

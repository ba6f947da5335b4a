/* bench: a spool on a workbench. A directory in memory, a clock that the test turns, jobs that run when the
 * test says so, and notes that are counted. */
#ifndef PENSTOCK_TESTS_SPOOL_BENCH_H
#define PENSTOCK_TESTS_SPOOL_BENCH_H

#include "lib/spool/frame.h"
#include "lib/spool/spool.h"
#include "lib/spool/verify.h"
#include "tests/unit/spool/memfs.h"

#define BENCH_MIB (UINT64_C(1) << 20)
#define SECOND_US UINT64_C(1000000)

struct bench {
    struct memfs fs;
    struct spool_config config;
    struct spool *spool;
    struct spool_vfs vfs;
    uint64_t mono_us, wall_ns, random, timer_us;
    struct spool_job *jobs[8];
    unsigned job_count;
    unsigned notes[NOTE_CLOSED + 1];
    uint64_t last_batch;
    uint64_t batches_noted[64];
    unsigned batch_notes;
    struct fault last_fault, last_warning;
    bool log_notes;
    struct {
        unsigned damages;
        uint64_t pending, letters, last_seq;
        char text[240]; /* of the last damage */
    } verified; /* what bench_verify() was told */
};

/* A suite on a bench `b` of its own that forgets ids at once. */
#define BENCH_SUITE(suite) \
    static struct bench b; \
    static void setup(void) \
    { \
        bench_init(&b); \
        b.config.recent_us = 0; \
    } \
    static void teardown(void) \
    { \
        bench_deinit(&b); \
    } \
    TestSuite(suite, .init = setup, .fini = teardown, .timeout = 120)

void bench_init(struct bench *b);
void bench_deinit(struct bench *b);
/* Opens and runs until NOTE_OPENED or NOTE_FAILED; returns the state. */
enum spool_state bench_open(struct bench *b);
/* Runs all jobs and due timers until nothing is left to do now. */
void bench_settle(struct bench *b);
/* Runs one job and reports it; false when none waits. */
bool bench_job(struct bench *b);
/* Turns the clock on and fires the timer on the way. */
void bench_sleep(struct bench *b, uint64_t us);
/* Lets go of the spool as a dying process does, with jobs unrun; power: what was not synced is lost. */
void bench_crash(struct bench *b, bool power);
/* An orderly stop. */
void bench_close(struct bench *b);

/* Appends one event "<number>" and returns its seq; 0 when refused. */
uint64_t bench_append(struct bench *b, uint64_t number);
enum err bench_append_body(struct bench *b, const void *body, size_t len, uint64_t *ret_seq);
/* Appends n events of `len` bytes each and commits them. */
void bench_fill(struct bench *b, unsigned n, size_t len);
/* The next event, running jobs as needed; false when there is none. */
bool bench_next(struct bench *b, struct spool_item *ret);
/* Reads up to n events and makes them one batch, durable; returns its number, 0 when nothing was there. */
uint64_t bench_assign(struct bench *b, unsigned n);
void bench_deliver(struct bench *b, uint64_t batch_no);
/* Delivers everything pending; returns how many events that were. */
uint64_t bench_drain(struct bench *b);
/* A backlog of three segments, 300 events, of which only the newest bytes are in memory; the reader has the first. */
void bench_backlog(struct bench *b);
/* Verification, which writes nothing and counts right. */
struct spool_verdict bench_verify(struct bench *b);
/* The n-th frame of such a type in a segment; *ret_tag: what seals it. bench_reseal() makes its checksums good again, and
 * the chain behind it. */
unsigned char *bench_frame(struct bench *b, const char *name, uint8_t type, unsigned n, uint32_t *ret_tag);
void bench_reseal(struct bench *b, const char *name, unsigned char *frame, uint32_t tag);
struct spool_ledger bench_ledger(struct bench *b); /* and checks that it balances */

#endif

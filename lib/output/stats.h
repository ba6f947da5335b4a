/* stats: what an output counts beyond its ledger, and how that survives restarts.
 *
 * Everything here is written into the spool's user blob (spool_set_user) and read back after opening, so that
 * counters go on where the last process left them. The blob, little-endian, version 1:
 *
 *   u8 version | u8 results | u16 zero | u64 requests, retries, repeated, bytes_out, reserved
 *   | 2 histograms: 14 x u64 buckets, u64 sum_us
 *   | per result: u8 len, name, u64 count
 */
#ifndef PENSTOCK_OUTPUT_STATS_H
#define PENSTOCK_OUTPUT_STATS_H

#include "lib/base/bytes.h"
#include "lib/output/output.h"

#define STATS_RESULTS 12
#define STATS_RESULT_NAME 24
#define STATS_BLOB_MAX 1024

struct stats_result {
    char name[STATS_RESULT_NAME];
    uint64_t count;
};

struct stats {
    uint64_t requests, retries, repeated, bytes_out;
    struct output_histogram request_seconds, commit_seconds;
    struct stats_result results[STATS_RESULTS];
    unsigned result_count;
};

/* Results that exist from the start, at 0. */
void stats_init(struct stats *s);
/* Counts a batch under its result; names beyond the table go to "other". */
void stats_result(struct stats *s, const char *name);
void stats_observe(struct output_histogram *h, uint64_t us);

/* Writes at most STATS_BLOB_MAX bytes; returns how many. */
size_t stats_save(const struct stats *s, uint8_t *into);
/* Adds what a blob holds; one that is empty or not ours changes nothing. */
void stats_load(struct stats *s, struct span blob);

#endif

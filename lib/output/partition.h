/* partition: what must not share a request upstream, and what may be held on its own. Step 8.
 *
 * A table of the partitions that have an open or unsettled batch, or are held. Entries without either are
 * recycled, so that a stream of ever new partitions does not grow memory. */
#ifndef PENSTOCK_OUTPUT_PARTITION_H
#define PENSTOCK_OUTPUT_PARTITION_H

#include "lib/base/bytes.h"
#include "lib/base/list.h"

struct batch;

struct partition {
    struct list bucket;
    struct list all;
    uint64_t hash;
    struct span name; /* owned */
    size_t name_cap;
    struct batch *open;  /* being filled */
    unsigned batches;    /* closed and not yet gone */
    bool alone;          /* its events are never merged */
    uint64_t expires_us; /* age at which its events are dropped unsent; 0: never */
    uint64_t first_us;   /* when the first event of a batch that was put back had come; 0: none was */
    uint64_t scan;       /* the scan that found an earlier batch of it waiting */
    bool held, probing;
    unsigned holds;
    uint64_t
        hold_mark; /* the output's latest send when it was last held: answers to earlier ones are old news */
    uint64_t next_us; /* no probe before */
    uint64_t held_wall_ns;
    char text[200];
    uint64_t skipped; /* events that were read past while it is held; they come again */
};

#define PARTITION_BUCKETS 256

struct partition_table {
    struct list buckets[PARTITION_BUCKETS];
    struct list all, free;
    struct partition *last; /* the one found last: most events follow one of the same partition */
    unsigned count;
};

void partition_table_init(struct partition_table *t);
void partition_table_deinit(struct partition_table *t);
struct partition *partition_find(struct partition_table *t, struct span name); /* NULL: not there */
struct partition *partition_add(struct partition_table *t, struct span name);
/* Recycles it if nothing needs it any more. */
void partition_let_go(struct partition_table *t, struct partition *p);

#endif

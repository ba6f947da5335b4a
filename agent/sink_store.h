/* sink_store: what the development upstream remembers: counts, identities, violations, and the record on disk.
 *
 * Three questions are answered of everything that arrives. Has this event been here before (`unique`,
 * `repeated`)? Would the vendor have taken it for a second one (`processed`: what is left after the vendor's
 * own deduplication, so processed == unique means "each once")? And did a batch come back under its id with
 * other bytes (a violation)? Identities are 128-bit hashes in an open table, so that millions fit. */
#ifndef PENSTOCK_AGENT_SINK_STORE_H
#define PENSTOCK_AGENT_SINK_STORE_H

#include "lib/base/bytes.h"

#include <stdio.h>

struct sink_hash {
    uint64_t a, b;
};

/* Not cryptographic; two inputs of a test run do not meet by chance. */
struct sink_hash sink_hash_of(struct sink_hash seed, struct span bytes);

struct sink_table_slot {
    struct sink_hash key;
    struct sink_hash value;
};
struct sink_table {
    struct sink_table_slot *slots;
    size_t count, capacity; /* capacity is a power of two, or 0 */
};
/* Where `key` is, or NULL. */
struct sink_hash *sink_table_find(const struct sink_table *t, struct sink_hash key);
/* Puts it in with `value` unless it is there; true when it was new. *ret_slot (may be NULL): its value. */
bool sink_table_put(struct sink_table *t, struct sink_hash key, struct sink_hash value, struct sink_hash **ret_slot);
void sink_table_deinit(struct sink_table *t);

#define SINK_APIS_MAX 10 /* the contract's, and "unknown" */
#define SINK_VIOLATIONS_MAX 64

struct sink_counts {
    const char *api;
    uint64_t requests, refused;          /* refused: answered with something else than 2xx */
    uint64_t events;                     /* taken, repeats included */
    uint64_t unique, repeated;           /* by the event's identity */
    uint64_t processed;                  /* by the vendor's own deduplication */
    uint64_t changed;                    /* an id that came back with other content (an update) */
    uint64_t invalid;                    /* events the vendor refuses or loses */
    uint64_t batches, batches_repeated;  /* with an id of their own */
    uint64_t bytes_raw, bytes_wire;
    uint64_t by_status[6];               /* answers by hundreds */
};

struct sink_violation {
    const char *api;
    char what[64];
    char last[200];
    uint64_t count;
};

struct sink_store {
    struct sink_counts counts[SINK_APIS_MAX];
    unsigned api_count;
    struct sink_violation violations[SINK_VIOLATIONS_MAX];
    unsigned violation_count;
    uint64_t violations_total;
    struct sink_table events, vendor, batches;
    FILE *out; /* NULL: no record */
    struct bytes line;
    uint64_t requests, connections, handshakes, hangups;
};

/* `path` NULL: no record is kept. The file is appended to. */
MUST_USE enum err sink_store_init(struct sink_store *s, const char *path, struct fault *why);
void sink_store_deinit(struct sink_store *s);

struct sink_counts *sink_store_counts(struct sink_store *s, const char *api);
void sink_store_violation(struct sink_store *s, const char *api, const char *what, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* One event that arrived. */
struct sink_seen {
    const char *api;
    uint64_t request;     /* the sink's number of the request */
    uint32_t index;
    struct span partition; /* .at NULL: none */
    struct span id;        /* the event's own; .at NULL: none */
    struct span batch;     /* the request's id; .at NULL: none */
    struct span body;      /* its bytes, valid JSON unless `opaque` */
    struct sink_hash identity; /* what makes it the same event */
    struct sink_hash vendor;   /* what the vendor deduplicates by; only with vendor_dedup */
    bool vendor_dedup;
    bool opaque;
    bool taken;            /* the sink counts it as delivered */
    unsigned status;       /* its own result, or the request's */
};
void sink_store_event(struct sink_store *s, const struct sink_seen *seen);
/* A batch with an id came, taken or not: the same id must always carry the same bytes. True: it was here before. */
bool sink_store_batch(struct sink_store *s, const char *api, struct span partition, struct span batch, struct span bytes);
/* What was recorded is in the kernel's hands; before an answer is given. */
MUST_USE enum err sink_store_flush(struct sink_store *s, struct fault *why);

/* GET /_sink/stats */
void sink_store_stats(const struct sink_store *s, struct bytes *into);
/* The same for a person, on a few lines. */
void sink_store_print(const struct sink_store *s, FILE *to);

#endif

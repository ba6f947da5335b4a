/* rig: an output over a spool in memory and an api that is scripted by status codes, with a clock of its own.
 *
 * The spool (fake_spool.c) keeps the promises of lib/spool/spool.h and checks those of its caller: every
 * member in exactly one place, assigned before it is sent, settled once.
 */
#ifndef PENSTOCK_TESTS_OUTPUT_RIG_H
#define PENSTOCK_TESTS_OUTPUT_RIG_H

#include "lib/output/batch.h"
#include "lib/output/output.h"
#include "tests/unit/output/rig_api.h"

/* --- the spool ------------------------------------------------------------------------------------------ */

enum fake_fate { FAKE_PENDING, FAKE_DELIVERED, FAKE_DEAD, FAKE_DROPPED };

struct fake_record {
    char *partition, *id, *body;
    size_t partition_len, id_len, body_len;
    uint64_t wall_ns;
    uint64_t batch_no; /* 0: unassigned */
    bool handed;
    enum fake_fate fate;
    unsigned reason, status, attempts;
};

struct spool *fake_new(void);
void fake_free(struct spool *s);
/* The process died and a new one opened the spool: unassigned records come again, open batches are recovered.
 */
void fake_restart(struct spool *s);
struct fake_record *fake_record(struct spool *s, uint64_t seq);
uint64_t fake_count(const struct spool *s);
unsigned fake_batches(const struct spool *s);
uint64_t fake_assigns(const struct spool *s);
bool fake_note_next(struct spool *s, struct spool_note *ret); /* also runs a load */
void fake_set_dead_full(struct spool *s, bool full);
void fake_set_control_full(struct spool *s, bool full);
void fake_set_durable_by_hand(struct spool *s, bool by_hand); /* NOTE_BATCH only by fake_make_durable() */
void fake_make_durable(struct spool *s);
bool fake_is_durable(const struct spool *s, uint64_t batch_no);
void fake_drop_batch(struct spool *s, uint64_t batch_no); /* drop_oldest took it */
void fake_corrupt(struct spool *s, uint64_t seq);         /* one member of an open batch is lost */
void fake_expire(struct spool *s, uint64_t seq);          /* an unassigned one */
void fake_set_window(struct spool *s, uint64_t seqs);
void fake_set_state(struct spool *s, enum spool_state state);

/* --- the rig -------------------------------------------------------------------------------------------- */

struct rig_sent {
    struct batch *batch;
    uint64_t at_us;
    char payload_id[40];
    char *body; /* copy, NUL-terminated */
    size_t body_len;
    unsigned count;
    enum api_codec codec;
    bool open; /* not answered yet */
    char partition[64];
    bool probe;
};

#define RIG_SENT_MAX 20000

struct rig {
    struct spool *spool;
    struct output *output;
    struct output_config config;
    struct clock clock;
    uint64_t now_us, wall_ns;
    struct arena arena;
    struct rig_sent *sent;
    unsigned sent_count, secrets, rebuilds, cancels, probes;
    bool probe_open;
    bool hold_secrets; /* output_secrets_read() only by the test */
    bool hold_encodes;
    struct batch *encodes[64];
    unsigned encode_count;
};

void rig_init(struct rig *r);  /* codec identity, 10 events a batch, 1 s, concurrency 1 */
void rig_start(struct rig *r); /* after changing r->config */
void rig_deinit(struct rig *r);
void rig_restart(struct rig *r); /* a new output over the same spool */
void rig_offer(struct rig *r, const char *partition, const char *body);
void rig_offer_n(struct rig *r, unsigned n); /* "1", "2", … counting on */
/* Steps, encodes and delivers notes until nothing moves. */
void rig_run(struct rig *r);
void rig_pass(struct rig *r, uint64_t us); /* lets time pass in one go, then runs */
/* Lets time pass from one wake to the next, at most us. */
void rig_pass_by_wakes(struct rig *r, uint64_t us);
/* Answers the n-th request. */
void rig_reply(struct rig *r, unsigned n, unsigned status, const char *body);
void rig_reply_after(struct rig *r, unsigned n, unsigned status, const char *retry_after);
void rig_break(struct rig *r, unsigned n, enum output_break what);
unsigned rig_open(const struct rig *r); /* requests in flight */
unsigned rig_last(const struct rig *r); /* index of the latest request */
const char *rig_body(const struct rig *r, unsigned n);
void rig_status(const struct rig *r, struct output_status *ret);
bool rig_news(struct rig *r, const char *containing); /* reads all news */

#endif

/* accounts_state: what accounts say of themselves: to users as a ledger, and to the next start as a STATE record. See
 * accounts.h. */
#include "lib/spool/accounts.h"

/* --- the ledger ------------------------------------------------------------------------------------------- */

uint64_t accounts_pending(const struct accounts *a)
{
    return a->next_seq - 1 - a->low_water - a->settled.count;
}

uint64_t accounts_dead(const struct accounts *a)
{
    uint64_t total = 0;
    for (size_t i = 0; i < SPOOL_DEAD_REASONS; i++)
        total += a->dead_total[i];
    return total + a->adopted - a->replayed - a->letters_dropped;
}

uint64_t accounts_accepted(const struct accounts *a)
{
    return a->next_seq - a->base_seq + a->dropped[SPOOL_DROP_SHED] + a->adopted - a->replayed;
}

void accounts_ledger(const struct accounts *a, struct spool_ledger *ret)
{
    *ret = (struct spool_ledger){.accepted = accounts_accepted(a),
                                 .pending = accounts_pending(a),
                                 .delivered = a->delivered,
                                 .dead = accounts_dead(a),
                                 .identity_broken = a->identity_broken,
                                 .torn_bytes = a->torn_bytes,
                                 .gaps = a->gaps};
    memcpy(ret->dead_total, a->dead_total, sizeof ret->dead_total);
    memcpy(ret->dropped, a->dropped, sizeof ret->dropped);
}

bool accounts_balanced(const struct accounts *a)
{
    uint64_t dropped = 0;
    for (size_t i = 0; i < OP_DROP_SLOTS; i++)
        dropped += a->dropped[i];
    return accounts_accepted(a) == accounts_pending(a) + a->delivered + accounts_dead(a) + dropped;
}

/* --- STATE ------------------------------------------------------------------------------------------------ */

static enum err put_intervals(const struct intervals *s, enum op_code code, struct bytes *to)
{
    struct spool_run runs[256];
    for (size_t i = 0; i < s->len;) {
        unsigned n = 0;
        for (; n < 256 && i < s->len; i++, n++)
            runs[n] = (struct spool_run){s->at[i].first, s->at[i].last - s->at[i].first + 1};
        enum err err = op_put_runs(to, code, runs, n);
        if (err != OK)
            return err;
    }
    return OK;
}

struct spool_assignment accounts_assignment(const struct batch *b)
{
    return (struct spool_assignment){.partition = b->partition,
                                     .runs = b->runs,
                                     .run_count = b->run_count,
                                     .raw_len = b->raw_len,
                                     .raw_crc32c = b->raw_crc32c,
                                     .envelope_version = b->envelope_version,
                                     .envelope_hash = b->envelope_hash,
                                     .codec = b->codec,
                                     .level = b->level};
}

static enum err put_batches(const struct accounts *a, struct bytes *to)
{
    for (size_t i = 0; i < a->batch_count; i++) {
        const struct batch *b = a->batches[i];
        struct spool_assignment assignment = accounts_assignment(b);
        enum err err = op_put_assign(to, b->epoch, b->no, b->broken ? OP_FLAG_BROKEN : 0, &assignment);
        if (err != OK)
            return err;
    }
    return OK;
}

enum err accounts_put_state(const struct accounts *a, uint64_t next_seq, uint64_t replayed_later,
                            struct bytes *to)
{
    struct op_state s = {.next_seq = next_seq,
                         .epoch = a->epoch,
                         .name_hash = a->name_hash,
                         .refused = a->refused,
                         .base_seq = a->base_seq,
                         .low_water = a->low_water,
                         .next_batch_no = a->next_batch_no,
                         .next_letter = a->next_letter,
                         .delivered = a->delivered,
                         .replayed = a->replayed - replayed_later,
                         .letters_dropped = a->letters_dropped,
                         .identity_broken = a->identity_broken,
                         .torn_bytes = a->torn_bytes,
                         .gaps = a->gaps,
                         .adopted = a->adopted};
    memcpy(s.dropped, a->dropped, sizeof s.dropped);
    memcpy(s.dead_total, a->dead_total, sizeof s.dead_total);
    enum err err = op_put_state(to, &s);
    if (err == OK)
        err = put_intervals(&a->settled, OP_SETTLED, to);
    if (err == OK)
        err = put_batches(a, to);
    if (err == OK)
        err = put_intervals(&a->marks, OP_MARKS, to);
    if (err == OK)
        err = op_put_user(to, span_of(a->user, a->user_len));
    return err;
}

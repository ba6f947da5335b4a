/* accounts: see accounts.h. */
#include "lib/spool/accounts.h"

#include "lib/base/ensure.h"
#include "lib/spool/branches.h"
#include "lib/spool/bugs.h"
#include "lib/spool/format.h"

#include <stdlib.h>

void accounts_init(struct accounts *a)
{
    *a = (struct accounts){.next_seq = 1, .base_seq = 1, .next_batch_no = 1, .next_letter = 1};
}

static void free_batches(struct accounts *a)
{
    for (size_t i = 0; i < a->batch_count; i++) {
        free(a->batches[i]->runs);
        free(a->batches[i]);
    }
    a->batch_count = 0;
    a->batch_bytes = 0;
}

void accounts_deinit(struct accounts *a)
{
    free_batches(a);
    free(a->batches);
    intervals_deinit(&a->settled);
    intervals_deinit(&a->taken);
    intervals_deinit(&a->marks);
    accounts_init(a);
}

/* --- batches ---------------------------------------------------------------------------------------------
 */

/* The index of the first batch with a number > no. */
static size_t batch_index_after(const struct accounts *a, uint64_t no)
{
    size_t low = 0, high = a->batch_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (a->batches[middle]->no <= no)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct batch *accounts_batch_after(const struct accounts *a, uint64_t no)
{
    size_t i = batch_index_after(a, no);
    return i < a->batch_count ? a->batches[i] : NULL;
}

struct batch *accounts_batch(const struct accounts *a, uint64_t no)
{
    size_t i = batch_index_after(a, no);
    return i > 0 && a->batches[i - 1]->no == no ? a->batches[i - 1] : NULL;
}

static void batch_insert(struct accounts *a, struct batch *b)
{
    if (a->batch_count == a->batch_cap) {
        a->batch_cap = a->batch_cap == 0 ? 16 : a->batch_cap * 2;
        a->batches = must_realloc(a->batches, a->batch_cap * sizeof *a->batches);
    }
    size_t i = batch_index_after(a, b->no);
    memmove(a->batches + i + 1, a->batches + i, (a->batch_count - i) * sizeof *a->batches);
    a->batches[i] = b;
    a->batch_count++;
    a->batch_bytes += b->op_bytes;
}

static void batch_remove(struct accounts *a, struct batch *b)
{
    size_t i = batch_index_after(a, b->no) - 1;
    ensure(a->batches[i] == b);
    a->batch_count--;
    memmove(a->batches + i, a->batches + i + 1, (a->batch_count - i) * sizeof *a->batches);
    a->batch_bytes -= b->op_bytes;
    free(b->runs);
    free(b);
}

uint64_t accounts_unsettled(const struct accounts *a, const struct batch *b)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < b->run_count; i++) {
        uint64_t first = b->runs[i].first, last = first + b->runs[i].count - 1;
        if (last <= a->low_water)
            continue;
        if (first <= a->low_water)
            first = a->low_water + 1;
        count += last - first + 1 - intervals_count(&a->settled, first, last);
    }
    return count;
}

/* Members that nobody settled become unassigned. */
static void batch_release(struct accounts *a, struct batch *b)
{
    for (unsigned i = 0; b->unsettled > 0 && i < b->run_count; i++) {
        uint64_t seq = b->runs[i].first, end = seq + b->runs[i].count;
        if (seq <= a->low_water)
            seq = a->low_water + 1;
        for (; seq < end; seq++) {
            seq = intervals_next_free(&a->settled, seq);
            if (seq < end)
                (void)intervals_remove(&a->taken, seq, seq); /* Members are taken: one each. */
        }
    }
    batch_remove(a, b);
}

/* --- settling --------------------------------------------------------------------------------------------
 */

static void raise_low_water(struct accounts *a)
{
    if (BUG(14) && a->taken.len > 0 && a->taken.at[0].first == a->low_water + 1) {
        a->low_water = a->taken.at[0].last;
        intervals_drop_to(&a->settled, a->low_water);
        intervals_drop_to(&a->taken, a->low_water);
    }
    if (a->settled.len == 0 || a->settled.at[0].first != a->low_water + 1)
        return;
    a->low_water = a->settled.at[0].last;
    intervals_drop_to(&a->settled, a->low_water);
    intervals_drop_to(&a->taken, a->low_water);
}

/* Settles what is not settled of first..last; returns how many that was. Low water is for the caller to
 * raise. */
static uint64_t settle(struct accounts *a, uint64_t first, uint64_t last)
{
    if (first <= a->low_water)
        first = a->low_water + 1;
    if (first > last)
        return 0;
    (void)intervals_add(&a->taken, first, last); /* Members of batches are in already. */
    return intervals_add(&a->settled, first, last);
}

static bool overlaps(const struct batch *b, uint64_t first, uint64_t last)
{
    for (unsigned i = 0; i < b->run_count; i++)
        if (b->runs[i].first <= last && b->runs[i].first + b->runs[i].count > first)
            return true;
    return false;
}

static void tell_lost(const struct accounts *a, struct batch *b)
{
    if (a->lost != NULL)
        a->lost(a->lost_ctx, b);
}

/* Seqs that are gone, and what that does to open batches: with `whole`, one with members among them is
 * dropped as a whole; else it lives on with the rest, but no longer as what its identity promised. */
static void lose(struct accounts *a, uint64_t first, uint64_t count, unsigned reason, bool whole)
{
    uint64_t last = first + count - 1;
    if (count == 0 || last <= a->low_water)
        return;
    uint64_t fresh = settle(a, first, last);
    a->dropped[reason] += BUG(15) ? 2 * fresh : fresh;
    for (size_t i = a->batch_count; i-- > 0;) {
        struct batch *b = a->batches[i];
        if (!overlaps(b, first, last))
            continue;
        if (whole)
            for (unsigned k = 0; k < b->run_count; k++)
                a->dropped[reason] += settle(a, b->runs[k].first, b->runs[k].first + b->runs[k].count - 1);
        uint64_t unsettled = accounts_unsettled(a, b);
        if (unsettled == b->unsettled)
            continue;
        if (!whole && !b->broken) {
            REACHED(BATCH_SHRUNK);
            b->broken = true;
            a->identity_broken++;
        }
        b->unsettled = unsettled;
        tell_lost(a, b);
        if (unsettled == 0)
            batch_remove(a, b);
    }
}

/* --- ops -------------------------------------------------------------------------------------------------
 */

static void apply_state(struct accounts *a, const struct op_state *s)
{
    a->next_seq = s->next_seq;
    a->base_seq = s->base_seq;
    a->low_water = s->low_water;
    a->epoch = s->epoch;
    a->next_batch_no = s->next_batch_no;
    a->next_letter = s->next_letter;
    a->refused = s->refused;
    a->delivered = s->delivered;
    a->replayed = s->replayed;
    a->letters_dropped = s->letters_dropped;
    a->identity_broken = s->identity_broken;
    a->torn_bytes = s->torn_bytes;
    a->gaps = s->gaps;
    a->adopted = s->adopted;
    memcpy(a->dropped, s->dropped, sizeof a->dropped);
    memcpy(a->dead_total, s->dead_total, sizeof a->dead_total);
    a->user_len = 0;
    a->clean = false;
    free_batches(a);
    intervals_clear(&a->settled);
    intervals_clear(&a->taken);
    intervals_clear(&a->marks);
}

static void apply_settled(struct accounts *a, struct op_runs runs)
{
    struct spool_run run;
    a->sweep = a->sweep || a->batch_count > 0;
    while (op_run_next(&runs, &run))
        if (run.first > a->low_water + 1)
            (void)settle(a, run.first, run.first + run.count - 1); /* Counted in STATE's counters. */
}

/* Open batches with unsettled members in first..last have ended before these were assigned anew: the record
 * of it was lost to damage. What else they had is unassigned again. */
static void end_forgotten(struct accounts *a, uint64_t first, uint64_t last)
{
    for (size_t i = a->batch_count; i-- > 0;) {
        struct batch *b = a->batches[i];
        if (!overlaps(b, first, last))
            continue;
        REACHED(BATCH_END_LOST);
        a->identity_broken++;
        tell_lost(a, b);
        batch_release(a, b);
    }
}

/* A seq is a member of one open batch at most. */
static void take_members(struct accounts *a, uint64_t first, uint64_t last)
{
    if (first <= a->low_water)
        first = a->low_water + 1;
    if (first > last)
        return;
    if (intervals_count(&a->taken, first, last) != intervals_count(&a->settled, first, last))
        end_forgotten(a, first, last);
    (void)intervals_add(&a->taken, first, last); /* Settled ones may be in already. */
}

static void apply_assign(struct accounts *a, const struct op_assign *op, size_t op_bytes)
{
    if (accounts_batch(a, op->batch_no) != NULL)
        return;
    struct batch *b = must_alloc(sizeof *b);
    unsigned n = op->runs.left;
    *b = (struct batch){.no = op->batch_no,
                        .epoch = op->epoch,
                        .count = op->count,
                        .run_count = n,
                        .raw_len = op->raw_len,
                        .raw_crc32c = op->raw_crc32c,
                        .envelope_version = op->envelope_version,
                        .envelope_hash = op->envelope_hash,
                        .codec = op->codec,
                        .level = op->level,
                        .broken = (op->flags & OP_FLAG_BROKEN) != 0,
                        .op_bytes = op_bytes};
    b->runs = must_alloc(n * sizeof *b->runs + op->partition.len);
    if (op->partition.len > 0)
        memcpy(b->runs + n, op->partition.at, op->partition.len);
    b->partition = span_of(b->runs + n, op->partition.len);
    struct op_runs runs = op->runs;
    for (unsigned i = 0; i < n; i++) {
        bool there = op_run_next(&runs, &b->runs[i]);
        ensure(there);
        take_members(a, b->runs[i].first, b->runs[i].first + b->runs[i].count - 1);
    }
    b->unsettled = accounts_unsettled(a, b);
    if (b->unsettled < b->count && !b->broken) {
        REACHED(BATCH_MADE_SHORT);
        /* Some were lost while it was made. */
        b->broken = true;
        a->identity_broken++;
    }
    batch_insert(a, b);
    if (op->batch_no >= a->next_batch_no)
        a->next_batch_no = op->batch_no + 1;
    if (b->unsettled < b->count)
        tell_lost(a, b);
    if (b->unsettled == 0)
        batch_remove(a, b);
}

static void apply_done(struct accounts *a, const struct op_done *op)
{
    struct batch *b = accounts_batch(a, op->batch_no);
    if (b == NULL || b->epoch != op->epoch)
        return;
    struct op_runs runs = op->delivered;
    struct spool_run run;
    uint64_t fresh = 0;
    if ((op->flags & OP_FLAG_ALL) != 0)
        for (unsigned i = 0; i < b->run_count; i++)
            fresh += settle(a, b->runs[i].first, b->runs[i].first + b->runs[i].count - 1);
    while (op_run_next(&runs, &run))
        fresh += settle(a, run.first, run.first + run.count - 1);
    a->delivered += fresh;
    b->unsettled = accounts_unsettled(a, b);
    batch_release(a, b);
}

static void apply_dead(struct accounts *a, const struct op_dead *op)
{
    struct op_runs runs = op->runs;
    struct spool_run run;
    uint64_t fresh = 0, letters = 0;
    while (op_run_next(&runs, &run)) {
        fresh += settle(a, run.first, run.first + run.count - 1);
        letters += run.count;
    }
    a->dead_total[op->reason] += fresh;
    if (op->letter + letters > a->next_letter)
        a->next_letter = op->letter + letters;
    a->sweep = true;
}

static void apply_drop(struct accounts *a, const struct op_drop *op)
{
    struct op_runs runs = op->runs;
    struct spool_run run;
    bool whole = (op->flags & OP_FLAG_WHOLE_BATCHES) != 0;
    a->sweep = a->sweep || !whole;
    while (op_run_next(&runs, &run)) {
        if (whole)
            lose(a, run.first, run.count, op->reason, true);
        else
            a->dropped[op->reason] += settle(a, run.first, run.first + run.count - 1);
    }
}

static void apply_letters(struct accounts *a, const struct op_drop *op)
{
    struct op_runs runs = op->runs;
    struct spool_run run;
    bool lost = (op->flags & OP_FLAG_LOST) != 0;
    while (op_run_next(&runs, &run)) {
        uint64_t fresh = lost ? run.count : intervals_add(&a->marks, run.first, run.first + run.count - 1);
        if (fresh > accounts_dead(a)) /* the word of their death was lost to damage: they are still pending */
            fresh = accounts_dead(a);
        a->letters_dropped += fresh;
        a->dropped[op->reason] += fresh;
    }
}

static void apply_marks(struct accounts *a, struct op_runs runs, bool add)
{
    struct spool_run run;
    while (op_run_next(&runs, &run)) {
        if (add)
            (void)intervals_add(&a->marks, run.first, run.first + run.count - 1); /* Counted elsewhere. */
        else
            (void)intervals_remove(&a->marks, run.first, run.first + run.count - 1);
    }
}

static void apply_counts(struct accounts *a, const struct op_counts *op)
{
    a->dropped[SPOOL_DROP_SHED] = op->shed;
    a->torn_bytes = op->torn_bytes;
}

static void apply_user(struct accounts *a, struct span user)
{
    memcpy(a->user, user.at, user.len);
    a->user_len = user.len;
}

static void apply_gap(struct accounts *a, const struct op_gap *gap)
{
    a->gaps++;
    lose(a, gap->first, gap->count, SPOOL_DROP_CORRUPT, false);
}

static void apply_op(struct accounts *a, const struct op *op, size_t op_bytes)
{
    switch (op->code) {
    case OP_STATE:
        apply_state(a, &op->state);
        break;
    case OP_SETTLED:
        apply_settled(a, op->runs);
        break;
    case OP_ASSIGN:
        apply_assign(a, &op->assign, op_bytes);
        break;
    case OP_DONE:
    case OP_SPLIT:
        apply_done(a, &op->done);
        break;
    case OP_DEAD:
        apply_dead(a, &op->dead);
        break;
    case OP_DROP:
        apply_drop(a, &op->drop);
        break;
    case OP_GAP:
        apply_gap(a, &op->gap);
        break;
    case OP_COUNTS:
        apply_counts(a, &op->counts);
        break;
    case OP_USER:
        apply_user(a, op->user);
        break;
    case OP_LETTERS:
        apply_letters(a, &op->drop);
        break;
    case OP_MARKS:
        apply_marks(a, op->runs, true);
        break;
    case OP_MARKED:
        apply_marks(a, op->runs, false);
        break;
    default:
        break;
    }
}

/* Members have been settled one by one: what that means for their batches. Usually their DONE has followed.
 */
static void sweep_batches(struct accounts *a)
{
    a->sweep = false;
    for (size_t i = a->batch_count; i-- > 0;) {
        struct batch *b = a->batches[i];
        b->unsettled = accounts_unsettled(a, b);
        if (b->unsettled > 0)
            continue;
        tell_lost(a, b);
        batch_remove(a, b);
    }
}

/* Nothing that ops name may lie beyond what is stored: bytes that say otherwise are damaged. */
static uint64_t highest_named(const struct accounts *a)
{
    uint64_t highest = a->low_water;
    if (a->taken.len > 0 && a->taken.at[a->taken.len - 1].last > highest)
        highest = a->taken.at[a->taken.len - 1].last;
    return highest;
}

bool accounts_apply(struct accounts *a, struct span ops)
{
    while (ops.len > 0) {
        struct op op;
        const uint8_t *from = ops.at;
        if (!op_next(&ops, &op))
            return false;
        apply_op(a, &op, (size_t)(ops.at - from));
        a->clean = op.code == OP_CLEAN;
    }
    if (a->sweep)
        sweep_batches(a);
    raise_low_water(a);
    return highest_named(a) < a->next_seq && accounts_balanced(a);
}

void accounts_stored(struct accounts *a, uint64_t seq, uint64_t count)
{
    if (seq + count > a->next_seq)
        a->next_seq = seq + count;
}

void accounts_lost(struct accounts *a, uint64_t first, uint64_t count)
{
    if (count == 0)
        return;
    accounts_stored(a, first, count);
    a->gaps++;
    lose(a, first, count, SPOOL_DROP_CORRUPT, false);
    raise_low_water(a);
}

void accounts_reset(struct accounts *a, uint64_t base_seq)
{
    uint64_t epoch = a->epoch, next_batch_no = a->next_batch_no, next_letter = a->next_letter;
    accounts_deinit(a);
    a->epoch = epoch;
    a->next_batch_no = next_batch_no;
    a->next_letter = next_letter;
    a->base_seq = a->next_seq = base_seq;
    a->low_water = base_seq - 1;
}

void accounts_replayed(struct accounts *a, struct op_runs letters)
{
    struct spool_run run;
    while (op_run_next(&letters, &run)) {
        uint64_t fresh = intervals_add(&a->marks, run.first, run.first + run.count - 1);
        uint64_t dead = accounts_dead(a);
        a->replayed += fresh < dead ? fresh : dead;
    }
}

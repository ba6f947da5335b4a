/* fake_spool: lib/spool/spool.h over arrays, for one process at a time. See rig.h. */
#include "tests/unit/output/rig.h"

#include "lib/base/ensure.h"

#include <stdlib.h>

#define NOTES_MAX 1024

struct fake_batch {
    struct spool_assignment a;
    struct spool_run *runs;
    char *partition;
    struct spool_batch_id id;
    uint64_t count;
    bool durable, recovered, broken, gone;
};

struct spool {
    struct fake_record *records;
    uint64_t count, cap, acked, ended, base; /* base: all before it are settled */
    struct fake_batch *batches;
    unsigned batch_count, batch_cap, first_live;
    uint64_t next_batch_no, epoch, assigns, window;
    uint64_t read;
    struct spool_note notes[NOTES_MAX];
    unsigned note_first, note_count;
    struct spool_loader *loaders;
    uint8_t user[SPOOL_USER_MAX];
    size_t user_len;
    bool dead_full, control_full, durable_by_hand;
    enum spool_state state;
};

struct spool *fake_new(void)
{
    struct spool *s = must_alloc(sizeof *s);
    s->next_batch_no = 1;
    s->epoch = 1;
    s->window = 65536;
    s->state = SPOOL_OK;
    return s;
}

void fake_free(struct spool *s)
{
    for (uint64_t i = 0; i < s->count; i++) {
        free(s->records[i].partition);
        free(s->records[i].id);
        free(s->records[i].body);
    }
    for (unsigned i = 0; i < s->batch_count; i++) {
        free(s->batches[i].runs);
        free(s->batches[i].partition);
    }
    free(s->records);
    free(s->batches);
    free(s);
}

static void note(struct spool *s, enum spool_note_kind kind, uint64_t batch_no)
{
    ensure(s->note_count < NOTES_MAX);
    s->notes[(s->note_first + s->note_count++) % NOTES_MAX] =
        (struct spool_note){.kind = kind, .batch_no = batch_no};
}

static struct fake_batch *find(const struct spool *s, uint64_t no)
{
    for (unsigned i = s->first_live; i < s->batch_count; i++)
        if (s->batches[i].id.batch_no == no && !s->batches[i].gone)
            return &s->batches[i];
    return NULL;
}

void fake_restart(struct spool *s)
{
    s->epoch++;
    s->note_count = 0;
    s->loaders = NULL;
    s->read = s->base;
    for (uint64_t i = 0; i < s->count; i++)
        s->records[i].handed = false;
    for (unsigned i = 0; i < s->batch_count; i++) {
        struct fake_batch *b = &s->batches[i];
        if (b->gone)
            continue;
        if (!b->durable) { /* never reached the disk: its records are unassigned again */
            b->gone = true;
            for (uint64_t k = 0; k < s->count; k++)
                if (s->records[k].batch_no == b->id.batch_no)
                    s->records[k].batch_no = 0;
            continue;
        }
        b->recovered = true;
    }
    note(s, NOTE_OPENED, 0);
}

struct fake_record *fake_record(struct spool *s, uint64_t seq)
{
    ensure(seq >= 1 && seq <= s->count);
    return &s->records[seq - 1];
}

uint64_t fake_count(const struct spool *s)
{
    return s->count;
}

unsigned fake_batches(const struct spool *s)
{
    unsigned n = 0;
    for (unsigned i = s->first_live; i < s->batch_count; i++)
        n += !s->batches[i].gone;
    return n;
}

uint64_t fake_assigns(const struct spool *s)
{
    return s->assigns;
}

static void run_loader(struct spool *s)
{
    struct spool_loader *l = s->loaders;
    s->loaders = l->next;
    struct fake_batch *b = find(s, l->batch_no);
    if (b == NULL) {
        l->done(l->ctx, ERR_NOT_FOUND);
        return;
    }
    for (unsigned i = 0; i < b->a.run_count; i++)
        for (uint64_t k = 0; k < b->runs[i].count; k++) {
            const struct fake_record *r = fake_record(s, b->runs[i].first + k);
            struct spool_item item = {.seq = b->runs[i].first + k,
                                      .wall_ns = r->wall_ns,
                                      .partition = span_of(r->partition, r->partition_len),
                                      .id = span_of(r->id, r->id_len),
                                      .body = span_of(r->body, r->body_len)};
            l->item(l->ctx, &item);
        }
    l->done(l->ctx, OK);
}

bool fake_note_next(struct spool *s, struct spool_note *ret)
{
    if (s->note_count == 0) {
        if (s->loaders == NULL)
            return false;
        run_loader(s);
        *ret = (struct spool_note){.kind = NOTE_READABLE};
        return true;
    }
    *ret = s->notes[s->note_first];
    s->note_first = (s->note_first + 1) % NOTES_MAX;
    s->note_count--;
    return true;
}

void fake_set_dead_full(struct spool *s, bool full)
{
    s->dead_full = full;
    if (!full)
        note(s, NOTE_ROOM, 0);
}

void fake_set_control_full(struct spool *s, bool full)
{
    s->control_full = full;
    if (!full)
        note(s, NOTE_ROOM, 0);
}

void fake_set_durable_by_hand(struct spool *s, bool by_hand)
{
    s->durable_by_hand = by_hand;
}

void fake_make_durable(struct spool *s)
{
    for (unsigned i = s->first_live; i < s->batch_count; i++)
        if (!s->batches[i].gone && !s->batches[i].durable) {
            s->batches[i].durable = true;
            note(s, NOTE_BATCH, s->batches[i].id.batch_no);
        }
}

bool fake_is_durable(const struct spool *s, uint64_t batch_no)
{
    struct fake_batch *b = find(s, batch_no);
    return b != NULL && b->durable;
}

void fake_set_window(struct spool *s, uint64_t seqs)
{
    s->window = seqs;
}

void fake_set_state(struct spool *s, enum spool_state state)
{
    s->state = state;
    note(s, NOTE_STATE, 0);
}

static void end_record(struct spool *s, uint64_t seq, enum fake_fate fate)
{
    struct fake_record *r = fake_record(s, seq);
    ensure(r->fate == FAKE_PENDING && "an event ends once");
    r->fate = fate;
    s->ended++;
    while (s->base < s->count && s->records[s->base].fate != FAKE_PENDING)
        s->base++;
}

void fake_drop_batch(struct spool *s, uint64_t batch_no)
{
    struct fake_batch *b = find(s, batch_no);
    ensure(b != NULL);
    for (unsigned i = 0; i < b->a.run_count; i++)
        for (uint64_t k = 0; k < b->runs[i].count; k++)
            end_record(s, b->runs[i].first + k, FAKE_DROPPED);
    b->gone = true;
    note(s, NOTE_LOST, batch_no);
}

void fake_expire(struct spool *s, uint64_t seq)
{
    ensure(fake_record(s, seq)->batch_no == 0);
    end_record(s, seq, FAKE_DROPPED);
}

void fake_corrupt(struct spool *s, uint64_t seq)
{
    uint64_t no = fake_record(s, seq)->batch_no;
    struct fake_batch *b = find(s, no);
    ensure(b != NULL && b->count > 1);
    struct spool_run *runs = must_alloc((b->a.run_count + 1) * sizeof *runs);
    unsigned n = 0;
    for (unsigned i = 0; i < b->a.run_count; i++) {
        struct spool_run r = b->runs[i];
        if (seq < r.first || seq >= r.first + r.count) {
            runs[n++] = r;
            continue;
        }
        if (seq > r.first)
            runs[n++] = (struct spool_run){r.first, seq - r.first};
        if (seq + 1 < r.first + r.count)
            runs[n++] = (struct spool_run){seq + 1, r.first + r.count - seq - 1};
    }
    free(b->runs);
    b->runs = runs;
    b->a.runs = runs;
    b->a.run_count = n;
    b->count--;
    b->broken = true;
    end_record(s, seq, FAKE_DROPPED);
    note(s, NOTE_LOST, no);
}

/* --- lib/spool/spool.h ---------------------------------------------------------------------------------- */

enum spool_state spool_state(const struct spool *s)
{
    return s->state;
}

enum err spool_room(const struct spool *s, unsigned count, uint64_t bytes)
{
    (void)count;
    (void)bytes;
    return s->state == SPOOL_FULL ? ERR_FULL : OK;
}

static char *copy(struct span s)
{
    return must_strndup(s);
}

enum err spool_append(struct spool *s, const struct spool_record *records, unsigned count, uint64_t *ret_seq)
{
    for (unsigned i = 0; i < count; i++) {
        if (s->count == s->cap) {
            s->cap = s->cap == 0 ? 256 : 2 * s->cap;
            s->records = must_realloc(s->records, s->cap * sizeof *s->records);
        }
        s->records[s->count++] = (struct fake_record){
            .partition = copy(records[i].partition),
            .id = copy(records[i].id),
            .body = copy(records[i].body),
            .partition_len = records[i].partition.len,
            .id_len = records[i].id.len,
            .body_len = records[i].body.len,
            .wall_ns = records[i].wall_ns,
        };
    }
    *ret_seq = s->acked = s->count;
    note(s, NOTE_ACKED, 0);
    return OK;
}

enum err spool_append_reserved(struct spool *s, const struct spool_record *records, unsigned count,
                               uint64_t *reserved, uint64_t *ret_seq)
{
    (void)reserved;
    return spool_append(s, records, count, ret_seq);
}

enum err spool_reserve(struct spool *s, unsigned count, uint64_t bytes, uint64_t *ret_reserved)
{
    *ret_reserved = bytes;
    return spool_room(s, count, bytes);
}

void spool_unreserve(struct spool *s, uint64_t reserved)
{
    (void)s;
    (void)reserved;
}

enum err spool_room_reserved(struct spool *s)
{
    (void)s;
    return OK;
}

uint64_t spool_acked(const struct spool *s)
{
    return s->acked;
}

void spool_flush(struct spool *s)
{
    (void)s;
}

enum err spool_next(struct spool *s, struct spool_item *ret)
{
    while (s->read < s->acked) {
        struct fake_record *r = &s->records[s->read];
        if (r->fate != FAKE_PENDING || r->batch_no != 0 || r->handed) {
            s->read++;
            continue;
        }
        if (s->read >= s->base + s->window)
            return ERR_AGAIN;
        r->handed = true;
        s->read++;
        *ret = (struct spool_item){.seq = s->read,
                                   .wall_ns = r->wall_ns,
                                   .partition = span_of(r->partition, r->partition_len),
                                   .id = span_of(r->id, r->id_len),
                                   .body = span_of(r->body, r->body_len)};
        return OK;
    }
    return ERR_AGAIN;
}

void spool_rewind(struct spool *s)
{
    for (uint64_t i = s->base; i < s->count; i++)
        s->records[i].handed = false;
    s->read = s->base;
}

static struct spool_batch_id add_batch(struct spool *s, const struct spool_assignment *a, uint64_t from_batch)
{
    if (s->batch_count == s->batch_cap) {
        s->batch_cap = s->batch_cap == 0 ? 64 : 2 * s->batch_cap;
        s->batches = must_realloc(s->batches, s->batch_cap * sizeof *s->batches);
    }
    struct fake_batch *b = &s->batches[s->batch_count++];
    *b = (struct fake_batch){.a = *a, .durable = !s->durable_by_hand};
    b->runs = must_alloc(a->run_count * sizeof *b->runs);
    memcpy(b->runs, a->runs, a->run_count * sizeof *b->runs);
    b->a.runs = b->runs;
    b->partition = copy(a->partition);
    b->a.partition = span_of(b->partition, a->partition.len);
    b->id = (struct spool_batch_id){.epoch = s->epoch, .batch_no = s->next_batch_no++};
    memcpy(b->id.uuid, "fake spool uuid!", 16);
    uint64_t last = 0;
    for (unsigned i = 0; i < a->run_count; i++) {
        ensure(a->runs[i].count > 0 && a->runs[i].first > last);
        last = a->runs[i].first + a->runs[i].count - 1;
        for (uint64_t k = 0; k < a->runs[i].count; k++) {
            struct fake_record *r = fake_record(s, a->runs[i].first + k);
            ensure(r->fate == FAKE_PENDING && r->batch_no == from_batch);
            ensure(span_equal(span_of(r->partition, r->partition_len), a->partition));
            r->batch_no = b->id.batch_no;
            b->count++;
        }
    }
    if (b->durable)
        note(s, NOTE_BATCH, b->id.batch_no);
    return b->id;
}

enum err spool_assign(struct spool *s, const struct spool_assignment *a, struct spool_batch_id *ret_id)
{
    if (s->control_full)
        return ERR_FULL;
    for (unsigned i = 0; i < a->run_count; i++)
        for (uint64_t k = 0; k < a->runs[i].count; k++)
            if (fake_record(s, a->runs[i].first + k)->fate != FAKE_PENDING)
                return ERR_NOT_FOUND;
    *ret_id = add_batch(s, a, 0);
    s->assigns++;
    return OK;
}

enum err spool_drop(struct spool *s, struct spool_run run, enum spool_drop reason)
{
    for (uint64_t k = 0; k < run.count; k++) {
        ensure(fake_record(s, run.first + k)->batch_no == 0);
        fake_record(s, run.first + k)->reason = reason;
        end_record(s, run.first + k, FAKE_DROPPED);
    }
    return OK;
}

bool spool_open_batch_next(const struct spool *s, uint64_t after, struct spool_open_batch *ret)
{
    for (unsigned i = s->first_live; i < s->batch_count; i++) {
        const struct fake_batch *b = &s->batches[i];
        if (b->gone || b->id.batch_no <= after)
            continue;
        *ret = (struct spool_open_batch){.id = b->id,
                                         .assignment = b->a,
                                         .count = b->count,
                                         .durable = b->durable,
                                         .recovered = b->recovered,
                                         .identity_broken = b->broken};
        return true;
    }
    return false;
}

void spool_load(struct spool *s, uint64_t batch_no, struct spool_loader *loader)
{
    loader->batch_no = batch_no;
    loader->next = NULL;
    struct spool_loader **at = &s->loaders;
    while (*at != NULL)
        at = &(*at)->next;
    *at = loader;
}

static void settle_runs(struct spool *s, uint64_t batch_no, const struct spool_run *runs, unsigned count,
                        enum fake_fate fate, unsigned reason)
{
    for (unsigned i = 0; i < count; i++)
        for (uint64_t k = 0; k < runs[i].count; k++) {
            struct fake_record *r = fake_record(s, runs[i].first + k);
            ensure(r->batch_no == batch_no);
            r->reason = reason;
            end_record(s, runs[i].first + k, fate);
        }
}

enum err spool_settle(struct spool *s, uint64_t batch_no, const struct spool_outcome *o)
{
    struct fake_batch *b = find(s, batch_no);
    if (b == NULL)
        return ERR_NOT_FOUND;
    ensure(b->durable);
    if ((o->dead_count > 0 && s->dead_full) || s->control_full)
        return ERR_FULL;
    if (o->all_delivered)
        settle_runs(s, batch_no, b->runs, b->a.run_count, FAKE_DELIVERED, 0);
    settle_runs(s, batch_no, o->delivered, o->delivered_count, FAKE_DELIVERED, 0);
    settle_runs(s, batch_no, o->dropped, o->dropped_count, FAKE_DROPPED, o->drop_reason);
    for (unsigned i = 0; i < o->dead_count; i++) {
        struct fake_record *r = fake_record(s, o->dead[i].seq);
        ensure(r->batch_no == batch_no);
        r->reason = o->dead[i].reason;
        r->status = o->dead[i].status;
        r->attempts = o->dead[i].attempts;
        end_record(s, o->dead[i].seq, FAKE_DEAD);
    }
    b->gone = true;
    for (unsigned i = 0; i < o->next_count; i++)
        o->ret_next_ids[i] = add_batch(s, &o->next[i], batch_no);
    while (s->first_live < s->batch_count && s->batches[s->first_live].gone)
        s->first_live++;
    for (uint64_t i = s->base; i < s->count && i < s->base + s->window; i++)
        ensure(s->records[i].fate != FAKE_PENDING || s->records[i].batch_no != batch_no);
    note(s, NOTE_SETTLED, batch_no);
    note(s, NOTE_READABLE, 0);
    return OK;
}

void spool_ledger(const struct spool *s, struct spool_ledger *ret)
{
    *ret = (struct spool_ledger){.accepted = s->count, .pending = s->count - s->ended};
}

void spool_set_user(struct spool *s, struct span blob)
{
    ensure(blob.len <= sizeof s->user);
    memcpy(s->user, blob.at, blob.len);
    s->user_len = blob.len;
}

struct span spool_user(const struct spool *s)
{
    return span_of(s->user, s->user_len);
}

uint64_t spool_save_user(struct spool *s)
{
    note(s, NOTE_SAVED, 0);
    return 1;
}

bool spool_saved(const struct spool *s, uint64_t number)
{
    (void)s;
    (void)number;
    return true;
}

uint64_t spool_last_commit_us(const struct spool *s)
{
    (void)s;
    return 150;
}

bool spool_recent_next(struct spool *s, struct span *ret_id, uint64_t *ret_wall_ns)
{
    (void)s;
    (void)ret_id;
    (void)ret_wall_ns;
    return false;
}

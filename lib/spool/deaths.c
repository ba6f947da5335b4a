/* deaths: batches of whose events some die. Step 12 of the straight line.
 *
 * What a batch came to waits as a task until the letters of its dead are written and synced (dead.c); only then do the ops
 * that settle it follow, so that a crash in between leaves letters that nobody counts, and never a death without its
 * letter. */
#include "lib/spool/internal.h"

#include <stdlib.h>

#define WRITE_BYTES_MAX (1024 * 1024)

static size_t copy_size(const struct spool_outcome *o)
{
    size_t size = sizeof(struct death_task) + o->delivered_count * sizeof *o->delivered +
                  o->dropped_count * sizeof *o->dropped +
                  o->dead_count * (sizeof *o->dead + sizeof(uint64_t) + sizeof(bool)) +
                  o->next_count * sizeof *o->next;
    for (unsigned i = 0; i < o->dead_count; i++)
        size += o->dead[i].answer.len < LETTER_ANSWER_MAX ? o->dead[i].answer.len : LETTER_ANSWER_MAX;
    for (unsigned i = 0; i < o->next_count; i++)
        size += o->next[i].run_count * sizeof *o->next[i].runs + o->next[i].partition.len;
    return size;
}

static void *take(uint8_t **at, const void *from, size_t size)
{
    void *to = *at;
    if (size > 0 && from != NULL)
        memcpy(to, from, size);
    *at += size;
    return to;
}

/* The caller's lists are good until its call returns; ours must last. Aligned data first, bytes last. */
static struct death_task *copy_outcome(const struct spool_outcome *o)
{
    struct death_task *t = must_alloc(copy_size(o));
    uint8_t *at = (uint8_t *)(t + 1);
    t->outcome = *o;
    t->outcome.ret_next_ids = NULL;
    t->outcome.delivered = take(&at, o->delivered, o->delivered_count * sizeof *o->delivered);
    t->outcome.dropped = take(&at, o->dropped, o->dropped_count * sizeof *o->dropped);
    struct spool_death *dead = take(&at, o->dead, o->dead_count * sizeof *o->dead);
    struct spool_assignment *next = take(&at, o->next, o->next_count * sizeof *o->next);
    t->letters = take(&at, NULL, o->dead_count * sizeof *t->letters);
    for (unsigned i = 0; i < o->next_count; i++)
        next[i].runs = take(&at, o->next[i].runs, o->next[i].run_count * sizeof *o->next[i].runs);
    t->over_quota = take(&at, NULL, o->dead_count * sizeof *t->over_quota);
    for (unsigned i = 0; i < o->next_count; i++)
        next[i].partition.at = take(&at, o->next[i].partition.at, o->next[i].partition.len);
    for (unsigned i = 0; i < o->dead_count; i++) {
        if (dead[i].answer.len > LETTER_ANSWER_MAX)
            dead[i].answer.len = LETTER_ANSWER_MAX;
        dead[i].answer.at = take(&at, o->dead[i].answer.at, dead[i].answer.len);
    }
    t->outcome.dead = dead;
    t->outcome.next = next;
    return t;
}

void deaths_settle(struct spool *s, struct batch *b, const struct spool_outcome *o, uint64_t first_next_no)
{
    struct death_task *t = copy_outcome(o), **end = &s->dead.tasks;
    t->batch_no = b->no;
    t->first_next_no = first_next_no;
    b->settling = true;
    while (*end != NULL)
        end = &(*end)->next;
    *end = t;
}

static bool unsettled(const struct spool *s, uint64_t seq)
{
    return seq > s->accounts.low_water && !intervals_has(&s->accounts.settled, seq);
}

/* Makes letters of what a task has left; false when an event must be read first. */
static bool gather(struct spool *s, struct death_task *t)
{
    struct deadbox *d = &s->dead;
    struct bytes *frames = &d->job.frames;
    for (; t->gathered < t->outcome.dead_count && frames->len < WRITE_BYTES_MAX; t->gathered++) {
        const struct spool_death *death = &t->outcome.dead[t->gathered];
        struct spool_item item;
        if (!unsettled(s, death->seq))
            continue;
        enum err err = cursor_get(s, &s->dead_cursor, death->seq, &item);
        if (err == ERR_AGAIN)
            return false;
        if (err != OK)
            continue;
        if (s->config.dead_drop_newest && s->dead_allocated + frames->len >= s->config.dead_max_bytes) {
            t->over_quota[t->gathered] = true;
            continue;
        }
        struct spool_batch_id batch = {.epoch = s->accounts.epoch, .batch_no = t->batch_no};
        const struct batch *b = accounts_batch(&s->accounts, t->batch_no);
        if (b != NULL)
            batch.epoch = b->epoch;
        t->letters[t->gathered] = d->letters.next_letter++;
        letter_put(frames, t->letters[t->gathered], &item, death, &batch, s->host.wall_ns(s->host.ctx));
    }
    return true;
}

/* DEAD ops for runs of letters that follow each other; the letters of events that were settled by something
 * else meanwhile are marked as gone. */
static void put_deaths(struct spool *s, const struct death_task *t, const struct batch *b)
{
    const struct spool_outcome *o = &t->outcome;
    enum err err = OK;
    for (unsigned i = 0; i < o->dead_count;) {
        struct spool_run run = {.first = o->dead[i].seq, .count = 1};
        struct op_dead dead = {.reason = o->dead[i].reason,
                               .epoch = b == NULL ? 0 : b->epoch,
                               .batch_no = t->batch_no,
                               .letter = t->letters[i],
                               .dlq_segment = s->dead.file_id};
        bool counts = b != NULL && unsettled(s, run.first);
        unsigned from = i++;
        if (t->letters[from] == 0) {
            if (t->over_quota[from] && counts)
                err = op_put_drop(&s->ctrl, OP_DROP, SPOOL_DROP_QUOTA, 0, &run, 1);
            ensure(err == OK);
            continue;
        }
        while (i < o->dead_count && o->dead[i].reason == dead.reason &&
               o->dead[i].seq == run.first + run.count && t->letters[i] == dead.letter + run.count &&
               (b != NULL && unsettled(s, o->dead[i].seq)) == counts) {
            run.count++;
            i++;
        }
        if (counts) {
            err = op_put_dead(&s->ctrl, &dead, &run, 1);
        } else {
            struct spool_run gone = {dead.letter, run.count};
            (void)intervals_add(&s->dead.letters.gone, gone.first, gone.first + gone.count - 1);
            err = op_put_runs(&s->ctrl, OP_MARKS, &gone, 1);
        }
        ensure(err == OK);
    }
}

static void finish_task(struct spool *s)
{
    struct death_task *t = s->dead.tasks;
    s->dead.tasks = t->next;
    struct batch *b = accounts_batch(&s->accounts, t->batch_no);
    size_t start = ctrl_start(s);
    put_deaths(s, t, b);
    if (b != NULL)
        settle_put_outcome(s, b, &t->outcome, t->first_next_no);
    ctrl_apply(s, start, true);
    /* The batch is gone, as all its members ended while it waited: those that were to follow never come to
     * be. */
    for (unsigned i = 0; b == NULL && i < t->outcome.next_count; i++)
        spool_note(s, NOTE_LOST, t->first_next_no + i);
    if (s->accounts.marks.count > 0)
        s->dead.marks_ticket = s->ticket;
    settle_applied(s, t->first_next_no);
    spool_note(s, NOTE_SETTLED, t->batch_no);
    free(t);
}

void deaths_step(struct spool *s)
{
    struct deadbox *d = &s->dead;
    struct death_task *t = d->tasks;
    if (!gather(s, t) && d->job.frames.len < WRITE_BYTES_MAX)
        return;
    if (d->job.frames.len > 0)
        dead_write(s, DEAD_WRITE_LETTERS, frame_seq(d->job.frames.at));
    else
        finish_task(s);
}

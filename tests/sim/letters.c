/* letters: somebody looks at the dead letters now and then, puts some of them back, and throws them away when
 * they are too many.
 *
 * A replay appends events by itself: that it did shows in the number of letters, and their order is that of
 * the letters asked for. */
#include "tests/sim/world.h"

#include <inttypes.h>

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    struct world *w = ctx;
    const struct model *m = &w->model;
    struct letter_book *b = &w->letters;
    if (m->loose)
        return;
    if (letter->seq == 0 || letter->seq > m->last_seq)
        world_fail(w, "a letter of seq %" PRIu64 ", which does not exist", letter->seq);
    if (b->wanted && b->count < 64 && decide(&w->luck, 2) == 0) {
        b->ids[b->count] = letter->letter_id;
        b->seqs[b->count++] = letter->seq;
    }
    uint32_t event = m->seqs[letter->seq].event, len = m->events[event].len;
    uint8_t body[1024];
    if (letter->body.len != len)
        world_fail(w, "the letter of seq %" PRIu64 " has %zu bytes, not %u", letter->seq, letter->body.len,
                   len);
    if (len > sizeof(body))
        return;
    model_body(event, len, body);
    if (memcmp(body, letter->body.at, len) != 0 || letter->status != 400)
        world_fail(w, "the letter of seq %" PRIu64 " says something else", letter->seq);
}

/* All letters that there were, and none twice; some may have come meanwhile. */
static void check_list(struct world *w, uint64_t count)
{
    struct spool_ledger l;
    spool_ledger(w->spool, &l);
    if (w->model.loose || count >= w->dead.limit)
        return;
    if (count < w->letters.dead_before || count > l.dead)
        world_fail(w, "%" PRIu64 " letters were listed, but there were %" PRIu64 " and are %" PRIu64, count,
                   w->letters.dead_before, l.dead);
}

static void on_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    struct world *w = ctx;
    (void)why;
    if (w->verbose)
        world_say(w, "letters: %s, %" PRIu64, err_name(err), count);
    w->dead_busy = false;
    if (w->dead.kind == DEAD_LIST && err == OK)
        check_list(w, count);
    if (w->dead.kind == DEAD_LIST)
        w->letters.listed = w->letters.wanted;
    if (w->dead.kind == DEAD_REPLAY) {
        w->letters.ended = true;
        w->letters.reported = count;
    }
    if (w->dead.kind != DEAD_PURGE || err != OK)
        return; /* a purge that was cut off stands in the log or not: the next start tells */
    w->model.purge_open = false;
    w->model.purged += count;
    world_met(w, MET_PURGE);
}

static void ask(struct world *w, int kind)
{
    struct spool_ledger l;
    if (w->dead_busy || w->letters.listed || w->letters.going)
        return;
    spool_ledger(w->spool, &l);
    w->letters = (struct letter_book){.dead_before = l.dead};
    w->dead = (struct spool_dead_request){
        .ctx = w, .kind = kind, .limit = 100, .letter = on_letter, .done = on_done};
    w->dead_busy = spool_dead(w->spool, &w->dead) == OK;
    if (w->dead_busy && kind == DEAD_PURGE)
        w->model.purge_open = true;
}

void letters_purge(struct world *w)
{
    ask(w, DEAD_PURGE);
}

void letters_list(struct world *w)
{
    ask(w, DEAD_LIST);
}

void letters_replay(struct world *w)
{
    if (w->model.loose || w->dead_busy || w->letters.listed || w->letters.going)
        return;
    ask(w, DEAD_LIST);
    w->letters.wanted = w->dead_busy;
}

/* The list is there: now the replay. */
void letters_turn(struct world *w)
{
    struct letter_book *b = &w->letters;
    if (!b->listed || w->dead_busy)
        return;
    b->listed = b->wanted = false;
    if (w->model.loose || b->count == 0)
        return;
    w->dead = (struct spool_dead_request){.ctx = w,
                                          .kind = DEAD_REPLAY,
                                          .ids = b->ids,
                                          .id_count = b->count,
                                          .letter = on_letter,
                                          .done = on_done};
    b->going = w->dead_busy = spool_dead(w->spool, &w->dead) == OK;
    if (w->verbose)
        world_say(w, "replay %u letters: %d", b->count, b->going);
}

void letters_follow(struct world *w, const struct spool_ledger *l)
{
    const struct model *m = &w->model;
    struct letter_book *b = &w->letters;
    if (!b->going)
        return;
    uint64_t letters = m->dead_total - m->replayed - m->purged;
    for (; letters > l->dead; letters--) {
        if (b->done == b->count)
            world_fail(w, "%" PRIu64 " letters, %" PRIu64 " too few after a replay", l->dead,
                       letters - l->dead);
        model_replayed(w, b->seqs[b->done++]);
    }
    if (b->ended && b->reported != b->done)
        world_fail(w, "%" PRIu64 " letters are said to be replayed, but %u are", b->reported, b->done);
    b->going = !b->ended;
}

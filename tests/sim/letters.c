/* letters: somebody looks at the dead letters now and then, and throws them away when they are too many. */
#include "tests/sim/world.h"

#include <inttypes.h>

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    struct world *w = ctx;
    const struct model *m = &w->model;
    if (m->loose)
        return;
    if (letter->seq == 0 || letter->seq > m->last_seq)
        world_fail(w, "a letter of seq %" PRIu64 ", which does not exist", letter->seq);
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

static void on_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    struct world *w = ctx;
    (void)why;
    if (w->verbose)
        world_say(w, "letters: %s, %" PRIu64, err_name(err), count);
    w->dead_busy = false;
    if (w->dead.kind != DEAD_PURGE || err != OK)
        return; /* a purge that was cut off stands in the log or not: the next start tells */
    w->model.purge_open = false;
    w->model.purged += count;
    world_met(w, MET_PURGE);
}

static void ask(struct world *w, int kind)
{
    if (w->dead_busy)
        return;
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

/* verdict: see verdict.h. Step 11 hands the verdict in; step 12 (settle.c) carries the outcome out. */
#include "lib/output/verdict.h"

#include "lib/base/ensure.h"
#include "lib/spool/bugs.h"

#include <stdlib.h>

#define ANSWER_MAX 1024 /* bytes of the upstream's words kept per letter */
#define TEXT_MAX (4u << 20)

void outcome_init(struct outcome *o)
{
    *o = (struct outcome){0};
    bytes_init(&o->text, TEXT_MAX);
}

void outcome_deinit(struct outcome *o)
{
    free(o->fates);
    free(o->deaths);
    bytes_deinit(&o->text);
    outcome_init(o);
}

void outcome_clear(struct outcome *o)
{
    struct outcome kept = *o;
    *o = (struct outcome){
        .fates = kept.fates, .fate_cap = kept.fate_cap, .deaths = kept.deaths, .death_cap = kept.death_cap};
    o->text = kept.text;
    if (o->text.cap > 64 * 1024)
        bytes_deinit(&o->text);
    bytes_clear(&o->text);
}

static void begin_cut(struct outcome *o, unsigned count)
{
    o->kind = OUTCOME_CUT;
    if (o->fate_cap < count) {
        o->fates = must_realloc(o->fates, count);
        o->fate_cap = count;
    }
}

static void set_fate(struct outcome *o, unsigned member, enum fate fate)
{
    o->fates[member] = (uint8_t)fate;
    switch (fate) {
    case FATE_DELIVERED:
        o->delivered_count++;
        break;
    case FATE_REMAINS:
        o->remain_count++;
        break;
    case FATE_DROPPED:
        o->drop_count++;
        break;
    case FATE_DEAD:
    case FATE_GONE:
        break;
    }
}

static void set_dead(struct outcome *o, unsigned member, enum api_dead reason, unsigned status,
                     struct span answer)
{
    if (o->death_count == o->death_cap) {
        o->death_cap = o->death_cap == 0 ? 16 : 2 * o->death_cap;
        o->deaths = must_realloc(o->deaths, o->death_cap * sizeof *o->deaths);
    }
    if (answer.len > ANSWER_MAX)
        answer.len = ANSWER_MAX;
    uint32_t at = (uint32_t)o->text.len;
    const struct outcome_death *last = o->death_count > 0 ? &o->deaths[o->death_count - 1] : NULL;
    if (last != NULL && last->answer_len == answer.len && answer.len > 0 &&
        memcmp(o->text.at + last->answer_at, answer.at, answer.len) == 0)
        at = last->answer_at; /* the same words again are kept once */
    else if (bytes_append(&o->text, answer) != OK)
        answer.len = 0; /* a letter without words is better than no letter */
    o->fates[member] = FATE_DEAD;
    o->deaths[o->death_count++] = (struct outcome_death){.member = member,
                                                         .status = status,
                                                         .answer_at = at,
                                                         .answer_len = (uint32_t)answer.len,
                                                         .reason = (uint8_t)reason};
}

void outcome_all_dead(struct outcome *o, unsigned count, enum api_dead reason, unsigned status,
                      struct span answer)
{
    begin_cut(o, count);
    for (unsigned i = 0; i < count; i++)
        set_dead(o, i, reason, status, answer);
}

void outcome_take_deaths(struct outcome *ret, const struct outcome *from)
{
    outcome_clear(ret);
    begin_cut(ret, from->death_count);
    ret->definite = true;
    unsigned member = 0;
    for (unsigned i = 0; i < from->death_count; i++) {
        const struct outcome_death *d = &from->deaths[i];
        if (from->fates[d->member] == FATE_DEAD)
            set_dead(ret, member++, (enum api_dead)d->reason, d->status, span_of(from->text.at + d->answer_at, d->answer_len));
    }
}

void outcome_all_dropped(struct outcome *o, unsigned count, enum spool_drop reason)
{
    begin_cut(o, count);
    o->drop_reason = reason;
    for (unsigned i = 0; i < count; i++)
        set_fate(o, i, FATE_DROPPED);
}

void outcome_drop(struct outcome *o, unsigned member, enum spool_drop reason)
{
    ensure(o->kind == OUTCOME_CUT && o->fates[member] == FATE_REMAINS);
    o->drop_reason = reason;
    o->remain_count--;
    set_fate(o, member, FATE_DROPPED);
    if (o->pieces > o->remain_count)
        o->pieces = o->remain_count;
}

void outcome_all_remain(struct outcome *o, unsigned count, unsigned pieces, bool singles)
{
    begin_cut(o, count);
    for (unsigned i = 0; i < count; i++)
        set_fate(o, i, FATE_REMAINS);
    o->pieces = pieces < count ? pieces : count;
    o->singles = singles && o->pieces < count;
}

static void again(const struct api_verdict *v, const struct verdict_case *c, struct outcome *o)
{
    o->counted = v->unknown_max != 0;
    if (o->counted && c->unknown_sends + 1 >= v->unknown_max) {
        o->effect = EFFECT_SUCCESS;
        outcome_all_dead(o, c->count, v->reason, c->status, v->text);
        return;
    }
    o->effect = v->backoff ? EFFECT_BACKOFF : EFFECT_NONE;
    if (c->give_up) {
        outcome_all_dead(o, c->count, DEAD_GAVE_UP, c->status, v->text);
        return;
    }
    if (BUG(111) && c->count > 1) { /* cut after an unknown outcome */
        outcome_all_remain(o, c->count, 2, false);
        return;
    }
    o->kind = OUTCOME_AGAIN;
}

static void split(const struct api_verdict *v, const struct verdict_case *c, bool singles, struct outcome *o)
{
    o->effect = EFFECT_SUCCESS;
    o->too_large = v->reason == DEAD_TOO_LARGE;
    if (c->count == 1 || BUG(112))
        outcome_all_dead(o, c->count, v->reason, c->status, v->text);
    else
        outcome_all_remain(o, c->count, singles ? VERDICT_PIECES_MAX : 2, singles);
}

static void hold(enum outcome_effect effect, struct outcome *o)
{
    o->effect = effect;
    o->kind = OUTCOME_AGAIN;
}

static void per_event(const struct api_verdict *v, const struct verdict_case *c, struct outcome *o)
{
    ensure(v->events != NULL);
    begin_cut(o, c->count);
    o->effect = v->backoff ? EFFECT_BACKOFF : EFFECT_SUCCESS;
    for (unsigned i = 0; i < c->count; i++) {
        const struct api_event_verdict *e = &v->events[i];
        if (BUG(120) && v->apart) {
            set_fate(o, i, FATE_REMAINS);
            continue;
        }
        if (e->action == ACT_DELIVERED || (BUG(113) && e->action == ACT_RETRY)) {
            set_fate(o, i, FATE_DELIVERED);
        } else if (e->action == ACT_DEAD) {
            set_dead(o, i, e->reason, e->status, e->answer);
        } else if (e->unknown && v->unknown_max != 0 && c->unknown_sends + 1 >= v->unknown_max) {
            set_dead(o, i, e->reason, e->status, e->answer);
        } else if (c->give_up) {
            set_dead(o, i, DEAD_GAVE_UP, e->status, e->answer);
        } else {
            set_fate(o, i, FATE_REMAINS);
            o->counted = o->counted || e->unknown;
            o->unknown = o->unknown || e->unknown;
        }
    }
    unsigned pieces_max = v->apart ? VERDICT_PIECES_MAX : 1;
    o->pieces = o->remain_count < pieces_max ? o->remain_count : pieces_max;
    o->singles = v->apart && o->pieces < o->remain_count;
    o->later = !v->backoff;
    if (o->delivered_count == c->count)
        o->kind = OUTCOME_DELIVERED;
}

void verdict_apply(const struct api_verdict *v, const struct verdict_case *c, struct outcome *ret)
{
    ensure(c->count > 0);
    outcome_clear(ret);
    ret->unknown = v->unknown;
    ret->definite = c->status != 0 && !v->unknown && v->action != ACT_RETRY;
    switch (v->action) {
    case ACT_DELIVERED:
        ret->kind = OUTCOME_DELIVERED;
        ret->effect = v->backoff ? EFFECT_BACKOFF : EFFECT_SUCCESS;
        return;
    case ACT_RETRY:
        again(v, c, ret);
        return;
    case ACT_SPLIT:
    case ACT_SPLIT_SINGLES:
        split(v, c, v->action == ACT_SPLIT_SINGLES, ret);
        return;
    case ACT_DEAD:
        ret->effect = EFFECT_SUCCESS;
        if (v->expire_quietly)
            outcome_all_dropped(ret, c->count, SPOOL_DROP_EXPIRED);
        else
            outcome_all_dead(ret, c->count, v->reason, c->status, v->text);
        return;
    case ACT_HOLD:
        hold(EFFECT_HOLD, ret);
        return;
    case ACT_HOLD_FOREVER:
        hold(EFFECT_STOP, ret);
        return;
    case ACT_HOLD_PARTITION:
        hold(EFFECT_HOLD_PARTITION, ret);
        return;
    case ACT_PLAIN_RETRY:
        hold(c->sent_plain ? EFFECT_HOLD : EFFECT_NONE, ret);
        ret->plain = true;
        return;
    case ACT_MODE_RETRY:
        if (!c->batch_mode) {
            hold(EFFECT_HOLD, ret);
            return;
        }
        /* A single event, too, becomes a new batch: its bytes change, so its id must. */
        ret->structured = true;
        ret->effect = EFFECT_SUCCESS;
        outcome_all_remain(ret, c->count, VERDICT_PIECES_MAX, true);
        return;
    case ACT_PER_EVENT:
        per_event(v, c, ret);
        return;
    }
}

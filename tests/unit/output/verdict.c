/* Verdicts alone: a table over actions, counts and histories. */
#include "lib/output/verdict.h"

#include <criterion/criterion.h>

struct row {
    const char *name;
    struct api_verdict v;
    struct verdict_case c;
    enum outcome_kind kind;
    enum outcome_effect effect;
    unsigned dead, remain, dropped, pieces;
    int reason; /* of the first death; -1: none */
};

static const struct row rows[] = {
    {"delivered", {.action = ACT_DELIVERED}, {.count = 5}, OUTCOME_DELIVERED, EFFECT_SUCCESS, 0, 0, 0, 0, -1},
    {"delivered, but slow down",
     {.action = ACT_DELIVERED, .backoff = true},
     {.count = 5},
     OUTCOME_DELIVERED,
     EFFECT_BACKOFF,
     0,
     0,
     0,
     0,
     -1},
    {"retry",
     {.action = ACT_RETRY, .backoff = true},
     {.count = 5},
     OUTCOME_AGAIN,
     EFFECT_BACKOFF,
     0,
     0,
     0,
     0,
     -1},
    {"retry of this batch only",
     {.action = ACT_RETRY},
     {.count = 5},
     OUTCOME_AGAIN,
     EFFECT_NONE,
     0,
     0,
     0,
     0,
     -1},
    {"unknown, second of three",
     {.action = ACT_RETRY, .unknown = true, .unknown_max = 3},
     {.count = 5, .unknown_sends = 1},
     OUTCOME_AGAIN,
     EFFECT_NONE,
     0,
     0,
     0,
     0,
     -1},
    {"unknown, third of three",
     {.action = ACT_RETRY, .unknown = true, .unknown_max = 3, .reason = DEAD_BAD_RESPONSE},
     {.count = 5, .unknown_sends = 2},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     5,
     0,
     0,
     0,
     DEAD_BAD_RESPONSE},
    {"given up",
     {.action = ACT_RETRY, .backoff = true},
     {.count = 5, .give_up = true},
     OUTCOME_CUT,
     EFFECT_BACKOFF,
     5,
     0,
     0,
     0,
     DEAD_GAVE_UP},
    {"split",
     {.action = ACT_SPLIT, .reason = DEAD_REFUSED},
     {.count = 5},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     0,
     5,
     0,
     2,
     -1},
    {"split of one",
     {.action = ACT_SPLIT, .reason = DEAD_TOO_LARGE},
     {.count = 1, .status = 413},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     1,
     0,
     0,
     0,
     DEAD_TOO_LARGE},
    {"singles of three",
     {.action = ACT_SPLIT_SINGLES},
     {.count = 3},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     0,
     3,
     0,
     3,
     -1},
    {"singles of many",
     {.action = ACT_SPLIT_SINGLES},
     {.count = 100},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     0,
     100,
     0,
     VERDICT_PIECES_MAX,
     -1},
    {"dead",
     {.action = ACT_DEAD, .reason = DEAD_INVALID},
     {.count = 2},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     2,
     0,
     0,
     0,
     DEAD_INVALID},
    {"expires quietly",
     {.action = ACT_DEAD, .expire_quietly = true},
     {.count = 2},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     0,
     0,
     2,
     0,
     -1},
    {"hold", {.action = ACT_HOLD}, {.count = 2, .give_up = true}, OUTCOME_AGAIN, EFFECT_HOLD, 0, 0, 0, 0, -1},
    {"hold for ever", {.action = ACT_HOLD_FOREVER}, {.count = 2}, OUTCOME_AGAIN, EFFECT_STOP, 0, 0, 0, 0, -1},
    {"hold the partition",
     {.action = ACT_HOLD_PARTITION},
     {.count = 2},
     OUTCOME_AGAIN,
     EFFECT_HOLD_PARTITION,
     0,
     0,
     0,
     0,
     -1},
    {"without compression",
     {.action = ACT_PLAIN_RETRY},
     {.count = 2},
     OUTCOME_AGAIN,
     EFFECT_NONE,
     0,
     0,
     0,
     0,
     -1},
    {"plain already",
     {.action = ACT_PLAIN_RETRY},
     {.count = 2, .sent_plain = true},
     OUTCOME_AGAIN,
     EFFECT_HOLD,
     0,
     0,
     0,
     0,
     -1},
    {"out of batch mode",
     {.action = ACT_MODE_RETRY},
     {.count = 2, .batch_mode = true},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     0,
     2,
     0,
     2,
     -1},
    {"out of batch mode, and alone",
     {.action = ACT_MODE_RETRY},
     {.count = 1, .batch_mode = true},
     OUTCOME_CUT,
     EFFECT_SUCCESS,
     0,
     1,
     0,
     1,
     -1},
    {"no other mode", {.action = ACT_MODE_RETRY}, {.count = 2}, OUTCOME_AGAIN, EFFECT_HOLD, 0, 0, 0, 0, -1},
};

Test(verdict, each_action_has_its_outcome)
{
    struct outcome o;
    outcome_init(&o);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        verdict_apply(&r->v, &r->c, &o);
        cr_expect_eq(o.kind, r->kind, "%s: kind %d", r->name, o.kind);
        cr_expect_eq(o.effect, r->effect, "%s: effect %d", r->name, o.effect);
        cr_expect_eq(o.death_count, r->dead, "%s: dead %u", r->name, o.death_count);
        cr_expect_eq(o.remain_count, r->remain, "%s: remain %u", r->name, o.remain_count);
        cr_expect_eq(o.drop_count, r->dropped, "%s: dropped %u", r->name, o.drop_count);
        cr_expect_eq(o.pieces, r->pieces, "%s: pieces %u", r->name, o.pieces);
        if (r->reason >= 0)
            cr_expect_eq(o.deaths[0].reason, r->reason, "%s: reason", r->name);
    }
    outcome_deinit(&o);
}

Test(verdict, per_event_every_member_has_exactly_one_fate)
{
    struct outcome o;
    outcome_init(&o);
    /* All combinations of four answers over four events. */
    for (unsigned code = 0; code < 256; code++) {
        struct api_event_verdict events[4];
        unsigned want[4] = {0};
        for (unsigned i = 0; i < 4; i++) {
            unsigned kind = code >> (2 * i) & 3;
            want[kind]++;
            events[i] = (struct api_event_verdict){.action = kind == 0   ? ACT_DELIVERED
                                                             : kind == 1 ? ACT_DEAD
                                                                         : ACT_RETRY,
                                                   .unknown = kind == 3,
                                                   .reason = DEAD_NO_RESULT,
                                                   .answer = SPAN("words")};
        }
        struct api_verdict v = {.action = ACT_PER_EVENT, .events = events, .unknown_max = 3};
        struct verdict_case c = {.count = 4};
        verdict_apply(&v, &c, &o);
        cr_assert_eq(o.delivered_count, want[0]);
        cr_assert_eq(o.death_count, want[1]);
        cr_assert_eq(o.remain_count, want[2] + want[3]);
        cr_assert_eq(o.kind, want[0] == 4 ? OUTCOME_DELIVERED : OUTCOME_CUT);
        cr_assert_eq(o.counted, want[3] > 0);
        c.unknown_sends = 2;
        verdict_apply(&v, &c, &o);
        cr_assert_eq(o.death_count, want[1] + want[3], "the third send without a result is the last");
    }
    outcome_deinit(&o);
}

Test(verdict, the_upstreams_words_are_kept_and_cut_to_a_kilobyte)
{
    static char words[3000];
    memset(words, 'w', sizeof words);
    struct outcome o;
    outcome_init(&o);
    outcome_clear(&o);
    outcome_all_dead(&o, 500, DEAD_REFUSED, 400, span_of(words, sizeof words));
    cr_assert_eq(o.deaths[499].answer_len, 1024);
    cr_assert_eq(o.text.len, 1024, "equal words are kept once");
    outcome_deinit(&o);
}

/* One answer tells of some events and leaves open which of the others it refused. */
Test(verdict, what_has_no_result_goes_on_one_by_one_and_nothing_else_does)
{
    struct api_event_verdict events[40];
    struct outcome o;
    outcome_init(&o);
    for (unsigned missing = 2; missing <= 40; missing += 19) {
        for (unsigned i = 0; i < 40; i++)
            events[i] = (struct api_event_verdict){.action = i < missing ? ACT_RETRY : ACT_DELIVERED,
                                                   .unknown = i < missing};
        struct api_verdict v = {
            .action = ACT_PER_EVENT, .apart = true, .backoff = true, .unknown_max = 3, .events = events};
        verdict_apply(&v, &(struct verdict_case){.count = 40}, &o);
        cr_expect_eq(o.delivered_count, 40 - missing);
        cr_expect_eq(o.remain_count, missing);
        cr_expect_eq(o.pieces, missing < VERDICT_PIECES_MAX ? missing : VERDICT_PIECES_MAX);
        cr_expect_eq(o.singles, missing > VERDICT_PIECES_MAX, "what is left of 16 pieces is cut again");
    }
    outcome_deinit(&o);
}

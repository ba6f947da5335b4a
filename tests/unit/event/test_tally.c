/* tally: exact volumes, top types, subjects within the sketch's error, a blob that comes back or is refused. */
#include "lib/event/tally.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define NOW UINT64_C(1700000000)

static struct tally *fresh(void)
{
    struct tally *t = malloc(sizeof *t);
    tally_init(t);
    return t;
}

static void add(struct tally *t, const char *type, const char *subject, uint32_t count, uint64_t now_s)
{
    tally_add(t, span_str(type), span_str(subject), count, now_s);
}

Test(tally, volume_by_minute_and_hour)
{
    struct tally *t = fresh();
    add(t, "a", NULL, 3, NOW - 120);
    add(t, "a", NULL, 5, NOW);
    add(t, "a", NULL, 7, NOW - 7 * 3600);
    cr_expect_eq(tally_minute(t, NOW, 0), 5);
    cr_expect_eq(tally_minute(t, NOW, 1), 0);
    cr_expect_eq(tally_minute(t, NOW, 2), 3);
    cr_expect_eq(tally_minute(t, NOW, 420), 7);
    cr_expect_eq(tally_hour(t, NOW, 7), 7);
    cr_expect_eq(tally_minute(t, NOW, TALLY_MINUTES), 0);
    cr_expect_eq(t->kept.total, 15);
    free(t);
}

Test(tally, old_periods_are_gone)
{
    struct tally *t = fresh();
    add(t, "old", "s", 1, NOW);
    uint64_t later = NOW + 8 * 86400, since, sum = 0;
    struct tally_type top[4];
    for (unsigned i = 0; i < TALLY_MINUTES; i++)
        sum += tally_minute(t, later, i);
    for (unsigned i = 0; i < TALLY_HOURS; i++)
        sum += tally_hour(t, later, i);
    cr_expect_eq(sum, 0);
    cr_expect_eq(tally_top(t, later, top, 4, &since), 0);
    cr_expect_eq(tally_subjects_day(t, later), 0);
    cr_expect_eq(tally_subjects_week(t, later), 0);
    free(t);
}

Test(tally, a_clock_put_back_does_not_count_the_future)
{
    struct tally *t = fresh();
    add(t, "future", "s", 9, NOW + 40 * 86400);
    add(t, "now", "s", 1, NOW);
    uint64_t since, sum = 0;
    struct tally_type top[4];
    for (unsigned i = 0; i < TALLY_MINUTES; i++)
        sum += tally_minute(t, NOW, i);
    cr_expect_eq(sum, 1);
    cr_expect_eq(tally_top(t, NOW, top, 4, &since), 1);
    free(t);
}

Test(tally, top_types_survive_a_crowd_of_rare_ones)
{
    struct tally *t = fresh();
    char name[32];
    for (unsigned i = 0; i < 20000; i++) {
        (void)snprintf(name, sizeof name, "rare.%u", i);
        add(t, name, NULL, 1, NOW);
        add(t, "first", NULL, 2, NOW);
        add(t, "second", NULL, 1, NOW + (i % 2) * TALLY_TYPE_PERIOD_S);
    }
    struct tally_type top[2];
    uint64_t since;
    cr_assert_eq(tally_top(t, NOW + TALLY_TYPE_PERIOD_S, top, 2, &since), 2);
    cr_expect_eq(top[0].name_len, 5);
    cr_expect(memcmp(top[0].name, "first", 5) == 0);
    cr_expect_eq(top[0].count - top[0].over, 40000);
    cr_expect(memcmp(top[1].name, "second", 6) == 0);
    cr_expect_eq(top[1].count - top[1].over, 20000, "two periods add up");
    cr_expect(since <= NOW);
    free(t);
}

Test(tally, a_long_type_is_cut_between_characters)
{
    struct tally *t = fresh();
    char a[80], b[80];
    memset(a, 'x', sizeof a - 1);
    a[sizeof a - 1] = '\0';
    memcpy(a + 62, "\xc3\xa9", 2);
    memcpy(b, a, sizeof b);
    b[78] = 'y';
    add(t, a, NULL, 1, NOW);
    add(t, b, NULL, 1, NOW);
    struct tally_type top[4];
    uint64_t since;
    cr_assert_eq(tally_top(t, NOW, top, 4, &since), 2, "they are told apart behind the cut");
    cr_expect_eq(top[0].name_len, 62);
    free(t);
}

Test(tally, subjects_within_the_error)
{
    static const unsigned counts[] = {0, 1, 3, 100, 3000, 8000, 100000};
    for (unsigned c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct tally *t = fresh();
        char name[32];
        for (unsigned round = 0; round < 2; round++)
            for (unsigned i = 0; i < counts[c]; i++) {
                (void)snprintf(name, sizeof name, "user-%u", i);
                add(t, "a", name, 1, NOW + round * 86400);
            }
        double error = counts[c] < 10 ? 0 : 0.1 * counts[c];
        double day = (double)tally_subjects_day(t, NOW + 86400), week = (double)tally_subjects_week(t, NOW + 86400);
        cr_expect(day >= counts[c] - error && day <= counts[c] + error, "%.0f for %u", day, counts[c]);
        cr_expect(week >= counts[c] - error && week <= counts[c] + error, "%.0f for %u", week, counts[c]);
        free(t);
    }
}

Test(tally, no_subject_is_none)
{
    struct tally *t = fresh();
    add(t, "a", NULL, 1, NOW);
    cr_expect_eq(tally_subjects_day(t, NOW), 0);
    free(t);
}

Test(tally, the_blob_comes_back_or_is_refused)
{
    struct tally *t = fresh(), *u = fresh();
    uint8_t *blob = malloc(TALLY_BLOB_BYTES);
    struct fault why;
    add(t, "a", "s", 4, NOW);
    tally_save(t, blob);
    cr_assert_eq(tally_load(u, span_of(blob, TALLY_BLOB_BYTES), &why), OK);
    cr_expect(memcmp(&u->kept, &t->kept, sizeof t->kept) == 0);
    cr_expect_eq(tally_load(u, span_of(blob, TALLY_BLOB_BYTES - 1), &why), ERR_CORRUPT);
    for (size_t at = 0; at < TALLY_BLOB_BYTES; at += at < 32 ? 1 : 997) {
        blob[at] ^= 1;
        cr_expect_eq(tally_load(u, span_of(blob, TALLY_BLOB_BYTES), &why), ERR_CORRUPT, "byte %zu", at);
        cr_expect_eq(u->kept.total, 0);
        blob[at] ^= 1;
    }
    free(blob);
    free(u);
    free(t);
}

/* Space-saving's promises: counters add up to all events, none is lower than the truth, and `over` says by how much it
 * may be higher. Held over a crowd of types with a few frequent ones, over a change of period, and after a reload. */
Test(tally, the_sketch_keeps_its_promises)
{
    static struct tally t;
    static uint8_t blob[TALLY_BLOB_BYTES];
    static unsigned truth[1000];
    struct tally_type top[TALLY_TYPES];
    struct fault why;
    uint64_t since, total = 0, sum = 0, now = 100 * TALLY_TYPE_PERIOD_S;
    unsigned r = 7;
    tally_init(&t);
    tally_add(&t, SPAN("an old one"), (struct span){0}, 5, now - TALLY_TYPE_PERIODS * TALLY_TYPE_PERIOD_S);
    for (unsigned i = 0; i < 20000; i++) {
        char name[16];
        r = r * 1103515245 + 12345;
        unsigned which = (r >> 16) % 3 == 0 ? (r >> 20) % 5 : (r >> 18) % 1000;
        (void)snprintf(name, sizeof name, "type.%u", which);
        tally_add(&t, span_str(name), (struct span){0}, 1, now);
        truth[which]++;
        total++;
        if (i == 10000) {
            tally_save(&t, blob);
            cr_assert_eq(tally_load(&t, span_of(blob, sizeof blob), &why), OK);
        }
    }
    unsigned count = tally_top(&t, now, top, TALLY_TYPES, &since);
    cr_assert_eq(count, TALLY_TYPES);
    for (unsigned i = 0; i < count; i++) {
        unsigned which;
        cr_assert_eq(sscanf(top[i].name, "type.%u", &which), 1, "%s", top[i].name);
        cr_expect_geq(top[i].count, truth[which]);
        cr_expect_leq(top[i].count - top[i].over, truth[which]);
        for (unsigned k = 0; k < i; k++)
            cr_expect_neq(top[k].hash, top[i].hash, "one type twice");
        sum += top[i].count;
    }
    cr_expect_eq(sum, total);
}

/* The small formats: record ids, payload ids, counters on disk, the line of a dead letter, news. */
#include "lib/base/rng.h"
#include "lib/output/batch.h"
#include "lib/output/dead.h"
#include "lib/output/news.h"
#include "lib/output/record_id.h"
#include "lib/output/stats.h"

#include <criterion/criterion.h>
#include <ctype.h>

Test(record_id, every_combination_comes_back)
{
    for (unsigned bits = 0; bits < 8; bits++) {
        struct record_id in = {.id = bits & 4 ? SPAN("some id") : SPAN("")}, out;
        if (bits & 1) {
            in.key_hash = UINT64_C(0x0123456789abcdef);
            in.content_hash = 42;
        }
        if (bits & 2)
            in.expires_ns = UINT64_C(1800000000000000000);
        uint8_t buffer[64];
        size_t len = record_id_len(&in);
        cr_assert_eq(len == 0, bits == 0);
        record_id_put(&in, buffer);
        cr_assert_eq(record_id_get(span_of(buffer, len), &out), OK);
        cr_assert_eq(out.key_hash, in.key_hash);
        cr_assert_eq(out.content_hash, in.content_hash);
        cr_assert_eq(out.expires_ns, in.expires_ns);
        cr_assert(span_equal(out.id, in.id));
    }
}

Test(record_id, its_bytes_are_a_format)
{
    const struct record_id in = {.key_hash = 1, .content_hash = 2, .expires_ns = 3, .id = SPAN("x")};
    const uint8_t want[] = {3, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 'x'};
    uint8_t buffer[sizeof want];
    cr_assert_eq(record_id_len(&in), sizeof want);
    record_id_put(&in, buffer);
    cr_assert_arr_eq(buffer, want, sizeof want);
}

Test(record_id, foreign_bytes_are_refused_not_believed)
{
    struct record_id out;
    const uint8_t flags[] = {4, 0xff, 1, 2, 3};
    for (unsigned i = 0; i < sizeof flags; i++)
        cr_assert_eq(record_id_get(span_of(&flags[i], 1), &out), ERR_MALFORMED);
    struct rng rng;
    rng_seed(&rng, 5);
    for (unsigned i = 0; i < 10000; i++) {
        uint8_t bytes[40];
        size_t len = rng_below(&rng, sizeof bytes + 1);
        for (size_t k = 0; k < len; k++)
            bytes[k] = (uint8_t)rng_below(&rng, k == 0 ? 5 : 256);
        if (record_id_get(span_of(bytes, len), &out) == OK && out.id.len > 0)
            cr_assert(out.id.at >= bytes && out.id.at + out.id.len == bytes + len);
    }
}

Test(payload_id, is_a_uuid_and_differs_by_epoch_and_number)
{
    struct spool_batch_id id = {.epoch = 1, .batch_no = 1};
    memcpy(id.uuid, "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef", 16);
    char a[BATCH_ID_TEXT], b[BATCH_ID_TEXT], c[BATCH_ID_TEXT], again[BATCH_ID_TEXT];
    batch_id_text(&id, a);
    cr_assert_str_eq(a, "01234566-89ab-4def-8123-456789abcdee");
    batch_id_text(&id, again);
    cr_assert_str_eq(a, again);
    id.batch_no = 2;
    batch_id_text(&id, b);
    id.epoch = 2;
    batch_id_text(&id, c);
    cr_assert_str_neq(a, b);
    cr_assert_str_neq(b, c);
}

Test(stats, come_back_as_they_were)
{
    struct stats s, t;
    stats_init(&s);
    s.requests = 5;
    s.retries = 4;
    s.repeated = 3;
    s.bytes_out = 1u << 30;
    for (unsigned i = 0; i < 100; i++)
        stats_observe(&s.request_seconds, i * 1000);
    stats_result(&s, "delivered");
    stats_result(&s, "something_new");
    uint8_t blob[STATS_BLOB_MAX];
    size_t len = stats_save(&s, blob);
    stats_init(&t);
    stats_load(&t, span_of(blob, len));
    cr_assert_eq(t.requests, 5);
    cr_assert_eq(t.repeated, 3);
    cr_assert_eq(t.request_seconds.count, 100);
    cr_assert_float_eq(t.request_seconds.sum_s, s.request_seconds.sum_s, 1e-3);
    cr_assert_eq(t.result_count, s.result_count);
    cr_assert_str_eq(t.results[0].name, "delivered");
    cr_assert_eq(t.results[0].count, 1);
    for (size_t cut = 0; cut < len; cut++) {
        stats_init(&t);
        stats_load(&t, span_of(blob, cut)); /* whatever is there is taken; nothing is read beyond */
    }
    blob[0] = 99;
    stats_init(&t);
    stats_load(&t, span_of(blob, len));
    cr_assert_eq(t.requests, 0, "another version is not ours to read");
}

Test(stats, names_beyond_the_table_are_counted_together)
{
    struct stats s;
    stats_init(&s);
    for (unsigned i = 0; i < 40; i++) {
        char name[8] = {'r', (char)('a' + i % 26), (char)('a' + i / 26), 0};
        stats_result(&s, name);
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < s.result_count; i++)
        sum += s.results[i].count;
    cr_assert_eq(sum, 40);
    cr_assert_str_eq(s.results[STATS_RESULTS - 1].name, "other");
}

Test(stats, buckets_are_bounded_by_their_upper_edge)
{
    struct output_histogram h = {0};
    stats_observe(&h, 500);
    cr_assert_eq(h.buckets[0], 1);
    stats_observe(&h, 501);
    cr_assert_eq(h.buckets[1], 1);
    stats_observe(&h, UINT64_C(40000000));
    cr_assert_eq(h.buckets[OUTPUT_HISTOGRAM_BUCKETS - 1], 1);
}

Test(dead, its_line_is_one_line_whatever_the_upstream_says)
{
    struct dead_line d = {.reason = "refused",
                          .status = 400,
                          .attempts = 2,
                          .seq = 7,
                          .partition = SPAN("p\"q"),
                          .id = SPAN("i"),
                          .answer = SPAN("line one\nline\ttwo \"quoted\" \\ end")};
    char text[512];
    dead_line_format(&d, text, sizeof text);
    cr_assert_str_eq(text,
                     "dead letter: reason=refused status=400 attempts=2 seq=7 partition=\"p'q\" id=\"i\" "
                     "answer=\"line one line two 'quoted' ' end\"");
    static char long_answer[5000];
    memset(long_answer, 'a', sizeof long_answer);
    d.answer = span_of(long_answer, sizeof long_answer);
    dead_line_format(&d, text, sizeof text);
    cr_assert_eq(text[strlen(text) - 1], '"');
    for (const char *c = text; *c != 0; c++)
        cr_assert(isprint((unsigned char)*c));
}

Test(news, is_bounded_and_counts_what_it_left_out)
{
    struct news n = {0};
    for (unsigned i = 0; i < 100; i++)
        news_add(&n, NEWS_DEAD, "line %u", i);
    struct output_news got;
    cr_assert(news_next(&n, &got));
    cr_assert_str_eq(got.text, "line 0");
    cr_assert_eq(got.left_out, 36);
    unsigned rest = 0;
    while (news_next(&n, &got))
        rest++;
    cr_assert_eq(rest, 63);
    news_deinit(&n);
}

Test(batch, a_thousand_ids_are_found_and_others_are_not)
{
    struct batch *b = batch_new();
    struct partition p = {.name = SPAN("p")};
    struct api_envelope e = {SPAN("["), SPAN(","), SPAN("]"), 1};
    for (unsigned round = 0; round < 3; round++) {
        batch_open(b, &p, &e);
        for (unsigned i = 0; i < 1000; i++) {
            uint64_t id = i * UINT64_C(0x9e3779b97f4a7c15) + round;
            cr_assert_not(batch_has_id(b, span_of(&id, 8)));
            cr_assert_eq(batch_add(b, i + 1, span_of(&id, 8), SPAN("x"), 0), OK);
            cr_assert(batch_has_id(b, span_of(&id, 8)));
        }
        cr_assert_eq(b->run_count, 1);
        cr_assert_eq(b->count, 1000);
        b->payload = PAYLOAD_RAW;
        batch_reset(b, false);
    }
    batch_free(b);
}

/* What the development upstream remembers. */
#include "agent/sink_store.h"
#include "lib/codec/json.h"

#include <criterion/criterion.h>

static struct sink_store store;

static void setup(void)
{
    struct fault why;
    cr_assert_eq(sink_store_init(&store, NULL, &why), OK);
}

static void teardown(void)
{
    sink_store_deinit(&store);
}

TestSuite(sink_store, .init = setup, .fini = teardown);

static struct sink_seen seen(const char *body, uint64_t identity)
{
    return (struct sink_seen){
        .api = "http", .body = span_str(body), .identity = {identity, 1}, .taken = true, .status = 200};
}

Test(sink_store, counts_an_event_once_by_its_identity)
{
    struct sink_seen a = seen("{\"n\":1}", 1), b = seen("{\"n\":1}", 2);
    sink_store_event(&store, &a);
    sink_store_event(&store, &a);
    sink_store_event(&store, &b);
    struct sink_counts *c = sink_store_counts(&store, "http");
    cr_expect_eq(c->events, 3);
    cr_expect_eq(c->unique, 2);
    cr_expect_eq(c->repeated, 1);
    cr_expect_eq(c->processed, 3);
    cr_expect_eq(c->changed, 0);
}

Test(sink_store, processes_once_what_the_vendor_deduplicates)
{
    struct sink_seen a = seen("{\"n\":1}", 1);
    a.vendor_dedup = true;
    a.vendor = (struct sink_hash){7, 7};
    sink_store_event(&store, &a);
    sink_store_event(&store, &a);
    cr_expect_eq(sink_store_counts(&store, "http")->processed, 1);
}

Test(sink_store, notices_an_id_with_other_content)
{
    struct sink_seen a = seen("{\"n\":1}", 1), b = seen("{\"n\":2}", 1);
    sink_store_event(&store, &a);
    sink_store_event(&store, &b);
    cr_expect_eq(sink_store_counts(&store, "http")->changed, 1);
}

Test(sink_store, does_not_count_what_was_not_taken)
{
    struct sink_seen a = seen("{\"n\":1}", 1);
    a.taken = false;
    sink_store_event(&store, &a);
    cr_expect_eq(sink_store_counts(&store, "http")->events, 0);
}

Test(sink_store, other_bytes_under_a_batch_id_are_a_violation)
{
    cr_expect_not(sink_store_batch(&store, "http", SPAN("p"), SPAN("id"), SPAN("[1]")));
    cr_expect(sink_store_batch(&store, "http", SPAN("p"), SPAN("id"), SPAN("[1]")));
    cr_expect_eq(store.violations_total, 0);
    cr_expect(sink_store_batch(&store, "http", SPAN("p"), SPAN("id"), SPAN("[2]")));
    cr_expect_eq(store.violations_total, 1);
    cr_expect_str_eq(store.violations[0].what, "same_id_other_bytes");
    cr_expect_not(sink_store_batch(&store, "http", SPAN("q"), SPAN("id"), SPAN("[2]")), "another partition");
}

Test(sink_store, table_holds_a_hundred_thousand)
{
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < 100000; i++) {
            struct sink_hash key = sink_hash_of((struct sink_hash){0}, span_of(&i, sizeof i));
            cr_assert_eq(sink_table_put(&store.events, key, key, NULL), round == 0, "%llu",
                         (unsigned long long)i);
        }
    }
    cr_expect_eq(store.events.count, 100000);
}

Test(sink_store, hash_depends_on_every_byte_and_the_length)
{
    char text[64] = {0};
    struct sink_hash base = sink_hash_of((struct sink_hash){0}, span_of(text, sizeof text));
    for (unsigned i = 0; i < sizeof text; i++) {
        text[i] ^= 1;
        struct sink_hash h = sink_hash_of((struct sink_hash){0}, span_of(text, sizeof text));
        cr_expect(h.a != base.a && h.b != base.b, "byte %u", i);
        text[i] ^= 1;
    }
    struct sink_hash shorter = sink_hash_of((struct sink_hash){0}, span_of(text, sizeof text - 1));
    cr_expect(shorter.a != base.a && shorter.b != base.b);
}

Test(sink_store, statistics_are_json)
{
    struct bytes text;
    struct json_value value;
    struct sink_seen a = seen("{\"n\":1}", 1);
    bytes_init(&text, 1 << 20);
    sink_store_event(&store, &a);
    sink_store_violation(&store, "http", "what", "a \"quoted\" text with \xff in it");
    sink_store_stats(&store, &text);
    cr_expect_eq(json_check(bytes_span(&text), &value, NULL), OK, "%.*s", SPAN_FMT(bytes_span(&text)));
    bytes_deinit(&text);
}

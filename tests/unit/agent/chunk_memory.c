/* chunk_memory: what was stored lately, and for how long. */
#include "agent/chunk_memory.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct chunk_key key_of(const struct chunk_memory *m, unsigned n)
{
    char id[16];
    (void)snprintf(id, sizeof id, "%u", n);
    return chunk_key_of(m, SPAN("tag"), span_str(id));
}

static enum chunk_state look(struct chunk_memory *m, unsigned n, uint64_t now_us)
{
    uint32_t owner;
    return chunk_memory_look(m, key_of(m, n), now_us, &owner);
}

static void store(struct chunk_memory *m, unsigned n, uint64_t now_us)
{
    chunk_memory_add(m, key_of(m, n), now_us, n);
    chunk_memory_settle(m, key_of(m, n), true);
}

Test(chunk_memory, a_chunk_is_pending_then_stored_then_forgotten)
{
    struct chunk_memory m;
    uint32_t owner = 0;
    chunk_memory_init(&m, 7);
    cr_expect_eq(look(&m, 1, 0), CHUNK_UNKNOWN);
    chunk_memory_add(&m, key_of(&m, 1), 1000, 42);
    cr_expect_eq(chunk_memory_look(&m, key_of(&m, 1), 1000, &owner), CHUNK_PENDING);
    cr_expect_eq(owner, 42);
    cr_expect_eq(look(&m, 1, 1000 + 2 * CHUNK_WINDOW_US), CHUNK_PENDING,
                 "what is under way does not grow old");
    chunk_memory_settle(&m, key_of(&m, 1), true);
    cr_expect_eq(look(&m, 1, 1000), CHUNK_STORED);
    cr_expect_eq(look(&m, 1, 999 + CHUNK_WINDOW_US), CHUNK_STORED);
    cr_expect_eq(look(&m, 1, 1000 + CHUNK_WINDOW_US), CHUNK_UNKNOWN);
    chunk_memory_deinit(&m);
}

Test(chunk_memory, a_chunk_that_failed_is_a_first_again)
{
    struct chunk_memory m;
    chunk_memory_init(&m, 7);
    chunk_memory_add(&m, key_of(&m, 1), 0, 1);
    chunk_memory_settle(&m, key_of(&m, 1), false);
    cr_expect_eq(look(&m, 1, 0), CHUNK_UNKNOWN);
    chunk_memory_settle(&m, key_of(&m, 1), true); /* too late, and harmless */
    cr_expect_eq(look(&m, 1, 0), CHUNK_UNKNOWN);
    store(&m, 1, 0);
    cr_expect_eq(look(&m, 1, 0), CHUNK_STORED);
    chunk_memory_deinit(&m);
}

Test(chunk_memory, tags_and_ids_are_told_apart)
{
    struct chunk_memory m;
    chunk_memory_init(&m, 7);
    struct chunk_key a = chunk_key_of(&m, SPAN("ab"), SPAN("c")), b = chunk_key_of(&m, SPAN("a"), SPAN("bc"));
    cr_expect(a.high != b.high && a.low != b.low);
    chunk_memory_deinit(&m);
}

Test(chunk_memory, the_oldest_goes_when_it_is_full)
{
    struct chunk_memory m;
    chunk_memory_init(&m, 7);
    for (unsigned n = 0; n < CHUNKS_MAX + 10; n++)
        store(&m, n, 1);
    for (unsigned n = 0; n < CHUNKS_MAX + 10; n++)
        cr_assert_eq(look(&m, n, 1), n < 10 ? CHUNK_UNKNOWN : CHUNK_STORED, "%u", n);
    chunk_memory_deinit(&m);
}

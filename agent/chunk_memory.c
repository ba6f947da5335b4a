/* chunk_memory: see chunk_memory.h. */
#include "agent/chunk_memory.h"

#include "lib/base/ensure.h"
#include "lib/base/hash.h"

#include <stdlib.h>

#define BUCKETS (CHUNKS_MAX * 2)

struct chunk_entry {
    struct chunk_key key;
    uint64_t at_us;
    uint32_t next; /* in its bucket's chain; index + 1 */
    uint32_t owner;
    enum chunk_state state; /* CHUNK_UNKNOWN: forgotten, and out of its chain */
};

void chunk_memory_init(struct chunk_memory *m, uint64_t seed)
{
    *m = (struct chunk_memory){.seed = seed};
}

void chunk_memory_deinit(struct chunk_memory *m)
{
    free(m->entries);
    free(m->buckets);
    *m = (struct chunk_memory){.seed = m->seed};
}

struct chunk_key chunk_key_of(const struct chunk_memory *m, struct span tag, struct span chunk)
{
    uint64_t high = hash64(tag, m->seed), low = hash64(tag, ~m->seed);
    return (struct chunk_key){hash64(chunk, high), hash64(chunk, low)};
}

static uint32_t *bucket_of(struct chunk_memory *m, struct chunk_key key)
{
    return &m->buckets[key.low % BUCKETS];
}

static struct chunk_entry *find(struct chunk_memory *m, struct chunk_key key)
{
    if (m->entries == NULL)
        return NULL;
    for (uint32_t i = *bucket_of(m, key); i != 0; i = m->entries[i - 1].next) {
        struct chunk_entry *e = &m->entries[i - 1];
        if (e->key.high == key.high && e->key.low == key.low)
            return e;
    }
    return NULL;
}

static void unlink_entry(struct chunk_memory *m, struct chunk_entry *e)
{
    uint32_t self = (uint32_t)(e - m->entries) + 1;
    if (e->state == CHUNK_UNKNOWN)
        return;
    uint32_t *at = bucket_of(m, e->key);
    while (*at != self) {
        ensure(*at != 0);
        at = &m->entries[*at - 1].next;
    }
    *at = e->next;
    e->state = CHUNK_UNKNOWN;
}

static void drop_oldest(struct chunk_memory *m)
{
    unlink_entry(m, &m->entries[m->begin]);
    m->begin = (m->begin + 1) % CHUNKS_MAX;
    m->count--;
}

static void expire(struct chunk_memory *m, uint64_t now_us)
{
    while (m->count > 0) {
        const struct chunk_entry *oldest = &m->entries[m->begin];
        bool over = oldest->state == CHUNK_UNKNOWN ||
                    (oldest->state == CHUNK_STORED && now_us - oldest->at_us >= CHUNK_WINDOW_US);
        if (!over)
            return;
        drop_oldest(m);
    }
}

enum chunk_state chunk_memory_look(struct chunk_memory *m, struct chunk_key key, uint64_t now_us,
                                   uint32_t *ret_owner)
{
    expire(m, now_us);
    const struct chunk_entry *e = find(m, key);
    if (e == NULL || (e->state == CHUNK_STORED && now_us - e->at_us >= CHUNK_WINDOW_US))
        return CHUNK_UNKNOWN;
    *ret_owner = e->owner;
    return e->state;
}

void chunk_memory_add(struct chunk_memory *m, struct chunk_key key, uint64_t now_us, uint32_t owner)
{
    if (m->entries == NULL) {
        m->entries = must_alloc(sizeof *m->entries * CHUNKS_MAX);
        m->buckets = must_alloc(sizeof *m->buckets * BUCKETS);
    }
    struct chunk_entry *old = find(m, key);
    if (old != NULL)
        unlink_entry(m, old); /* expired, behind one that is still pending */
    if (m->count == CHUNKS_MAX)
        drop_oldest(m);
    uint32_t at = (m->begin + m->count++) % CHUNKS_MAX, *bucket = bucket_of(m, key);
    m->entries[at] = (struct chunk_entry){
        .key = key, .at_us = now_us, .next = *bucket, .owner = owner, .state = CHUNK_PENDING};
    *bucket = at + 1;
}

void chunk_memory_settle(struct chunk_memory *m, struct chunk_key key, bool stored)
{
    struct chunk_entry *e = find(m, key);
    if (e == NULL)
        return;
    if (stored)
        e->state = CHUNK_STORED;
    else
        unlink_entry(m, e);
}

/* recent: see recent.h. */
#include "lib/event/recent.h"

#include "lib/base/bytes.h"
#include "lib/base/ensure.h"

#include <stdlib.h>

enum { ROOM_FIRST = 64, CONTENTS_PER_KEY = 8, FETCH_AHEAD = 8 };

void recent_init(struct recent *r, size_t entries_max, uint64_t window_us)
{
    size_t max = ROOM_FIRST;
    while (max < entries_max && max < (size_t)1 << 30)
        max *= 2;
    *r = (struct recent){.entries_max = max, .window_us = window_us};
}

void recent_deinit(struct recent *r)
{
    free(r->ring);
    free(r->table);
    *r = (struct recent){.entries_max = r->entries_max, .window_us = r->window_us};
}

/* Keys are hashes already, so their bits serve as they are. */
static uint32_t hash_of(uint64_t key)
{
    return (uint32_t)(key ^ key >> 32);
}

static size_t home(const struct recent *r, uint32_t hash)
{
    return (size_t)hash & (2 * r->room - 1);
}

static size_t next_place(const struct recent *r, size_t place)
{
    return (place + 1) & (2 * r->room - 1);
}

static bool expired(const struct recent *r, const struct recent_entry *e, uint64_t now_us)
{
    return now_us > e->at_us && now_us - e->at_us > r->window_us;
}

void recent_fetch(const struct recent *r, uint64_t key)
{
    if (r->room > 0)
        __builtin_prefetch(&r->table[home(r, hash_of(key))]);
}

/* The first place from `place` on that holds this hash, or the free one behind which it cannot be. */
static size_t find(const struct recent *r, size_t place, uint32_t hash)
{
    while (r->table[place].at != 0 && r->table[place].hash != hash)
        place = next_place(r, place);
    return place;
}

enum recent_answer recent_look(const struct recent *r, uint64_t key, uint64_t content, uint64_t now_us)
{
    enum recent_answer answer = RECENT_NEW;
    if (r->count == 0)
        return answer;
    uint32_t hash = hash_of(key);
    for (size_t place = find(r, home(r, hash), hash); r->table[place].at != 0;
         place = find(r, next_place(r, place), hash)) {
        const struct recent_entry *e = &r->ring[r->table[place].at - 1];
        if (e->key != key || expired(r, e, now_us))
            continue;
        if (e->content == content)
            return RECENT_SAME;
        answer = RECENT_DIFFERENT;
    }
    return answer;
}

/* Takes a place out and closes the gap, so that every search still ends at a free place. */
static void table_remove(struct recent *r, size_t place)
{
    size_t gap = place;
    for (;;) {
        place = next_place(r, place);
        if (r->table[place].at == 0)
            break;
        size_t wanted = home(r, r->table[place].hash);
        /* May this entry move to the gap? Only if the gap lies between its home and where it is. */
        size_t from_home = (place - wanted) & (2 * r->room - 1), from_gap = (place - gap) & (2 * r->room - 1);
        if (from_home < from_gap)
            continue;
        r->table[gap] = r->table[place];
        gap = place;
    }
    r->table[gap].at = 0;
}

/* The place of a ring position that is in the table. */
static size_t place_of(const struct recent *r, size_t position)
{
    size_t place = home(r, hash_of(r->ring[position].key));
    while (r->table[place].at != (uint32_t)position + 1) {
        ensure(r->table[place].at != 0);
        place = next_place(r, place);
    }
    return place;
}

static void drop_oldest(struct recent *r)
{
    ensure(r->count > 0);
    if (r->ring[r->oldest].key != 0) /* else it was forgotten before its time */
        table_remove(r, place_of(r, r->oldest));
    r->oldest = (r->oldest + 1) & (r->room - 1);
    r->count--;
}

static void drop_expired(struct recent *r, uint64_t now_us)
{
    while (r->count > 0 && (r->ring[r->oldest].key == 0 || expired(r, &r->ring[r->oldest], now_us)))
        drop_oldest(r);
}

static void table_add(struct recent *r, size_t position)
{
    uint32_t hash = hash_of(r->ring[position].key);
    size_t place = home(r, hash);
    while (r->table[place].at != 0)
        place = next_place(r, place);
    r->table[place] = (struct recent_place){.hash = hash, .at = (uint32_t)position + 1};
}

static void grow(struct recent *r)
{
    struct recent bigger = *r;
    bigger.room = r->room == 0 ? ROOM_FIRST : r->room * 2;
    bigger.oldest = 0;
    bigger.ring = must_alloc(bigger.room * sizeof *bigger.ring);
    bigger.table = must_alloc(2 * bigger.room * sizeof *bigger.table);
    for (size_t i = 0; i < r->count; i++) {
        bigger.ring[i] = r->ring[(r->oldest + i) & (r->room - 1)];
        if (bigger.ring[i].key != 0)
            table_add(&bigger, i);
    }
    free(r->ring);
    free(r->table);
    *r = bigger;
}

void recent_expire(struct recent *r, uint64_t now_us)
{
    drop_expired(r, now_us);
    if (r->count == 0 && r->room > 0)
        recent_deinit(r);
}

/* Is this pair known? If not, and its key has too many contents already, the oldest of them is forgotten: its
 * place in the ring stays empty until its turn. */
static bool known_or_make_room(struct recent *r, uint64_t key, uint64_t content, uint64_t now_us)
{
    struct recent_entry *first = NULL;
    unsigned of_key = 0;
    if (r->room == 0)
        return false;
    uint32_t hash = hash_of(key);
    for (size_t place = find(r, home(r, hash), hash); r->table[place].at != 0;
         place = find(r, next_place(r, place), hash)) {
        struct recent_entry *e = &r->ring[r->table[place].at - 1];
        if (e->key != key)
            continue;
        if (e->content == content && !expired(r, e, now_us))
            return true;
        if (first == NULL || e->at_us < first->at_us)
            first = e;
        of_key++;
    }
    if (of_key >= CONTENTS_PER_KEY) {
        table_remove(r, place_of(r, (size_t)(first - r->ring)));
        first->key = 0;
    }
    return false;
}

void recent_forget(struct recent *r, uint64_t key, uint64_t content)
{
    if (r->count == 0)
        return;
    uint32_t hash = hash_of(key);
    for (size_t place = find(r, home(r, hash), hash); r->table[place].at != 0;
         place = find(r, next_place(r, place), hash)) {
        struct recent_entry *e = &r->ring[r->table[place].at - 1];
        if (e->key != key || e->content != content)
            continue;
        table_remove(r, place);
        e->key = 0;
        return;
    }
}

bool recent_put(struct recent *r, uint64_t key, uint64_t content, uint64_t at_us, uint64_t now_us)
{
    struct recent_entry entry = {.key = key, .content = content, .at_us = at_us};
    ensure(key != 0);
    drop_expired(r, now_us);
    if (expired(r, &entry, now_us))
        return false;
    if (known_or_make_room(r, key, content, now_us))
        return true;
    if (r->count == r->room) {
        if (r->room < r->entries_max)
            grow(r);
        else
            drop_oldest(r);
    }
    size_t position = (r->oldest + r->count) & (r->room - 1);
    if (r->count == r->room - 1) /* one leaves for each that comes: this is the place of one that leaves soon */
        /* Not by recent_fetch(), which gcc holds to be without effect and leaves out. */
        __builtin_prefetch(&r->table[home(r, hash_of(r->ring[(r->oldest + FETCH_AHEAD) & (r->room - 1)].key))]);
    r->ring[position] = entry;
    table_add(r, position);
    r->count++;
    return false;
}

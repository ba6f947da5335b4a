/* intervals: see intervals.h. */
#include "lib/spool/intervals.h"

#include "lib/base/bytes.h"
#include "lib/base/ensure.h"

#include <stdlib.h>
#include <string.h>

void intervals_deinit(struct intervals *s)
{
    free(s->at);
    *s = (struct intervals){0};
}

void intervals_clear(struct intervals *s)
{
    s->len = 0;
    s->count = 0;
}

size_t intervals_find(const struct intervals *s, uint64_t seq)
{
    size_t low = 0, high = s->len;
    if (high > 0 && s->at[high - 1].last < seq)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->at[middle].last < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Replaces `old` ranges at `index` by `fresh` uninitialised ones. */
static void splice(struct intervals *s, size_t index, size_t old, size_t fresh)
{
    size_t len = s->len - old + fresh;
    if (len > s->cap) {
        s->cap = len < 8 ? 8 : len + len / 2;
        s->at = must_realloc(s->at, s->cap * sizeof *s->at);
    }
    size_t behind = s->len - index - old;
    if (behind > 0 && old != fresh)
        memmove(s->at + index + fresh, s->at + index + old, behind * sizeof *s->at);
    s->len = len;
}

uint64_t intervals_add(struct intervals *s, uint64_t first, uint64_t last)
{
    ensure(first <= last);
    /* Ranges that overlap or touch first..last melt into one. */
    size_t from = intervals_find(s, first == 0 ? 0 : first - 1);
    size_t to = from;
    struct interval whole = {first, last};
    uint64_t already = 0;
    while (to < s->len && s->at[to].first <= last + 1) {
        const struct interval *r = &s->at[to];
        uint64_t low = r->first > first ? r->first : first;
        uint64_t high = r->last < last ? r->last : last;
        if (low <= high)
            already += high - low + 1;
        if (r->first < whole.first)
            whole.first = r->first;
        if (r->last > whole.last)
            whole.last = r->last;
        to++;
    }
    splice(s, from, to - from, 1);
    s->at[from] = whole;
    uint64_t fresh = last - first + 1 - already;
    s->count += fresh;
    return fresh;
}

uint64_t intervals_remove(struct intervals *s, uint64_t first, uint64_t last)
{
    ensure(first <= last);
    size_t from = intervals_find(s, first);
    size_t to = from;
    struct interval rest[2];
    size_t rest_count = 0;
    uint64_t removed = 0;
    while (to < s->len && s->at[to].first <= last) {
        struct interval r = s->at[to++];
        uint64_t low = r.first > first ? r.first : first;
        uint64_t high = r.last < last ? r.last : last;
        removed += high - low + 1;
        if (r.first < first)
            rest[rest_count++] = (struct interval){r.first, first - 1};
        if (r.last > last)
            rest[rest_count++] = (struct interval){last + 1, r.last};
    }
    splice(s, from, to - from, rest_count);
    for (size_t i = 0; i < rest_count; i++)
        s->at[from + i] = rest[i];
    s->count -= removed;
    return removed;
}

uint64_t intervals_count(const struct intervals *s, uint64_t first, uint64_t last)
{
    uint64_t count = 0;
    for (size_t i = intervals_find(s, first); i < s->len && s->at[i].first <= last; i++) {
        uint64_t low = s->at[i].first > first ? s->at[i].first : first;
        uint64_t high = s->at[i].last < last ? s->at[i].last : last;
        count += high - low + 1;
    }
    return count;
}

bool intervals_has(const struct intervals *s, uint64_t seq)
{
    size_t i = intervals_find(s, seq);
    return i < s->len && s->at[i].first <= seq;
}

uint64_t intervals_next_free(const struct intervals *s, uint64_t seq)
{
    size_t i = intervals_find(s, seq);
    return i < s->len && s->at[i].first <= seq ? s->at[i].last + 1 : seq;
}

void intervals_drop_to(struct intervals *s, uint64_t seq)
{
    if (s->len > 0 && s->at[0].first <= seq)
        (void)intervals_remove(s, s->at[0].first, seq); /* The count is of no interest here. */
}

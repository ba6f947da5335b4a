/* bytes: borrowed spans, growable buffers that are born with a maximum, and an arena.
 *
 * A `struct span` is borrowed: it is good until the call that was given it returns, unless the callee's
 * header says otherwise. A `struct bytes` owns its memory and never grows beyond the size it was given
 * at birth: growth past it is ERR_TOO_BIG, an ordinary error, so backpressure falls out of the type.
 * A `struct arena` hands out memory that is freed in one go (per request, per batch).
 * Running out of memory for what our own bounds allow ends the process (the spool makes that safe). */
#ifndef PENSTOCK_BASE_BYTES_H
#define PENSTOCK_BASE_BYTES_H

#include "lib/base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *at;
    size_t len;
};

#define SPAN(literal) ((struct span){(const uint8_t *)("" literal), sizeof(literal) - 1})
#define SPAN_FMT(s) (int)(s).len, (const char *)(s).at /* for "%.*s" */

static inline struct span span_of(const void *at, size_t len)
{
    return (struct span){at, len};
}

static inline struct span span_str(const char *text)
{
    return (struct span){(const uint8_t *)text, text == NULL ? 0 : strlen(text)};
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool span_is(struct span a, const char *text)
{
    return span_equal(a, span_str(text));
}

bool span_equal_nocase_long(struct span a, struct span b); /* for spans of equal length */
/* Case is ignored in ASCII letters only. */
static inline bool span_equal_nocase(struct span a, struct span b)
{
    return a.len == b.len && span_equal_nocase_long(a, b);
}

bool span_starts(struct span s, struct span prefix);
struct span span_trim(struct span s);                 /* without spaces and tabs at both ends */

/* Parses all of `s` as a decimal number without sign. False when empty, not digits, or over UINT64_MAX. */
MUST_USE bool span_u64(struct span s, uint64_t *ret);

struct bytes {
    uint8_t *at;
    size_t len, cap;
    size_t max; /* never holds more than this */
};

void bytes_init(struct bytes *b, size_t max); /* allocates nothing yet */
void bytes_deinit(struct bytes *b);           /* leaves an empty buffer with the same maximum */
MUST_USE enum err bytes_grow(struct bytes *b, size_t more); /* bytes_reserve() where there is no room yet */
MUST_USE enum err bytes_append_growing(struct bytes *b, struct span s); /* bytes_append() where it has no room yet */
/* As bytes_append(), for what comes in many pieces and may become large: from 128 KiB on it takes room for 4 MiB (or its
 * maximum) at once, of which only what is used costs memory, instead of leaving a hole in the heap at each step. */
MUST_USE enum err bytes_append_piece(struct bytes *b, struct span s);
MUST_USE enum err bytes_printf(struct bytes *b, const char *format, ...) PRINTF_LIKE(2, 3);
void bytes_consume(struct bytes *b, size_t n); /* drops the first n bytes, moves the rest down */
void bytes_clear(struct bytes *b);             /* length 0, keeps the memory */

MUST_USE static inline enum err bytes_reserve(struct bytes *b, size_t more)
{
    return more <= b->cap - b->len ? OK : bytes_grow(b, more);
}

/* Most appends find room, and most are of a length that the compiler knows. */
MUST_USE static inline enum err bytes_append(struct bytes *b, struct span s)
{
    if (s.len > b->cap - b->len)
        return bytes_append_growing(b, s);
    if (s.len > 0)
        memcpy(b->at + b->len, s.at, s.len);
    b->len += s.len;
    return OK;
}

MUST_USE static inline enum err bytes_append_byte(struct bytes *b, uint8_t c)
{
    if (b->len == b->cap)
        return bytes_append_growing(b, (struct span){&c, 1});
    b->at[b->len++] = c;
    return OK;
}

static inline struct span bytes_span(const struct bytes *b)
{
    return (struct span){b->at, b->len};
}

/* Blocks are chained. arena_reset() keeps one for the next round, and grows it (up to 256 KiB) to what the last one
 * took, so that a steady user allocates nothing. */
struct arena_block;
struct arena {
    struct arena_block *first, *now;
    size_t block_bytes;
    size_t used, max; /* arena_alloc() returns NULL beyond max */
    bool spent;       /* and has done so since it was last emptied */
};

void arena_init(struct arena *a, size_t block_bytes, size_t max);
void arena_reset(struct arena *a);
void arena_deinit(struct arena *a);
/* Aligned to 16. NULL only when the arena's maximum would be passed. */
void *arena_alloc(struct arena *a, size_t size);
/* A copy that lives as long as the arena; .at is NULL when the maximum would be passed. */
struct span arena_copy(struct arena *a, struct span s);

/* Gives back the unused rest of the newest allocation: `p` had `from` bytes and keeps `to`. */
void arena_shrink(struct arena *a, void *p, size_t from, size_t to);
/* A fixed buffer of exactly `cap` bytes in the arena: appends beyond it are ERR_TOO_BIG, nothing is to be freed.
 * False when the arena's maximum would be passed. */
MUST_USE bool bytes_init_arena(struct bytes *b, struct arena *a, size_t cap);
/* What was written, which stays in the arena; the room behind it is given back if nothing was allocated since. */
struct span bytes_finish_arena(struct bytes *b, struct arena *a);

/* malloc and friends for small, bounded things: never NULL, end the process instead. */
void *must_alloc(size_t size); /* zeroed */
void *must_realloc(void *p, size_t size);
char *must_strdup(const char *text);
char *must_strndup(struct span s); /* NUL-terminated copy */

#endif

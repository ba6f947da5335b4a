/* bytes: see bytes.h. */
#include "lib/base/bytes.h"

#include "lib/base/ensure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *must_alloc(size_t size)
{
    void *p = calloc(1, size == 0 ? 1 : size);
    ensure(p != NULL && "out of memory");
    return p;
}

void *must_realloc(void *old, size_t size)
{
    void *p = realloc(old, size == 0 ? 1 : size);
    ensure(p != NULL && "out of memory");
    return p;
}

char *must_strdup(const char *text)
{
    return must_strndup(span_str(text));
}

char *must_strndup(struct span s)
{
    char *copy = must_alloc(s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.at, s.len);
    return copy;
}

bool span_starts(struct span s, struct span prefix)
{
    return s.len >= prefix.len && span_equal(span_of(s.at, prefix.len), prefix);
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* Eight bytes at a time: two bytes may differ in bit 5 alone, and only where the byte is a letter. */
static bool same_word(uint64_t a, uint64_t b)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7, case_bits = ones << 5;
    uint64_t differ = a ^ b, low = (a | case_bits) & ~highs;
    if (differ == 0)
        return true;
    /* The sums stay within their bytes, since no byte of `low` has its high bit. */
    uint64_t letters = (low + ones * (0x80 - 'a')) & ~(low + ones * (0x80 - 'z' - 1)) & ~a & highs;
    return (differ & ~case_bits) == 0 && ((differ << 2) & ~letters) == 0;
}

bool span_equal_nocase_long(struct span a, struct span b)
{
    const size_t word = sizeof(uint64_t);
    ensure(a.len == b.len);
    for (size_t i = 0; a.len < word && i < a.len; i++)
        if (lower(a.at[i]) != lower(b.at[i]))
            return false;
    for (size_t i = 0; a.len >= word && i < a.len; i += word) {
        size_t from = i < a.len - word ? i : a.len - word; /* the last one may overlap the one before */
        uint64_t x, y;
        memcpy(&x, a.at + from, word);
        memcpy(&y, b.at + from, word);
        if (!same_word(x, y))
            return false;
    }
    return true;
}

struct span span_trim(struct span s)
{
    while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s.at++;
        s.len--;
    }
    while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool span_u64(struct span s, uint64_t *ret)
{
    uint64_t value = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)s.at[i] - '0';
        if (digit > 9)
            return false;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *ret = value;
    return true;
}

void bytes_init(struct bytes *b, size_t max)
{
    *b = (struct bytes){.max = max};
}

void bytes_deinit(struct bytes *b)
{
    free(b->at);
    *b = (struct bytes){.max = b->max};
}

enum err bytes_grow(struct bytes *b, size_t more)
{
    if (more > b->max - b->len)
        return ERR_TOO_BIG;
    size_t need = b->len + more;
    size_t cap = b->cap + b->cap / 2;
    if (cap < 256)
        cap = 256;
    if (cap < need) /* exactly what one large append asks for */
        cap = need;
    if (cap > b->max)
        cap = b->max;
    b->at = must_realloc(b->at, cap);
    b->cap = cap;
    return OK;
}

enum err bytes_append_growing(struct bytes *b, struct span s)
{
    enum err err = bytes_reserve(b, s.len);
    if (err != OK)
        return err;
    if (s.len > 0)
        memcpy(b->at + b->len, s.at, s.len);
    b->len += s.len;
    return OK;
}

enum err bytes_append_piece(struct bytes *b, struct span s)
{
    const size_t step_from = 128 * 1024, step = 4 * 1024 * 1024;
    size_t need = b->len + s.len;
    if (need > b->cap && need > step_from && need <= step && need <= b->max) {
        enum err err = bytes_reserve(b, (b->max < step ? b->max : step) - b->len);
        if (err != OK)
            return err;
    }
    return bytes_append(b, s);
}

enum err bytes_printf(struct bytes *b, const char *format, ...)
{
    char small[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    ensure(n >= 0);
    if ((size_t)n < sizeof small)
        return bytes_append(b, span_of(small, (size_t)n));
    enum err err = bytes_reserve(b, (size_t)n + 1);
    if (err != OK)
        return err;
    va_start(args, format);
    (void)vsnprintf((char *)b->at + b->len, (size_t)n + 1, format, args);
    va_end(args);
    b->len += (size_t)n;
    return OK;
}

void bytes_consume(struct bytes *b, size_t n)
{
    ensure(n <= b->len);
    b->len -= n;
    if (b->len > 0 && n > 0)
        memmove(b->at, b->at + n, b->len);
}

void bytes_clear(struct bytes *b)
{
    b->len = 0;
}

#define ARENA_BLOCK_MAX (256 * 1024) /* an emptied arena keeps no more than this */

struct arena_block {
    struct arena_block *next;
    size_t cap, used;
    _Alignas(16) uint8_t data[];
};

void arena_init(struct arena *a, size_t block_bytes, size_t max)
{
    *a = (struct arena){.block_bytes = block_bytes, .max = max};
}

static void free_blocks(struct arena_block *b)
{
    while (b != NULL) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
}

void arena_reset(struct arena *a)
{
    size_t used = a->used;
    a->used = 0;
    a->spent = false;
    if (a->first != NULL && a->first->next != NULL) {
        /* It took several blocks: the next round shall find one that holds it all, within reason. */
        size_t grown = used + used / 4;
        free_blocks(a->first);
        a->first = NULL;
        if (grown > a->block_bytes && grown <= ARENA_BLOCK_MAX)
            a->block_bytes = grown;
    } else if (a->first != NULL && a->first->cap > ARENA_BLOCK_MAX) {
        free_blocks(a->first);
        a->first = NULL;
    }
    a->now = a->first;
    if (a->first != NULL)
        a->first->used = 0;
}

void arena_deinit(struct arena *a)
{
    free_blocks(a->first);
    *a = (struct arena){.block_bytes = a->block_bytes, .max = a->max};
}

/* Apart, so that most allocations do not pay for its frame. */
static __attribute__((noinline)) struct arena_block *add_block(struct arena *a, size_t need)
{
    size_t cap = need > a->block_bytes ? need : a->block_bytes;
    struct arena_block *b = malloc(sizeof *b + cap);
    ensure(b != NULL && "out of memory");
    *b = (struct arena_block){.cap = cap};
    if (a->now == NULL)
        a->first = b;
    else
        a->now->next = b;
    a->now = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > a->max - a->used) {
        a->spent = true;
        return NULL;
    }
    size_t need = (size + 15) & ~(size_t)15;
    if (need < size)
        return NULL;
    struct arena_block *b = a->now;
    if (b == NULL || b->cap - b->used < need)
        b = add_block(a, need);
    void *p = b->data + b->used;
    b->used += need;
    a->used += size;
    return p;
}

struct span arena_copy(struct arena *a, struct span s)
{
    uint8_t *p = arena_alloc(a, s.len == 0 ? 1 : s.len);
    if (p == NULL)
        return (struct span){0};
    if (s.len > 0)
        memcpy(p, s.at, s.len);
    return span_of(p, s.len);
}

void arena_shrink(struct arena *a, void *p, size_t from, size_t to)
{
    struct arena_block *b = a->now;
    size_t rounded = (from + 15) & ~(size_t)15;
    ensure(to <= from);
    if (b == NULL || (uint8_t *)p + rounded != b->data + b->used)
        return;
    b->used -= rounded - ((to + 15) & ~(size_t)15);
    a->used -= from - to;
}

bool bytes_init_arena(struct bytes *b, struct arena *a, size_t cap)
{
    *b = (struct bytes){.at = arena_alloc(a, cap == 0 ? 1 : cap), .cap = cap, .max = cap};
    return b->at != NULL;
}

struct span bytes_finish_arena(struct bytes *b, struct arena *a)
{
    arena_shrink(a, b->at, b->cap == 0 ? 1 : b->cap, b->len);
    struct span done = span_of(b->at, b->len);
    *b = (struct bytes){0};
    return done;
}

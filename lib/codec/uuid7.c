/* uuid7: see uuid7.h. */
#include "lib/codec/uuid7.h"

#include "lib/base/ensure.h"
#include "lib/base/hex.h"
#include "lib/codec/sha1.h"

enum { CLOCK_STEP_BACK_MS_MAX = 60000, COUNTER_BITS = 42 };

void uuid_source_init(struct uuid_source *s, struct entropy entropy)
{
    *s = (struct uuid_source){.entropy = entropy, .pool_at = UUID_POOL};
}

static void draw(struct uuid_source *s, void *into, size_t len)
{
    ensure(len <= UUID_POOL);
    if (UUID_POOL - s->pool_at < len) {
        entropy_fill(&s->entropy, s->pool, UUID_POOL);
        s->pool_at = 0;
    }
    memcpy(into, s->pool + s->pool_at, len);
    s->pool_at += len;
}

static uint64_t draw_u64(struct uuid_source *s)
{
    uint64_t v;
    draw(s, &v, sizeof v);
    return v;
}

static void set_version(struct uuid *u, uint8_t version)
{
    u->bytes[6] = (uint8_t)((u->bytes[6] & 0x0f) | version << 4);
    u->bytes[8] = (uint8_t)((u->bytes[8] & 0x3f) | 0x80);
}

/* A millisecond begins with a random counter whose top bit is clear, so that 2^41 ids fit behind it. */
static void next_tick(struct uuid_source *s, uint64_t wall_ms)
{
    bool same =
        wall_ms == s->last_ms || (wall_ms < s->last_ms && s->last_ms - wall_ms <= CLOCK_STEP_BACK_MS_MAX);
    if (same) {
        s->counter++;
        if (s->counter >> COUNTER_BITS == 0)
            return;
        wall_ms = s->last_ms + 1; /* 2^41 ids later: borrow the next millisecond */
    }
    s->last_ms = wall_ms;
    s->counter = draw_u64(s) >> (64 - COUNTER_BITS + 1);
}

struct uuid uuid7_make(struct uuid_source *s, uint64_t wall_ms)
{
    struct uuid u;
    next_tick(s, wall_ms);
    for (unsigned i = 0; i < 6; i++)
        u.bytes[i] = (uint8_t)(s->last_ms >> (40 - 8 * i));
    /* The counter's 42 bits: 12 beside the version, 6 beside the variant, 24 behind it. */
    u.bytes[6] = (uint8_t)(s->counter >> 38);
    u.bytes[7] = (uint8_t)(s->counter >> 30);
    u.bytes[8] = (uint8_t)(s->counter >> 24);
    u.bytes[9] = (uint8_t)(s->counter >> 16);
    u.bytes[10] = (uint8_t)(s->counter >> 8);
    u.bytes[11] = (uint8_t)s->counter;
    draw(s, u.bytes + 12, 4);
    set_version(&u, 7);
    return u;
}

struct uuid uuid4_make(struct uuid_source *s)
{
    struct uuid u;
    draw(s, u.bytes, sizeof u.bytes);
    set_version(&u, 4);
    return u;
}

struct uuid uuid5_make(const struct uuid *space, const struct span *parts, size_t count)
{
    struct sha1 hash;
    uint8_t digest[SHA1_BYTES];
    struct uuid u;
    sha1_init(&hash);
    sha1_update(&hash, span_of(space->bytes, sizeof space->bytes));
    for (size_t i = 0; i < count; i++)
        sha1_update(&hash, parts[i]);
    sha1_finish(&hash, digest);
    memcpy(u.bytes, digest, sizeof u.bytes);
    set_version(&u, 5);
    return u;
}

static bool dash_before(unsigned byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(const struct uuid *u, char ret[UUID_TEXT + 1])
{
    static const char digits[] = "0123456789abcdef";
    char *out = ret;
    for (unsigned i = 0; i < sizeof u->bytes; i++) {
        if (dash_before(i))
            *out++ = '-';
        *out++ = digits[u->bytes[i] >> 4];
        *out++ = digits[u->bytes[i] & 15];
    }
    *out = '\0';
    ensure(out == ret + UUID_TEXT);
}

bool uuid_parse(struct span text, struct uuid *ret)
{
    struct uuid u;
    if (text.len != UUID_TEXT)
        return false;
    const uint8_t *at = text.at;
    for (unsigned i = 0; i < sizeof u.bytes; i++) {
        if (dash_before(i) && *at++ != '-')
            return false;
        int high = hex_digit(at[0]), low = hex_digit(at[1]);
        if (high < 0 || low < 0)
            return false;
        u.bytes[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *ret = u;
    return true;
}

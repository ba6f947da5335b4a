/* json_text: strings, keys and numbers inside a text that json.c has checked. See json.h. Nothing here
 * reports a syntax error: what was checked has none, and ensure() says so. */
#include "lib/base/ensure.h"
#include "lib/base/hex.h"
#include "lib/codec/json.h"
#include "lib/codec/utf8.h"

#include <math.h>
#include <stdlib.h>

static uint32_t hex4(const uint8_t *at)
{
    uint32_t code = 0;
    for (int i = 0; i < 4; i++)
        code = code << 4 | (uint32_t)hex_digit(at[i]);
    return code;
}

/* Decodes the escape at *at (a backslash), moves behind it and returns the length written. */
static size_t unescape_one(const uint8_t **at, const uint8_t *end, uint8_t into[4])
{
    const uint8_t *p = *at;
    ensure(end - p >= 2);
    static const char plain[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    if (p[1] != 'u') {
        const char *which = strchr(plain, p[1]);
        ensure(which != NULL && *which != '\0');
        into[0] = (uint8_t)meaning[which - plain];
        *at = p + 2;
        return 1;
    }
    ensure(end - p >= 6);
    uint32_t code = hex4(p + 2);
    *at = p + 6;
    if (code >= 0xd800 && code <= 0xdfff) {
        /* In a value that a forgiving reader called spoiled, the other half may be missing. */
        uint32_t low = code <= 0xdbff && end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : 0;
        bool pair = low >= 0xdc00 && low <= 0xdfff;
        *at = pair ? p + 12 : p + 6;
        code = pair ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
    }
    return utf8_encode(code, into);
}

size_t json_unescape(struct span raw, uint8_t *into)
{
    if (raw.len == 0)
        return 0;
    const uint8_t *at = raw.at, *end = raw.at + raw.len;
    uint8_t *out = into;
    while (at < end) {
        const uint8_t *slash = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((slash == NULL ? end : slash) - at);
        memcpy(out, at, plain);
        out += plain;
        at += plain;
        if (at < end) {
            uint8_t code[4];
            size_t n = unescape_one(&at, end, code);
            memcpy(out, code, n);
            out += n;
        }
    }
    return (size_t)(out - into);
}

static enum err unescaped(struct arena *a, struct span raw, bool escaped, struct span *ret)
{
    if (!escaped) {
        *ret = raw;
        return OK;
    }
    uint8_t *into = arena_alloc(a, raw.len);
    if (into == NULL)
        return ERR_TOO_BIG;
    *ret = span_of(into, json_unescape(raw, into));
    return OK;
}

enum err json_decode_string(struct arena *a, const struct json_value *v, struct span *ret)
{
    ensure(v->type == JSON_STRING);
    return unescaped(a, json_raw_string(v), v->escaped, ret);
}

enum err json_decode_key(struct arena *a, const struct json_key *key, struct span *ret)
{
    return unescaped(a, key->text, key->escaped, ret);
}

/* Hands out the unescaped bytes of a string one by one, for comparing and hashing without a copy. */
struct unescaping {
    const uint8_t *at, *end;
    uint8_t ready[4];
    size_t count, taken;
};

static struct unescaping unescaping(struct span raw)
{
    return (struct unescaping){.at = raw.at, .end = raw.at + raw.len};
}

/* The next byte, or -1 at the end. */
static int next_byte(struct unescaping *u)
{
    if (u->taken < u->count)
        return u->ready[u->taken++];
    if (u->at >= u->end)
        return -1;
    if (*u->at != '\\')
        return *u->at++;
    u->count = unescape_one(&u->at, u->end, u->ready);
    u->taken = 1;
    return u->ready[0];
}

static bool same_text(struct span a, bool a_escaped, struct span b, bool b_escaped)
{
    if (!a_escaped && !b_escaped)
        return span_equal(a, b);
    struct unescaping left = unescaping(a), right = unescaping(b);
    /* A raw span without backslash may be walked the same way. */
    for (;;) {
        int c = next_byte(&left);
        if (c != next_byte(&right))
            return false;
        if (c < 0)
            return true;
    }
}

bool json_key_is(const struct json_key *key, const char *text)
{
    if (!key->escaped)
        return span_is(key->text, text);
    struct unescaping u = unescaping(key->text);
    int c;
    while ((c = next_byte(&u)) >= 0)
        if (*text == '\0' || c != (uint8_t)*text++)
            return false;
    return *text == '\0';
}

bool json_string_is(const struct json_value *v, const char *text)
{
    if (v->type != JSON_STRING)
        return false;
    struct json_key as_key = {.text = json_raw_string(v), .escaped = v->escaped};
    return json_key_is(&as_key, text);
}

const struct json_member *json_find(const struct json_member *members, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (json_key_is(&members[i].key, name))
            return &members[i];
    return NULL;
}

static bool same_key(const struct json_key *a, const struct json_key *b)
{
    return same_text(a->text, a->escaped, b->text, b->escaped);
}

static uint32_t hash_key(const struct json_key *key)
{
    uint32_t hash = UINT32_C(2166136261); /* FNV-1a */
    struct unescaping u = unescaping(key->text);
    int c;
    while ((c = next_byte(&u)) >= 0)
        hash = (hash ^ (uint32_t)c) * UINT32_C(16777619);
    return hash ^ hash >> 15;
}

/* Few members, the usual case: every pair. Lengths differ most of the time. */
static bool repeated_by_pairs(const struct json_member *m, size_t count, size_t *ret_index)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = 0; k < i; k++) {
            bool escaped = m[i].key.escaped || m[k].key.escaped;
            if (!escaped && m[i].key.text.len != m[k].key.text.len)
                continue;
            if (same_key(&m[i].key, &m[k].key)) {
                *ret_index = i;
                return true;
            }
        }
    return false;
}

/* `table` has `size` places, a power of two and at least twice `count`, all 0 (empty) or index + 1. */
static bool repeated_by_table(const struct json_member *m, size_t count, uint32_t *table, size_t size,
                              size_t *ret_index)
{
    for (size_t i = 0; i < count; i++) {
        size_t at = hash_key(&m[i].key) & (size - 1);
        for (; table[at] != 0; at = (at + 1) & (size - 1))
            if (same_key(&m[table[at] - 1].key, &m[i].key)) {
                *ret_index = i;
                return true;
            }
        table[at] = (uint32_t)(i + 1);
    }
    return false;
}

bool json_repeated_key(const struct json_member *members, size_t count, size_t *ret_index)
{
    enum { PAIRS_MAX = 12, ON_STACK = 256 };
    size_t index;
    if (ret_index == NULL)
        ret_index = &index;
    if (count <= PAIRS_MAX)
        return repeated_by_pairs(members, count, ret_index);
    ensure(count < UINT32_MAX / 4);
    size_t size = 32;
    while (size < count * 2)
        size *= 2;
    uint32_t small[ON_STACK] = {0};
    if (size <= ON_STACK)
        return repeated_by_table(members, count, small, size, ret_index);
    /* Wide events are rare; their table is bounded by the members array that the caller holds already. */
    uint32_t *large = must_alloc(size * sizeof *large);
    bool repeated = repeated_by_table(members, count, large, size, ret_index);
    free(large);
    return repeated;
}

bool json_is_integer(struct span number)
{
    for (size_t i = 0; i < number.len; i++)
        if (number.at[i] == '.' || (number.at[i] | 0x20) == 'e')
            return false;
    return number.len > 0;
}

/* A number token taken apart: the value is digits × 10^exponent, with the point taken out of the digits. */
struct decimal {
    bool negative;
    const uint8_t *whole, *fraction; /* the digits before and behind the point, without trailing zeros */
    size_t whole_len, fraction_len;
    int64_t exponent; /* as written, clamped to ± 10^9 */
};

static struct decimal take_apart(struct span number)
{
    struct decimal d = {0};
    const uint8_t *at = number.at, *end = number.at + number.len;
    if (at < end && *at == '-') {
        d.negative = true;
        at++;
    }
    for (d.whole = at; at < end && *at >= '0' && *at <= '9'; at++)
        d.whole_len++;
    if (at < end && *at == '.') {
        for (d.fraction = ++at; at < end && *at >= '0' && *at <= '9'; at++)
            d.fraction_len++;
        while (d.fraction_len > 0 && d.fraction[d.fraction_len - 1] == '0')
            d.fraction_len--;
    }
    if (at < end) {
        bool negative = at[1] == '-';
        for (at += at[1] == '-' || at[1] == '+' ? 2 : 1; at < end; at++)
            if (d.exponent < 1000000000)
                d.exponent = d.exponent * 10 + (*at - '0');
        if (negative)
            d.exponent = -d.exponent;
    }
    return d;
}

static unsigned digit_at(const struct decimal *d, size_t i)
{
    return (unsigned)((i < d->whole_len ? d->whole[i] : d->fraction[i - d->whole_len]) - '0');
}

/* The magnitude, when it is whole and fits: leading digits are multiplied up, digits behind the point
 * must all be zero. */
static bool magnitude(const struct decimal *d, uint64_t *ret)
{
    size_t count = d->whole_len + d->fraction_len;
    /* How many of the digits, with zeros after them if need be, stand before the point. */
    int64_t before = (int64_t)d->whole_len + d->exponent;
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned digit = digit_at(d, i);
        if ((int64_t)i >= before) {
            if (digit != 0)
                return false;
            continue;
        }
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value))
            return false;
    }
    for (int64_t i = (int64_t)count; i < before && value != 0; i++)
        if (__builtin_mul_overflow(value, 10, &value))
            return false;
    *ret = value;
    return true;
}

bool json_uint64(struct span number, uint64_t *ret)
{
    struct decimal d = take_apart(number);
    uint64_t value;
    if (!magnitude(&d, &value) || (d.negative && value != 0))
        return false;
    *ret = value;
    return true;
}

bool json_int64(struct span number, int64_t *ret)
{
    struct decimal d = take_apart(number);
    uint64_t value;
    if (!magnitude(&d, &value) || value > (uint64_t)INT64_MAX + (d.negative ? 1 : 0))
        return false;
    *ret = d.negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

bool json_double(struct span number, double *ret)
{
    char small[128];
    double value;
    if (number.len < sizeof small) {
        memcpy(small, number.at, number.len);
        small[number.len] = '\0';
        value = strtod(small, NULL);
    } else { /* as long as the sender liked, bounded by the event itself */
        char *copy = must_strndup(number);
        value = strtod(copy, NULL);
        free(copy);
    }
    if (!isfinite(value))
        return false;
    *ret = value;
    return true;
}

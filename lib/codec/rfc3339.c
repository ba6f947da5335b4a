/* rfc3339: see rfc3339.h. Every parser here walks a `struct scan` and stops at the first thing that is not
 * in its grammar; each caller ends with scan.at == scan.end. */
#include "lib/codec/rfc3339.h"

#include "lib/base/ensure.h"
#include "lib/base/le.h"

/* Inlined where a time is parsed, once for each event, so that the scan lies in registers. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

struct scan {
    const uint8_t *at, *end;
};

struct civil {
    int year, month, day, hour, minute, second;
    uint32_t nsec;
    int offset_s; /* east of UTC */
};

static ALWAYS_INLINE bool take(struct scan *s, uint8_t c)
{
    if (s->at >= s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static ALWAYS_INLINE bool take_either(struct scan *s, uint8_t a, uint8_t b)
{
    return take(s, a) || take(s, b);
}

static ALWAYS_INLINE bool peek_digit(const struct scan *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

/* Eight bytes like `shape`, in which '0' stands for any digit and '-' and ':' for themselves. Byte k of *ret_pairs, the
 * lowest being 0, is then the number that the digits k and k + 1 make. */
static ALWAYS_INLINE bool take_eight(struct scan *s, const char *shape, uint64_t *ret_pairs)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), wanted = le64_get((const uint8_t *)shape);
    const uint64_t digits = ~wanted >> 3 & ones; /* the bit that tells '0' from both others */
    if (s->end - s->at < 8)
        return false;
    uint64_t got = le64_get(s->at) ^ wanted;
    /* Each byte may be as large as 9, or 0: what is larger reaches its high bit. */
    if (((got | (got + ones * 0x7f - digits * 9)) & ones << 7) != 0)
        return false;
    *ret_pairs = got * 10 + (got >> 8);
    s->at += 8;
    return true;
}

static ALWAYS_INLINE int pair(uint64_t pairs, unsigned k)
{
    return (int)(pairs >> 8 * k & 0xff);
}

/* Exactly two digits. */
static ALWAYS_INLINE bool take_two(struct scan *s, int *ret)
{
    if (s->end - s->at < 2)
        return false;
    unsigned tens = (unsigned)s->at[0] - '0', ones = (unsigned)s->at[1] - '0';
    if (tens > 9 || ones > 9)
        return false;
    *ret = (int)(tens * 10 + ones);
    s->at += 2;
    return true;
}

/* One or more digits behind a decimal point; nine count. */
static ALWAYS_INLINE bool take_fraction(struct scan *s, uint32_t *ret_nsec)
{
    static const uint32_t places[] = {0, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};
    uint32_t value = 0;
    unsigned count = 0;
    for (; peek_digit(s); s->at++)
        if (count < 9) {
            value = value * 10 + (uint32_t)(*s->at - '0');
            count++;
        }
    *ret_nsec = value * places[count];
    return count > 0;
}

static bool leap_year(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int month_days(int year, int month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && leap_year(year));
}

static ALWAYS_INLINE bool in_range(const struct civil *c)
{
    return c->month >= 1 && c->month <= 12 && c->day >= 1 && c->day <= month_days(c->year, c->month) &&
           c->hour <= 23 && c->minute <= 59 && c->second <= 60;
}

/* Days since 1970-01-01. A year is taken to begin in March, so that the leap day is its last; 400 years
 * are 146,097 days. */
static ALWAYS_INLINE int64_t days_from_civil(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void civil_from_days(int64_t days, struct civil *ret)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153; /* 0 is March */
    ret->day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    ret->month = (int)(month < 10 ? month + 3 : month - 9);
    ret->year = (int)(year_of_era + era * 400 + (ret->month <= 2));
}

static ALWAYS_INLINE struct instant to_instant(const struct civil *c)
{
    bool leap_second = c->second == 60;
    int64_t sec = days_from_civil(c->year, c->month, c->day) * 86400 + c->hour * 3600 + c->minute * 60 + c->second;
    return (struct instant){.sec = sec - leap_second - c->offset_s, .nsec = leap_second ? 999999999 : c->nsec};
}

static struct civil to_civil(int64_t unix_sec)
{
    struct civil c = {0};
    int64_t days = unix_sec / 86400, rest = unix_sec % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    civil_from_days(days, &c);
    c.hour = (int)(rest / 3600);
    c.minute = (int)(rest / 60 % 60);
    c.second = (int)(rest % 60);
    return c;
}

static ALWAYS_INLINE bool take_date(struct scan *s, struct civil *c)
{
    uint64_t pairs;
    if (!take_eight(s, "0000-00-", &pairs))
        return false;
    c->year = pair(pairs, 0) * 100 + pair(pairs, 2);
    c->month = pair(pairs, 5);
    return take_two(s, &c->day);
}

/* hh:mm:ss without a fraction. */
static ALWAYS_INLINE bool take_clock(struct scan *s, struct civil *c)
{
    uint64_t pairs;
    if (!take_eight(s, "00:00:00", &pairs))
        return false;
    c->hour = pair(pairs, 0);
    c->minute = pair(pairs, 3);
    c->second = pair(pairs, 6);
    return true;
}

static ALWAYS_INLINE bool set_offset(struct civil *c, bool west, int hours, int minutes)
{
    if (hours > 23 || minutes > 59)
        return false;
    c->offset_s = (hours * 60 + minutes) * (west ? -60 : 60);
    return true;
}

/* Z or ±hh:mm. */
static ALWAYS_INLINE bool take_offset(struct scan *s, struct civil *c)
{
    int hours, minutes;
    if (take_either(s, 'Z', 'z'))
        return true;
    bool west = s->at < s->end && *s->at == '-';
    return take_either(s, '+', '-') && take_two(s, &hours) && take(s, ':') &&
           take_two(s, &minutes) && set_offset(c, west, hours, minutes);
}

/* What an offset may move out of the years that can be written is no time that we can pass on. */
static ALWAYS_INLINE bool finish(const struct scan *s, const struct civil *c, struct instant *ret)
{
    if (s->at != s->end || !in_range(c))
        return false;
    struct instant t = to_instant(c);
    if (t.sec < INSTANT_SEC_MIN || t.sec > INSTANT_SEC_MAX)
        return false;
    *ret = t;
    return true;
}

static struct scan scan_of(struct span text)
{
    static const uint8_t nothing[1];
    const uint8_t *at = text.len == 0 ? nothing : text.at;
    return (struct scan){.at = at, .end = at + text.len};
}

bool rfc3339_parse(struct span text, struct instant *ret)
{
    struct scan s = scan_of(text);
    struct civil c = {0};
    if (!take_date(&s, &c) || !take_either(&s, 'T', 't') || !take_clock(&s, &c))
        return false;
    if (take(&s, '.') && !take_fraction(&s, &c.nsec))
        return false;
    return take_offset(&s, &c) && finish(&s, &c, ret);
}

/* Nothing, Z, ±hh:mm, ±hhmm or ±hh. */
static bool take_loose_offset(struct scan *s, struct civil *c, bool *local)
{
    int hours, minutes = 0;
    *local = s->at == s->end;
    if (*local || take_either(s, 'Z', 'z'))
        return true;
    bool west = *s->at == '-';
    if (!take_either(s, '+', '-') || !take_two(s, &hours))
        return false;
    if ((take(s, ':') || peek_digit(s)) && !take_two(s, &minutes))
        return false;
    return set_offset(c, west, hours, minutes);
}

bool iso8601_parse(struct span text, struct instant *ret, bool *ret_local)
{
    struct scan s = scan_of(text);
    struct civil c = {0};
    bool local = true;
    if (!take_date(&s, &c))
        return false;
    if (s.at < s.end) {
        if (!take_either(&s, 'T', 't') && !take(&s, ' '))
            return false;
        if (!take_two(&s, &c.hour) || !take(&s, ':') || !take_two(&s, &c.minute))
            return false;
        if (take(&s, ':')) {
            if (!take_two(&s, &c.second))
                return false;
            if (take_either(&s, '.', ',') && !take_fraction(&s, &c.nsec))
                return false;
        }
        if (!take_loose_offset(&s, &c, &local))
            return false;
    }
    if (!finish(&s, &c, ret))
        return false;
    *ret_local = local;
    return true;
}

bool epoch_parse(struct span text, struct instant *ret)
{
    struct scan s = scan_of(text);
    struct instant t = {0};
    int digits = 0;
    for (; peek_digit(&s) && digits < 10; digits++)
        t.sec = t.sec * 10 + (*s.at++ - '0');
    if (digits == 0)
        return false;
    if (take(&s, '.')) {
        if (!take_fraction(&s, &t.nsec))
            return false;
    } else if (digits < 10) {
        return false;
    } else if (peek_digit(&s)) {
        size_t more = (size_t)(s.end - s.at);
        if (more > 9 || more % 3 != 0 || !take_fraction(&s, &t.nsec))
            return false;
    }
    if (s.at != s.end)
        return false;
    *ret = t;
    return true;
}

/* `count` decimal digits of `value`; returns the place behind them. */
static char *put_digits(char *out, uint32_t value, int count)
{
    for (int i = count - 1; i >= 0; i--, value /= 10)
        out[i] = (char)('0' + value % 10);
    return out + count;
}

/* The eight digits of `value`, all at once: halves of four, of these halves of two, and of these the digits, each in the
 * lower part of a lane that is as wide as it has digits. */
static char *put_eight(char *out, uint32_t value)
{
    uint64_t fours = value / 10000 | (uint64_t)(value % 10000) << 32;
    uint64_t high = fours * 5243 >> 19 & UINT64_C(0x0000007f0000007f); /* each divided by 100 */
    uint64_t twos = high | (fours - high * 100) << 16;
    high = twos * 103 >> 10 & UINT64_C(0x000f000f000f000f); /* by 10 */
    uint64_t ones = high | (twos - high * 10) << 8;
    le64_put((uint8_t *)out, ones + UINT64_C(0x3030303030303030));
    return out + 8;
}

static char *put_clock(char *out, const struct civil *c)
{
    out = put_digits(out, (uint32_t)c->hour, 2);
    *out++ = ':';
    out = put_digits(out, (uint32_t)c->minute, 2);
    *out++ = ':';
    return put_digits(out, (uint32_t)c->second, 2);
}

static char *put_seconds(char *out, struct instant t)
{
    ensure(t.sec >= INSTANT_SEC_MIN && t.sec <= INSTANT_SEC_MAX);
    ensure(t.nsec <= 999999999);
    struct civil c = to_civil(t.sec);
    out = put_digits(out, (uint32_t)c.year, 4);
    *out++ = '-';
    out = put_digits(out, (uint32_t)c.month, 2);
    *out++ = '-';
    out = put_digits(out, (uint32_t)c.day, 2);
    *out++ = 'T';
    return put_clock(out, &c);
}

static size_t put_end(char *out, const char *start)
{
    out[0] = 'Z';
    out[1] = '\0';
    return (size_t)(out + 1 - start);
}

size_t rfc3339_format_ms(struct instant t, char ret[RFC3339_TEXT + 1])
{
    char *out = put_seconds(ret, t);
    *out++ = '.';
    out = put_digits(out, t.nsec / 1000000, 3);
    return put_end(out, ret);
}

/* The fraction, as far as needed, and the end. */
static size_t finish_fine(char *out, char *start, uint32_t nsec)
{
    if (nsec != 0) {
        *out++ = '.';
        *out++ = (char)('0' + nsec / 100000000);
        out = put_eight(out, nsec % 100000000);
        while (out[-1] == '0')
            out--;
    }
    return put_end(out, start);
}

size_t rfc3339_format(struct instant t, char ret[RFC3339_TEXT + 1])
{
    return finish_fine(put_seconds(ret, t), ret, t.nsec);
}

size_t rfc3339_format_again(struct rfc3339_last *last, struct instant t, char ret[RFC3339_TEXT + 1])
{
    if (!last->known || last->sec != t.sec) {
        ensure(put_seconds(last->text, t) == last->text + sizeof last->text);
        last->sec = t.sec;
        last->known = true;
    }
    memcpy(ret, last->text, sizeof last->text);
    return finish_fine(ret + sizeof last->text, ret, t.nsec);
}

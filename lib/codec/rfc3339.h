/* rfc3339: points in time, read and written in the forms that events use.
 *
 * A `struct instant` is Unix time (UTC, no leap seconds) with nanoseconds. The proleptic Gregorian
 * calendar, years 0000 to 9999, is what the texts can express. A fraction may have any number of digits;
 * nine are kept, the rest is cut off. A leap second (:60) is read as :59.999999999 of the same minute. */
#ifndef PENSTOCK_CODEC_RFC3339_H
#define PENSTOCK_CODEC_RFC3339_H

#include "lib/base/bytes.h"

struct instant {
    int64_t sec;
    uint32_t nsec; /* 0 to 999,999,999, counted forward also before 1970 */
};

enum {
    RFC3339_TEXT = 30, /* "2026-05-04T09:12:33.004000001Z" */
};

/* The first and last second that can be written. */
#define INSTANT_SEC_MIN INT64_C(-62167219200) /* 0000-01-01T00:00:00Z */
#define INSTANT_SEC_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

static inline struct instant instant_of_ns(uint64_t unix_ns)
{
    return (struct instant){.sec = (int64_t)(unix_ns / 1000000000), .nsec = (uint32_t)(unix_ns % 1000000000)};
}

/* Unix milliseconds, rounded down. */
static inline int64_t instant_ms(struct instant t)
{
    return t.sec * 1000 + t.nsec / 1000000;
}

/* < 0, 0, > 0 as a is before, at, after b. */
static inline int instant_compare(struct instant a, struct instant b)
{
    if (a.sec != b.sec)
        return a.sec < b.sec ? -1 : 1;
    return a.nsec < b.nsec ? -1 : a.nsec > b.nsec;
}

/* RFC 3339 date-time: upper or lower case T and Z, any offset. All of `text`; false when it is not one. */
MUST_USE bool rfc3339_parse(struct span text, struct instant *ret);

/* What writers of ISO 8601 also produce: a space for the T, a comma for the decimal point, offsets as
 * ±hhmm and ±hh, no seconds, no offset at all (then *ret_local is true and the time is read as UTC), a
 * date alone (midnight, local). Extended format only; week and ordinal dates are not taken. */
MUST_USE bool iso8601_parse(struct span text, struct instant *ret, bool *ret_local);

/* Unix time as decimal text, in the forms of Honeycomb's Events API: 10 digits are seconds and further
 * digits (13: ms, 16: µs, at most 19) a fraction; or seconds with a decimal point. Nothing else. */
MUST_USE bool epoch_parse(struct span text, struct instant *ret);

/* UTC with Z. The first always writes three digits of fraction, rounded down; the second as many as
 * are needed, none for a whole second. Return the length written; a NUL follows. The instant must lie between
 * INSTANT_SEC_MIN and _MAX. */
size_t rfc3339_format_ms(struct instant t, char ret[RFC3339_TEXT + 1]);
size_t rfc3339_format(struct instant t, char ret[RFC3339_TEXT + 1]);

/* For many instants that lie close together: remembers the last second and how it was written. Zero at first. */
struct rfc3339_last {
    bool known;
    int64_t sec;
    char text[19];
};
/* As rfc3339_format(). */
size_t rfc3339_format_again(struct rfc3339_last *last, struct instant t, char ret[RFC3339_TEXT + 1]);

#endif

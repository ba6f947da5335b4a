/* http_date: see http_date.h. */
#include "lib/base/http_date.h"

#include "lib/base/calendar.h"

#include <stdio.h>

static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

void http_date_write(uint64_t unix_s, char ret[HTTP_DATE_LEN + 1])
{
    uint64_t days = unix_s / 86400;
    unsigned s = (unsigned)(unix_s % 86400);
    struct calendar_date d = calendar_date_of(days);
    char text[64];
    (void)snprintf(text, sizeof text, "%s, %02u %s %04u %02u:%02u:%02u GMT", day_names[(days + 4) % 7], d.day,
                   month_names[d.month - 1], (unsigned)(d.year % 10000), s / 3600, s / 60 % 60, s % 60);
    memcpy(ret, text, HTTP_DATE_LEN);
    ret[HTTP_DATE_LEN] = '\0';
}

/* What is left of a text that is being read; every step fails for good once one has failed. */
struct scan {
    struct span rest;
    bool failed;
};

static void expect_text(struct scan *s, const char *text)
{
    struct span want = span_str(text);
    if (!span_starts(s->rest, want)) {
        s->failed = true;
        return;
    }
    s->rest = span_of(s->rest.at + want.len, s->rest.len - want.len);
}

static unsigned read_number(struct scan *s, size_t digits)
{
    uint64_t value = 0;
    if (s->rest.len < digits || !span_u64(span_of(s->rest.at, digits), &value)) {
        s->failed = true;
        return 0;
    }
    s->rest = span_of(s->rest.at + digits, s->rest.len - digits);
    return (unsigned)value;
}

static unsigned read_month(struct scan *s)
{
    for (unsigned i = 0; i < 12; i++)
        if (s->rest.len >= 3 && memcmp(s->rest.at, month_names[i], 3) == 0) {
            s->rest = span_of(s->rest.at + 3, s->rest.len - 3);
            return i + 1;
        }
    s->failed = true;
    return 1;
}

static unsigned read_clock(struct scan *s)
{
    unsigned hour = read_number(s, 2);
    expect_text(s, ":");
    unsigned minute = read_number(s, 2);
    expect_text(s, ":");
    unsigned second = read_number(s, 2);
    if (hour > 23 || minute > 59 || second > 60)
        s->failed = true;
    return hour * 3600 + minute * 60 + second;
}

static bool scan_done(const struct scan *s, struct calendar_date d, unsigned clock_s, uint64_t *ret_unix_s)
{
    if (s->failed || s->rest.len > 0 || !calendar_exists(d))
        return false;
    *ret_unix_s = calendar_days_of(d) * 86400 + clock_s;
    return true;
}

/* "06 Nov 1994 08:49:37 GMT" and "06-Nov-94 08:49:37 GMT", after the day's name. */
static bool parse_gmt_form(struct span text, char separator, uint64_t *ret_unix_s)
{
    struct scan s = {.rest = text};
    const char between[2] = {separator, '\0'};
    struct calendar_date d = {.day = read_number(&s, 2)};
    expect_text(&s, between);
    d.month = read_month(&s);
    expect_text(&s, between);
    if (separator == '-') {
        d.year = read_number(&s, 2);
        d.year += d.year < 70 ? 2000 : 1900;
    } else {
        d.year = read_number(&s, 4);
    }
    expect_text(&s, " ");
    unsigned clock_s = read_clock(&s);
    expect_text(&s, " GMT");
    return scan_done(&s, d, clock_s, ret_unix_s);
}

/* "Nov  6 08:49:37 1994", after the day's name. */
static bool parse_asctime_form(struct span text, uint64_t *ret_unix_s)
{
    struct scan s = {.rest = text};
    struct calendar_date d = {.month = read_month(&s)};
    expect_text(&s, " ");
    if (s.rest.len > 0 && s.rest.at[0] == ' ') {
        expect_text(&s, " ");
        d.day = read_number(&s, 1);
    } else {
        d.day = read_number(&s, 2);
    }
    expect_text(&s, " ");
    unsigned clock_s = read_clock(&s);
    expect_text(&s, " ");
    d.year = read_number(&s, 4);
    return scan_done(&s, d, clock_s, ret_unix_s);
}

/* The name of the day is skipped, not checked: a wrong one does not make the date less clear. */
bool http_date_parse(struct span text, uint64_t *ret_unix_s)
{
    text = span_trim(text);
    size_t name = 0;
    while (name < text.len && name < 10 && text.at[name] != ',' && text.at[name] != ' ')
        name++;
    if (name < 3 || name >= text.len)
        return false;
    bool comma = text.at[name] == ',';
    size_t skip = name + (comma ? 2 : 1);
    if (skip > text.len || text.at[skip - 1] != ' ')
        return false;
    struct span rest = span_of(text.at + skip, text.len - skip);
    if (!comma)
        return parse_asctime_form(rest, ret_unix_s);
    return parse_gmt_form(rest, name == 3 ? ' ' : '-', ret_unix_s);
}

bool http_retry_after(struct span value, uint64_t now_unix_s, uint64_t *ret_s)
{
    value = span_trim(value);
    uint64_t number;
    if (value.len > 0 && value.at[0] >= '0' && value.at[0] <= '9') {
        for (size_t i = 0; i < value.len; i++)
            if (value.at[i] < '0' || value.at[i] > '9')
                return false;
        *ret_s = span_u64(value, &number) ? number : UINT64_MAX;
        return true;
    }
    if (!http_date_parse(value, &number))
        return false;
    *ret_s = number > now_unix_s ? number - now_unix_s : 0;
    return true;
}

/* calendar: see calendar.h. Days are counted in years that begin on 1 March, so that the leap day comes
 * last and the lengths of months follow one formula. */
#include "lib/base/calendar.h"

struct calendar_date calendar_date_of(uint64_t days_since_1970)
{
    uint64_t z = days_since_1970 + 719468; /* from 1 March of year 0 */
    uint64_t era = z / 146097, in_era = z % 146097;
    uint64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    uint64_t in_year = in_era - (365 * year + year / 4 - year / 100);
    unsigned shifted = (unsigned)((5 * in_year + 2) / 153); /* 0: March */
    struct calendar_date d = {.year = year + era * 400,
                              .day = (unsigned)(in_year - (153 * shifted + 2) / 5 + 1)};
    d.month = shifted < 10 ? shifted + 3 : shifted - 9;
    d.year += d.month <= 2;
    return d;
}

uint64_t calendar_days_of(struct calendar_date d)
{
    uint64_t year = d.year - (d.month <= 2);
    uint64_t era = year / 400, of_era = year % 400;
    unsigned shifted = d.month > 2 ? d.month - 3 : d.month + 9;
    uint64_t in_year = (153 * shifted + 2) / 5 + d.day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + in_year - 719468;
}

bool calendar_exists(struct calendar_date d)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (d.year < 1970 || d.month < 1 || d.month > 12 || d.day < 1)
        return false;
    bool leap = d.year % 4 == 0 && (d.year % 100 != 0 || d.year % 400 == 0);
    return d.day <= days[d.month - 1] + (d.month == 2 && leap ? 1U : 0U);
}

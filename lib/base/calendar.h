/* calendar: dates of the proleptic Gregorian calendar as day counts since 1970-01-01, by arithmetic alone. */
#ifndef PENSTOCK_BASE_CALENDAR_H
#define PENSTOCK_BASE_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

struct calendar_date {
    uint64_t year;
    unsigned month, day; /* 1 to 12, 1 to 31 */
};

struct calendar_date calendar_date_of(uint64_t days_since_1970);

/* The day must exist and not lie before 1970. */
uint64_t calendar_days_of(struct calendar_date d);

/* A month from 1 to 12, a day that this month has, a year from 1970 on. */
bool calendar_exists(struct calendar_date d);

#endif

/* http_date: the three date forms of HTTP (RFC 9110 5.6.7) and Retry-After (10.2.3), by arithmetic alone.
 * Time comes in as Unix seconds. */
#ifndef PENSTOCK_BASE_HTTP_DATE_H
#define PENSTOCK_BASE_HTTP_DATE_H

#include "lib/base/bytes.h"

#define HTTP_DATE_LEN 29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */

/* Writes HTTP_DATE_LEN characters and a NUL. Callers keep the text for the second it is good for. */
void http_date_write(uint64_t unix_s, char ret[HTTP_DATE_LEN + 1]);

/* Reads IMF-fixdate, RFC 850 or asctime form. A two-digit year is put into 1970 to 2069. False for
 * anything else, dates before 1970 and days that do not exist. */
MUST_USE bool http_date_parse(struct span text, uint64_t *ret_unix_s);

/* The seconds that a Retry-After value asks for, counted from now: delta-seconds or a date, a past date
 * is 0. False when it is neither; a number too large to hold is UINT64_MAX. */
MUST_USE bool http_retry_after(struct span value, uint64_t now_unix_s, uint64_t *ret_s);

#endif

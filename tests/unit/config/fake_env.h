/* fake_env: a machine for the configuration to be judged on, without a machine.
 *
 * Every environment variable named SET_… has the value "value-of-SET_…"; every file under /there/ can be
 * read and holds "content-of-PATH" and a line end; users and groups are root, penstock. */
#ifndef PENSTOCK_TESTS_CONFIG_FAKE_ENV_H
#define PENSTOCK_TESTS_CONFIG_FAKE_ENV_H

#include "lib/config/config.h"

extern const struct config_env fake_env;
extern const char *fake_rotated; /* when set, what files hold instead */

/* Judges a text; the report is initialised here and the caller's. */
struct config *fake_parse(const char *text, struct config_report *report);

/* The text must be good; ends the test with the messages when it is not. */
struct config *good(const char *text);

/* The text must have a fault at that place whose words hold `words`. */
void bad(const char *text, unsigned line, unsigned column, const char *words);

/* The text must be good and say something of this severity that holds `words`. */
void says(const char *text, enum config_severity severity, unsigned line, unsigned column, const char *words);

/* One honeycomb output named t, followed by `more` (lines indented by four). */
#define HONEYCOMB(more) "outputs:\n  t:\n    type: honeycomb\n    credentials: { api_key: k }\n" more

#endif

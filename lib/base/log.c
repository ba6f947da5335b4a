/* log: see log.h. Until log_init() everything is dropped, which is what unit tests want. */
#include "lib/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static enum log_level the_level = LOG_INFO;
static log_sink_fn *the_sink;
static void *the_ctx;

void log_init(enum log_level level, log_sink_fn *sink, void *ctx)
{
    the_level = level;
    the_sink = sink;
    the_ctx = ctx;
}

void log_set_level(enum log_level level)
{
    the_level = level;
}

bool log_enabled(enum log_level level)
{
    return the_sink != NULL && level <= the_level;
}

static void speak(enum log_level level, const char *subject, const char *suffix, const char *format,
                  va_list args) __attribute__((format(printf, 4, 0)));

static void speak(enum log_level level, const char *subject, const char *suffix, const char *format,
                  va_list args)
{
    char line[1024];
    int n = vsnprintf(line, sizeof line, format, args);
    if (n < 0)
        return;
    if ((size_t)n < sizeof line)
        (void)snprintf(line + n, sizeof line - (size_t)n, "%s", suffix);
    the_sink(the_ctx, level, subject, line);
}

void log_line(enum log_level level, const char *subject, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    va_list args;
    va_start(args, format);
    speak(level, subject, "", format, args);
    va_end(args);
}

void log_every(struct log_limit *limit, uint64_t now_us, uint64_t interval_us, enum log_level level,
               const char *subject, const char *format, ...)
{
    if (limit->last_us != 0 && now_us - limit->last_us < interval_us) {
        limit->left_out++;
        return;
    }
    char suffix[64] = "";
    if (limit->left_out > 0)
        (void)snprintf(suffix, sizeof suffix, " (%llu more like this)", (unsigned long long)limit->left_out);
    limit->last_us = now_us == 0 ? 1 : now_us;
    limit->left_out = 0;
    if (!log_enabled(level))
        return;
    va_list args;
    va_start(args, format);
    speak(level, subject, suffix, format, args);
    va_end(args);
}

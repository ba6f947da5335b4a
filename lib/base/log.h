/* log: the diagnostic log ("log" alone never means what is on disk; that is the spool).
 *
 * One line per fact, for a person at 3 a.m.: what happened, to which output, what is done about it, what
 * they can do. error = somebody must act; warn = degraded, we cope; info = life of the process;
 * debug = the path of one batch. The cores in lib/ return faults or notes and do not log; agent/ does.
 * Lines that repeat are limited per kind: log_every() lets one line through per interval and says with
 * the next one how many were left out. */
#ifndef PENSTOCK_BASE_LOG_H
#define PENSTOCK_BASE_LOG_H

#include "lib/base/fault.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Receives one finished message without newline. `subject` names whom it is about ("output telemetry",
 * "input http") or is NULL. */
typedef void log_sink_fn(void *ctx, enum log_level level, const char *subject, const char *message);

void log_init(enum log_level level, log_sink_fn *sink, void *ctx);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *subject, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(subject, ...) log_line(LOG_ERROR, subject, __VA_ARGS__)
#define log_warn(subject, ...) log_line(LOG_WARN, subject, __VA_ARGS__)
#define log_info(subject, ...) log_line(LOG_INFO, subject, __VA_ARGS__)
#define log_debug(subject, ...) \
    do { \
        if (log_enabled(LOG_DEBUG)) \
            log_line(LOG_DEBUG, subject, __VA_ARGS__); \
    } while (0)

/* One kind of message; zero-initialised, owned by whoever speaks. */
struct log_limit {
    uint64_t last_us; /* 0: never spoken */
    uint64_t left_out;
};
/* Speaks when `interval_us` has passed since this kind last spoke; else only counts. */
void log_every(struct log_limit *limit, uint64_t now_us, uint64_t interval_us, enum log_level level,
               const char *subject, const char *format, ...) PRINTF_LIKE(6, 7);

#endif

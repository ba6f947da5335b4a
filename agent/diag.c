/* diag: see diag.h. */
#include "agent/diag.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct {
    bool json;
    bool journal;
    unsigned dropped;
} diag;

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char journal_priority[] = {'3', '4', '6', '7'};

static void put_escaped(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    for (; *text != '\0' && n + 7 < cap; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c < 0x20) {
            n += (size_t)snprintf(out + n, cap - n, "\\u%04x", c);
        } else {
            out[n++] = (char)c;
        }
    }
    out[n] = '\0';
}

/* Control characters in a line could forge lines of their own; a person reads '?' as well. */
static void put_plain(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    for (; *text != '\0' && n + 1 < cap; text++)
        out[n++] = (unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text;
    out[n] = '\0';
}

static void put_line(const char *line, size_t len)
{
    /* Standard error may be a pipe that nobody empties. */
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0 && write(STDERR_FILENO, line, len) >= 0)
        return;
    diag.dropped++;
}

static void timestamp(char *out, size_t cap)
{
    struct timespec now;
    struct tm tm;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + n, cap - n, ".%03ldZ", now.tv_nsec / 1000000);
}

static void sink(void *ctx, enum log_level level, const char *subject, const char *message)
{
    (void)ctx;
    char line[2600], when[40], text[2100], who[200];
    const char *subject_text = subject == NULL ? "" : subject;
    const char *colon = subject == NULL ? "" : ": ";
    int n;
    timestamp(when, sizeof when);
    if (diag.json) {
        put_escaped(text, sizeof text, message);
        put_escaped(who, sizeof who, subject_text);
        n = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"subject\":\"%s\",\"message\":\"%s\"}\n", when,
                     level_names[level], who, text);
    } else {
        put_plain(text, sizeof text, message);
        if (diag.journal)
            n = snprintf(line, sizeof line, "<%c>%s%s%s\n", journal_priority[level], subject_text, colon, text);
        else
            n = snprintf(line, sizeof line, "%s %-5s %s%s%s\n", when, level_names[level], subject_text, colon, text);
    }
    if (n > 0)
        put_line(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

void diag_init(enum log_level level, bool json)
{
    diag.json = json;
    diag.journal = getenv("JOURNAL_STREAM") != NULL;
    log_init(level, sink, NULL);
}

/* diag: see diag.h. */
#include "agent/diag.h"

#include "lib/base/bytes.h"
#include "lib/codec/utf8.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
    bool json;
    bool journal;
    unsigned dropped;
} diag;

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char journal_priority[] = {'3', '4', '6', '7'};

#define REPLACEMENT "\xef\xbf\xbd"

/* Text from strangers is cut into whole characters; what is none becomes U+FFFD, so that a line is UTF-8 whatever an
 * upstream said. */
static size_t next_character(const char *text, char into[8])
{
    const uint8_t *at = (const uint8_t *)text;
    size_t n = utf8_length(at, at + strlen(text));
    if (n == 0) {
        memcpy(into, REPLACEMENT, sizeof REPLACEMENT);
        return 1;
    }
    memcpy(into, text, n);
    into[n] = '\0';
    return n;
}

static void put_escaped(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    char one[8];
    for (; *text != '\0' && n + 7 < cap; text += next_character(text, one)) {
        unsigned char c = (unsigned char)*text;
        (void)next_character(text, one);
        if (c == '"' || c == '\\')
            n += (size_t)snprintf(out + n, cap - n, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(out + n, cap - n, "\\u%04x", c);
        else
            n += (size_t)snprintf(out + n, cap - n, "%s", one);
    }
    out[n] = '\0';
}

/* Control characters in a line could forge lines of their own, or move a terminal's cursor (U+0080 to U+009F, too); a
 * person reads '?' as well. */
static void put_plain(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    char one[8];
    for (; *text != '\0' && n + 5 < cap; text += next_character(text, one)) {
        unsigned char c = (unsigned char)*text;
        (void)next_character(text, one);
        bool control = c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)one[1] < 0xa0);
        n += (size_t)snprintf(out + n, cap - n, "%s", control ? "?" : one);
    }
    out[n] = '\0';
}

static void put_line(const char *line, size_t len)
{
    /* Standard error may be a pipe that nobody empties. */
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0 && write(STDERR_FILENO, line, len) >= 0) {
        diag.dropped = 0;
        return;
    }
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
    char lost[80] = "", priority[4] = "";
    int n;
    timestamp(when, sizeof when);
    if (diag.dropped > 0)
        (void)snprintf(lost, sizeof lost, " (before this, %u lines were lost: nobody read them)", diag.dropped);
    if (diag.journal) /* journald takes it off, and knows how bad it is: sd-daemon(3) */
        (void)snprintf(priority, sizeof priority, "<%c>", journal_priority[level]);
    if (diag.json) {
        put_escaped(text, sizeof text, message);
        put_escaped(who, sizeof who, subject_text);
        n = snprintf(line, sizeof line, "%s{\"time\":\"%s\",\"level\":\"%s\",\"subject\":\"%s\",\"message\":\"%s%s\"}\n", priority,
                     when, level_names[level], who, text, lost);
    } else {
        put_plain(text, sizeof text, message);
        if (diag.journal)
            n = snprintf(line, sizeof line, "%s%s%s%s%s\n", priority, subject_text, colon, text, lost);
        else
            n = snprintf(line, sizeof line, "%s %-5s %s%s%s%s\n", when, level_names[level], subject_text, colon, text, lost);
    }
    if (n > 0)
        put_line(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

/* $JOURNAL_STREAM names the device and inode of the socket that the service manager gave us: systemd.exec(5). It also is
 * in the environment of what redirects standard error elsewhere. */
static bool stderr_is_journal(void)
{
    const char *text = getenv("JOURNAL_STREAM");
    const char *colon = text == NULL ? NULL : strchr(text, ':');
    uint64_t device, inode;
    struct stat st;
    return colon != NULL && span_u64(span_of((const uint8_t *)text, (size_t)(colon - text)), &device) &&
           span_u64(span_str(colon + 1), &inode) && fstat(STDERR_FILENO, &st) == 0 && (uint64_t)st.st_dev == device &&
           (uint64_t)st.st_ino == inode;
}

void diag_init(enum log_level level, bool json)
{
    diag.json = json;
    diag.journal = stderr_is_journal();
    log_init(level, sink, NULL);
}

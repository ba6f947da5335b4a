/* dead: see dead.h. Part of step 12. */
#include "lib/output/dead.h"

#include <inttypes.h>
#include <stdio.h>

/* Writes at most `max` bytes of s, made harmless, and a NUL. */
static void quoted(struct span s, char *into, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len && n + 1 < max; i++) {
        uint8_t c = s.at[i];
        into[n++] = c < 0x20 || c == 0x7f ? ' ' : c == '"' || c == '\\' ? '\'' : (char)c;
    }
    into[n] = 0;
}

void dead_line_format(const struct dead_line *d, char *into, size_t size)
{
    char partition[64], id[64], answer[200];
    quoted(d->partition, partition, sizeof partition);
    quoted(d->id, id, sizeof id);
    quoted(d->answer, answer, sizeof answer);
    (void)snprintf(into, size,
                   "dead letter: reason=%s status=%u attempts=%u seq=%" PRIu64
                   " partition=\"%s\" id=\"%s\" answer=\"%s\"",
                   d->reason, d->status, d->attempts, d->seq, partition, id, answer);
}

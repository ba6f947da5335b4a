/* dead: the one diagnostic line per dead letter. Its shape is fixed, so that scripts can rely on it:
 *
 *   dead letter: reason=REASON status=N attempts=N seq=N partition="…" id="…" answer="…"
 *
 * Values in quotes have control characters, quotes and backslashes replaced and are cut to what a line bears.
 */
#ifndef PENSTOCK_OUTPUT_DEAD_H
#define PENSTOCK_OUTPUT_DEAD_H

#include "lib/base/bytes.h"

struct dead_line {
    const char *reason;
    unsigned status, attempts;
    uint64_t seq;
    struct span partition, id, answer;
};
void dead_line_format(const struct dead_line *d, char *into, size_t size);

#endif

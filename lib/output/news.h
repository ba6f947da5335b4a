/* news: what an output has to tell its shell for the diagnostic log, kept until it is asked for.
 *
 * Bounded: when nobody asks, the oldest lines stay and the rest is counted. */
#ifndef PENSTOCK_OUTPUT_NEWS_H
#define PENSTOCK_OUTPUT_NEWS_H

#include "lib/base/fault.h"
#include "lib/output/output.h"

#define NEWS_MAX 64

struct news {
    struct output_news *ring; /* allocated with the first line */
    unsigned first, count;
    uint64_t left_out;
};

void news_add(struct news *n, int kind, const char *format, ...) PRINTF_LIKE(3, 4);
bool news_next(struct news *n, struct output_news *ret);
void news_deinit(struct news *n);

#endif

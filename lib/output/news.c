/* news: see news.h. */
#include "lib/output/news.h"

#include "lib/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void news_add(struct news *n, int kind, const char *format, ...)
{
    if (n->ring == NULL)
        n->ring = must_alloc(NEWS_MAX * sizeof *n->ring);
    if (n->count == NEWS_MAX) {
        n->left_out++;
        return;
    }
    struct output_news *at = &n->ring[(n->first + n->count++) % NEWS_MAX];
    at->kind = kind;
    at->left_out = 0;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(at->text, sizeof at->text, format, args);
    va_end(args);
    for (char *c = at->text; *c != 0; c++) /* an upstream's words may have lines: this is one */
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
}

bool news_next(struct news *n, struct output_news *ret)
{
    if (n->count == 0)
        return false;
    *ret = n->ring[n->first];
    n->first = (n->first + 1) % NEWS_MAX;
    n->count--;
    ret->left_out = n->left_out;
    n->left_out = 0;
    return true;
}

void news_deinit(struct news *n)
{
    free(n->ring);
    *n = (struct news){0};
}

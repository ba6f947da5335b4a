/* glob: see glob.h. Only the last `*` ever needs to be tried again, so the time is bounded by the product of
 * both lengths, without recursion. */
#include "lib/codec/glob.h"

#include "lib/codec/utf8.h"

static size_t character(struct span text, size_t at)
{
    size_t n = utf8_length(text.at + at, text.at + text.len);
    return n == 0 ? 1 : n;
}

bool glob_match(struct span pattern, struct span text)
{
    /* The end is where the names of one program's types differ: most that do not match are told by it. */
    uint8_t last = pattern.len == 0 ? '*' : pattern.at[pattern.len - 1];
    if (last != '*' && last != '?' && (text.len == 0 || text.at[text.len - 1] != last))
        return false;
    size_t p = 0, t = 0;
    size_t star = SIZE_MAX, taken = 0; /* behind the last `*`, and where its share of the text ends */
    while (t < text.len) {
        if (p < pattern.len && pattern.at[p] == '*') {
            star = ++p;
            taken = t;
        } else if (p < pattern.len && pattern.at[p] == '?') {
            p++;
            t += character(text, t);
        } else if (p < pattern.len && pattern.at[p] == text.at[t]) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star;
            t = taken += character(text, taken);
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.at[p] == '*')
        p++;
    return p == pattern.len;
}

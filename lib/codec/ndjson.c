/* ndjson: see ndjson.h. */
#include "lib/codec/ndjson.h"

enum {
    LINE_END_BYTES = 4, /* a CR and a byte order mark, which do not count */
    KEEP_BYTES = 4096,  /* a connection that sent one long line does not hold its memory for ever */
};

void ndjson_init(struct ndjson *n, size_t line_bytes_max)
{
    *n = (struct ndjson){.line_bytes_max = line_bytes_max};
    bytes_init(&n->held, line_bytes_max + LINE_END_BYTES);
}

void ndjson_deinit(struct ndjson *n)
{
    bytes_deinit(&n->held);
}

static void empty_held(struct ndjson *n)
{
    if (n->held.cap > KEEP_BYTES)
        bytes_deinit(&n->held);
    bytes_clear(&n->held);
    n->given = false;
}

void ndjson_release(struct ndjson *n)
{
    if (n->given)
        empty_held(n);
}

static bool is_white(struct span line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.at[i] != ' ' && line.at[i] != '\t')
            return false;
    return true;
}

/* Takes off what does not belong to the line; ERR_NOT_FOUND when nothing is left. */
static enum err finish_line(struct ndjson *n, struct span line, struct span *ret_line)
{
    if (!n->begun && span_starts(line, SPAN("\xef\xbb\xbf")))
        line = span_of(line.at + 3, line.len - 3);
    n->begun = true;
    if (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    if (line.len > n->line_bytes_max)
        return ERR_TOO_BIG;
    if (is_white(line))
        return ERR_NOT_FOUND;
    *ret_line = line;
    return OK;
}

/* Keeps the unfinished line's bytes, or notes that it is too long. */
static enum err hold(struct ndjson *n, struct span rest)
{
    if (n->skipping || rest.len == 0)
        return ERR_AGAIN;
    if (bytes_append_piece(&n->held, rest) == OK)
        return ERR_AGAIN;
    empty_held(n);
    n->begun = true;
    n->skipping = true;
    return ERR_TOO_BIG;
}

enum err ndjson_next(struct ndjson *n, struct span *piece, struct span *ret_line)
{
    if (n->given)
        empty_held(n);
    while (piece->len > 0) {
        const uint8_t *lf = memchr(piece->at, '\n', piece->len);
        if (lf == NULL) {
            struct span rest = *piece;
            *piece = span_of(piece->at + piece->len, 0);
            return hold(n, rest);
        }
        struct span line = span_of(piece->at, (size_t)(lf - piece->at));
        *piece = span_of(lf + 1, piece->len - line.len - 1);
        n->lines++;
        if (n->skipping) {
            n->skipping = false;
            continue;
        }
        if (n->held.len > 0) {
            enum err kept = hold(n, line);
            if (kept == ERR_TOO_BIG) {
                n->skipping = false; /* its end is here already */
                return ERR_TOO_BIG;
            }
            line = bytes_span(&n->held);
            n->given = true;
        }
        enum err err = finish_line(n, line, ret_line);
        if (err != ERR_NOT_FOUND)
            return err;
        if (n->given)
            empty_held(n);
    }
    return ERR_AGAIN;
}

enum err ndjson_finish(struct ndjson *n, struct span *ret_line)
{
    enum err err = ERR_NOT_FOUND;
    if (n->given)
        empty_held(n);
    if (!n->skipping && n->held.len > 0) {
        n->lines++;
        err = finish_line(n, bytes_span(&n->held), ret_line);
        n->given = true;
    }
    n->skipping = false;
    n->begun = false;
    return err;
}

/* ndjson: cuts a stream that arrives in pieces into lines.
 *
 * A line that lies within one piece is handed out where it lies; only a line that a piece leaves unfinished
 * is kept, in a buffer that never holds more than one line of the maximum. Lines end with LF, a CR before it
 * does not belong to them, white lines are passed over, and so is a UTF-8 byte order mark at the very start.
 * What is on the lines is not looked at. Step 1 of the straight line uses it for streams and datagrams, step
 * 3 for HTTP bodies. */
#ifndef PENSTOCK_CODEC_NDJSON_H
#define PENSTOCK_CODEC_NDJSON_H

#include "lib/base/bytes.h"

struct ndjson {
    struct bytes held; /* the unfinished line */
    size_t line_bytes_max;
    uint64_t lines; /* number of the line handed out last, from 1; white lines count */
    bool begun;    /* the start of the stream is behind us */
    bool skipping; /* inside a line that was too long */
    bool given;    /* held was handed out as a line and is to be emptied */
};

void ndjson_init(struct ndjson *n, size_t line_bytes_max);
void ndjson_deinit(struct ndjson *n);

/* Takes the next line from *piece, which is moved on. OK: *ret_line is a line, good until the next call and
 * as long as the piece's memory is. ERR_AGAIN: the piece is used up; come back with the next one.
 * ERR_TOO_BIG: a line is longer than the maximum; it is left out, and the call may be repeated to go on
 * behind it. */
MUST_USE enum err ndjson_next(struct ndjson *n, struct span *piece, struct span *ret_line);

/* The line that was handed out last is used up: its memory is given back now, not at the next call, which may be long
 * in coming. */
void ndjson_release(struct ndjson *n);

/* The stream has ended: OK with the last line if it had no LF, else ERR_NOT_FOUND. The splitter is then as
 * new. */
MUST_USE enum err ndjson_finish(struct ndjson *n, struct span *ret_line);

#endif

/* send_lines: NDJSON from files or standard input, cut into batches that are ready to be sent.
 *
 * Each line becomes an event that can be sent again without being stored twice: one that has no `id` gets one. */
#ifndef PENSTOCK_AGENT_SEND_LINES_H
#define PENSTOCK_AGENT_SEND_LINES_H

#include "lib/base/bytes.h"
#include "lib/codec/json.h"
#include "lib/codec/uuid7.h"

enum { SEND_BATCH_EVENTS = 1000, SEND_BATCH_BYTES = 256 << 10, SEND_LINE_BYTES_MAX = 10 << 20 };

struct send_line {
    const char *file;
    uint64_t number; /* from 1 */
    size_t at, len;  /* in the batch's text, without the line feed */
};

struct send_batch {
    struct bytes text; /* lines, each ended by a line feed */
    struct send_line lines[SEND_BATCH_EVENTS];
    unsigned count;
};

struct send_source {
    char **files; /* "-" is standard input */
    int file_count, file_at;
    const char *type; /* --type, or NULL */
    struct uuid_source uuids;
    int fd;           /* -1: none is open */
    const char *name; /* of the open one, for messages */
    uint64_t number;  /* lines read of it */
    bool at_end;      /* of it */
    struct bytes in;  /* read, not yet cut into lines */
    size_t in_at, in_seen; /* used; looked through for a line feed */
    uint64_t bytes_read, bytes_total; /* total 0: not known */
    uint64_t refused; /* lines that are no events and were never sent */
    /* Is told of each of those. */
    void (*on_refused)(void *ctx, const char *file, uint64_t number, const char *text);
    void *ctx;
    struct json_member *members;
};

/* `files` empty: standard input. */
void send_source_init(struct send_source *s, char **files, int file_count, const char *type);
void send_source_deinit(struct send_source *s);

void send_batch_init(struct send_batch *b);
void send_batch_deinit(struct send_batch *b);

/* Fills an empty batch. It ends when it is full, at the end of the input, or when the input has been silent for a
 * moment, so that what comes slowly is not held back. Empty only at the end of the input. ERR_IO: a file cannot be read. */
MUST_USE enum err send_source_fill(struct send_source *s, struct send_batch *b, struct fault *why);

#endif

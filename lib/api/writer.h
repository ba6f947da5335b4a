/* writer: JSON into a bounded piece of the arena, without an error check per line: it remembers that
 * something did not fit, and writer_finish() says so once. Private to lib/api. */
#ifndef PENSTOCK_API_WRITER_H
#define PENSTOCK_API_WRITER_H

#include "lib/base/bytes.h"
#include "lib/codec/json.h"

struct writer {
    struct bytes out;
    struct arena *arena;
    bool failed;
};

static inline void writer_init(struct writer *w, struct arena *arena, size_t bound)
{
    w->arena = arena;
    w->failed = !bytes_init_arena(&w->out, arena, bound);
}

/* .at NULL: it did not fit. */
static inline struct span writer_finish(struct writer *w)
{
    return w->failed ? (struct span){0} : bytes_finish_arena(&w->out, w->arena);
}

static inline void write_raw(struct writer *w, struct span s)
{
    if (!w->failed && bytes_append(&w->out, s) != OK)
        w->failed = true;
}

#define write_text(w, literal) write_raw((w), SPAN(literal))

static inline void write_string(struct writer *w, struct span text)
{
    if (!w->failed && json_append_string_lossy(&w->out, text, NULL) != OK)
        w->failed = true;
}

static inline void write_number(struct writer *w, int64_t number)
{
    if (!w->failed && bytes_printf(&w->out, "%lld", (long long)number) != OK)
        w->failed = true;
}

/* A comma, unless this is the first of its object or array. */
static inline void write_comma(struct writer *w)
{
    if (!w->failed && w->out.len > 0) {
        uint8_t last = w->out.at[w->out.len - 1];
        if (last != '{' && last != '[')
            write_text(w, ",");
    }
}

/* "key": — behind a comma where one is needed; the key is escaped. */
static inline void write_key(struct writer *w, struct span key)
{
    write_comma(w);
    write_string(w, key);
    write_text(w, ":");
}

static inline void write_string_member(struct writer *w, const char *key, struct span text)
{
    if (text.at == NULL)
        return;
    write_key(w, span_str(key));
    write_string(w, text);
}

static inline void write_raw_member(struct writer *w, const char *key, struct span json)
{
    write_key(w, span_str(key));
    write_raw(w, json);
}

#endif

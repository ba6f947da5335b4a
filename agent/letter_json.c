/* letter_json: see letter_json.h. */
#include "agent/letter_json.h"

#include "lib/api/api.h"
#include "lib/codec/base64.h"
#include "lib/codec/json.h"
#include "lib/codec/rfc3339.h"
#include "lib/output/record_id.h"

/* Appends in a row; the first error stays. */
struct row {
    struct bytes *b;
    enum err err;
};

static void put(struct row *r, const char *text)
{
    if (r->err == OK)
        r->err = bytes_append(r->b, span_str(text));
}

static void put_string(struct row *r, const char *before, struct span text)
{
    put(r, before);
    if (r->err == OK)
        r->err = json_append_string(r->b, text);
}

static void put_number(struct row *r, const char *before, uint64_t n)
{
    put(r, before);
    if (r->err == OK)
        r->err = bytes_printf(r->b, "%llu", (unsigned long long)n);
}

static void put_moment(struct row *r, const char *before, uint64_t wall_ns)
{
    char when[RFC3339_TEXT + 1];
    size_t n = rfc3339_format_ms(instant_of_ns(wall_ns), when);
    put_string(r, before, span_of(when, n));
}

static void put_body(struct row *r, struct span body)
{
    put(r, ",\"event\":");
    if (r->err == OK)
        r->err = body_json_append(r->b, body);
    put(r, "}\n");
}

enum err body_json_append(struct bytes *b, struct span body)
{
    if (json_check(body, NULL, NULL) == OK)
        return json_compact(b, body);
    struct row r = {.b = b};
    put(&r, "{\"base64\":\"");
    if (r.err == OK)
        r.err = base64_append(b, body);
    put(&r, "\"}");
    return r.err;
}

enum err letter_json_append(struct bytes *b, const struct spool_letter *letter)
{
    size_t before = b->len;
    struct row r = {.b = b};
    put_number(&r, "{\"id\":", letter->letter_id);
    put_moment(&r, ",\"time\":", letter->wall_ns);
    put_string(&r, ",\"reason\":",
               letter->reason < DEAD_REASONS ? span_str(api_dead_names[letter->reason]) : SPAN("unknown"));
    put_number(&r, ",\"status\":", letter->status);
    put_string(&r, ",\"answer\":", letter->answer);
    put_string(&r, ",\"partition\":", letter->partition);
    put_number(&r, ",\"attempts\":", letter->attempts);
    put_body(&r, letter->body);
    if (r.err != OK)
        b->len = before;
    return r.err;
}

enum err item_json_append(struct bytes *b, const char *output, const struct spool_item *item)
{
    size_t before = b->len;
    struct row r = {.b = b};
    struct record_id id;
    if (record_id_get(item->id, &id) != OK)
        id = (struct record_id){0};
    put(&r, "{\"output\":");
    if (r.err == OK)
        r.err = json_append_string_lossy(b, span_str(output), NULL); /* the directory of a copy may have any name */
    put_number(&r, ",\"seq\":", item->seq);
    put_moment(&r, ",\"time\":", item->wall_ns);
    put_string(&r, ",\"partition\":", item->partition);
    put_string(&r, ",\"id\":", id.id);
    put_body(&r, item->body);
    if (r.err != OK)
        b->len = before;
    return r.err;
}

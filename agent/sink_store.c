/* sink_store: the development upstream's memory. See the header for the three questions it answers.
 *
 * The record (--out) is NDJSON, one line per event, taken or not, written out before the answer is sent: what
 * an agent was told was taken can be looked for there, even if the agent was killed in the meantime. */
#include "agent/sink_store.h"

#include "lib/base/ensure.h"
#include "lib/codec/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define LINE_BYTES_MAX (64u << 20)
#define TABLE_SLOTS_MAX ((size_t)1 << 26)

/* --- identities --------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 29;
    x *= UINT64_C(0xa0761d6478bd642f);
    return x ^ (x >> 32);
}

struct sink_hash sink_hash_of(struct sink_hash seed, struct span bytes)
{
    uint64_t a = seed.a ^ UINT64_C(0x9e3779b97f4a7c15), b = seed.b ^ UINT64_C(0xc2b2ae3d27d4eb4f), word;
    size_t i = 0;
    for (; i + 8 <= bytes.len; i += 8) {
        memcpy(&word, bytes.at + i, 8);
        a = mix(a ^ word);
        b = (b ^ word) * UINT64_C(0x9fb21c651e98df25);
        b ^= b >> 28;
    }
    word = 0;
    if (i < bytes.len)
        memcpy(&word, bytes.at + i, bytes.len - i);
    a = mix(a ^ word ^ bytes.len);
    b = mix(b ^ word ^ ((uint64_t)bytes.len << 32));
    /* The empty key marks a free slot. */
    return (struct sink_hash){a == 0 && b == 0 ? 1 : a, b};
}

static size_t table_slot(const struct sink_table *t, struct sink_hash key)
{
    size_t at = key.a & (t->capacity - 1);
    while ((t->slots[at].key.a != 0 || t->slots[at].key.b != 0) &&
           (t->slots[at].key.a != key.a || t->slots[at].key.b != key.b))
        at = (at + 1) & (t->capacity - 1);
    return at;
}

static void table_grow(struct sink_table *t)
{
    struct sink_table old = *t;
    t->capacity = old.capacity == 0 ? 1024 : old.capacity * 2;
    ensure(t->capacity <= TABLE_SLOTS_MAX);
    t->slots = must_alloc(t->capacity * sizeof *t->slots);
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.slots[i].key.a != 0 || old.slots[i].key.b != 0)
            t->slots[table_slot(t, old.slots[i].key)] = old.slots[i];
    }
    free(old.slots);
}

struct sink_hash *sink_table_find(const struct sink_table *t, struct sink_hash key)
{
    if (t->capacity == 0)
        return NULL;
    struct sink_table_slot *slot = &t->slots[table_slot(t, key)];
    return slot->key.a == 0 && slot->key.b == 0 ? NULL : &slot->value;
}

bool sink_table_put(struct sink_table *t, struct sink_hash key, struct sink_hash value, struct sink_hash **ret_slot)
{
    if (t->count * 4 >= t->capacity * 3)
        table_grow(t);
    struct sink_table_slot *slot = &t->slots[table_slot(t, key)];
    bool is_new = slot->key.a == 0 && slot->key.b == 0;
    if (is_new) {
        *slot = (struct sink_table_slot){key, value};
        t->count++;
    }
    if (ret_slot != NULL)
        *ret_slot = &slot->value;
    return is_new;
}

void sink_table_deinit(struct sink_table *t)
{
    free(t->slots);
    *t = (struct sink_table){0};
}

/* --- counts and violations ---------------------------------------------------------------------------- */

enum err sink_store_init(struct sink_store *s, const char *path, struct fault *why)
{
    *s = (struct sink_store){0};
    bytes_init(&s->line, LINE_BYTES_MAX);
    if (path == NULL)
        return OK;
    s->out = fopen(path, "ae");
    if (s->out == NULL)
        return fault_sys(why, errno, "open %s", path);
    return OK;
}

void sink_store_deinit(struct sink_store *s)
{
    if (s->out != NULL)
        fclose(s->out);
    bytes_deinit(&s->line);
    sink_table_deinit(&s->events);
    sink_table_deinit(&s->vendor);
    sink_table_deinit(&s->batches);
}

struct sink_counts *sink_store_counts(struct sink_store *s, const char *api)
{
    for (unsigned i = 0; i < s->api_count; i++) {
        if (strcmp(s->counts[i].api, api) == 0)
            return &s->counts[i];
    }
    ensure(s->api_count < SINK_APIS_MAX);
    s->counts[s->api_count].api = api;
    return &s->counts[s->api_count++];
}

void sink_store_violation(struct sink_store *s, const char *api, const char *what, const char *format, ...)
{
    struct sink_violation *v = NULL;
    va_list args;
    s->violations_total++;
    for (unsigned i = 0; i < s->violation_count && v == NULL; i++) {
        if (strcmp(s->violations[i].what, what) == 0 && strcmp(s->violations[i].api, api) == 0)
            v = &s->violations[i];
    }
    if (v == NULL) {
        if (s->violation_count == SINK_VIOLATIONS_MAX)
            return;
        v = &s->violations[s->violation_count++];
        v->api = api;
        snprintf(v->what, sizeof v->what, "%s", what);
    }
    v->count++;
    va_start(args, format);
    vsnprintf(v->last, sizeof v->last, format, args);
    va_end(args);
}

/* --- arrivals ----------------------------------------------------------------------------------------- */

static void append(struct bytes *b, struct span s)
{
    /* What does not fit (tens of MiB) is left out of a line for people; counts are not touched. */
    (void)!bytes_append(b, s);
}

static void member(struct bytes *b, const char *name, struct span value)
{
    if (value.at == NULL)
        return;
    (void)!bytes_printf(b, ",\"%s\":", name);
    (void)!json_append_string_lossy(b, value, NULL);
}

static void record(struct sink_store *s, const struct sink_seen *seen)
{
    struct bytes *b = &s->line;
    bytes_clear(b);
    (void)!bytes_printf(b, "{\"request\":%" PRIu64 ",\"index\":%u,\"api\":\"%s\",\"status\":%u,\"taken\":%s", seen->request,
                        seen->index, seen->api, seen->status, seen->taken ? "true" : "false");
    member(b, "partition", seen->partition);
    member(b, "id", seen->id);
    member(b, "batch", seen->batch);
    if (seen->opaque) {
        member(b, "opaque", seen->body);
    } else {
        append(b, SPAN(",\"event\":"));
        /* A line of NDJSON has no line breaks; in JSON text they can only stand between tokens. */
        size_t from = b->len;
        append(b, seen->body);
        for (size_t i = from; i < b->len; i++) {
            if (b->at[i] == '\n' || b->at[i] == '\r')
                b->at[i] = ' ';
        }
    }
    append(b, SPAN("}\n"));
    fwrite(b->at, 1, b->len, s->out);
}

void sink_store_event(struct sink_store *s, const struct sink_seen *seen)
{
    struct sink_counts *c = sink_store_counts(s, seen->api);
    struct sink_hash api = sink_hash_of((struct sink_hash){0}, span_str(seen->api));
    struct sink_hash content = sink_hash_of(api, seen->body);
    if (s->out != NULL)
        record(s, seen);
    if (!seen->taken)
        return;
    struct sink_hash *known;
    c->events++;
    if (sink_table_put(&s->events, seen->identity, content, &known)) {
        c->unique++;
    } else {
        c->repeated++;
        if (known->a != content.a || known->b != content.b)
            c->changed++;
        *known = content;
    }
    if (!seen->vendor_dedup || sink_table_put(&s->vendor, seen->vendor, content, NULL))
        c->processed++;
}

bool sink_store_batch(struct sink_store *s, const char *api, struct span partition, struct span batch, struct span bytes)
{
    struct sink_counts *c = sink_store_counts(s, api);
    struct sink_hash key = sink_hash_of(sink_hash_of(sink_hash_of((struct sink_hash){0}, span_str(api)), partition), batch);
    struct sink_hash content = sink_hash_of((struct sink_hash){0}, bytes), *known;
    c->batches++;
    if (sink_table_put(&s->batches, key, content, &known))
        return false;
    c->batches_repeated++;
    if (known->a != content.a || known->b != content.b)
        sink_store_violation(s, api, "same_id_other_bytes", "batch %.*s came back with other bytes (%zu now)",
                             SPAN_FMT(batch), bytes.len);
    return true;
}

enum err sink_store_flush(struct sink_store *s, struct fault *why)
{
    if (s->out == NULL || fflush(s->out) == 0)
        return OK;
    return fault_sys(why, errno, "write the record of events");
}

/* --- what it has to say ------------------------------------------------------------------------------- */

static struct sink_counts totals(const struct sink_store *s)
{
    struct sink_counts t = {.api = "all"};
    for (unsigned i = 0; i < s->api_count; i++) {
        const struct sink_counts *c = &s->counts[i];
        t.requests += c->requests;
        t.refused += c->refused;
        t.events += c->events;
        t.unique += c->unique;
        t.repeated += c->repeated;
        t.processed += c->processed;
        t.changed += c->changed;
        t.invalid += c->invalid;
        t.batches += c->batches;
        t.batches_repeated += c->batches_repeated;
        t.bytes_raw += c->bytes_raw;
        t.bytes_wire += c->bytes_wire;
        for (unsigned k = 0; k < 6; k++)
            t.by_status[k] += c->by_status[k];
    }
    return t;
}

static void stats_counts(const struct sink_counts *c, struct bytes *into)
{
    (void)!bytes_printf(into,
                        "\"requests\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"events\":%" PRIu64 ",\"unique\":%" PRIu64
                        ",\"repeated\":%" PRIu64 ",\"processed\":%" PRIu64 ",\"changed\":%" PRIu64 ",\"invalid\":%" PRIu64
                        ",\"batches\":%" PRIu64 ",\"batches_repeated\":%" PRIu64 ",\"bytes_raw\":%" PRIu64
                        ",\"bytes_wire\":%" PRIu64,
                        c->requests, c->refused, c->events, c->unique, c->repeated, c->processed, c->changed, c->invalid,
                        c->batches, c->batches_repeated, c->bytes_raw, c->bytes_wire);
    append(into, SPAN(",\"answers\":{"));
    bool first = true;
    for (unsigned k = 1; k < 6; k++) {
        if (c->by_status[k] > 0) {
            (void)!bytes_printf(into, "%s\"%uxx\":%" PRIu64, first ? "" : ",", k, c->by_status[k]);
            first = false;
        }
    }
    append(into, SPAN("}"));
}

void sink_store_stats(const struct sink_store *s, struct bytes *into)
{
    struct sink_counts t = totals(s);
    append(into, SPAN("{"));
    stats_counts(&t, into);
    (void)!bytes_printf(into, ",\"connections\":%" PRIu64 ",\"handshakes\":%" PRIu64 ",\"hangups\":%" PRIu64
                        ",\"violations_total\":%" PRIu64 ",\"violations\":[", s->connections, s->handshakes, s->hangups,
                        s->violations_total);
    for (unsigned i = 0; i < s->violation_count; i++) {
        const struct sink_violation *v = &s->violations[i];
        (void)!bytes_printf(into, "%s{\"api\":\"%s\",\"what\":\"%s\",\"count\":%" PRIu64 ",\"last\":", i == 0 ? "" : ",", v->api,
                            v->what, v->count);
        (void)!json_append_string_lossy(into, span_str(v->last), NULL);
        append(into, SPAN("}"));
    }
    append(into, SPAN("],\"apis\":{"));
    for (unsigned i = 0; i < s->api_count; i++) {
        (void)!bytes_printf(into, "%s\"%s\":{", i == 0 ? "" : ",", s->counts[i].api);
        stats_counts(&s->counts[i], into);
        append(into, SPAN("}"));
    }
    append(into, SPAN("}}\n"));
}

void sink_store_print(const struct sink_store *s, FILE *to)
{
    struct sink_counts t = totals(s);
    fprintf(to, "%" PRIu64 " requests, %" PRIu64 " events, %" PRIu64 " unique, %" PRIu64 " repeated, %" PRIu64 " violations\n",
            t.requests, t.events, t.unique, t.repeated, s->violations_total);
    for (unsigned i = 0; i < s->api_count; i++) {
        const struct sink_counts *c = &s->counts[i];
        fprintf(to, "  %-12s %" PRIu64 " requests (%" PRIu64 " refused), %" PRIu64 " events, %" PRIu64 " unique, %" PRIu64
                    " repeated, %" PRIu64 " processed\n",
                c->api, c->requests, c->refused, c->events, c->unique, c->repeated, c->processed);
    }
    for (unsigned i = 0; i < s->violation_count; i++)
        fprintf(to, "  violation: %s: %s (%" PRIu64 " times): %s\n", s->violations[i].api, s->violations[i].what,
                s->violations[i].count, s->violations[i].last);
}

/* msgpack_json: a value as JSON text. See msgpack_render() in msgpack.h.
 *
 * Tokens are rendered as they come, with a stack of the containers that are open. "A key twice: the last one
 * wins" would need a look ahead over the whole map; instead each member's place in the output is noted, and
 * when its map closes, which almost always is without a repeat, the earlier ones of a repeat are cut out
 * again. Keys are compared as they were rendered: the integer 1 and the string "1" are the same member. */
#include "lib/base/ensure.h"
#include "lib/codec/base64.h"
#include "lib/codec/json.h"
#include "lib/codec/msgpack.h"
#include "lib/codec/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAIRS_MAX = 65536, PAIRS_COMPARED = 12, NUMBER_TEXT = 40 };

/* A member in the output: from its key's opening quote to the end of its value. */
struct pair {
    size_t at, key_len, end;
    bool cut;
};

/* An open container. */
struct level {
    bool map;
    bool key_next;     /* in a map: the next token is a key */
    uint32_t left;     /* elements or pairs that have not begun */
    size_t pairs_from; /* its first pair in the renderer's list */
    size_t at;         /* its opening bracket in the output */
};

struct rendering {
    struct msgpack_renderer *r;
    struct bytes *out;
    struct fault *why;
    struct level levels[MSGPACK_DEPTH_MAX];
    unsigned depth;
};

void msgpack_renderer_init(struct msgpack_renderer *r, enum msgpack_times times)
{
    *r = (struct msgpack_renderer){.times = times};
    bytes_init(&r->pairs, PAIRS_MAX * sizeof(struct pair));
}

void msgpack_renderer_deinit(struct msgpack_renderer *r)
{
    bytes_deinit(&r->pairs);
}

static struct pair *pairs_of(struct msgpack_renderer *r)
{
    return (struct pair *)(void *)r->pairs.at; /* malloc aligned it */
}

static size_t pairs_count(const struct msgpack_renderer *r)
{
    return r->pairs.len / sizeof(struct pair);
}

/* Most bytes find room that is there already. */
static inline enum err put(struct bytes *out, uint8_t c)
{
    if (out->len == out->cap)
        return bytes_append_byte(out, c);
    out->at[out->len++] = c;
    return OK;
}

static enum err full(struct rendering *x, enum err err)
{
    return err == OK ? OK : fault_set(x->why, err, "larger than %zu bytes as JSON", x->out->max);
}

/* Shortest digits that read back the same, with a point or exponent, so that it stays a float. */
static size_t float_text(double f, bool single, char into[NUMBER_TEXT])
{
    int n = 0;
    for (int digits = single ? 6 : 15; digits <= (single ? 9 : 17); digits++) {
        n = snprintf(into, NUMBER_TEXT, "%.*g", digits, f);
        double back = strtod(into, NULL);
        if (single ? (float)back == (float)f : back == f)
            break;
    }
    if (strpbrk(into, ".e") == NULL)
        n += snprintf(into + n, NUMBER_TEXT - (size_t)n, ".0");
    return (size_t)n;
}

/* The JSON text of nil, a bool or a number. */
static struct span plain_text(const struct msgpack_token *t, char into[NUMBER_TEXT])
{
    int n = 0;
    switch (t->type) {
    case MSGPACK_BOOL:
        return t->truth ? SPAN("true") : SPAN("false");
    case MSGPACK_UINT:
        n = snprintf(into, NUMBER_TEXT, "%llu", (unsigned long long)t->u);
        break;
    case MSGPACK_INT:
        n = snprintf(into, NUMBER_TEXT, "%lld", (long long)t->i);
        break;
    case MSGPACK_FLOAT:
        if (!isfinite(t->f))
            return SPAN("null");
        return span_of(into, float_text(t->f, t->single, into));
    default:
        return SPAN("null");
    }
    return span_of(into, (size_t)n);
}

static enum err render_bin(struct rendering *x, struct span data)
{
    if (utf8_valid(data))
        return full(x, json_append_string(x->out, data));
    enum err err = bytes_append(x->out, SPAN("{\"$base64\":\""));
    if (err == OK)
        err = base64_append(x->out, data);
    if (err == OK)
        err = bytes_append(x->out, SPAN("\"}"));
    return full(x, err);
}

static enum err render_ext(struct rendering *x, const struct msgpack_token *t)
{
    struct instant when;
    char text[RFC3339_TEXT + 1];
    bool taken = x->r->times == MSGPACK_TIMES_FLUENT ? msgpack_read_event_time(t, &when)
                                                     : msgpack_read_timestamp(t, &when);
    if (!taken)
        return fault_set(x->why, ERR_UNSUPPORTED, "ext type %d of %zu bytes", t->ext_type, t->bytes.len);
    return full(x, json_append_string(x->out, span_of(text, rfc3339_format(when, text))));
}

static enum err render_scalar(struct rendering *x, const struct msgpack_token *t)
{
    char text[NUMBER_TEXT];
    switch (t->type) {
    case MSGPACK_STR:
        return full(x, json_append_string_lossy(x->out, t->bytes, &x->r->replaced));
    case MSGPACK_BIN:
        return render_bin(x, t->bytes);
    case MSGPACK_EXT:
        return render_ext(x, t);
    default:
        return full(x, bytes_append(x->out, plain_text(t, text)));
    }
}

/* A key with its colon; notes where the member begins. */
static enum err render_key(struct rendering *x, const struct msgpack_token *t)
{
    char text[NUMBER_TEXT];
    struct pair p = {.at = x->out->len};
    enum err err;
    switch (t->type) {
    case MSGPACK_STR:
    case MSGPACK_BIN:
        err = json_append_string_lossy(x->out, t->bytes, &x->r->replaced);
        x->r->found |= x->r->wanted.len > 0 && span_equal(t->bytes, x->r->wanted);
        break;
    case MSGPACK_EXT:
    case MSGPACK_ARRAY:
    case MSGPACK_MAP:
        return fault_set(x->why, ERR_UNSUPPORTED, "a map key that is an array, a map or an ext");
    default:
        err = json_append_string(x->out, plain_text(t, text));
    }
    p.key_len = x->out->len - p.at;
    if (err == OK)
        err = put(x->out, ':');
    if (err != OK)
        return full(x, err);
    if (bytes_append(&x->r->pairs, span_of(&p, sizeof p)) != OK)
        return fault_set(x->why, ERR_TOO_BIG, "more than %d members", PAIRS_MAX);
    return OK;
}

static int compare_keys(const struct bytes *out, const struct pair *a, const struct pair *b)
{
    if (a->key_len != b->key_len)
        return a->key_len < b->key_len ? -1 : 1;
    return memcmp(out->at + a->at, out->at + b->at, a->key_len);
}

struct sorting {
    const struct bytes *out;
    const struct pair *pairs;
};

/* By key, then by place. */
static int compare_indexes(const void *left, const void *right, void *ctx)
{
    const struct sorting *s = ctx;
    uint32_t a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    int order = compare_keys(s->out, &s->pairs[a], &s->pairs[b]);
    return order != 0 ? order : a < b ? -1 : 1;
}

/* Marks every member whose key comes again; true when there is one. Wide maps are sorted, so that no sender
 * can make this quadratic. */
static bool mark_repeated(const struct bytes *out, struct pair *pairs, size_t count)
{
    bool any = false;
    if (count <= PAIRS_COMPARED) {
        for (size_t i = 0; i + 1 < count; i++)
            for (size_t k = i + 1; k < count && !pairs[i].cut; k++)
                any |= pairs[i].cut = compare_keys(out, &pairs[i], &pairs[k]) == 0;
        return any;
    }
    uint32_t *order = must_alloc(count * sizeof *order);
    struct sorting s = {out, pairs};
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, count, sizeof *order, compare_indexes, &s);
    for (size_t i = 0; i + 1 < count; i++)
        if (compare_keys(out, &pairs[order[i]], &pairs[order[i + 1]]) == 0)
            any = pairs[order[i]].cut = true;
    free(order);
    return any;
}

/* Moves the members that stay together, with commas between them. */
static void cut_repeated(struct bytes *out, const struct level *l, const struct pair *pairs, size_t count)
{
    size_t to = l->at + 1;
    for (size_t i = 0; i < count; i++) {
        if (pairs[i].cut)
            continue;
        if (to > l->at + 1)
            out->at[to++] = ',';
        size_t len = pairs[i].end - pairs[i].at;
        memmove(out->at + to, out->at + pairs[i].at, len);
        to += len;
    }
    out->len = to;
}

static enum err close_container(struct rendering *x)
{
    struct level *l = &x->levels[x->depth - 1];
    if (l->map) {
        size_t count = pairs_count(x->r) - l->pairs_from;
        struct pair *pairs = count == 0 ? NULL : pairs_of(x->r) + l->pairs_from;
        if (count > 1 && mark_repeated(x->out, pairs, count))
            cut_repeated(x->out, l, pairs, count);
        x->r->pairs.len = l->pairs_from * sizeof(struct pair);
    }
    x->depth--;
    return full(x, put(x->out, l->map ? '}' : ']'));
}

static enum err open_container(struct rendering *x, const struct msgpack_token *t)
{
    if (x->depth == MSGPACK_DEPTH_MAX)
        return fault_set(x->why, ERR_TOO_BIG, "nested deeper than %d", MSGPACK_DEPTH_MAX);
    bool map = t->type == MSGPACK_MAP;
    x->levels[x->depth++] = (struct level){
        .map = map,
        .key_next = map,
        .left = t->count,
        .pairs_from = pairs_count(x->r),
        .at = x->out->len,
    };
    return full(x, put(x->out, map ? '{' : '['));
}

/* A value is complete: notes the end of its member, and closes what it was the last of. */
static enum err value_done(struct rendering *x)
{
    while (x->depth > 0) {
        struct level *l = &x->levels[x->depth - 1];
        if (l->map) {
            pairs_of(x->r)[pairs_count(x->r) - 1].end = x->out->len;
            l->key_next = true;
        }
        if (l->left > 0)
            return full(x, put(x->out, ','));
        enum err err = close_container(x);
        if (err != OK)
            return err;
    }
    return OK;
}

static enum err render_token(struct rendering *x, const struct msgpack_token *t)
{
    struct level *l = x->depth == 0 ? NULL : &x->levels[x->depth - 1];
    if (l != NULL && l->key_next) {
        l->left--;
        l->key_next = false;
        return render_key(x, t);
    }
    if (l != NULL && !l->map)
        l->left--;
    enum err err;
    if (t->type == MSGPACK_ARRAY || t->type == MSGPACK_MAP) {
        err = open_container(x, t);
        if (err == OK && t->count == 0)
            err = close_container(x);
        if (err != OK || t->count > 0)
            return err;
    } else if ((err = render_scalar(x, t)) != OK) {
        return err;
    }
    return value_done(x);
}

enum err msgpack_render(struct msgpack_renderer *r, struct span *in, struct bytes *out, struct fault *why)
{
    struct rendering x; /* its levels need no clearing: what is above depth is never read */
    struct msgpack_token t;
    struct span rest = *in;
    size_t before = out->len;
    uint64_t replaced_before = r->replaced;
    enum err err;
    x.r = r;
    x.out = out;
    x.why = why;
    x.depth = 0;
    bytes_clear(&r->pairs);
    do {
        err = msgpack_next(&rest, &t);
        if (err != OK) {
            fault_set(why, err, err == ERR_AGAIN ? "msgpack ends inside a value" : "broken msgpack");
            break;
        }
        err = render_token(&x, &t);
    } while (err == OK && x.depth > 0);
    if (err != OK) {
        out->len = before;
        r->replaced = replaced_before;
        return err;
    }
    *in = rest;
    return OK;
}

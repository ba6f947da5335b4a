/* forward: from bytes to messages. See forward.h; forward_entries.c goes on from messages to entries and
 * forward_auth.c holds the handshake. */
#include "lib/codec/forward.h"

#include "lib/base/ensure.h"
#include "lib/codec/forward_inner.h"
#include "lib/codec/utf8.h"

#include <stdlib.h>

enum { KEEP_BYTES = 8192, ARENA_BLOCK = 4096, PING_ELEMENTS = 6 };

/* Where a JSON message ends is a matter of brackets and quotes; what they enclose is checked when it is
 * whole. */
struct json_frame {
    size_t depth;
    bool in_string, escaped;
};

struct forward {
    struct forward_limits limits;
    struct decoder *decoder;
    bool json;
    bool begun;        /* inside a message */
    size_t bytes;      /* of this message */
    struct bytes held; /* this message's bytes from earlier pieces */
    struct bytes inflated;
    struct arena texts; /* unescaped tag and chunk of a JSON message */
    union {
        struct msgpack_frame msgpack;
        struct json_frame json;
    } frame;
};

enum forward_protocol forward_sniff(uint8_t first)
{
    switch (first) {
    case '{':
    case ' ':
    case '\t':
    case '\r':
    case '\n':
    case 0xef: /* a UTF-8 byte order mark */
        return FORWARD_IS_NDJSON;
    case '[':
        return FORWARD_IS_JSON;
    case 0x92: /* arrays of 2 to 4, */
    case 0x93:
    case 0x94:
    case 0x96: /* a PING that nobody asked for, */
    case 0xdc: /* arrays in their long forms, */
    case 0xdd:
    case 0xc0: /* a keep-alive */
        return FORWARD_IS_MSGPACK;
    default:
        return FORWARD_IS_UNKNOWN;
    }
}

const char *forward_refusal_name(enum forward_refusal refusal)
{
    static const char *const names[FORWARD_REFUSALS] = {
        [FORWARD_TAKEN] = "taken",
        [FORWARD_UNSUPPORTED_SIGNAL] = "unsupported_signal",
        [FORWARD_BAD_COMPRESSION] = "bad_compression",
        [FORWARD_BAD_TAG] = "bad_tag",
        [FORWARD_BAD_TIME] = "bad_time",
        [FORWARD_BAD_RECORD] = "bad_record",
        [FORWARD_BAD_ENTRY] = "bad_entry",
        [FORWARD_TOO_MANY] = "too_many_entries",
    };
    ensure(refusal < FORWARD_REFUSALS);
    return names[refusal];
}

struct forward *forward_new(const struct forward_limits *limits, struct decoder *decoder, bool json)
{
    struct forward *f = must_alloc(sizeof *f);
    f->limits = *limits;
    f->decoder = decoder;
    f->json = json;
    bytes_init(&f->held, limits->message_bytes_max);
    bytes_init(&f->inflated, limits->inflated_bytes_max);
    arena_init(&f->texts, ARENA_BLOCK, limits->message_bytes_max);
    return f;
}

void forward_free(struct forward *f)
{
    if (f == NULL)
        return;
    bytes_deinit(&f->held);
    bytes_deinit(&f->inflated);
    arena_deinit(&f->texts);
    free(f);
}

bool forward_unfinished(const struct forward *f)
{
    return f->begun;
}

size_t forward_held(const struct forward *f)
{
    return f->held.len + f->inflated.len;
}

/* The message that was given out last is done with. A large one's memory is not kept for the life of the
 * connection. */
void forward_release(struct forward *f)
{
    if (f->begun)
        return;
    if (f->held.cap > KEEP_BYTES)
        bytes_deinit(&f->held);
    if (f->inflated.cap > KEEP_BYTES)
        bytes_deinit(&f->inflated);
    bytes_clear(&f->held);
    bytes_clear(&f->inflated);
    arena_reset(&f->texts);
}

static void drop(struct span *piece, size_t n)
{
    *piece = span_of(piece->at + n, piece->len - n);
}

static bool is_separator(const struct forward *f, uint8_t c)
{
    if (f->json)
        return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == ',';
    return c == 0xc0; /* nil: a keep-alive */
}

static bool begins_message(const struct forward *f, uint8_t c)
{
    if (f->json)
        return c == '[';
    return (c & 0xf0) == 0x90 || c == 0xdc || c == 0xdd;
}

/* Moves to the first byte of a message and makes ready for it. */
static enum err begin(struct forward *f, struct span *piece, struct fault *why)
{
    forward_release(f);
    while (piece->len > 0 && is_separator(f, piece->at[0]))
        drop(piece, 1);
    if (piece->len == 0)
        return ERR_AGAIN;
    if (!begins_message(f, piece->at[0]))
        return fault_set(why, ERR_MALFORMED, "a message cannot begin with byte %02x", piece->at[0]);
    f->begun = true;
    f->bytes = 0;
    if (f->json)
        f->frame.json = (struct json_frame){0};
    else
        msgpack_frame_init(&f->frame.msgpack);
    return OK;
}

/* OK when the brackets that opened are closed again; moves *piece behind the last one. */
static enum err json_frame_feed(struct json_frame *j, struct span *piece)
{
    for (size_t i = 0; i < piece->len; i++) {
        uint8_t c = piece->at[i];
        if (j->in_string) {
            if (j->escaped)
                j->escaped = false;
            else if (c == '\\')
                j->escaped = true;
            else if (c == '"')
                j->in_string = false;
        } else if (c == '"') {
            j->in_string = true;
        } else if (c == '[' || c == '{') {
            j->depth++;
        } else if ((c == ']' || c == '}') && --j->depth == 0) {
            drop(piece, i + 1);
            return OK;
        }
    }
    drop(piece, piece->len);
    return ERR_AGAIN;
}

static enum err too_big(const struct forward *f, uint64_t claimed, struct fault *why)
{
    return fault_set(why, ERR_TOO_BIG, "a message of at least %llu bytes, where %zu are taken",
                     (unsigned long long)claimed, f->limits.message_bytes_max);
}

/* Takes what belongs to the message off the piece; *ret_taken is that part. */
static enum err take(struct forward *f, struct span *piece, struct span *ret_taken, struct fault *why)
{
    const uint8_t *from = piece->at;
    enum err err;
    if (f->json)
        err = json_frame_feed(&f->frame.json, piece);
    else
        err = msgpack_frame_feed(&f->frame.msgpack, piece, f->limits.message_bytes_max);
    *ret_taken = span_of(from, (size_t)(piece->at - from));
    f->bytes += ret_taken->len;
    if (err == ERR_MALFORMED)
        return fault_set(why, err, "broken msgpack");
    if (err == ERR_TOO_BIG && f->frame.msgpack.depth == MSGPACK_DEPTH_READABLE)
        return fault_set(why, err, "a message nested deeper than %d", MSGPACK_DEPTH_READABLE);
    if (err == ERR_TOO_BIG)
        return too_big(f, f->bytes + f->frame.msgpack.skip, why);
    if (f->bytes > f->limits.message_bytes_max)
        return too_big(f, f->bytes, why);
    return err;
}

/* The option's members that matter; values of other types than they should be are passed over. */
struct option {
    struct span compressed, metadata;
    uint64_t signal;
};

static bool is_bytes(const struct msgpack_token *t)
{
    return t->type == MSGPACK_STR || t->type == MSGPACK_BIN;
}

/* The value at the front of *in: its first token, and its bytes, which *in is moved behind. */
static enum err take_value(struct span *in, struct msgpack_token *ret_token, struct span *ret)
{
    struct span first = *in;
    enum err err = msgpack_next(&first, ret_token);
    return err == OK ? msgpack_skip(in, ret) : err;
}

static void note_option(struct forward_message *m, struct option *o, struct span key,
                        const struct msgpack_token *t, struct span value)
{
    if (span_is(key, "chunk") && is_bytes(t)) {
        m->has_chunk = true;
        m->chunk_is_bin = t->type == MSGPACK_BIN;
        m->chunk = t->bytes;
    } else if (span_is(key, "compressed") && is_bytes(t)) {
        o->compressed = t->bytes;
    } else if (span_is(key, "fluent_signal") && t->type == MSGPACK_UINT) {
        o->signal = t->u;
    } else if (span_is(key, "metadata") && t->type == MSGPACK_MAP && t->count > 0) {
        o->metadata = value;
    }
}

static enum err read_option(struct span in, struct forward_message *m, struct option *o)
{
    struct msgpack_token map, key, value;
    struct span bytes;
    enum err err = msgpack_next(&in, &map);
    if (err != OK || map.type != MSGPACK_MAP)
        return err;
    for (uint32_t i = 0; i < map.count; i++) {
        if ((err = take_value(&in, &key, NULL)) != OK || (err = take_value(&in, &value, &bytes)) != OK)
            return err;
        if (is_bytes(&key))
            note_option(m, o, key.bytes, &value, bytes);
    }
    return OK;
}

static enum err read_ping(struct span in, struct forward_ping *ret)
{
    struct span *const fields[PING_ELEMENTS - 1] = {&ret->hostname, &ret->salt, &ret->digest, &ret->username,
                                                    &ret->password};
    struct msgpack_token t;
    if (msgpack_next(&in, &t) != OK || !is_bytes(&t) || !span_is(t.bytes, "PING"))
        return ERR_MALFORMED;
    for (size_t i = 0; i < PING_ELEMENTS - 1; i++) {
        if (msgpack_next(&in, &t) != OK || !is_bytes(&t))
            return ERR_MALFORMED;
        *fields[i] = t.bytes;
    }
    return OK;
}

/* Packed entries may be compressed. Where the option and the first bytes disagree the bytes are believed. */
static enum err unpack(struct forward *f, struct forward_message *m, const struct option *o,
                       struct fault *why)
{
    enum encoding encoding = encoding_sniff(m->rest);
    bool named = o->compressed.len > 0 && !span_is(o->compressed, "text");
    if (named && !span_is(o->compressed, "gzip") && !span_is(o->compressed, "zstd")) {
        m->refusal = FORWARD_BAD_COMPRESSION;
        return OK;
    }
    if (encoding == ENCODING_IDENTITY) {
        if (named && m->rest.len > 0 && !begins_message(f, m->rest.at[0]))
            m->refusal = FORWARD_BAD_COMPRESSION;
        return OK;
    }
    m->mode = FORWARD_COMPRESSED;
    struct decode_limits limits = {.bytes_max = f->limits.inflated_bytes_max};
    enum err err = decoder_decode(f->decoder, encoding, m->rest, &limits, &f->inflated, why);
    if (err == ERR_TOO_BIG)
        return err;
    if (err != OK)
        m->refusal = FORWARD_BAD_COMPRESSION;
    m->rest = bytes_span(&f->inflated);
    return OK;
}

/* The second element decides the mode. */
static enum err read_body(struct span *in, uint32_t count, struct forward_message *m, uint32_t *ret_used)
{
    struct msgpack_token t;
    struct span value;
    enum err err = take_value(in, &t, &value);
    if (err != OK)
        return err;
    *ret_used = 2;
    if (t.type == MSGPACK_ARRAY) {
        m->mode = FORWARD_FORWARD;
        m->rest = value;
        return msgpack_next(&m->rest, &t); /* behind the array's header */
    }
    if (is_bytes(&t)) {
        m->mode = FORWARD_PACKED;
        m->rest = t.bytes;
        return OK;
    }
    m->mode = FORWARD_MESSAGE;
    m->time = value;
    if (count < 3)
        return OK;
    *ret_used = 3;
    return msgpack_skip(in, &m->record);
}

static enum err read_msgpack(struct forward *f, struct span in, struct forward_message *m, struct fault *why)
{
    struct msgpack_token t = {0};
    struct option o = {0};
    uint32_t used = 0;
    enum err err = msgpack_next(&in, &t);
    if (err == OK && t.count == PING_ELEMENTS) {
        m->kind = FORWARD_PING;
        err = read_ping(in, &m->ping);
        return err == OK ? OK : fault_set(why, err, "an array of %u that is no PING", t.count);
    }
    uint32_t count = t.count;
    if (err != OK || count < 2 || count > 4)
        return fault_set(why, ERR_MALFORMED, "an array of %u is no message", count);
    err = take_value(&in, &t, NULL);
    if (err == OK && is_bytes(&t))
        m->tag = t.bytes;
    if (err == OK)
        err = read_body(&in, count, m, &used);
    if (err == OK && used < count)
        err = read_option(in, m, &o);
    if (err != OK)
        return fault_set(why, ERR_MALFORMED, "broken msgpack");
    if (m->mode == FORWARD_MESSAGE)
        m->metadata = o.metadata;
    if (o.signal != 0)
        m->refusal = FORWARD_UNSUPPORTED_SIGNAL;
    return m->mode == FORWARD_PACKED ? unpack(f, m, &o, why) : OK;
}

static enum err keep_text(struct forward *f, const struct json_value *v, struct span *ret)
{
    return v->type == JSON_STRING ? json_decode_string(&f->texts, v, ret) : OK;
}

static enum err read_json_option(struct forward *f, struct json_reader *r, struct forward_message *m,
                                 struct option *o)
{
    struct json_key key;
    struct json_value v;
    enum err err = json_enter_object(r);
    if (err == ERR_UNSUPPORTED)
        return forward_pass_json(json_read_value(r, &v));
    while (err == OK && (err = json_next_member(r, &key)) == OK) {
        if ((err = forward_pass_json(json_read_value(r, &v))) != OK)
            break;
        if (json_key_is(&key, "chunk") && v.type == JSON_STRING) {
            m->has_chunk = true;
            err = keep_text(f, &v, &m->chunk);
        } else if (json_key_is(&key, "fluent_signal") && v.type == JSON_NUMBER) {
            o->signal = json_uint64(v.text, &o->signal) ? o->signal : 1;
        } else if (json_key_is(&key, "metadata") && v.type == JSON_OBJECT) {
            o->metadata = v.text;
        }
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* The second element, and in Message mode the record behind it. */
static enum err read_json_body(struct json_reader *r, struct forward_message *m)
{
    struct json_value v;
    enum err err = json_next_element(r);
    if (err == OK)
        err = forward_pass_json(json_read_value(r, &v));
    if (err != OK)
        return err;
    if (v.type == JSON_ARRAY) {
        m->mode = FORWARD_FORWARD;
        json_reader_init(&m->reader, v.text);
        return json_enter_array(&m->reader);
    }
    if (v.type == JSON_STRING) { /* JSON has no bytes to pack entries into */
        m->mode = FORWARD_PACKED;
        m->refusal = FORWARD_BAD_ENTRY;
        return OK;
    }
    m->time = v.text;
    if ((err = json_next_element(r)) != OK)
        return err;
    if ((err = forward_pass_json(json_read_value(r, &v))) == OK)
        m->record = v.text;
    return err;
}

static enum err read_json(struct forward *f, struct span text, struct forward_message *m, struct fault *why)
{
    struct json_reader r;
    struct json_value v;
    struct option o = {0};
    json_reader_init(&r, text);
    enum err err = json_enter_array(&r);
    if (err == OK && (err = json_next_element(&r)) == OK &&
        (err = forward_pass_json(json_read_value(&r, &v))) == OK && (err = keep_text(f, &v, &m->tag)) == OK &&
        (err = read_json_body(&r, m)) == OK && (err = json_next_element(&r)) == OK &&
        (err = read_json_option(f, &r, m, &o)) == OK)
        err = json_next_element(&r);
    /* It ends where the array ends, after two elements at the earliest and four at the latest. */
    if (err == ERR_NOT_FOUND && (m->time.len > 0 || m->mode != FORWARD_MESSAGE))
        err = json_finish(&r);
    else if (err != ERR_MALFORMED)
        return fault_set(why, ERR_MALFORMED, "a JSON array that is no message");
    if (err != OK)
        return json_fault(&r, err, why);
    if (m->mode == FORWARD_MESSAGE)
        m->metadata = o.metadata;
    if (o.signal != 0)
        m->refusal = FORWARD_UNSUPPORTED_SIGNAL;
    return OK;
}

static enum err read_message(struct forward *f, struct span whole, struct forward_message *m,
                             struct fault *why)
{
    *m = (struct forward_message){.json = f->json, .bytes = whole.len, .entries_max = f->limits.entries_max};
    enum err err = f->json ? read_json(f, whole, m, why) : read_msgpack(f, whole, m, why);
    if (err != OK || m->kind == FORWARD_PING)
        return err;
    if (m->chunk.len > FORWARD_CHUNK_MAX)
        return fault_set(why, ERR_TOO_BIG, "a chunk id of %zu bytes, where %d are taken", m->chunk.len,
                         FORWARD_CHUNK_MAX);
    if (m->refusal == FORWARD_TAKEN &&
        (m->tag.len == 0 || m->tag.len > FORWARD_TAG_MAX || !utf8_valid(m->tag)))
        m->refusal = FORWARD_BAD_TAG;
    return OK;
}

enum err forward_feed(struct forward *f, struct span *piece, struct forward_message *ret, struct fault *why)
{
    struct span whole;
    enum err err = f->begun ? OK : begin(f, piece, why);
    if (err != OK)
        return err;
    err = take(f, piece, &whole, why);
    if (err != OK && err != ERR_AGAIN)
        return err;
    if (err == ERR_AGAIN || f->held.len > 0) {
        ensure(bytes_append_piece(&f->held, whole) == OK); /* take() has checked the sum */
        whole = bytes_span(&f->held);
    }
    if (err == ERR_AGAIN)
        return err;
    f->begun = false;
    return read_message(f, whole, ret, why);
}

enum err forward_append_ack(bool json, struct span chunk, bool chunk_is_bin, struct bytes *out)
{
    size_t before = out->len;
    enum err err;
    if (json) {
        err = bytes_append(out, SPAN("{\"ack\":"));
        if (err == OK)
            err = json_append_string(out, chunk);
        if (err == OK)
            err = bytes_append_byte(out, '}');
    } else {
        err = forward_write_ack(chunk, chunk_is_bin, out);
    }
    if (err != OK)
        out->len = before;
    return err;
}

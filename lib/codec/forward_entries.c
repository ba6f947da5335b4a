/* forward_entries: from messages to entries, and from entries to what becomes an event. See forward.h.
 *
 * An entry is [time, record], or since version 1.5 [[time, metadata], record]; a message in Message mode is
 * one entry spread over its own array. Whatever is wrong with an entry is its own affair: it is handed out
 * with a refusal, and the next one is read. Only in packed entries, whose framing no outer array vouches for,
 * a broken one ends them. */
#include "lib/base/ensure.h"
#include "lib/codec/forward_inner.h"

/* Whole seconds. Zero means that the sender had no time. */
static enum forward_refusal set_seconds(struct forward_entry *e, uint64_t sec)
{
    if (sec > (uint64_t)INSTANT_SEC_MAX)
        return FORWARD_BAD_TIME;
    e->time.sec = (int64_t)sec;
    e->now = sec == 0 && e->time.nsec == 0;
    return FORWARD_TAKEN;
}

static enum forward_refusal set_float(struct forward_entry *e, double sec)
{
    if (!(sec >= 0 && sec < (double)INSTANT_SEC_MAX)) /* also what is no number */
        return FORWARD_BAD_TIME;
    uint64_t whole = (uint64_t)sec;
    uint32_t nsec = (uint32_t)((sec - (double)whole) * 1e9 + 0.5);
    e->time.nsec = nsec > 999999999 ? 999999999 : nsec;
    return set_seconds(e, whole);
}

static enum forward_refusal set_event_time(struct forward_entry *e, const struct msgpack_token *t)
{
    struct instant when;
    if (!msgpack_read_event_time(t, &when))
        return FORWARD_BAD_TIME;
    e->time.nsec = when.nsec;
    return set_seconds(e, (uint64_t)when.sec);
}

static enum forward_refusal set_time(struct forward_entry *e, const struct msgpack_token *t)
{
    switch (t->type) {
    case MSGPACK_NIL:
        e->now = true;
        return FORWARD_TAKEN;
    case MSGPACK_UINT:
        return set_seconds(e, t->u);
    case MSGPACK_INT: /* some clients write an int32, which overflows in 2038 */
        return t->i >= INT32_MIN ? set_seconds(e, (uint32_t)t->i) : FORWARD_BAD_TIME;
    case MSGPACK_FLOAT:
        return set_float(e, t->f);
    case MSGPACK_EXT:
        return set_event_time(e, t);
    default:
        return FORWARD_BAD_TIME;
    }
}

/* A whole value: its first byte tells. */
static bool is_map(struct span value)
{
    return value.len > 0 && ((value.at[0] & 0xf0) == 0x80 || value.at[0] == 0xde || value.at[0] == 0xdf);
}

static enum forward_refusal set_record(struct forward_entry *e, struct span record)
{
    if (!is_map(record))
        return FORWARD_BAD_RECORD;
    e->record = record;
    return FORWARD_TAKEN;
}

/* The time, or [time, metadata]. */
static enum forward_refusal read_time(struct forward_entry *e, struct span value)
{
    struct msgpack_token t;
    if (msgpack_next(&value, &t) != OK)
        return FORWARD_BAD_TIME;
    if (t.type != MSGPACK_ARRAY)
        return set_time(e, &t);
    struct span time, metadata, first;
    if (t.count != 2 || msgpack_skip(&value, &time) != OK || msgpack_skip(&value, &metadata) != OK)
        return FORWARD_BAD_TIME;
    first = metadata;
    if (msgpack_next(&first, &t) == OK && t.type == MSGPACK_MAP && t.count > 0)
        e->metadata = metadata;
    return msgpack_next(&time, &t) == OK ? set_time(e, &t) : FORWARD_BAD_TIME;
}

/* A whole value that may be an entry. */
static enum forward_refusal read_entry(struct forward_entry *e, struct span in)
{
    struct msgpack_token t;
    struct span time;
    if (msgpack_next(&in, &t) != OK || t.type != MSGPACK_ARRAY || t.count != 2 || msgpack_skip(&in, &time) != OK)
        return FORWARD_BAD_ENTRY;
    enum forward_refusal refusal = read_time(e, time);
    return refusal == FORWARD_TAKEN ? set_record(e, in) : refusal;
}

/* Takes an entry off *in; false when it cannot be told where it ends. */
static bool take_entry(struct forward_entry *e, struct span *in)
{
    struct msgpack_token array, time;
    struct span rest = *in, value;
    /* Nearly all have a time of one token: these are walked through once. */
    if (msgpack_next(&rest, &array) == OK && array.type == MSGPACK_ARRAY && array.count == 2 &&
        msgpack_next(&rest, &time) == OK && time.type != MSGPACK_ARRAY && time.type != MSGPACK_MAP &&
        msgpack_skip(&rest, &value) == OK) {
        *in = rest;
        e->refusal = set_time(e, &time);
        if (e->refusal == FORWARD_TAKEN)
            e->refusal = set_record(e, value);
        return true;
    }
    if (msgpack_skip(in, &value) != OK)
        return false;
    e->refusal = read_entry(e, value);
    return true;
}

/* Message mode: the parts lie in the message itself. */
static enum forward_refusal read_single(struct forward_message *m, struct forward_entry *e)
{
    m->ended = true;
    e->metadata = m->metadata;
    enum forward_refusal refusal = read_time(e, m->time);
    return refusal == FORWARD_TAKEN ? set_record(e, m->record) : refusal;
}

/* --- the same in JSON ---------------------------------------------------------------------------------- */

static enum forward_refusal set_json_time(struct forward_entry *e, const struct json_value *v)
{
    int64_t sec;
    double fine;
    if (v->type == JSON_NULL) {
        e->now = true;
        return FORWARD_TAKEN;
    }
    if (v->type != JSON_NUMBER)
        return FORWARD_BAD_TIME;
    if (json_int64(v->text, &sec)) {
        if (sec < INT32_MIN)
            return FORWARD_BAD_TIME;
        return set_seconds(e, sec < 0 ? (uint32_t)sec : (uint64_t)sec);
    }
    if (epoch_parse(v->text, &e->time)) /* decimals, exactly */
        return FORWARD_TAKEN;
    return json_double(v->text, &fine) ? set_float(e, fine) : FORWARD_BAD_TIME;
}

static enum forward_refusal read_json_time(struct forward_entry *e, struct span text)
{
    struct json_reader r;
    struct json_value v, time;
    json_reader_init(&r, text);
    if (forward_pass_json(json_read_value(&r, &v)) != OK)
        return FORWARD_BAD_TIME;
    if (v.type != JSON_ARRAY)
        return set_json_time(e, &v);
    json_reader_init(&r, text);
    if (json_enter_array(&r) != OK || json_next_element(&r) != OK ||
        forward_pass_json(json_read_value(&r, &time)) != OK || json_next_element(&r) != OK ||
        forward_pass_json(json_read_value(&r, &v)) != OK || json_next_element(&r) != ERR_NOT_FOUND)
        return FORWARD_BAD_TIME;
    if (v.type == JSON_OBJECT)
        e->metadata = v.text;
    return set_json_time(e, &time);
}

static enum forward_refusal set_json_record(struct forward_entry *e, struct span text)
{
    if (text.len == 0 || text.at[0] != '{')
        return FORWARD_BAD_RECORD;
    e->record = text;
    return FORWARD_TAKEN;
}

static enum forward_refusal read_json_single(struct forward_message *m, struct forward_entry *e)
{
    m->ended = true;
    e->metadata = m->metadata;
    enum forward_refusal refusal = read_json_time(e, m->time);
    return refusal == FORWARD_TAKEN ? set_json_record(e, m->record) : refusal;
}

static enum forward_refusal read_json_entry(struct forward_entry *e, struct span text)
{
    struct json_reader r;
    struct json_value time, record;
    json_reader_init(&r, text);
    if (json_enter_array(&r) != OK || json_next_element(&r) != OK ||
        forward_pass_json(json_read_value(&r, &time)) != OK || json_next_element(&r) != OK ||
        forward_pass_json(json_read_value(&r, &record)) != OK || json_next_element(&r) != ERR_NOT_FOUND)
        return FORWARD_BAD_ENTRY;
    enum forward_refusal refusal = read_json_time(e, time.text);
    return refusal == FORWARD_TAKEN ? set_json_record(e, record.text) : refusal;
}

/* --- the iterator ----------------------------------------------------------------------------------------
 */

static enum err next_json(struct forward_message *m, struct forward_entry *e)
{
    struct json_value v;
    if (m->mode == FORWARD_MESSAGE) {
        e->refusal = read_json_single(m, e);
        return OK;
    }
    if (json_next_element(&m->reader) != OK)
        return ERR_NOT_FOUND;
    /* The message was read as a whole before: it cannot break here. */
    ensure(forward_pass_json(json_read_value(&m->reader, &v)) == OK);
    e->refusal = read_json_entry(e, v.text);
    return OK;
}

static enum err next_msgpack(struct forward_message *m, struct forward_entry *e)
{
    if (m->mode == FORWARD_MESSAGE) {
        e->refusal = read_single(m, e);
        return OK;
    }
    if (m->rest.len == 0)
        return ERR_NOT_FOUND;
    if (!take_entry(e, &m->rest)) {
        m->ended = true;
        e->refusal = FORWARD_BAD_ENTRY;
    }
    return OK;
}

/* Entries that cannot be told apart count as one. */
static bool unreadable(const struct forward_message *m)
{
    return m->refusal == FORWARD_BAD_COMPRESSION || (m->json && m->mode == FORWARD_PACKED);
}

enum err forward_next_entry(struct forward_message *m, struct forward_entry *ret)
{
    ensure(m->kind == FORWARD_EVENTS);
    if (m->ended)
        return ERR_NOT_FOUND;
    *ret = (struct forward_entry){.index = m->index, .json = m->json};
    if (unreadable(m)) {
        m->ended = true;
    } else if ((m->json ? next_json(m, ret) : next_msgpack(m, ret)) != OK) {
        m->ended = true;
        return ERR_NOT_FOUND;
    }
    if (m->refusal != FORWARD_TAKEN)
        ret->refusal = m->refusal;
    else if (m->index >= m->entries_max)
        ret->refusal = FORWARD_TOO_MANY;
    m->index++;
    return OK;
}

/* --- rendering --------------------------------------------------------------------------------------------
 */

static enum err render_part(struct msgpack_renderer *r, bool json, struct span part, struct bytes *out,
                            struct fault *why)
{
    if (!json)
        return msgpack_render(r, &part, out, why);
    struct json_value v;
    enum err err = json_check(part, &v, why);
    if (err != OK)
        return err;
    err = json_append_compact(out, &v);
    return err == OK ? OK : fault_set(why, err, "larger than %zu bytes", out->max);
}

static bool has_meta(struct span object)
{
    struct json_reader r;
    struct json_key key;
    struct json_value v;
    json_reader_init(&r, object);
    if (json_enter_object(&r) != OK)
        return false;
    while (json_next_member(&r, &key) == OK) {
        if (json_key_is(&key, "_meta"))
            return true;
        if (forward_pass_json(json_read_value(&r, &v)) != OK)
            break;
    }
    return false;
}

/* Puts the metadata into the object that ends `out`, before its closing brace. */
static enum err add_metadata(struct msgpack_renderer *r, const struct forward_entry *e, size_t object_at,
                             struct bytes *out, struct fault *why)
{
    struct span object = span_of(out->at + object_at, out->len - object_at);
    if (has_meta(object)) /* the sender's own field of that name is not overwritten */
        return OK;
    out->len--;
    enum err err = bytes_append(out, object.len > 2 ? SPAN(",\"_meta\":") : SPAN("\"_meta\":"));
    if (err == OK)
        err = render_part(r, e->json, e->metadata, out, why);
    else
        return fault_set(why, err, "larger than %zu bytes", out->max);
    if (err == OK && (err = bytes_append_byte(out, '}')) != OK)
        return fault_set(why, err, "larger than %zu bytes", out->max);
    return err;
}

/* In JSON "{}" may be written with spaces; in msgpack an empty map never becomes an entry's metadata. */
static bool worth_keeping(const struct forward_entry *e)
{
    if (!e->json || e->metadata.len == 0)
        return e->metadata.len > 0;
    for (size_t i = 1; i + 1 < e->metadata.len; i++)
        if (e->metadata.at[i] > ' ')
            return true;
    return false;
}

enum err forward_render_data(struct msgpack_renderer *r, const struct forward_entry *entry, struct bytes *out,
                             struct fault *why)
{
    ensure(entry->refusal == FORWARD_TAKEN);
    size_t before = out->len;
    enum err err = render_part(r, entry->json, entry->record, out, why);
    if (err == OK && worth_keeping(entry)) {
        err = add_metadata(r, entry, before, out, why);
        if (err == OK) /* it lies one level deeper now */
            err = json_check(span_of(out->at + before, out->len - before), NULL, why);
    }
    if (err != OK)
        out->len = before;
    return err;
}

/* What all ids of a message have in common, once. */
static void make_id(struct forward_message *m)
{
    /* A name space of our own, drawn once. */
    static const struct uuid space = {
        {0x5d, 0x0c, 0x5e, 0x1c, 0x0a, 0x4f, 0x4b, 0x9e, 0x9b, 0x6d, 0x3e, 0x2f, 0x71, 0xc4, 0x88, 0x1a}};
    /* With the tag's length in front, no two different messages make the same name. */
    uint8_t length[8];
    for (unsigned i = 0; i < sizeof length; i++)
        length[i] = (uint8_t)((uint64_t)m->tag.len >> (56 - 8 * i));
    struct span parts[] = {span_of(length, sizeof length), m->tag, m->chunk};
    struct uuid id = uuid5_make(&space, parts, 3);
    uuid_format(&id, m->id);
    m->id[14] = '8'; /* the version's digit */
    memset(m->id + UUID_TEXT - 8, '0', 8); /* the index's */
}

void forward_event_id(struct forward_message *m, size_t index, char ret[UUID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    ensure(index <= UINT32_MAX);
    if (m->id[0] == '\0')
        make_id(m);
    memcpy(ret, m->id, UUID_TEXT);
    for (char *at = ret + UUID_TEXT; index > 0; index >>= 4)
        *--at = digits[index & 15];
}

/* cloudevents: the JSON forms; see cloudevents.h. Bodies of many are in cloudevents_body.c, binary mode in
 * cloudevents_binary.c.
 *
 * An object is scanned once by the JSON reader, which also lists its members; then each member goes through
 * take_member(), which sorts it by name, and complete() makes what was left out. */
#include "lib/event/cloudevents.h"

#include "lib/base/clock.h"
#include "lib/base/ensure.h"
#include "lib/base/hash.h"
#include "lib/codec/json.h"
#include "lib/event/attribute.h"
#include "lib/event/event_parts.h"

enum { MEMBERS_MAX = EVENT_EXTENSIONS_MAX + 16 };

enum known {
    KNOWN_ID,
    KNOWN_SOURCE,
    KNOWN_TYPE,
    KNOWN_SPECVERSION,
    KNOWN_SUBJECT,
    KNOWN_TIME,
    KNOWN_DATACONTENTTYPE,
    KNOWN_DATASCHEMA,
    KNOWN_SAMPLEDRATE,
    KNOWN_DATA,
    KNOWN_DATA_BASE64,
    NOT_KNOWN,
};

#define BIT(known) (1u << (known))

/* One event on its way from members to struct event. Refusals are ERR_UNSUPPORTED in here, so that they are
 * told from a text that is no JSON (ERR_MALFORMED) and from a full arena (ERR_TOO_BIG). */
struct scan {
    struct event_reading *in;
    struct event *e;
    struct fault *why;
    unsigned seen, nulls; /* BITs */
    unsigned ext_count;
    struct event_ext ext[EVENT_EXTENSIONS_MAX];
};

/* The extensions need no clearing. */
static void scan_init(struct scan *s, struct event_reading *in, struct event *e, struct fault *why)
{
    s->in = in;
    s->e = e;
    s->why = why;
    s->seen = s->nulls = s->ext_count = 0;
}

static enum known which(struct span key)
{
#define IS(literal, known) (memcmp(key.at, literal, sizeof(literal) - 1) == 0 ? (known) : NOT_KNOWN)
    switch (key.len) {
    case 2:
        return IS("id", KNOWN_ID);
    case 4:
        if (key.at[0] == 'd')
            return IS("data", KNOWN_DATA);
        return key.at[1] == 'y' ? IS("type", KNOWN_TYPE) : IS("time", KNOWN_TIME);
    case 6:
        return IS("source", KNOWN_SOURCE);
    case 7:
        return IS("subject", KNOWN_SUBJECT);
    case 10:
        return IS("dataschema", KNOWN_DATASCHEMA);
    case 11:
        if (key.at[0] == 'd')
            return IS("data_base64", KNOWN_DATA_BASE64);
        return key.at[1] == 'p' ? IS("specversion", KNOWN_SPECVERSION) : IS("sampledrate", KNOWN_SAMPLEDRATE);
    case 15:
        return IS("datacontenttype", KNOWN_DATACONTENTTYPE);
    default:
        return NOT_KNOWN;
    }
#undef IS
}

static enum err refuse(struct scan *s, struct span name, const char *what)
{
    int len = name.len > 40 ? 40 : (int)name.len;
    return fault_set(s->why, ERR_UNSUPPORTED, "%.*s: %s", len, (const char *)name.at, what);
}

enum err event_arena_full(struct fault *why)
{
    return fault_set(why, ERR_TOO_BIG, "the request's events need more memory than a request may have");
}

/* Whatever is not as most texts are: unescaped, looked at byte by byte, or refused. */
static enum err take_odd_text(struct scan *s, struct span name, const struct json_value *v, bool may_be_empty,
                              struct span *ret)
{
    struct span text;
    if (v->type != JSON_STRING)
        return refuse(s, name, "must be a string");
    if (json_decode_string(s->in->arena, v, &text) != OK)
        return event_arena_full(s->why);
    if (text.len == 0 && !may_be_empty)
        return refuse(s, name, "must not be empty");
    const char *fault = attribute_text_fault(text);
    if (fault != NULL)
        return refuse(s, name, fault);
    *ret = text;
    return OK;
}

/* The text of a string attribute, checked. What the reader does not call odd has only printable characters. */
static inline enum err take_text(struct scan *s, struct span name, const struct json_value *v,
                                 bool may_be_empty, struct span *ret)
{
    struct span text = json_raw_string(v);
    if (v->type != JSON_STRING || v->odd || text.len == 0 || text.len > EVENT_ATTRIBUTE_MAX)
        return take_odd_text(s, name, v, may_be_empty, ret);
    *ret = text;
    return OK;
}

static enum err take_specversion(struct scan *s, const struct json_value *v)
{
    if (!span_is(v->text, "\"1.0\"") && !json_string_is(v, "1.0"))
        return refuse(s, SPAN("specversion"), "must be \"1.0\"");
    s->e->specversion_given = true;
    return OK;
}

static enum err take_time(struct scan *s, const struct json_value *v)
{
    enum err err = take_text(s, SPAN("time"), v, false, &s->e->time);
    if (err != OK)
        return err;
    if (!rfc3339_parse(s->e->time, &s->e->time_at))
        return refuse(s, SPAN("time"), "not an RFC 3339 timestamp");
    s->e->time_given = true;
    return OK;
}

static enum err take_uri(struct scan *s, struct span name, const struct json_value *v, bool absolute,
                         struct span *ret)
{
    enum err err = take_text(s, name, v, false, ret);
    if (err != OK)
        return err;
    const char *fault = attribute_uri_fault(*ret, absolute);
    return fault == NULL ? OK : refuse(s, name, fault);
}

static enum err take_content_type(struct scan *s, const struct json_value *v)
{
    enum err err = take_text(s, SPAN("datacontenttype"), v, false, &s->e->datacontenttype);
    if (err == OK && !attribute_type_ok(s->e->datacontenttype))
        return refuse(s, SPAN("datacontenttype"), "not a media type");
    return err;
}

static enum err take_sampledrate(struct scan *s, const struct json_value *v)
{
    int64_t rate;
    if (v->type != JSON_NUMBER || !json_is_integer(v->text) || !json_int64(v->text, &rate) || rate < 1 ||
        rate > INT32_MAX)
        return refuse(s, SPAN("sampledrate"), "must be a whole number from 1 to 2147483647");
    s->e->sampledrate = (uint32_t)rate;
    s->e->sampledrate_given = true;
    return OK;
}

static enum err take_data(struct scan *s, const struct json_value *v)
{
    static const enum event_data kinds[] = {
        [JSON_NULL] = EVENT_DATA_NULL,     [JSON_FALSE] = EVENT_DATA_BOOL,    [JSON_TRUE] = EVENT_DATA_BOOL,
        [JSON_NUMBER] = EVENT_DATA_NUMBER, [JSON_STRING] = EVENT_DATA_STRING, [JSON_ARRAY] = EVENT_DATA_ARRAY,
        [JSON_OBJECT] = EVENT_DATA_OBJECT,
    };
    s->e->data_kind = kinds[v->type];
    s->e->data = v->text;
    s->e->data_spaced = v->spaced;
    return OK;
}

static enum err take_base64(struct scan *s, const struct json_value *v)
{
    struct span text;
    if (v->type != JSON_STRING)
        return refuse(s, SPAN("data_base64"), "must be a string");
    if (json_decode_string(s->in->arena, v, &text) != OK)
        return event_arena_full(s->why);
    if (!attribute_base64_ok(text))
        return refuse(s, SPAN("data_base64"), "not base64");
    s->e->data_kind = EVENT_DATA_BASE64;
    s->e->data = text;
    return OK;
}

static enum err take_extension(struct scan *s, struct span name, const struct json_value *v)
{
    if (!attribute_name_ok(name))
        return refuse(s, name, "not an attribute name (only a-z and 0-9)");
    for (unsigned i = 0; i < s->ext_count; i++)
        if (span_equal(s->ext[i].name, name))
            return refuse(s, name, "appears twice");
    if (s->ext_count == EVENT_EXTENSIONS_MAX)
        return refuse(s, name, "more than 64 extension attributes");
    struct event_ext *ext = &s->ext[s->ext_count];
    *ext = (struct event_ext){.name = name, .value = v->text, .type = EVENT_EXT_STRING};
    enum err err = OK;
    int64_t number;
    switch (v->type) {
    case JSON_NULL: /* the same as absent; only a second one would be wrong */
        break;
    case JSON_STRING:
        err = take_text(s, name, v, true, &ext->value);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        ext->type = EVENT_EXT_BOOL;
        break;
    case JSON_NUMBER:
        ext->type = EVENT_EXT_INTEGER;
        if (!json_is_integer(v->text) || !json_int64(v->text, &number) || number < INT32_MIN ||
            number > INT32_MAX)
            err = refuse(s, name, "must be a whole number of 32 bits");
        break;
    default:
        err = refuse(s, name, "must be a string, a whole number, true or false");
    }
    if (err != OK)
        return err;
    const char *fault = v->type == JSON_NULL ? NULL : attribute_extension_fault(ext);
    if (fault != NULL)
        return refuse(s, name, fault);
    if (v->type == JSON_NULL)
        ext->value.at = NULL; /* complete() leaves it out */
    s->ext_count++;
    return OK;
}

static enum err take_member(struct scan *s, const struct json_member *m)
{
    struct span key = m->key.text;
    if (m->key.escaped && json_decode_key(s->in->arena, &m->key, &key) != OK)
        return event_arena_full(s->why);
    enum known known = which(key);
    if (known == NOT_KNOWN)
        return take_extension(s, key, &m->value);
    if ((s->seen & BIT(known)) != 0)
        return refuse(s, key, "appears twice");
    s->seen |= BIT(known);
    if (m->value.type == JSON_NULL && known != KNOWN_DATA) {
        s->nulls |= BIT(known);
        return OK;
    }
    switch (known) {
    case KNOWN_ID:
        s->e->id_given = true;
        return take_text(s, key, &m->value, false, &s->e->id);
    case KNOWN_SOURCE:
        s->e->source_given = true;
        return take_uri(s, key, &m->value, false, &s->e->source);
    case KNOWN_TYPE:
        return take_text(s, key, &m->value, false, &s->e->type);
    case KNOWN_SUBJECT:
        return take_text(s, key, &m->value, false, &s->e->subject);
    case KNOWN_DATASCHEMA:
        return take_uri(s, key, &m->value, true, &s->e->dataschema);
    case KNOWN_SPECVERSION:
        return take_specversion(s, &m->value);
    case KNOWN_TIME:
        return take_time(s, &m->value);
    case KNOWN_DATACONTENTTYPE:
        return take_content_type(s, &m->value);
    case KNOWN_SAMPLEDRATE:
        return take_sampledrate(s, &m->value);
    case KNOWN_DATA:
        return take_data(s, &m->value);
    case KNOWN_DATA_BASE64:
        return take_base64(s, &m->value);
    case NOT_KNOWN:
        break;
    }
    return OK;
}

static enum err keep_extensions(struct scan *s)
{
    if (s->ext_count == 0)
        return OK;
    struct event_ext *kept = arena_alloc(s->in->arena, s->ext_count * sizeof *kept);
    if (kept == NULL)
        return event_arena_full(s->why);
    unsigned n = 0;
    for (unsigned i = 0; i < s->ext_count; i++)
        if (s->ext[i].value.at != NULL)
            kept[n++] = s->ext[i];
    s->e->ext = kept;
    s->e->ext_count = n;
    return OK;
}

static enum err check_data(struct scan *s)
{
    const struct event *e = s->e;
    if ((s->seen & ~s->nulls & BIT(KNOWN_DATA_BASE64)) != 0 && (s->seen & BIT(KNOWN_DATA)) != 0)
        return fault_set(s->why, ERR_UNSUPPORTED, "data and data_base64 exclude each other");
    if (e->datacontenttype.at == NULL || e->data_kind == EVENT_DATA_NONE ||
        e->data_kind == EVENT_DATA_STRING || e->data_kind == EVENT_DATA_NULL ||
        e->data_kind == EVENT_DATA_BASE64)
        return OK;
    if (attribute_type_is_json(e->datacontenttype))
        return OK;
    return fault_set(s->why, ERR_UNSUPPORTED, "data: must be a string when datacontenttype is not JSON");
}

/* What an object must say for itself: in the declared forms more than in a bare one. */
static enum err check_required(struct scan *s, bool declared)
{
    unsigned given = s->seen & ~s->nulls;
    unsigned wanted = BIT(KNOWN_TYPE);
    if (declared || (given & BIT(KNOWN_SPECVERSION)) != 0)
        wanted |= BIT(KNOWN_SPECVERSION) | BIT(KNOWN_ID) | BIT(KNOWN_SOURCE);
    unsigned missing = wanted & ~given;
    if (missing == 0)
        return OK;
    const char *name = (missing & BIT(KNOWN_SPECVERSION)) != 0 ? "specversion"
                       : (missing & BIT(KNOWN_ID)) != 0        ? "id"
                       : (missing & BIT(KNOWN_SOURCE)) != 0    ? "source"
                                                               : "type";
    return fault_set(s->why, ERR_UNSUPPORTED, "%s: required", name);
}

/* Of (source, id). Where the sender gives no source it is ours, for all of its events. */
static uint64_t key_hash(struct event_reading *in, const struct event *e)
{
    if (e->source.at != in->agent_name.at)
        return hash64(e->id, hash64(e->source, 0));
    if (in->agent_hash == 0)
        in->agent_hash = hash64(in->agent_name, 0);
    return hash64(e->id, in->agent_hash);
}

enum err event_complete(struct event_reading *in, struct event *e, struct fault *why)
{
    e->received_ns = in->wall_ns;
    if (e->sampledrate == 0)
        e->sampledrate = 1;
    if (e->source.at == NULL)
        e->source = in->agent_name;
    if (e->id.at == NULL) {
        if (in->uuids == NULL)
            return fault_set(why, ERR_MALFORMED, "id: required");
        char *text = arena_alloc(in->arena, UUID_TEXT + 1);
        if (text == NULL)
            return event_arena_full(why);
        struct uuid id = uuid7_make(in->uuids, in->wall_ns / NS_PER_MS);
        uuid_format(&id, text);
        e->id = span_of(text, UUID_TEXT);
    } else {
        e->key_hash = key_hash(in, e);
    }
    if (e->time.at == NULL) {
        if (in->now_text.at == NULL) {
            char *text = arena_alloc(in->arena, RFC3339_TEXT + 1);
            if (text == NULL)
                return event_arena_full(why);
            in->now_text = span_of(text, rfc3339_format_ms(instant_of_ns(in->wall_ns), text));
        }
        e->time = in->now_text;
        e->time_at = instant_of_ns(in->wall_ns - in->wall_ns % NS_PER_MS);
    }
    return OK;
}

/* May the members that we make stand before the sender's own? Not where he wrote a null for one of them. */
static void judge_raw(struct scan *s)
{
    const unsigned whole = BIT(KNOWN_SPECVERSION) | BIT(KNOWN_ID) | BIT(KNOWN_SOURCE) | BIT(KNOWN_TIME);
    s->e->raw_complete = (s->seen & ~s->nulls & whole) == whole;
    s->e->sampledrate_named = (s->seen & BIT(KNOWN_SAMPLEDRATE)) != 0;
    s->e->raw_open = !s->e->raw_complete && (s->nulls & whole) == 0;
}

static enum err read_members(struct event_reading *in, const struct json_member *members, size_t count,
                             bool declared, struct event *e, struct fault *why)
{
    struct scan s;
    scan_init(&s, in, e, why);
    enum err err = OK;
    for (size_t i = 0; err == OK && i < count; i++)
        err = take_member(&s, &members[i]);
    if (err == OK)
        err = check_required(&s, declared);
    if (err == OK)
        err = check_data(&s);
    if (err == OK)
        err = keep_extensions(&s);
    if (err != OK)
        return err;
    judge_raw(&s);
    return event_complete(in, e, why);
}

enum err event_read_json(struct event_reading *in, struct json_reader *r, bool declared, struct event *e,
                         struct fault *why)
{
    struct json_member members[MEMBERS_MAX];
    struct json_value value;
    size_t count;
    enum err err = json_read_object(r, members, MEMBERS_MAX, &count, &value);
    if (err == ERR_MALFORMED)
        return json_fault(r, err, why);
    if (err != OK)
        return fault_set(why, ERR_UNSUPPORTED,
                         "%s", r->spoiled != NULL ? r->spoiled : "more than 64 extension attributes");
    if (value.type != JSON_OBJECT)
        return fault_set(why, ERR_UNSUPPORTED, "must be a JSON object");
    *e = (struct event){0};
    e->raw = value.text;
    e->raw_spaced = value.spaced;
    e->content_hash = hash64(value.text, 0);
    return read_members(in, members, count, declared, e, why);
}

/* --- one line ----------------------------------------------------------------------------------- */

struct span event_skip_mark(struct span text)
{
    if (text.len >= 3 && memcmp(text.at, "\xef\xbb\xbf", 3) == 0)
        return span_of(text.at + 3, text.len - 3);
    return text;
}

static bool blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

bool event_next_line(struct span *rest, struct span *ret_line)
{
    while (rest->len > 0) {
        const uint8_t *lf = memchr(rest->at, '\n', rest->len);
        struct span line = span_of(rest->at, lf == NULL ? rest->len : (size_t)(lf - rest->at));
        size_t used = line.len + (lf != NULL);
        *rest = span_of(rest->at + used, rest->len - used);
        while (line.len > 0 && blank(line.at[0]))
            line = span_of(line.at + 1, line.len - 1);
        while (line.len > 0 && blank(line.at[line.len - 1]))
            line.len--;
        if (line.len > 0) {
            *ret_line = line;
            return true;
        }
    }
    return false;
}

enum err event_read_line(struct event_reading *in, struct span line, struct event *ret, struct fault *why)
{
    struct json_reader r;
    json_reader_init(&r, line);
    enum err err = event_read_json(in, &r, false, ret, why);
    if (err == OK && json_finish(&r) != OK)
        err = json_fault(&r, ERR_MALFORMED, why);
    if (err == ERR_UNSUPPORTED)
        err = ERR_MALFORMED;
    if (err != OK && why != NULL)
        why->err = err;
    return err;
}

/* --- from parts --------------------------------------------------------------------------------- */

static enum err note_type(struct event_reading *in, struct span type, struct fault *why)
{
    const char *fault = attribute_text_fault(type);
    if (fault != NULL)
        return fault_set(why, ERR_MALFORMED, "type: %s", fault);
    in->last_type = type;
    in->last_type_hash = hash64(type, 0);
    return OK;
}

enum err event_make(struct event_reading *in, struct span id, struct span type, struct span data,
                    const struct instant *time, struct event *ret, struct fault *why)
{
    struct scan s;
    scan_init(&s, in, ret, why);
    ensure(data.len > 0);
    struct json_value value = {.text = data, .type = json_type_of(data.at[0])};
    *ret = (struct event){.id = id, .id_given = id.at != NULL, .type = type};
    if (type.len == 0)
        return fault_set(why, ERR_MALFORMED, "type: must not be empty");
    if (type.at != in->last_type.at || type.len != in->last_type.len) {
        enum err err = note_type(in, type, why);
        if (err != OK)
            return err;
    }
    (void)take_data(&s, &value); /* takes any value */
    ret->content_hash = hash64(data, in->last_type_hash);
    if (time != NULL) {
        char *text = arena_alloc(in->arena, RFC3339_TEXT + 1);
        if (text == NULL)
            return event_arena_full(why);
        ret->time = span_of(text, rfc3339_format_again(&in->last, *time, text));
        ret->time_at = *time;
        ret->time_given = true;
    }
    return event_complete(in, ret, why);
}

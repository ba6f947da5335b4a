/* langfuse_check: is this an event that the Ingestion API takes? Its envelope and the bodies by type.
 *
 * Facts: langfuse/langfuse packages/shared/src/server/ingestion/types.ts and the API definition in fern/.
 * Checked is what the server refuses or silently loses: required fields, types of the known fields, ids.
 * Unknown fields of a body are ignored by the server and pass; unknown members of the envelope are refused.
 */
#include "lib/api/langfuse.h"

#include "lib/codec/rfc3339.h"

static const struct langfuse_type types[] = {
    {"trace-create", LANGFUSE_TRACE, false},
    {"span-create", LANGFUSE_OBSERVATION, false},
    {"span-update", LANGFUSE_OBSERVATION, true},
    {"generation-create", LANGFUSE_OBSERVATION, false},
    {"generation-update", LANGFUSE_OBSERVATION, true},
    {"event-create", LANGFUSE_OBSERVATION, false},
    {"score-create", LANGFUSE_SCORE, false},
    {"sdk-log", LANGFUSE_SDK_LOG, false},
    {"agent-create", LANGFUSE_OBSERVATION, false},
    {"tool-create", LANGFUSE_OBSERVATION, false},
    {"chain-create", LANGFUSE_OBSERVATION, false},
    {"retriever-create", LANGFUSE_OBSERVATION, false},
    {"evaluator-create", LANGFUSE_OBSERVATION, false},
    {"embedding-create", LANGFUSE_OBSERVATION, false},
    {"guardrail-create", LANGFUSE_OBSERVATION, false},
    {"observation-create", LANGFUSE_OBSERVATION, false},
    {"observation-update", LANGFUSE_OBSERVATION, true},
};

const struct langfuse_type *langfuse_type_find(struct span name)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (span_is(name, types[i].name))
            return &types[i];
    return NULL;
}

bool langfuse_id_ok(struct span id)
{
    size_t characters = 0;
    for (size_t i = 0; i < id.len; i++) {
        if (id.at[i] == '\r')
            return false;
        characters += (id.at[i] & 0xc0) != 0x80;
    }
    return characters >= 1 && characters <= LANGFUSE_ID_MAX;
}

/* --- bodies ------------------------------------------------------------------------------------- */

enum rule { ANY, STRING, NAME, ID, TIME, LEVEL, BOOL, STRINGS, OBJECT, INTEGER, VALUE };

struct field {
    const char *name;
    enum rule rule;
    unsigned kinds; /* bits of enum langfuse_kind */
};

#define T (1u << LANGFUSE_TRACE)
#define O (1u << LANGFUSE_OBSERVATION)
#define S (1u << LANGFUSE_SCORE)

static const struct field fields[] = {
    {"id", ID, T | O | S},
    {"name", NAME, T},
    {"name", STRING, O | S},
    {"timestamp", TIME, T},
    {"userId", STRING, T},
    {"sessionId", STRING, T | S},
    {"externalId", STRING, T},
    {"release", STRING, T},
    {"version", STRING, T | O},
    {"public", BOOL, T},
    {"tags", STRINGS, T},
    {"environment", STRING, T | O | S},
    {"traceId", ID, O | S},
    {"parentObservationId", STRING, O},
    {"startTime", TIME, O},
    {"endTime", TIME, O},
    {"completionStartTime", TIME, O},
    {"level", LEVEL, O},
    {"statusMessage", STRING, O},
    {"model", STRING, O},
    {"modelParameters", OBJECT, O},
    {"usageDetails", OBJECT, O},
    {"costDetails", OBJECT, O},
    {"promptName", STRING, O},
    {"promptVersion", INTEGER, O},
    {"observationId", STRING, S},
    {"datasetRunId", STRING, S},
    {"dataType", STRING, S},
    {"configId", STRING, S},
    {"comment", STRING, S},
    {"value", VALUE, S},
};

/* ISO 8601 with Z or an offset; a bare local time is refused by the server. */
static bool time_ok(const struct json_value *v)
{
    struct instant at;
    bool local;
    return v->type == JSON_STRING && !v->escaped && iso8601_parse(json_raw_string(v), &at, &local) && !local;
}

static bool strings_ok(const struct json_value *v)
{
    struct json_reader r;
    struct json_value item;
    json_reader_init(&r, v->text);
    if (v->type != JSON_ARRAY || json_enter_array(&r) != OK)
        return false;
    while (json_next_element(&r) == OK)
        if (json_read_value(&r, &item) != OK || item.type != JSON_STRING)
            return false;
    return true;
}

/* Characters of a checked string, escapes counted as one each (a pair of surrogates as two: never too few).
 */
static size_t characters(const struct json_value *v)
{
    struct span raw = json_raw_string(v);
    size_t count = 0;
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.at[i] == '\\')
            i += raw.at[i + 1] == 'u' ? 5 : 1;
        count += (raw.at[i] & 0xc0) != 0x80;
    }
    return count;
}

static const char *id_fault(const struct json_value *v)
{
    uint8_t text[4 * LANGFUSE_ID_MAX + 8];
    if (v->type != JSON_STRING)
        return "must be a string";
    struct span raw = json_raw_string(v);
    if (!v->escaped)
        return langfuse_id_ok(raw) ? NULL : "must have 1 to 800 characters and no CR";
    if (raw.len > sizeof text)
        return "longer than 800 characters";
    return langfuse_id_ok(span_of(text, json_unescape(raw, text)))
               ? NULL
               : "must have 1 to 800 characters and no CR";
}

static const char *rule_fault(enum rule rule, const struct json_value *v)
{
    int64_t number;
    switch (rule) {
    case ANY:
        return NULL;
    case STRING:
        return v->type == JSON_STRING ? NULL : "must be a string";
    case NAME:
        return v->type != JSON_STRING ? "must be a string"
               : characters(v) > 1000 ? "longer than 1000 characters"
                                      : NULL;
    case ID:
        return id_fault(v);
    case TIME:
        return time_ok(v) ? NULL : "must be ISO 8601 with Z or an offset";
    case LEVEL:
        return json_string_is(v, "DEBUG") || json_string_is(v, "DEFAULT") || json_string_is(v, "WARNING") ||
                       json_string_is(v, "ERROR")
                   ? NULL
                   : "must be DEBUG, DEFAULT, WARNING or ERROR";
    case BOOL:
        return v->type == JSON_TRUE || v->type == JSON_FALSE ? NULL : "must be true or false";
    case STRINGS:
        return strings_ok(v) ? NULL : "must be an array of strings";
    case OBJECT:
        return v->type == JSON_OBJECT ? NULL : "must be an object";
    case INTEGER:
        return v->type == JSON_NUMBER && json_int64(v->text, &number) ? NULL : "must be a whole number";
    case VALUE:
        return v->type == JSON_NUMBER || v->type == JSON_STRING ? NULL : "must be a number or a string";
    }
    return NULL;
}

/* What the fields of a body add up to. */
struct body {
    bool id, id_null, name, log, prompt_name, prompt_version;
    struct json_value value, data_type; /* of a score; without text: not there */
    unsigned targets;                   /* of a score: traceId, sessionId, datasetRunId */
};

static void note(struct body *b, const struct json_key *key, const struct json_value *v)
{
    b->id = b->id || json_key_is(key, "id");
    b->name = b->name || (json_key_is(key, "name") && v->text.len > 2);
    if (json_key_is(key, "value"))
        b->value = *v;
    if (json_key_is(key, "dataType"))
        b->data_type = *v;
    b->prompt_name = b->prompt_name || json_key_is(key, "promptName");
    b->prompt_version = b->prompt_version || json_key_is(key, "promptVersion");
    b->targets +=
        json_key_is(key, "traceId") || json_key_is(key, "sessionId") || json_key_is(key, "datasetRunId");
}

static enum err refuse(struct fault *why, const char *name, const char *text)
{
    return fault_set(why, ERR_UNSUPPORTED, "body.%s: %s", name, text);
}

/* A score's value is of the type that it says. Without one the server finds it out itself. */
static const char *score_fault(const struct json_value *value, const struct json_value *type)
{
    double number = 2;
    bool is_number = value->type == JSON_NUMBER && json_double(value->text, &number);
    if (type->text.len == 0)
        return NULL;
    if (json_string_is(type, "NUMERIC"))
        return is_number ? NULL : "must be a number where dataType is NUMERIC";
    if (json_string_is(type, "BOOLEAN"))
        return number == 0 || number == 1 ? NULL : "must be 0 or 1 where dataType is BOOLEAN";
    bool text = json_string_is(type, "TEXT");
    if (!text && !json_string_is(type, "CATEGORICAL") && !json_string_is(type, "CORRECTION"))
        return NULL;
    if (value->type != JSON_STRING)
        return "must be a string where dataType is CATEGORICAL, CORRECTION or TEXT";
    return text && characters(value) > 500 ? "longer than 500 characters" : NULL;
}

static enum err check_field(const struct langfuse_type *type, const struct json_key *key,
                            const struct json_value *v, struct fault *why)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if ((fields[i].kinds & 1u << type->kind) == 0 || !json_key_is(key, fields[i].name))
            continue;
        const char *fault = rule_fault(fields[i].rule, v);
        return fault == NULL ? OK : refuse(why, fields[i].name, fault);
    }
    return OK;
}

static enum err check_score(const struct body *b, struct fault *why)
{
    if (!b->name)
        return refuse(why, "name", "required");
    if (b->value.text.len == 0)
        return refuse(why, "value", "required");
    const char *fault = score_fault(&b->value, &b->data_type);
    if (fault != NULL)
        return refuse(why, "value", fault);
    return b->targets == 1 ? OK
                           : refuse(why, "traceId", "give exactly one of traceId, sessionId, datasetRunId");
}

static enum err check_whole(const struct langfuse_type *type, const struct body *b, struct fault *why)
{
    switch (type->kind) {
    case LANGFUSE_TRACE:
        return OK;
    case LANGFUSE_OBSERVATION:
        if (!b->id)
            return refuse(why, "id", "required: without it the server stores nothing");
        return b->prompt_name == b->prompt_version ? OK
                                                   : refuse(why, "promptName", "goes with promptVersion");
    case LANGFUSE_SCORE:
        return check_score(b, why);
    case LANGFUSE_SDK_LOG:
        return b->log ? OK : refuse(why, "log", "required");
    }
    return OK;
}

enum err langfuse_check_body(const struct langfuse_type *type, struct span text, bool *ret_id,
                             bool *ret_id_null, struct fault *why)
{
    struct json_reader r;
    struct json_key key;
    struct json_value v;
    struct body b = {.id = false};
    json_reader_init(&r, text);
    enum err err = json_enter_object(&r);
    while (err == OK && (err = json_next_member(&r, &key)) == OK) {
        if (json_read_value(&r, &v) != OK)
            return refuse(why, "", "not readable");
        b.log = b.log || json_key_is(&key, "log");
        if (v.type == JSON_NULL) {
            b.id_null = b.id_null || json_key_is(&key, "id");
            continue;
        }
        note(&b, &key, &v);
        err = check_field(type, &key, &v, why);
        if (err != OK)
            return err;
    }
    if (ret_id != NULL)
        *ret_id = b.id;
    if (ret_id_null != NULL)
        *ret_id_null = b.id_null;
    return check_whole(type, &b, why);
}

/* --- envelopes ---------------------------------------------------------------------------------- */

enum { SEEN_ID = 1, SEEN_TIMESTAMP = 2, SEEN_TYPE = 4, SEEN_BODY = 8, SEEN_METADATA = 16 };

static enum err take_id(struct arena *arena, const struct json_value *v, struct langfuse_event *e,
                        struct fault *why)
{
    if (v->type != JSON_STRING)
        return fault_set(why, ERR_UNSUPPORTED, "id: must be a string");
    if (json_decode_string(arena, v, &e->id) != OK)
        return fault_set(why, ERR_TOO_BIG, "the request's events need too much memory");
    return langfuse_id_ok(e->id)
               ? OK
               : fault_set(why, ERR_UNSUPPORTED, "id: must have 1 to 800 characters and no CR");
}

static enum err take_type(const struct json_value *v, struct langfuse_event *e, struct fault *why)
{
    uint8_t text[64];
    if (v->type != JSON_STRING || v->text.len - 2 > sizeof text)
        return fault_set(why, ERR_UNSUPPORTED, "type: not one that is taken");
    e->type = langfuse_type_find(span_of(text, json_unescape(json_raw_string(v), text)));
    return e->type != NULL ? OK
                           : fault_set(why, ERR_UNSUPPORTED, "type: \"%.*s\" is not one that is taken",
                                       SPAN_FMT(json_raw_string(v)));
}

static enum err take_member(struct arena *arena, const struct json_member *m, unsigned *seen,
                            struct langfuse_event *e, struct fault *why)
{
    const struct json_value *v = &m->value;
    static const char *const names[] = {"id", "timestamp", "type", "body", "metadata"};
    unsigned i = 0;
    while (i < 5 && !json_key_is(&m->key, names[i]))
        i++;
    if (i == 5)
        return fault_set(why, ERR_UNSUPPORTED, "%.*s: not a member of an event",
                         m->key.text.len > 40 ? 40 : (int)m->key.text.len, (const char *)m->key.text.at);
    if ((*seen & 1u << i) != 0)
        return fault_set(why, ERR_UNSUPPORTED, "%s: appears twice", names[i]);
    *seen |= 1u << i;
    switch (1u << i) {
    case SEEN_ID:
        return take_id(arena, v, e, why);
    case SEEN_TIMESTAMP:
        return time_ok(v)
                   ? OK
                   : fault_set(why, ERR_UNSUPPORTED, "timestamp: must be ISO 8601 with Z or an offset");
    case SEEN_TYPE:
        return take_type(v, e, why);
    case SEEN_BODY:
        e->body = v->text;
        return v->type == JSON_OBJECT ? OK : fault_set(why, ERR_UNSUPPORTED, "body: must be an object");
    default:
        return v->type != JSON_NULL ? OK : fault_set(why, ERR_UNSUPPORTED, "metadata: must not be null");
    }
}

enum err langfuse_read_event(struct json_reader *r, struct arena *arena, struct langfuse_event *ret,
                             struct fault *why)
{
    struct json_member members[6];
    struct json_value value;
    size_t count;
    unsigned seen = 0;
    enum err err = json_read_object(r, members, 6, &count, &value);
    if (err == ERR_MALFORMED)
        return json_fault(r, err, why);
    *ret = (struct langfuse_event){.text = value.text};
    enum err first = OK;
    struct fault later, *to = why;
    if (err == OK && value.type != JSON_OBJECT)
        return fault_set(why, ERR_UNSUPPORTED, "must be an object");
    for (size_t i = 0; i < count; i++) { /* goes on after a fault: the answer needs the id */
        enum err now = take_member(arena, &members[i], &seen, ret, to);
        if (now == ERR_TOO_BIG)
            return now;
        if (now != OK && first == OK) {
            first = now;
            to = &later;
        }
    }
    if (err != OK)
        return fault_set(why, ERR_UNSUPPORTED,
                         "%s", r->spoiled != NULL ? r->spoiled : "unknown members");
    if (first != OK)
        return first;
    if ((seen & (SEEN_ID | SEEN_TIMESTAMP | SEEN_TYPE | SEEN_BODY)) != 15)
        return fault_set(why, ERR_UNSUPPORTED, "%s: required",
                         !(seen & SEEN_ID)          ? "id"
                         : !(seen & SEEN_TIMESTAMP) ? "timestamp"
                         : !(seen & SEEN_TYPE)      ? "type"
                                                    : "body");
    return langfuse_check_body(ret->type, ret->body, &ret->body_id, &ret->body_id_null, why);
}

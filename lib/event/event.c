/* event: see event.h. Here: looking things up in an event, and writing it in CloudEvents JSON form
 * (cloudevents/formats/json-format.md). How events are read is in cloudevents.h. */
#include "lib/event/event.h"

#include "lib/base/clock.h"
#include "lib/base/ensure.h"
#include "lib/codec/json.h"

const struct event_ext *event_ext_find(const struct event *e, const char *name)
{
    struct span wanted = span_str(name);
    for (unsigned i = 0; i < e->ext_count; i++)
        if (span_equal(e->ext[i].name, wanted))
            return &e->ext[i];
    return NULL;
}

void event_multiply_sampledrate(struct event *e, uint32_t times)
{
    uint64_t rate = (uint64_t)e->sampledrate * times;
    e->sampledrate = rate > INT32_MAX ? INT32_MAX : (uint32_t)rate;
    e->sampledrate_given = true;
    /* Raw says otherwise: it is written anew; or nothing: ours may stand before the rest. */
    e->raw_open = (e->raw_open || e->raw_complete) && !e->sampledrate_named;
    e->raw_complete = false;
    e->sampledrate_made = e->raw_open;
}

uint64_t event_expires_ns(const struct event *e)
{
    struct instant at;
    const struct event_ext *ext = e->ext_count == 0 ? NULL : event_ext_find(e, "expirytime");
    if (ext == NULL || !rfc3339_parse(ext->value, &at))
        return 0;
    if (at.sec < 0)
        return 1; /* long past, but not "never" */
    if ((uint64_t)at.sec >= UINT64_MAX / NS_PER_S)
        return 0; /* beyond what the clock can reach */
    uint64_t ns = (uint64_t)at.sec * NS_PER_S + at.nsec;
    return ns == 0 ? 1 : ns;
}

/* A string may double (quotes and backslashes; attributes hold no control characters), and has its name,
 * colon, quotes and comma around it. */
static size_t member_bound(struct span name, struct span value)
{
    return name.len + 2 * value.len + 8;
}

size_t event_json_bound(const struct event *e)
{
    size_t bound = e->raw.len + e->data.len + 256;
    bound += 2 * (e->id.len + e->source.len + e->type.len + e->subject.len + e->datacontenttype.len +
                  e->dataschema.len + e->time.len);
    for (unsigned i = 0; i < e->ext_count; i++)
        bound += member_bound(e->ext[i].name, e->ext[i].value);
    return bound;
}

/* Inlined, so that the lengths of the names are known. */
static inline __attribute__((always_inline)) enum err append_string_member(struct bytes *out, const char *before,
                                                                           struct span value)
{
    if (value.at == NULL)
        return OK;
    enum err err = bytes_append(out, span_of(before, __builtin_strlen(before)));
    return err == OK ? json_append_string(out, value) : err;
}

static enum err append_extension(struct bytes *out, const struct event_ext *ext)
{
    enum err err = bytes_append(out, SPAN(",\""));
    if (err == OK)
        err = bytes_append(out, ext->name);
    if (err == OK)
        err = bytes_append(out, SPAN("\":"));
    if (err != OK)
        return err;
    return ext->type == EVENT_EXT_STRING ? json_append_string(out, ext->value)
                                         : bytes_append(out, ext->value);
}

static enum err append_data(struct bytes *out, const struct event *e, bool one_line)
{
    enum err err;
    switch (e->data_kind) {
    case EVENT_DATA_NONE:
        return OK;
    case EVENT_DATA_BASE64:
        err = bytes_append(out, SPAN(",\"data_base64\":\""));
        if (err == OK)
            err = bytes_append(out, e->data);
        return err == OK ? bytes_append_byte(out, '"') : err;
    default:
        err = bytes_append(out, SPAN(",\"data\":"));
        if (err != OK)
            return err;
        return one_line && e->data_spaced ? json_compact(out, e->data) : bytes_append(out, e->data);
    }
}

static enum err append_anew(struct bytes *out, const struct event *e, bool one_line)
{
    enum err err = append_string_member(out, "{\"specversion\":\"1.0\",\"id\":", e->id);
    if (err == OK)
        err = append_string_member(out, ",\"source\":", e->source);
    if (err == OK)
        err = append_string_member(out, ",\"type\":", e->type);
    if (err == OK)
        err = append_string_member(out, ",\"subject\":", e->subject);
    if (err == OK)
        err = append_string_member(out, ",\"time\":", e->time);
    if (err == OK)
        err = append_string_member(out, ",\"datacontenttype\":", e->datacontenttype);
    if (err == OK)
        err = append_string_member(out, ",\"dataschema\":", e->dataschema);
    if (err == OK && e->sampledrate_given)
        err = bytes_printf(out, ",\"sampledrate\":%u", e->sampledrate);
    for (unsigned i = 0; err == OK && i < e->ext_count; i++)
        err = append_extension(out, &e->ext[i]);
    if (err == OK)
        err = append_data(out, e, one_line);
    return err == OK ? bytes_append_byte(out, '}') : err;
}

/* Only what the sender left out, then his object behind its opening brace. */
static enum err append_completed(struct bytes *out, const struct event *e, bool one_line)
{
    enum err err = bytes_append_byte(out, '{');
    if (err == OK && !e->specversion_given)
        err = bytes_append(out, SPAN("\"specversion\":\"1.0\","));
    if (err == OK && !e->id_given)
        err = append_string_member(out, "\"id\":", e->id);
    if (err == OK && !e->id_given)
        err = bytes_append_byte(out, ',');
    if (err == OK && !e->source_given)
        err = append_string_member(out, "\"source\":", e->source);
    if (err == OK && !e->source_given)
        err = bytes_append_byte(out, ',');
    if (err == OK && e->sampledrate_made)
        err = bytes_printf(out, "\"sampledrate\":%u,", e->sampledrate);
    if (err == OK && !e->time_given)
        err = append_string_member(out, "\"time\":", e->time);
    if (err == OK && !e->time_given)
        err = bytes_append_byte(out, ',');
    if (err != OK)
        return err;
    /* The object has at least its type, so there is a member for our comma to stand before. */
    if (!one_line || !e->raw_spaced)
        return bytes_append(out, span_of(e->raw.at + 1, e->raw.len - 1));
    size_t mark = out->len;
    err = json_compact(out, e->raw);
    if (err != OK)
        return err;
    memmove(out->at + mark, out->at + mark + 1, out->len - mark - 1);
    out->len--;
    return OK;
}

enum err event_append_json(struct bytes *out, const struct event *e, bool one_line)
{
    size_t mark = out->len;
    enum err err;
    if (e->raw.at == NULL || !(e->raw_complete || e->raw_open))
        err = append_anew(out, e, one_line);
    else if (e->raw_open)
        err = append_completed(out, e, one_line);
    else
        err = one_line && e->raw_spaced ? json_compact(out, e->raw) : bytes_append(out, e->raw);
    if (err != OK)
        out->len = mark;
    return err;
}

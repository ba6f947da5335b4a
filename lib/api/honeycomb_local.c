/* honeycomb_local: what libhoney, a beeline or a relay needs of the Events API when only its host was
 * changed.
 *
 * Every answer to /1/batch is 200 with exactly one entry per event: libhoney-js reads the array without
 * looking, and takes the application down when it is shorter. A bad event is its entry. Full is 429 with a
 * Retry-After small enough for libhoney-go to wait for it. Datasets may hold slashes, since two of the
 * clients do not encode them: all behind the prefix is the dataset. Events stay byte for byte; a missing or
 * unreadable time is filled in, or it would become the time of delivery. msgpack becomes JSON here. */
#include "lib/api/honeycomb.h"
#include "lib/api/render.h"

#include "lib/base/hash.h"
#include "lib/codec/msgpack.h"
#include "lib/codec/rfc3339.h"

static const struct answer_row rows[COND_COUNT] = {
    [COND_STORED] = {200, 0, "ok", "accepted"},
    [COND_FULL] = {429, 2, "full", "the agent has no room; come back later"},
    [COND_STOPPING] = {503, 2, "stopping", "the agent is stopping"},
    [COND_FAILED] = {503, 5, "storage_failed", "the agent's storage has failed"},
    [COND_NO_OUTPUT] = {503, 5, "no_output", "no output of type honeycomb is configured"},
    [COND_UNAUTHORIZED] = {401, 0, "unauthorized", "unknown API key - check your credentials"},
    [COND_TOO_LARGE] = {413, 0, "too_large", "request body is too large"},
    [COND_BAD_ENCODING] = {415, 0, "unsupported_encoding", "Content-Encoding is not gzip, zstd or deflate"},
    [COND_BAD_COMPRESSION] = {400, 0, "bad_compression",
                              "the body does not decode as its Content-Encoding says"},
    [COND_BAD_METHOD] = {405, 0, "method_not_allowed", "this path takes other methods"},
    [COND_BUSY] = {429, 1, "busy", "too many requests are waiting; come back later"},
    [COND_CONFLICT] = {400, 0, "conflict", "this id was given to other content"},
};

static struct span header_of(const struct api_request *r, const char *name, const char *short_name)
{
    struct span value = r->header(r->header_ctx, name);
    return span_trim(value.at != NULL ? value : r->header(r->header_ctx, short_name));
}

bool honeycomb_time_ok(struct span time)
{
    struct instant at;
    return rfc3339_parse(time, &at) || epoch_parse(time, &at);
}

/* --- one element -------------------------------------------------------------------------------- */

static enum err refuse(struct fault *why, const char *text)
{
    return fault_set(why, ERR_UNSUPPORTED, "%s", text);
}

static enum err take_member(const struct json_member *m, struct arena *arena, struct honeycomb_event *ret,
                            struct fault *why)
{
    const struct json_value *v = &m->value;
    if (json_key_is(&m->key, "data")) {
        if (v->type != JSON_OBJECT && v->type != JSON_NULL)
            return refuse(why, "data: must be an object");
        ret->data = v->type == JSON_OBJECT ? v->text : (struct span){0};
        return OK;
    }
    if (json_key_is(&m->key, "time")) {
        ret->time_named = true;
        if (v->type != JSON_STRING)
            return OK; /* what is no time is none: the service ignores a number, too, and takes the moment of receipt */
        return json_decode_string(arena, v, &ret->time) == OK ? OK : ERR_TOO_BIG;
    }
    if (json_key_is(&m->key, "samplerate")) {
        uint64_t rate = 0;
        if (v->type != JSON_NULL && (v->type != JSON_NUMBER || !json_uint64(v->text, &rate)))
            return refuse(why, "samplerate: must be a whole number");
        ret->samplerate = rate == 0 ? 1 : rate;
        return OK;
    }
    return fault_set(why, ERR_UNSUPPORTED, "%.*s: not a member of an event (data, time, samplerate)",
                     m->key.text.len > 40 ? 40 : (int)m->key.text.len, (const char *)m->key.text.at);
}

enum err honeycomb_read_event(struct json_reader *r, struct arena *arena, struct honeycomb_event *ret,
                              struct fault *why)
{
    struct json_member members[4];
    struct json_value value;
    size_t count;
    enum err err = json_read_object(r, members, 4, &count, &value);
    if (err == ERR_MALFORMED)
        return json_fault(r, err, why);
    *ret = (struct honeycomb_event){.text = value.text, .samplerate = 1};
    if (err != OK)
        return refuse(why, r->spoiled != NULL ? r->spoiled : "more than the members data, time, samplerate");
    if (value.type != JSON_OBJECT)
        return refuse(why, "must be an object");
    if (json_repeated_key(members, count, NULL))
        return refuse(why, "a member appears twice");
    for (size_t i = 0; i < count; i++)
        if ((err = take_member(&members[i], arena, ret, why)) != OK)
            return err;
    if (ret->data.at == NULL || data_inside(ret->data).len == 0)
        return refuse(why, "Request body should not be empty.");
    /* A member takes four bytes at least: most events need no count. */
    if (ret->data.len > 4 * HONEYCOMB_COLUMNS_MAX && data_count(ret->data) > HONEYCOMB_COLUMNS_MAX)
        return refuse(why, "Event has too many columns.");
    return OK;
}

/* The element with a time: as it is when it has one, with ours in front when it names none, else written
 * anew. */
static struct span with_time(struct api_exchange *x, const struct honeycomb_event *e)
{
    struct writer w;
    if (e->time.at != NULL && honeycomb_time_ok(e->time))
        return e->text;
    writer_init(&w, x->arena, e->text.len + 96);
    write_text(&w, "{\"time\":");
    write_instant_ms(&w, instant_of_ns(x->request->wall_ns));
    if (!e->time_named) {
        write_text(&w, ",");
        write_raw(&w, span_of(e->text.at + 1, e->text.len - 1)); /* has data at least */
    } else {
        if (e->samplerate > 1) {
            write_text(&w, ",\"samplerate\":");
            write_number(&w, (int64_t)e->samplerate);
        }
        write_text(&w, ",\"data\":");
        write_raw(&w, e->data);
        write_text(&w, "}");
    }
    return writer_finish(&w);
}

/* --- bodies ------------------------------------------------------------------------------------- */

static bool is_msgpack(const struct api_request *r)
{
    struct span type = media_type(r->content_type);
    return span_equal_nocase(type, SPAN("application/msgpack")) ||
           span_equal_nocase(type, SPAN("application/x-msgpack"));
}

static void out_of_memory(struct api_exchange *x)
{
    answer_error(x, shape_error, 413, "too_large", "request body is too large");
}

/* In place of an event that JSON cannot hold: an object whose only member says why, and is refused by that name. */
static enum err render_excuse(struct span *in, struct bytes *out, const struct fault *why)
{
    enum err err = msgpack_skip(in, NULL);
    if (err == OK)
        err = bytes_append_byte(out, '{');
    if (err == OK)
        err = json_append_string_lossy(out, span_str(why->text), NULL);
    return err == OK ? bytes_append(out, SPAN(":0}")) : err;
}

/* A batch is rendered event by event, so that a bad one costs no other. */
static enum err render(struct msgpack_renderer *renderer, struct span *in, struct bytes *out, struct fault *why)
{
    struct msgpack_token array;
    struct span rest = *in;
    if (msgpack_next(&rest, &array) != OK || array.type != MSGPACK_ARRAY)
        return msgpack_render(renderer, in, out, why);
    enum err err = bytes_append_byte(out, '[');
    for (uint32_t i = 0; err == OK && i < array.count; i++) {
        if (i > 0 && (err = bytes_append_byte(out, ',')) != OK)
            break;
        err = msgpack_render(renderer, &rest, out, why);
        if (err == ERR_UNSUPPORTED || err == ERR_TOO_BIG)
            err = render_excuse(&rest, out, why);
    }
    *in = rest;
    return err == OK ? bytes_append_byte(out, ']') : err;
}

/* The body as JSON; .at NULL: the answer says why not. */
static struct span body_json(struct api_exchange *x)
{
    const struct api_request *r = x->request;
    struct span in = r->body, copy = {0};
    if (!is_msgpack(r)) {
        if (r->body.len == 0)
            answer_error(x, shape_error, 400, "malformed", "Request body should not be empty.");
        else if (!body_is_json(r))
            answer_error(x, shape_error, 415, "unsupported_type",
                         "expected application/json or application/msgpack");
        else
            return r->body;
        return copy;
    }
    struct msgpack_renderer renderer;
    struct bytes out;
    struct fault why = {.err = OK};
    msgpack_renderer_init(&renderer, MSGPACK_TIMES_STANDARD);
    bytes_init(&out, 8 * r->body.len + 64);
    enum err err = render(&renderer, &in, &out, &why);
    if (err != OK || in.len > 0)
        answer_error(x, shape_error, 400, "malformed", "Request body is malformed and cannot be read. %s",
                     err == OK ? "Something follows the value." : why.text);
    else if ((copy = arena_copy(x->arena, bytes_span(&out))).at == NULL)
        out_of_memory(x);
    bytes_deinit(&out);
    msgpack_renderer_deinit(&renderer);
    return copy;
}

static void add_item(struct api_exchange *x, struct span dataset, struct span body, uint64_t content,
                     unsigned index)
{
    x->items[x->item_count++] = (struct api_item){
        .body = body, .partition = dataset, .content_hash = content, .weight = 1, .index = index};
}

/* An event as it is stored, with its time. */
static enum err check_size(const struct api_exchange *x, struct span text, struct fault *why)
{
    if (text.len <= event_bytes_max(x))
        return OK;
    return fault_set(why, ERR_FULL, "event exceeds max event size of %llu bytes, API will not accept this event",
                     (unsigned long long)event_bytes_max(x));
}

/* Room for as many items as there may be: an event takes 12 bytes at least. */
static bool batch_room(struct api_exchange *x, size_t bytes)
{
    size_t most = bytes / 12 + 1;
    return items_new(x, most > events_max(x) ? events_max(x) : (unsigned)most) != NULL;
}

static void read_batch(struct api_exchange *x, struct span dataset, struct span body)
{
    struct json_reader r;
    struct fault why;
    enum err err;
    json_reader_init(&r, body);
    json_forgive(&r);
    if (json_enter_array(&r) != OK) {
        answer_error(x, shape_error, 400, "malformed",
                     "Request body is malformed and cannot be read. Expected an array.");
        return;
    }
    if (!batch_room(x, body.len)) {
        out_of_memory(x);
        return;
    }
    while ((err = json_next_element(&r)) == OK) {
        struct honeycomb_event e;
        if (x->offered == events_max(x)) {
            answer_error(x, shape_error, 413, "too_large", "more than %u events in one request",
                         events_max(x));
            return;
        }
        err = honeycomb_read_event(&r, x->arena, &e, &why);
        if (err == ERR_MALFORMED)
            break;
        struct span text = err == OK ? with_time(x, &e) : SPAN("");
        if (err == OK)
            err = check_size(x, text, &why);
        enum api_reject reason = err == ERR_FULL ? REJECT_TOO_LARGE : REJECT_MALFORMED;
        if (err == ERR_TOO_BIG || text.at == NULL ||
            (err != OK && !api_reject(x, x->offered, reason, why.text))) {
            out_of_memory(x);
            return;
        }
        if (err == OK)
            add_item(x, dataset, text, hash64(e.text, 0), x->offered);
        x->offered++;
    }
    if (err != ERR_NOT_FOUND || json_finish(&r) != OK) {
        (void)json_fault(&r, ERR_MALFORMED, &why);
        answer_error(x, shape_error, 400, "malformed",
                     "Request body is malformed and cannot be read. Event %u, %s", x->offered, why.text);
    }
}

static void write_header_time(struct writer *w, const struct api_exchange *x)
{
    struct span given = header_of(x->request, "X-Honeycomb-Event-Time", "X-Hny-Event-Time");
    struct instant at;
    if (given.at != NULL && (rfc3339_parse(given, &at) || epoch_parse(given, &at))) {
        char text[RFC3339_TEXT + 1];
        size_t len = rfc3339_format(at, text);
        write_string(w, span_of(text, len));
    } else {
        write_instant_ms(w, instant_of_ns(x->request->wall_ns));
    }
}

/* The body is the bare data; headers carry the rest. */
static void read_single(struct api_exchange *x, struct span dataset, struct span body)
{
    struct json_value value;
    struct fault why;
    struct writer w;
    uint64_t rate = 1;
    x->offered = 1;
    if (json_check(body, &value, &why) != OK || value.type != JSON_OBJECT) {
        answer_error(x, shape_error, 400, "malformed", "Request body is malformed and cannot be read.");
        return;
    }
    if (!span_u64(header_of(x->request, "X-Honeycomb-Samplerate", "X-Hny-Samplerate"), &rate) || rate == 0 ||
        rate > INT64_MAX)
        rate = 1;
    writer_init(&w, x->arena, value.text.len + 128);
    write_text(&w, "{\"time\":");
    write_header_time(&w, x);
    if (rate > 1) {
        write_text(&w, ",\"samplerate\":");
        write_number(&w, (int64_t)rate);
    }
    write_text(&w, ",\"data\":");
    write_raw(&w, value.text);
    write_text(&w, "}");
    struct span text = writer_finish(&w);
    struct json_reader r;
    struct honeycomb_event e;
    json_reader_init(&r, text);
    if (text.at == NULL || items_new(x, 1) == NULL) {
        out_of_memory(x);
        return;
    }
    if (check_size(x, text, &why) != OK)
        answer_error(x, shape_error, 413, "too_large", "%s", why.text);
    else if (honeycomb_read_event(&r, x->arena, &e, &why) == OK)
        add_item(x, dataset, text, hash64(value.text, 0), 0);
    else
        answer_error(x, shape_error, 400, "malformed", "%s", why.text);
}

/* What the key may do is for the service to say, and that holds for an hour. Where it cannot be asked the answer is
 * that events may be sent: clients check this once, at their start, and give up on anything else. */
static void read_auth(struct api_exchange *x)
{
    if (x->settings != NULL) {
        x->pass_on = true;
        x->pass_keep_us = 3600 * US_PER_S;
    } else {
        honeycomb_not_passed(x, &x->answer);
    }
}

void honeycomb_not_passed(struct api_exchange *x, struct api_answer *ret)
{
    (void)x;
    answer_json(
        ret, 200,
        SPAN("{\"id\":\"\",\"type\":\"ingest\",\"api_key_access\":{\"events\":true,\"markers\":false,"
             "\"triggers\":false,\"boards\":false,\"queries\":false,\"columns\":false,"
             "\"createDatasets\":false,\"slos\":false,\"recipients\":false,\"privateBoards\":false},"
             "\"environment\":{\"name\":\"\",\"slug\":\"\"},\"team\":{\"name\":\"\",\"slug\":\"\"}}"));
}

void honeycomb_read(struct api_exchange *x)
{
    struct span dataset, body;
    if (x->path->tag == HONEYCOMB_AUTH) {
        read_auth(x);
        return;
    }
    if (x->path->tag == HONEYCOMB_NOT_OURS) {
        answer_error(x, shape_error, 404, "not_found", "this agent takes events only");
        return;
    }
    if (!path_decode(x->arena, path_rest(x->request->path, 2), &dataset) || dataset.len == 0 ||
        dataset.len > 1000) {
        answer_error(x, shape_error, 400, "malformed",
                     "the path names no dataset, or one that cannot be read");
        return;
    }
    body = body_json(x);
    if (body.at == NULL)
        return;
    if (x->path->tag == HONEYCOMB_BATCH)
        read_batch(x, dataset, body);
    else
        read_single(x, dataset, body);
    if (x->answer.status != 0)
        x->item_count = 0;
}

/* --- answers ------------------------------------------------------------------------------------ */

static struct span results(struct api_exchange *x, bool in_words)
{
    struct bytes out;
    size_t bound = 16 * (size_t)x->offered + 2;
    for (unsigned i = 0; i < x->rejection_count; i++)
        bound += 32 + (in_words ? 6 * x->rejections[i].text.len : 16);
    sort_rejections(x);
    bool ok = bytes_init_arena(&out, x->arena, bound) && bytes_append_byte(&out, '[') == OK;
    unsigned next = 0;
    for (unsigned i = 0; ok && i < x->offered; i++) {
        if (i > 0)
            ok = bytes_append_byte(&out, ',') == OK;
        if (next >= x->rejection_count || x->rejections[next].index != i) {
            ok = ok && bytes_append(&out, SPAN("{\"status\":202}")) == OK;
            continue;
        }
        const struct api_rejection *r = &x->rejections[next];
        while (next < x->rejection_count && x->rejections[next].index == i)
            next++;
        unsigned status = r->reason == REJECT_FULL ? 429 : 400;
        struct span text = in_words ? r->text : span_str(api_reject_names[r->reason]);
        ok = ok && bytes_printf(&out, "{\"status\":%u,\"error\":", status) == OK &&
             json_append_string_lossy(&out, text, NULL) == OK && bytes_append_byte(&out, '}') == OK;
    }
    ok = ok && bytes_append_byte(&out, ']') == OK;
    return ok ? bytes_finish_arena(&out, x->arena) : (struct span){0};
}

void honeycomb_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                      struct api_answer *ret)
{
    if (condition != COND_STORED) {
        answer_condition(x, rows, shape_error, condition, text, ret);
        return;
    }
    if (x->path->tag == HONEYCOMB_EVENT) {
        *ret = (struct api_answer){.status = 200};
        if (x->rejection_count > 0)
            answer_condition(x, rows, shape_error,
                             x->rejections[0].reason == REJECT_FULL ? COND_FULL : COND_TOO_LARGE,
                             x->rejections[0].text, ret);
        return;
    }
    struct span body = results(x, true);
    if (body.at == NULL)
        body = results(x, false);
    answer_json(ret, 200, body.at == NULL ? SPAN("[]") : body);
}

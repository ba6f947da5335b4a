/* langfuse_local: what Langfuse's SDKs need when only their base URL was changed.
 *
 * /ingestion is answered 207 with both lists, always: JavaScript's SDK 3 parses the body of every answer and
 * resends when it cannot, and it and Python's resend the whole batch, with the same ids, when errors is not
 * empty; what was stored the first time is known by its id then and answered 201 again. Logs of an SDK are in
 * neither list, as with the vendor. A missing body.id of a trace or score is made here, since the server
 * answers 201 and stores nothing without one; the rest stays byte for byte. */
#include "lib/api/langfuse.h"
#include "lib/api/otlp.h"
#include "lib/api/render.h"

#include "lib/base/hash.h"
#include "lib/codec/uuid7.h"

static const struct answer_row rows[COND_COUNT] = {
    [COND_STORED] = {207, 0, "ok", "accepted"},
    [COND_FULL] = {429, 2, "rate_limited", "the agent has no room; come back later"},
    [COND_STOPPING] = {503, 5, "stopping", "the agent is stopping"},
    [COND_FAILED] = {503, 5, "storage_failed", "the agent's storage has failed"},
    [COND_NO_OUTPUT] = {503, 5, "no_output", "no output of type langfuse is configured"},
    [COND_UNAUTHORIZED] = {401, 0, "UnauthorizedError",
                           "Invalid credentials. Confirm that you've configured the correct host."},
    [COND_TOO_LARGE] = {413, 0, "too_large", "the request is larger than this agent takes"},
    [COND_BAD_ENCODING] = {415, 0, "unsupported_encoding", "Content-Encoding is not gzip, deflate or zstd"},
    [COND_BAD_COMPRESSION] = {400, 0, "bad_compression",
                              "the body does not decode as its Content-Encoding says"},
    [COND_BAD_METHOD] = {405, 0, "MethodNotAllowedError", "this path takes other methods"},
    [COND_BUSY] = {429, 1, "rate_limited", "too many requests are waiting; come back later"},
    [COND_CONFLICT] = {400, 0, "conflict", "this id was given to other content"},
};

/* {"message":M,"error":C} */
static struct span shape(struct arena *arena, unsigned status, struct span code, struct span text)
{
    struct writer w;
    (void)status;
    writer_init(&w, arena, code.len + text.len + 32);
    write_text(&w, "{\"message\":");
    write_raw(&w, text);
    write_text(&w, ",\"error\":");
    write_raw(&w, code);
    write_text(&w, "}");
    struct span body = writer_finish(&w);
    return body.at == NULL ? SPAN("{}") : body;
}

/* What the answer needs to know of each event, in the order of the request. */
struct seen {
    struct span id; /* .at NULL: not readable */
    bool silent;    /* sdk-log: in neither list */
};

/* The event with a body.id, made by us and put in front of the body's own members. */
static struct span with_body_id(struct api_exchange *x, const struct langfuse_event *e)
{
    static const char *const id_name[] = {"id", NULL};
    char text[UUID_TEXT + 1];
    struct writer w;
    if (e->body_id || e->type->kind == LANGFUSE_SDK_LOG)
        return e->text;
    struct uuid id = uuid4_make(x->uuids);
    uuid_format(&id, text);
    size_t before = (size_t)(e->body.at - e->text.at), after = e->text.len - before - e->body.len;
    writer_init(&w, x->arena, e->text.len + 64);
    write_raw(&w, span_of(e->text.at, before));
    write_text(&w, "{\"id\":\"");
    write_raw(&w, span_of(text, UUID_TEXT));
    write_text(&w, "\"");
    struct span inside = data_inside(e->body);
    if (e->body_id_null) {
        write_members(&w, e->body, id_name, false);
    } else if (inside.len > 0) {
        write_text(&w, ",");
        write_raw(&w, inside);
    }
    write_text(&w, "}");
    write_raw(&w, span_of(e->body.at + e->body.len, after));
    return writer_finish(&w);
}

/* False: the arena is full. */
static bool take_event(struct api_exchange *x, enum err err, const struct langfuse_event *e,
                       const struct fault *why)
{
    if (err != OK)
        return api_reject(x, x->offered, REJECT_MALFORMED, why->text);
    struct span body = with_body_id(x, e);
    if (body.at == NULL)
        return false;
    if (body.len > event_bytes_max(x))
        return api_reject(x, x->offered, REJECT_TOO_LARGE, "larger than an event may be");
    x->items[x->item_count++] = (struct api_item){
        .body = body,
        .id = e->id,
        .key_hash = id_hash(x, e->id),
        .content_hash = hash64(e->text, 0),
        .weight = 1,
        .index = x->offered,
    };
    return true;
}

static void too_large(struct api_exchange *x)
{
    answer_error(x, shape, 413, "too_large", "the request is larger than this agent takes");
}

static enum err read_events(struct api_exchange *x, struct json_reader *r, struct fault *why)
{
    struct seen *seen = x->state;
    enum err err;
    while ((err = json_next_element(r)) == OK) {
        struct langfuse_event e;
        if (x->offered == events_max(x))
            return ERR_TOO_BIG;
        err = langfuse_read_event(r, x->arena, &e, why);
        if (err == ERR_MALFORMED || err == ERR_TOO_BIG)
            return err;
        seen[x->offered] = (struct seen){.id = e.id, .silent = err == OK && e.type->kind == LANGFUSE_SDK_LOG};
        if (!take_event(x, err, &e, why))
            return ERR_TOO_BIG;
        x->offered++;
    }
    if (err == ERR_MALFORMED)
        return json_fault(r, err, why);
    return wrapper_close(r, "batch", "metadata", why);
}

static void read_ingestion(struct api_exchange *x)
{
    struct json_reader r;
    struct fault why = {.err = OK};
    size_t most = x->request->body.len / 2; /* "1," may be an element, if not an event */
    if (most > events_max(x))
        most = events_max(x);
    if (x->request->body.len == 0 || !body_is_json(x->request)) {
        answer_error(x, shape, 400, "InvalidRequestError", "Invalid JSON: expected application/json");
        return;
    }
    json_reader_init(&r, x->request->body);
    json_forgive(&r);
    enum err err = wrapper_open(&r, "batch", "metadata", &why);
    if (err == OK) {
        x->state = arena_alloc(x->arena, most * sizeof(struct seen));
        if (items_new(x, (unsigned)most) == NULL || x->state == NULL) {
            too_large(x);
            return;
        }
        err = read_events(x, &r, &why);
    }
    if (err == ERR_TOO_BIG)
        too_large(x);
    else if (err == ERR_UNSUPPORTED)
        answer_error(x, shape, 400, "InvalidRequestError", "Invalid request data: %s", why.text);
    else if (err != OK)
        answer_error(x, shape, 400, "InvalidRequestError", "Invalid JSON: %s", why.text);
}

/* The keys are the output's, and so is the public one. The server inflates gzip and nothing else. */
static const struct otlp_kept langfuse_kept = {.target = {(const uint8_t *)"/api/public/otel/v1/traces", 26},
                                               .prefixes = {"x-langfuse-", "x_langfuse_"},
                                               .except = "x-langfuse-public-key",
                                               .gzip_only = true};

/* How many scores the body holds: an array of objects, or one object. 0: neither. */
static unsigned count_scores(struct span body, struct fault *why)
{
    struct json_reader r;
    struct json_value value;
    unsigned count = 0;
    json_reader_init(&r, body);
    enum err err = json_enter_array(&r);
    if (err == ERR_UNSUPPORTED)
        return json_check(body, &value, why) == OK && value.type == JSON_OBJECT;
    while (err == OK && (err = json_next_element(&r)) == OK) {
        err = json_read_value(&r, &value);
        if (err != OK || value.type != JSON_OBJECT)
            return 0;
        count++;
    }
    if (err != ERR_NOT_FOUND || json_finish(&r) != OK)
        return 0;
    return count;
}

/* Scores as Python's SDK 5 posts them: the request is kept whole, the server checks each. */
static void read_scores(struct api_exchange *x)
{
    struct opaque o;
    struct fault why;
    unsigned count = body_is_json(x->request) ? count_scores(x->request->body, &why) : 0;
    x->offered = count == 0 ? 1 : count;
    if (count == 0) {
        answer_error(x, shape, 400, "InvalidRequestError", "Invalid JSON: expected an array of scores");
        return;
    }
    if (count > events_max(x)) {
        too_large(x);
        return;
    }
    opaque_begin(&o, x->arena, "POST", SPAN("/api/public/scores"));
    opaque_header(&o, "Content-Type", SPAN("application/json"));
    opaque_header(&o, "User-Agent", x->request->header(x->request->header_ctx, "User-Agent"));
    otlp_keep_headers(&o, x->request, &langfuse_kept);
    struct span partition = opaque_partition(&o, x->arena);
    if (partition.at == NULL || items_new(x, 1) == NULL) {
        too_large(x);
        return;
    }
    x->items[x->item_count++] = (struct api_item){
        .body = x->request->body,
        .partition = partition,
        .key_hash = id_hash(x, x->request->body), /* each score has its id: the same bytes are a second try */
        .content_hash = hash64(x->request->body, 0),
        .weight = count,
    };
}

void langfuse_read(struct api_exchange *x)
{
    switch ((enum langfuse_tag)x->path->tag) {
    case LANGFUSE_INGESTION:
        read_ingestion(x);
        break;
    case LANGFUSE_OTEL:
        otlp_read_to(x, &langfuse_kept);
        break;
    case LANGFUSE_SCORES:
        read_scores(x);
        break;
    case LANGFUSE_HEALTH:
        answer_json(&x->answer, 200,
                    SPAN("{\"status\":\"OK\",\"version\":\"penstock-" PENSTOCK_VERSION "\"}"));
        break;
    case LANGFUSE_PROJECTS:
        answer_json(&x->answer, 200,
                    SPAN("{\"data\":[{\"id\":\"penstock\",\"name\":\"penstock\",\"organization\":{\"id\":\"penstock\","
                         "\"name\":\"penstock\"},\"metadata\":{}}]}"));
        break;
    case LANGFUSE_NOT_OURS:
        answer_error(x, shape, 404, "NotFoundError", "this agent takes events only");
        break;
    }
    if (x->answer.status != 0)
        x->item_count = 0;
}

/* --- answers ------------------------------------------------------------------------------------ */

static void write_id(struct writer *w, const struct seen *seen)
{
    write_text(w, "{\"id\":");
    write_string(w, seen->id.at == NULL ? SPAN("unknown") : seen->id);
}

static struct span results(struct api_exchange *x)
{
    struct writer w;
    const struct seen *seen = x->state;
    size_t bound = 64;
    for (unsigned i = 0; i < x->offered; i++)
        bound += 6 * seen[i].id.len + 40;
    for (unsigned i = 0; i < x->rejection_count; i++)
        bound += 6 * x->rejections[i].text.len + 80;
    sort_rejections(x);
    writer_init(&w, x->arena, bound);
    write_text(&w, "{\"successes\":[");
    unsigned next = 0;
    for (unsigned i = 0; i < x->offered; i++) {
        if (next < x->rejection_count && x->rejections[next].index == i) {
            next++;
            continue;
        }
        if (seen[i].silent)
            continue;
        write_comma(&w);
        write_id(&w, &seen[i]);
        write_text(&w, ",\"status\":201}");
    }
    write_text(&w, "],\"errors\":[");
    for (unsigned i = 0; i < x->rejection_count; i++) {
        const struct api_rejection *r = &x->rejections[i];
        write_comma(&w);
        write_id(&w, &seen[r->index < x->offered ? r->index : 0]);
        if (r->reason == REJECT_FULL)
            write_text(&w, ",\"status\":429,\"message\":\"Rate limit exceeded\",\"error\":");
        else
            write_text(&w, ",\"status\":400,\"message\":\"Invalid request data\",\"error\":");
        write_string(&w, r->text);
        write_text(&w, "}");
    }
    write_text(&w, "]}");
    return writer_finish(&w);
}

void langfuse_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                     struct api_answer *ret)
{
    if (x->path->tag == LANGFUSE_OTEL) {
        otlp_answer(x, condition, text, ret);
        return;
    }
    if (condition != COND_STORED) {
        answer_condition(x, rows, shape, condition, text, ret);
        return;
    }
    if (x->path->tag == LANGFUSE_SCORES) {
        if (x->rejection_count > 0)
            answer_condition(x, rows, shape, x->rejections[0].reason == REJECT_FULL ? COND_FULL : COND_TOO_LARGE,
                             x->rejections[0].text, ret);
        else
            answer_json(ret, 202, SPAN("{\"message\":\"Accepted\"}"));
        return;
    }
    struct span body = x->offered == 0 ? SPAN("{\"successes\":[],\"errors\":[]}") : results(x);
    answer_json(ret, 207, body.at == NULL ? SPAN("{\"successes\":[],\"errors\":[]}") : body);
}

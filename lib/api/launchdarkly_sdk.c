/* launchdarkly_sdk: the event endpoints of LaunchDarkly's SDKs.
 *
 * An SDK that sees any 4xx other than 400, 408, 413 and 429 stops sending events until its program restarts.
 * So whatever goes wrong here, a wrong token included, these paths answer 202, 400, 413, 429 or 503 and
 * nothing else. A request is stored whole, with the SDK's payload id; it counts as the elements of its array.
 * After a failed /diagnostic JavaScript's SDK sends that object to /bulk: it is taken there as a diagnostic.
 * Browsers name their environment in the path, need CORS, and may come as a GET for a pixel. */
#include "lib/api/launchdarkly.h"
#include "lib/api/opaque.h"

#include "lib/base/hash.h"
#include "lib/codec/base64.h"
#include "lib/codec/uuid7.h"

static const struct answer_row rows[COND_COUNT] = {
    [COND_STORED] = {202, 0, "ok", "accepted"},
    [COND_FULL] = {429, 2, "full", "the agent has no room; come back later"},
    [COND_STOPPING] = {503, 5, "stopping", "the agent is stopping"},
    [COND_FAILED] = {503, 5, "storage_failed", "the agent's storage has failed"},
    [COND_NO_OUTPUT] = {503, 5, "no_output", "no output of type launchdarkly is configured"},
    [COND_UNAUTHORIZED] = {503, 5, "unauthorized", "Authorization is missing or wrong"},
    [COND_TOO_LARGE] = {413, 0, "too_large", "the request is larger than this agent takes"},
    [COND_BAD_ENCODING] = {503, 5, "unsupported_encoding", "Content-Encoding is not gzip"},
    [COND_BAD_COMPRESSION] = {400, 0, "bad_compression",
                              "the body does not decode as its Content-Encoding says"},
    [COND_BAD_METHOD] = {503, 5, "method_not_allowed", "this path takes POST only"},
    [COND_BUSY] = {429, 1, "busy", "too many requests are waiting; come back later"},
    [COND_CONFLICT] = {400, 0, "conflict", "this payload id was given to other content"},
};

/* A transparent GIF of one pixel. */
static const uint8_t pixel[] = {'G',  'I',  'F',  '8',  '9',  'a',  0x01, 0x00, 0x01, 0x00, 0x80,
                                0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0x21, 0xf9, 0x04,
                                0x01, 0x00, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x00, 0x01,
                                0x00, 0x01, 0x00, 0x00, 0x02, 0x02, 0x44, 0x01, 0x00, 0x3b};

static bool from_browser(const struct api_exchange *x)
{
    return x->path->tag >= LD_BROWSER_EVENTS;
}

static void add_cors(struct api_exchange *x, struct api_answer *ret)
{
    bool pixel_path = x->path->tag == LD_PIXEL || x->path->tag == LD_PIXEL_PREFLIGHT;
    answer_header(ret, SPAN("Access-Control-Allow-Origin"), x->cors_origin.at != NULL ? x->cors_origin : SPAN("*"));
    answer_header(ret, SPAN("Access-Control-Allow-Credentials"), SPAN("false"));
    answer_header(ret, SPAN("Access-Control-Max-Age"), SPAN("300"));
    answer_header(ret, SPAN("Access-Control-Allow-Methods"),
                  pixel_path ? SPAN("GET, OPTIONS") : SPAN("POST, OPTIONS"));
    answer_header(
        ret, SPAN("Access-Control-Allow-Headers"),
        SPAN("Cache-Control, Content-Type, Content-Length, Accept-Encoding, X-LaunchDarkly-Event-Schema, "
             "X-LaunchDarkly-User-Agent, X-LaunchDarkly-Payload-ID, X-LaunchDarkly-Wrapper, "
             "X-LaunchDarkly-Tags, X-LaunchDarkly-Instance-Id"));
    answer_header(ret, SPAN("Access-Control-Expose-Headers"), SPAN("Date"));
}

static void refuse(struct api_exchange *x, const char *text)
{
    answer_error(x, shape_message, 400, "invalid_request", "%s", text);
    if (from_browser(x))
        add_cors(x, &x->answer);
}

/* --- what is in a body -------------------------------------------------------------------------- */

static bool has_kind(const struct json_member *members, size_t count)
{
    const struct json_member *kind = json_find(members, count, "kind");
    return kind != NULL && kind->value.type == JSON_STRING;
}

/* Elements that are objects with a kind; a single object when `object` is allowed. False with the reason. */
static bool check_body(struct span body, bool array, bool object, unsigned max, uint32_t *ret_weight,
                       bool *ret_object, struct fault *why)
{
    struct json_member members[64];
    struct json_value value;
    struct json_reader r;
    size_t count;
    json_reader_init(&r, body);
    enum err err = json_enter_array(&r);
    *ret_weight = 1;
    *ret_object = err == ERR_UNSUPPORTED;
    if (err == ERR_UNSUPPORTED) {
        err = json_read_object(&r, members, 64, &count, &value);
        if (err == ERR_MALFORMED || json_finish(&r) != OK)
            return json_fault(&r, ERR_MALFORMED, why) == OK;
        if (object && err == OK && value.type == JSON_OBJECT && has_kind(members, count))
            return true;
        return fault_set(why, ERR_MALFORMED, "expected %s",
                         array ? "an array of events" : "an object with a kind") == OK;
    }
    uint32_t weight = 0;
    while (err == OK && (err = json_next_element(&r)) == OK) {
        err = json_read_object(&r, members, 64, &count, &value);
        if (err == ERR_MALFORMED)
            break;
        if (value.type != JSON_OBJECT || (err == OK && !has_kind(members, count)))
            return fault_set(why, ERR_MALFORMED, "events[%u]: must be an object with a kind", weight) == OK;
        if (err != OK && r.spoiled != NULL)
            return fault_set(why, ERR_MALFORMED, "events[%u]: %s", weight, r.spoiled) == OK;
        if (++weight > max)
            return fault_set(why, ERR_TOO_BIG, "more than %u events", max) == OK;
        err = OK;
    }
    if (err != ERR_NOT_FOUND || json_finish(&r) != OK)
        return json_fault(&r, ERR_MALFORMED, why) == OK;
    if (!array)
        return fault_set(why, ERR_MALFORMED, "expected an object with a kind") == OK;
    *ret_weight = weight;
    return true;
}

/* --- requests ----------------------------------------------------------------------------------- */

struct state {
    struct span payload_id; /* the sender's; .at NULL: none */
};

static struct span make_payload_id(struct api_exchange *x)
{
    char *text = arena_alloc(x->arena, UUID_TEXT + 1);
    if (text == NULL)
        return (struct span){0};
    struct uuid id = uuid4_make(x->uuids);
    uuid_format(&id, text);
    return span_of(text, UUID_TEXT);
}

static struct span make_partition(struct api_exchange *x, struct span target, bool schema_3)
{
    static const char *const kept[] = {"X-LaunchDarkly-Event-Schema", "User-Agent",
                                       "X-LaunchDarkly-User-Agent",   "X-LaunchDarkly-Tags",
                                       "X-LaunchDarkly-Wrapper",      "X-LaunchDarkly-Unsummarized",
                                       "X-LaunchDarkly-Instance-Id",  NULL};
    struct opaque o;
    opaque_begin(&o, x->arena, "POST", target);
    opaque_header(&o, "Content-Type", SPAN("application/json"));
    if (schema_3)
        opaque_header(&o, "X-LaunchDarkly-Event-Schema", SPAN("3"));
    opaque_headers(&o, x->request, schema_3 ? kept + 1 : kept);
    return opaque_partition(&o, x->arena);
}

static void store(struct api_exchange *x, struct span target, struct span body, uint32_t weight,
                  bool schema_3)
{
    struct state *state = arena_alloc(x->arena, sizeof *state);
    struct span given = ld_payload_id(x);
    struct span id = given.at != NULL ? given : make_payload_id(x);
    struct span partition = make_partition(x, target, schema_3);
    if (state == NULL || id.at == NULL || partition.at == NULL || items_new(x, 1) == NULL) {
        ld_answer_sdk(x, COND_TOO_LARGE, (struct span){0}, &x->answer);
        return;
    }
    state->payload_id = given;
    x->state = state;
    x->items[x->item_count++] = (struct api_item){
        .body = body,
        .partition = partition,
        .id = id,
        .key_hash = given.at == NULL ? 0 : id_hash(x, given),
        .content_hash = hash64(body, 0),
        .weight = weight,
    };
}

/* The path without a slash at its end, or where a stray diagnostic belongs. */
static struct span target_of(const struct api_exchange *x, bool stray_diagnostic)
{
    struct span path = x->request->path;
    if (stray_diagnostic)
        return span_is(span_of(path.at, path.len < 7 ? path.len : 7), "/mobile")
                   ? SPAN("/mobile/events/diagnostic")
                   : SPAN("/diagnostic");
    if (path.len > 0 && path.at[path.len - 1] == '/')
        path.len--;
    return path;
}

static void read_body(struct api_exchange *x)
{
    bool events = x->path->tag == LD_EVENTS || x->path->tag == LD_BROWSER_EVENTS, object;
    uint32_t weight;
    struct fault why = {.err = OK};
    struct span body = x->request->body;
    if (body.len == 0) {
        refuse(x, "the body is empty");
        return;
    }
    x->offered = 1;
    /* /bulk also takes the one object that JavaScript's SDK resends there. */
    if (!check_body(body, events, !events || x->path->tag == LD_EVENTS, events_max(x), &weight, &object,
                    &why)) {
        if (why.err == ERR_TOO_BIG)
            ld_answer_sdk(x, COND_TOO_LARGE, span_str(why.text), &x->answer);
        else
            refuse(x, why.text);
        return;
    }
    x->offered = weight;
    if (events && !object && weight > 0 && option_on(x->settings, "import_custom")) {
        if (!ld_import_custom(x, weight))
            ld_answer_sdk(x, COND_NO_OUTPUT, SPAN("the output has no partition for custom events"),
                          &x->answer);
    } else if (weight > 0 && !(x->settings != NULL && x->settings->sdk_key.at == NULL && !from_browser(x))) {
        /* (Without an sdk_key the output is there for custom events only: diagnostics are taken and left
         * out.) */
        store(x, target_of(x, events && object), body, weight, false);
    }
}

/* The value of `name` in the query, percent-decoded, with + and space as the base64 character. */
static bool query_value(struct api_exchange *x, const char *name, struct span *ret)
{
    struct span rest = x->request->query, want = span_str(name);
    while (rest.len > 0) {
        const uint8_t *amp = memchr(rest.at, '&', rest.len);
        struct span pair = span_of(rest.at, amp == NULL ? rest.len : (size_t)(amp - rest.at));
        rest = amp == NULL ? SPAN("") : span_of(amp + 1, rest.len - pair.len - 1);
        if (pair.len <= want.len || !span_starts(pair, want) || pair.at[want.len] != '=')
            continue;
        struct span text;
        if (!path_decode(x->arena, span_of(pair.at + want.len + 1, pair.len - want.len - 1), &text))
            return false;
        uint8_t *at = (uint8_t *)(uintptr_t)text.at; /* the arena's copy */
        for (size_t i = 0; i < text.len; i++)
            if (at[i] == ' ')
                at[i] = '+';
        *ret = text;
        return true;
    }
    return false;
}

static void read_pixel(struct api_exchange *x)
{
    struct span file = path_segment(x->request->path, 1), data;
    const struct span suffix = SPAN(".gif");
    struct fault why = {.err = OK};
    uint32_t weight;
    bool object;
    size_t len;
    if (file.len <= suffix.len || !span_is(span_of(file.at + file.len - suffix.len, suffix.len), ".gif")) {
        refuse(x, "expected /a/ENVIRONMENT.gif");
        return;
    }
    x->offered = 1;
    if (!query_value(x, "d", &data)) {
        refuse(x, "d: required, the events in base64");
        return;
    }
    uint8_t *body = arena_alloc(x->arena, base64_room(data.len));
    if (body == NULL || !base64_decode(data, body, &len)) {
        refuse(x, "d: not base64");
        return;
    }
    if (!check_body(span_of(body, len), true, false, events_max(x), &weight, &object, &why)) {
        refuse(x, why.text);
        return;
    }
    x->offered = weight;
    struct bytes target;
    if (weight == 0 || !bytes_init_arena(&target, x->arena, file.len + 16))
        return;
    if (bytes_append(&target, SPAN("/events/bulk/")) == OK &&
        bytes_append(&target, span_of(file.at, file.len - suffix.len)) == OK)
        store(x, bytes_finish_arena(&target, x->arena), span_of(body, len), weight, true);
}

void ld_read_sdk(struct api_exchange *x)
{
    switch ((enum launchdarkly_tag)x->path->tag) {
    case LD_PREFLIGHT:
    case LD_PIXEL_PREFLIGHT:
        x->answer = (struct api_answer){.status = 204};
        add_cors(x, &x->answer);
        return;
    case LD_PIXEL:
        read_pixel(x);
        return;
    default:
        if (!from_browser(x) && x->settings != NULL && x->settings->sdk_key.at == NULL &&
            !option_on(x->settings, "import_custom")) {
            ld_answer_sdk(x, COND_NO_OUTPUT, SPAN("the output has no sdk_key"), &x->answer);
            return;
        }
        read_body(x);
    }
}

void ld_answer_sdk(struct api_exchange *x, enum api_condition condition, struct span text,
                   struct api_answer *ret)
{
    const struct state *state = x->state;
    enum api_reject reason = x->rejection_count > 0 ? x->rejections[0].reason : REJECT_REASONS;
    if (condition == COND_STORED && (reason == REJECT_FULL || reason == REJECT_TOO_LARGE)) {
        condition = reason == REJECT_FULL ? COND_FULL : COND_TOO_LARGE;
        text = x->rejections[0].text;
    }
    if (condition == COND_CONFLICT && state != NULL && state->payload_id.at != NULL)
        text = arena_printf(x->arena, "payload id %.*s was given to other content before",
                            SPAN_FMT(state->payload_id));
    if (condition != COND_STORED)
        answer_condition(x, rows, shape_message, condition, text, ret);
    else if (x->path->tag == LD_PIXEL)
        *ret = (struct api_answer){
            .status = 200, .content_type = SPAN("image/gif"), .body = span_of(pixel, sizeof pixel)};
    else
        *ret = (struct api_answer){.status = 202};
    if (from_browser(x))
        add_cors(x, ret);
}

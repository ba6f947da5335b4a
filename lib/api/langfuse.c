/* langfuse: the Ingestion API of Langfuse and its OTLP path, towards the service.
 *
 * Two kinds of records, told apart by their partition: events for POST /api/public/ingestion, whose partition
 * is empty, and whole requests (opaque.h): OTLP, and the batches of scores that Python's SDK 5 posts to
 * /api/public/scores. The answer to events is 207 with results by id, in no order;
 * each event is taken for itself, and since the server overwrites by id, sending again is harmless without a
 * time limit. An id is never twice in a batch (struct api, unique_ids). The server's parser in front of
 * /ingestion never inflates, so only OTLP requests are compressed, where they did not come so. A v4 server
 * answers /ingestion but refuses all events except scores and logs, each by itself: those are dead with a
 * reason of their own.
 * Facts: langfuse/langfuse web/src/pages/api/public/ingestion.ts, packages/shared/src/server/ingestion,
 * apiAuth.ts, RateLimitService.ts, pages/api/public/otel; the SDKs for JavaScript and Python. */
#include "lib/api/langfuse.h"
#include "lib/api/opaque.h"
#include "lib/api/otlp.h"

#include "lib/base/hash.h"
#include "lib/codec/base64.h"

static const struct api_path paths[] = {
    {.method = "POST",
     .pattern = "/api/public/ingestion",
     .auth = AUTH_BASIC_SECRET,
     .tag = LANGFUSE_INGESTION},
    {.method = "POST",
     .pattern = "/api/public/otel/v1/traces",
     .auth = AUTH_BASIC_SECRET,
     .opaque = true,
     .tag = LANGFUSE_OTEL},
    {.method = "POST", .pattern = "/api/public/scores", .auth = AUTH_BASIC_SECRET, .tag = LANGFUSE_SCORES},
    {.method = "GET", .pattern = "/api/public/health", .auth = AUTH_NONE, .tag = LANGFUSE_HEALTH},
    {.method = "HEAD", .pattern = "/api/public/health", .auth = AUTH_NONE, .tag = LANGFUSE_HEALTH},
    {.method = "GET", .pattern = "/api/public/projects", .auth = AUTH_BASIC_SECRET, .tag = LANGFUSE_PROJECTS},
    {.method = "*", .pattern = "/api/public/**", .auth = AUTH_NONE, .tag = LANGFUSE_NOT_OURS},
};

static bool alone(const struct api_settings *s, struct span partition)
{
    (void)s;
    return opaque_is(partition);
}

/* Only the OTLP path inflates; what came compressed stays as it came. */
static enum api_codec codec(struct span partition, enum api_codec wanted)
{
    bool otel = opaque_is(partition) && span_starts(opaque_target(partition), SPAN("/api/public/otel/"));
    return otel && opaque_header_of(partition, "Content-Encoding").at == NULL ? wanted : API_IDENTITY;
}

static void envelope(const struct api_settings *s, struct span partition, struct api_envelope *ret)
{
    (void)s;
    if (opaque_is(partition))
        *ret =
            (struct api_envelope){.before = SPAN(""), .between = SPAN(""), .after = SPAN(""), .version = 2};
    else
        *ret = (struct api_envelope){
            .before = SPAN("{\"batch\":["), .between = SPAN(","), .after = SPAN("]}"), .version = 1};
}

/* Basic base64(public ":" secret). */
static struct span basic(const struct api_settings *s, struct arena *arena)
{
    struct bytes keys, out;
    size_t len = s->public_key.len + 1 + s->secret_key.len;
    if (s->public_key.at == NULL || s->secret_key.at == NULL || !bytes_init_arena(&keys, arena, len) ||
        bytes_append(&keys, s->public_key) != OK || bytes_append_byte(&keys, ':') != OK ||
        bytes_append(&keys, s->secret_key) != OK)
        return (struct span){0};
    if (!bytes_init_arena(&out, arena, 8 + (len + 2) / 3 * 4) || bytes_append(&out, SPAN("Basic ")) != OK ||
        base64_append(&out, bytes_span(&keys)) != OK)
        return (struct span){0};
    return bytes_finish_arena(&out, arena);
}

static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    if (opaque_is(b->partition)) {
        enum err err = opaque_request(s, b->partition, arena, ret);
        send_header(ret, "Authorization", basic(s, arena));
        send_header(ret, "X-Langfuse-Public-Key", s->public_key);
        return err;
    }
    *ret =
        (struct api_send){.method = "POST", .target = target_join(s, arena, SPAN("/api/public/ingestion"))};
    send_header(ret, "Authorization", basic(s, arena));
    send_header(ret, "Content-Type", SPAN("application/json"));
    send_header(ret, "X-Langfuse-Sdk-Name", SPAN("penstock"));
    send_header(ret, "X-Langfuse-Sdk-Version", SPAN(PENSTOCK_VERSION));
    send_header(ret, "X-Langfuse-Public-Key", s->public_key);
    send_header(ret, "User-Agent", SPAN("penstock/" PENSTOCK_VERSION));
    return OK;
}

static bool probe(const struct api_settings *s, struct arena *arena, struct api_send *ret)
{
    *ret = (struct api_send){.method = "GET", .target = target_join(s, arena, SPAN("/api/public/projects"))};
    send_header(ret, "Authorization", basic(s, arena));
    send_header(ret, "User-Agent", SPAN("penstock/" PENSTOCK_VERSION));
    return true;
}

/* --- results by id ------------------------------------------------------------------------------ */

/* Which event an id belongs to: open addressing over hashes of the members' ids. */
struct ids {
    const struct api_batch *b;
    uint32_t *table; /* member index + 1 */
    size_t mask;
};

static bool ids_init(struct ids *ids, const struct api_batch *b, struct arena *arena)
{
    size_t room = 4;
    while (room < 2 * (size_t)b->count)
        room *= 2;
    ids->b = b;
    ids->mask = room - 1;
    ids->table = arena_alloc(arena, room * sizeof *ids->table);
    if (ids->table == NULL)
        return false;
    memset(ids->table, 0, room * sizeof *ids->table);
    for (unsigned i = 0; i < b->count; i++) {
        size_t place = hash64(b->members[i].id, 0) & ids->mask;
        while (ids->table[place] != 0)
            place = (place + 1) & ids->mask;
        ids->table[place] = i + 1;
    }
    return true;
}

static struct api_event_verdict *ids_find(const struct ids *ids, struct span id,
                                          struct api_event_verdict *events)
{
    for (size_t place = hash64(id, 0) & ids->mask; ids->table[place] != 0; place = (place + 1) & ids->mask) {
        unsigned i = ids->table[place] - 1;
        if (span_equal(ids->b->members[i].id, id))
            return &events[i];
    }
    return NULL;
}

struct results {
    struct ids ids;
    struct arena *arena;
    struct api_verdict *ret;
    bool unknown_id; /* a result was for an event whose id the server could not read */
};

static struct span text_of(struct arena *arena, const struct json_member *m)
{
    struct span text;
    if (m == NULL || m->value.type != JSON_STRING || json_decode_string(arena, &m->value, &text) != OK)
        return (struct span){0};
    return text;
}

static void judge_entry(struct api_event_verdict *v, unsigned status, struct span message, struct span whole,
                        struct api_verdict *ret)
{
    v->status = status;
    v->answer = whole;
    v->unknown = false;
    if (status >= 200 && status < 300) {
        v->action = ACT_DELIVERED;
    } else if (status == 408 || status == 425 || status == 429 || status >= 500) {
        v->action = ACT_RETRY;
        ret->backoff = true;
    } else if (status >= 400) {
        v->action = ACT_DEAD;
        v->reason = span_starts(message, SPAN("Event type not accepted")) ? DEAD_LANGFUSE_LEGACY_REMOVED
                                                                          : DEAD_REFUSED;
    } else {
        v->unknown = true; /* as if nothing had been said */
    }
}

/* The elements of successes or errors. False when they are not readable. */
static bool judge_list(struct results *rs, struct json_reader *r)
{
    enum err err = json_enter_array(r);
    while (err == OK && (err = json_next_element(r)) == OK) {
        struct json_member members[16];
        struct json_value value;
        size_t count;
        uint64_t status = 0;
        err = json_read_object(r, members, 16, &count, &value);
        if (err == ERR_MALFORMED)
            return false;
        err = OK;
        struct span id = text_of(rs->arena, json_find(members, count, "id"));
        const struct json_member *m = json_find(members, count, "status");
        if (m == NULL || m->value.type != JSON_NUMBER || !json_uint64(m->value.text, &status) || status > 999)
            status = 0;
        struct api_event_verdict *v = id.at == NULL ? NULL : ids_find(&rs->ids, id, rs->ret->events);
        if (v == NULL && span_is(id, "unknown"))
            rs->unknown_id = true;
        /* An id with two results: the worse one counts, so that nothing is lost. */
        if (v != NULL && !(v->action == ACT_DEAD))
            judge_entry(v, (unsigned)status, text_of(rs->arena, json_find(members, count, "message")),
                        value.text, rs->ret);
    }
    return err == ERR_NOT_FOUND;
}

static bool judge_lists(struct results *rs, struct json_reader *r)
{
    struct json_key key;
    struct json_value value;
    bool successes = false, errors = false;
    enum err err = json_enter_object(r);
    while (err == OK && (err = json_next_member(r, &key)) == OK) {
        bool good = json_key_is(&key, "successes"), bad = json_key_is(&key, "errors");
        successes = successes || good;
        errors = errors || bad;
        if (good || bad)
            err = judge_list(rs, r) ? OK : ERR_MALFORMED;
        else
            err = json_read_value(r, &value) == ERR_MALFORMED ? ERR_MALFORMED : OK;
    }
    return err == ERR_NOT_FOUND && json_finish(r) == OK && (successes || errors);
}

static bool is_sdk_log(struct span body)
{
    struct json_member members[8];
    struct json_value value;
    size_t count = 0;
    enum err err = json_check_object(body, members, 8, &count, &value, NULL);
    const struct json_member *type =
        err == OK || err == ERR_TOO_BIG ? json_find(members, count, "type") : NULL;
    return type != NULL && json_string_is(&type->value, "sdk-log");
}

static bool any_known(const struct api_batch *b, const struct api_verdict *v)
{
    for (unsigned i = 0; i < b->count; i++)
        if (!v->events[i].unknown)
            return true;
    return false;
}

/* Ids in neither list: logs are taken without a word; the rest has no result. */
static unsigned judge_missing(const struct api_batch *b, struct api_verdict *ret)
{
    unsigned missing = 0;
    for (unsigned i = 0; i < b->count; i++) {
        struct api_event_verdict *v = &ret->events[i];
        if (!v->unknown)
            continue;
        if (is_sdk_log(b->members[i].body)) {
            *v = (struct api_event_verdict){.action = ACT_DELIVERED, .status = 201};
            continue;
        }
        v->action = ACT_RETRY;
        v->reason = DEAD_NO_RESULT;
        v->answer = SPAN("the answer has no result for this event");
        ret->backoff = true;
        missing++;
    }
    return missing;
}

static void judge_results(const struct api_batch *b, const struct api_reply *reply, struct arena *arena,
                          struct api_verdict *ret)
{
    struct results rs = {.arena = arena, .ret = ret};
    struct json_reader r;
    json_reader_init(&r, reply->body);
    verdict_set(ret, ACT_PER_EVENT, DEAD_NO_RESULT);
    bool ready =
        verdict_per_event(ret, b, arena, ACT_RETRY, reply->status) != NULL && ids_init(&rs.ids, b, arena);
    for (unsigned i = 0; ready && i < b->count; i++)
        ret->events[i].unknown = true;
    bool read = ready && judge_lists(&rs, &r);
    if (!read && !(ready && reply->body_cut && any_known(b, ret))) {
        /* Not the service's answer, so nothing is known; to send again is harmless. */
        verdict_set(ret, ACT_RETRY, DEAD_BAD_RESPONSE);
        ret->unknown = ret->backoff = true;
        ret->events = NULL;
        return;
    }
    ret->unknown_max = read ? 3 : 0; /* what an answer too long for us did not show will be in one to fewer events */
    unsigned missing = judge_missing(b, ret);
    ret->apart = missing > 1 && rs.unknown_id; /* which one it was shows when they come alone */
    bool all = missing == 0;
    for (unsigned i = 0; all && i < b->count; i++)
        all = ret->events[i].action == ACT_DELIVERED;
    if (all)
        verdict_set(ret, ACT_DELIVERED, DEAD_REFUSED);
}

/* 202, or 207 with {"accepted":N,"rejected":M,"errors":[…]}, which is never to be sent again. A server that does not
 * have this path yet holds these requests and nothing else. */
static void judge_scores(const struct api_reply *reply, struct api_verdict *ret)
{
    struct json_member members[8];
    struct json_value value;
    size_t count = 0;
    uint64_t rejected = 0;
    if (reply->status == 404 || reply->status == 405)
        verdict_set(ret, ACT_HOLD_PARTITION, DEAD_REFUSED);
    if (reply->status != 207 || json_check_object(reply->body, members, 8, &count, &value, NULL) != OK)
        return;
    const struct json_member *m = json_find(members, count, "rejected");
    if (m != NULL && m->value.type == JSON_NUMBER && json_uint64(m->value.text, &rejected) && rejected > 0) {
        ret->noted = 1;
        ret->result = "skipped";
    }
}

void langfuse_judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                    struct arena *arena, struct api_verdict *ret)
{
    (void)s;
    if (opaque_is(b->partition)) {
        otlp_judge(b, reply, arena, ret);
        if (span_starts(opaque_target(b->partition), SPAN("/api/public/scores")))
            judge_scores(reply, ret);
        return;
    }
    judge_status(reply, arena, ret);
    if (ret->action == ACT_DELIVERED)
        judge_results(b, reply, arena, ret);
    if (reply->status == 415)
        verdict_set(ret, ACT_HOLD, DEAD_REFUSED);
}

const struct api langfuse_api = {
    .name = "langfuse",
    .codecs = API_CODEC_BIT(API_IDENTITY) | API_CODEC_BIT(API_GZIP),
    .auto_codec = API_GZIP,
    .version = 1,
    .unique_ids = true,
    .neutral = true,
    .repeat = REPEAT_STORE,
    .default_endpoint = "https://cloud.langfuse.com",
    .limits = {.event_bytes = 1000000,
               .batch_events = 10000,
               .batch_raw_bytes = 3500000,
               .local_events = 10000},
    .batch = {.max_events = 1000, .max_bytes = 2500000, .max_wait_us = US_PER_S, .concurrency = 4},
    .paths = paths,
    .path_count = sizeof paths / sizeof paths[0],
    .read = langfuse_read,
    .answer = langfuse_answer,
    .render = langfuse_render,
    .alone = alone,
    .codec = codec,
    .envelope = envelope,
    .request = request,
    .probe = probe,
    .judge = langfuse_judge,
};

/* fixture: see fixture.h. */
#include "tests/unit/api/fixture.h"

#include <stdio.h>
#include <strings.h>

struct fixture fix;

static void fill_counting(void *ctx, void *into, size_t len)
{
    static uint8_t next;
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)into)[i] = next++;
}

void fixture_init(void)
{
    arena_init(&fix.arena, 65536, 256 << 20);
    uuid_source_init(&fix.uuids, (struct entropy){.fill = fill_counting});
}

void fixture_deinit(void)
{
    arena_deinit(&fix.arena);
}

static struct span find_header(const void *ctx, const char *name)
{
    for (const char *const *h = ctx; h != NULL && *h != NULL; h += 2)
        if (strcasecmp(h[0], name) == 0)
            return span_str(h[1]);
    return (struct span){0};
}

static bool next_header(const void *ctx, const char *prefix, unsigned *cursor, struct span *name,
                        struct span *value)
{
    const char *const *headers = ctx;
    for (; headers != NULL && headers[*cursor] != NULL; *cursor += 2) {
        if (strncasecmp(headers[*cursor], prefix, strlen(prefix)) != 0)
            continue;
        *name = span_str(headers[*cursor]);
        *value = span_str(headers[*cursor + 1]);
        *cursor += 2;
        return true;
    }
    return false;
}

unsigned fixture_request(const char *method, const char *path, const char *const *headers, const void *body,
                         size_t body_len, enum api_condition condition)
{
    const char *query = strchr(path, '?');
    struct api_exchange *x = &fix.x;
    bool webhook = x->webhook;
    unsigned events_max = x->events_max;
    const struct api_settings *settings = x->settings;
    fix.request = (struct api_request){
        .method = span_str(method),
        .path = span_of(path, query == NULL ? strlen(path) : (size_t)(query - path)),
        .query = span_str(query == NULL ? "" : query + 1),
        .content_type = find_header(headers, "Content-Type"),
        .content_encoding = find_header(headers, "Content-Encoding"),
        .body = span_of(body, body_len == (size_t)-1 ? strlen(body) : body_len),
        .header = find_header,
        .header_next = next_header,
        .header_ctx = headers,
        .wall_ns = WALL_NS,
    };
    fix.request.body_encoded = fix.request.body;
    fix.answer = (struct api_answer){.status = 0};
    *x = (struct api_exchange){.request = &fix.request,
                               .arena = &fix.arena,
                               .agent_name = "web-1",
                               .uuids = &fix.uuids,
                               .webhook = webhook,
                               .events_max = events_max,
                               .settings = settings};
    enum api_match match = api_route(fix.request.method, fix.request.path, &x->api, &x->path);
    if (match == MATCH_NONE)
        return 0;
    if (match == MATCH_METHOD) {
        x->api->answer(x, COND_BAD_METHOD, (struct span){0}, &fix.answer);
        return fix.answer.status;
    }
    x->api->read(x);
    if (x->answer.status != 0)
        fix.answer = x->answer;
    else
        x->api->answer(x, condition, (struct span){0}, &fix.answer);
    return fix.answer.status;
}

unsigned fixture_post(const char *path, const char *type, const char *body)
{
    const char *headers[] = {type == NULL ? NULL : "Content-Type", type, NULL};
    return fixture_request("POST", path, headers, body, (size_t)-1, COND_STORED);
}

struct span fixture_answer_header(const char *name)
{
    for (unsigned i = 0; i < fix.answer.header_count; i++)
        if (span_equal_nocase(fix.answer.headers[i].name, span_str(name)))
            return fix.answer.headers[i].value;
    return (struct span){0};
}

void fixture_settings(const struct api *api)
{
    fix.settings = (struct api_settings){.api = api,
                                         .output_name = "out",
                                         .agent_name = "web-1",
                                         .limits = api->limits,
                                         .options = fix.options};
}

void fixture_option(const char *name, const char *value)
{
    fix.options[fix.settings.option_count++] = (struct api_option){.name = name, .value = span_str(value)};
}

void fixture_clear_options(void)
{
    fix.settings.option_count = 0;
}

enum err fixture_render(const struct api *api, const char *event, struct api_item *ret, struct fault *why)
{
    struct fault unread;
    struct event e;
    struct event_reading in = {
        .agent_name = SPAN("web-1"), .wall_ns = WALL_NS, .uuids = &fix.uuids, .arena = &fix.arena};
    why = why == NULL ? &unread : why;
    cr_assert_eq(event_read_line(&in, span_str(event), &e, why), OK, "%s: %s", event, why->text);
    if (fix.settings.api != api)
        fixture_settings(api);
    return api->render(&fix.settings, &e, &fix.arena, ret, why);
}

void expect_rendered(const char *event, const char *expected)
{
    struct fault why = {.err = OK};
    cr_expect_eq(fixture_render(fix.settings.api, event, &fix.item, &why), OK, "%s: %s", event, why.text);
    EXPECT_SPAN(fix.item.body, expected);
}

void expect_refused(const char *event, const char *reason)
{
    struct fault why = {.err = OK};
    cr_expect_neq(fixture_render(fix.settings.api, event, &fix.item, &why), OK, "%s", event);
    cr_expect_str_eq(why.text, reason);
}

void expect_answers(const char *path, const char *type, const char *body, const char *prefix,
                    const struct expected_answer *rows, size_t count)
{
    const char *headers[] = {type == NULL ? NULL : "Content-Type", type, NULL};
    for (size_t i = 0; i < count; i++) {
        uint64_t seconds;
        unsigned status = fixture_request("POST", path, headers, body, (size_t)-1, rows[i].condition);
        struct span wait = fixture_answer_header("Retry-After");
        cr_expect_eq(status, rows[i].status, "%s, condition %d: %u", path, (int)rows[i].condition, status);
        cr_expect_eq(wait.at != NULL, rows[i].passing, "%s, condition %d", path, (int)rows[i].condition);
        if (wait.at != NULL)
            cr_expect(span_u64(wait, &seconds) && seconds >= 1 && seconds <= 5);
        cr_expect(span_starts(fix.answer.body, span_str(prefix)), "got \"%.*s\"", SPAN_FMT(fix.answer.body));
    }
}

struct api_verdict fixture_judge_reply(const struct api *api, const struct api_batch *batch,
                                       const struct api_reply *reply)
{
    struct api_verdict v = {.unknown_max = 0};
    if (fix.settings.api != api)
        fixture_settings(api);
    api->judge(&fix.settings, batch, reply, &fix.arena, &v);
    cr_expect_not_null(v.result);
    return v;
}

struct api_verdict fixture_judge(const struct api *api, unsigned count, unsigned status, const char *body)
{
    struct api_member *members = arena_alloc(&fix.arena, count * sizeof *members + 1);
    for (unsigned i = 0; i < count; i++) {
        char id[16];
        int n = snprintf(id, sizeof id, "e%u", i);
        members[i] =
            (struct api_member){.id = arena_copy(&fix.arena, span_of(id, (size_t)n)), .body = SPAN("{}")};
    }
    struct api_batch batch = {.members = members, .count = count, .attempts = 1, .payload_id = SPAN("id")};
    struct api_reply reply = {.status = status, .body = span_str(body), .wall_ns = WALL_NS};
    return fixture_judge_reply(api, &batch, &reply);
}

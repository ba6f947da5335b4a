/* fuzz_api_local: requests on every vendor's paths. The first line is method and path, the lines up to an
 * empty one are headers, the rest is the body. Whatever comes, there is an answer, JSON where it says so;
 * what is stored is JSON too, unless it is opaque, and can be judged and sent; neutral events are rendered by
 * every api. */
#include "lib/api/api.h"
#include "lib/base/ensure.h"
#include "lib/codec/json.h"
#include "lib/codec/uuid7.h"

static void fill(void *ctx, void *into, size_t len)
{
    (void)ctx;
    memset(into, 7, len);
}

static struct span take_line(struct span *rest)
{
    const uint8_t *lf = rest->len == 0 ? NULL : memchr(rest->at, '\n', rest->len);
    struct span line = span_of(rest->at, lf == NULL ? rest->len : (size_t)(lf - rest->at));
    size_t used = line.len + (lf != NULL);
    *rest = span_of(rest->at + used, rest->len - used);
    return line;
}

static bool next_header(const void *ctx, const char *prefix, unsigned *cursor, struct span *name,
                        struct span *value)
{
    const struct span *head = ctx;
    struct span want = span_str(prefix);
    while (*cursor < head->len) {
        struct span rest = span_of(head->at + *cursor, head->len - *cursor);
        size_t before = rest.len;
        struct span line = take_line(&rest);
        *cursor += (unsigned)(before - rest.len);
        const uint8_t *colon = line.len == 0 ? NULL : memchr(line.at, ':', line.len);
        if (colon == NULL)
            continue;
        *name = span_of(line.at, (size_t)(colon - line.at));
        *value = span_trim(span_of(colon + 1, line.len - name->len - 1));
        if (name->len >= want.len && span_equal_nocase(span_of(name->at, want.len), want))
            return true;
    }
    return false;
}

static struct span header(const void *ctx, const char *name)
{
    unsigned cursor = 0;
    struct span found, value;
    while (next_header(ctx, name, &cursor, &found, &value))
        if (found.len == strlen(name))
            return value;
    return (struct span){0};
}

static bool opaque(struct span partition)
{
    return partition.len > 0 && memchr(partition.at, '\n', partition.len) != NULL;
}

static void check_item(const struct api *api, const struct api_item *item, struct arena *arena)
{
    struct api_settings s = {.api = api, .output_name = "out", .agent_name = "fuzz", .limits = api->limits};
    struct api_member member = {.id = item->id, .body = item->body};
    struct api_batch batch = {
        .partition = item->partition, .members = &member, .count = 1, .payload_id = SPAN("id")};
    struct api_send send;
    struct api_envelope envelope;
    ensure(item->partition.len <= 1024);
    ensure(item->id.len <= 4096);
    if (!opaque(item->partition))
        ensure(json_check(item->body, NULL, NULL) == OK);
    api->envelope(&s, item->partition, &envelope);
    enum err err = api->request(&s, &batch, arena, &send);
    ensure(err == OK || err == ERR_TOO_BIG);
}

static void render_everywhere(const struct event *e, struct arena *arena)
{
    for (const struct api *const *a = api_all(); *a != NULL; a++) {
        struct api_settings s = {.api = *a,
                                 .output_name = "out",
                                 .agent_name = "fuzz",
                                 .limits = (*a)->limits,
                                 .partition = SPAN("p/e")};
        static const struct api_option options[] = {{"map.flatten", {(const uint8_t *)"true", 4}},
                                                    {"map.extensions", {(const uint8_t *)"properties", 10}},
                                                    {"map.id", {(const uint8_t *)"source_id", 9}}};
        for (int with = 0; with <= 1; with++) {
            struct api_item item;
            struct fault why;
            s.options = options;
            s.option_count = with ? 3 : 0;
            if ((*a)->render != NULL && (*a)->render(&s, e, arena, &item, &why) == OK)
                check_item(*a, &item, arena);
        }
    }
}

static void exchange(struct api_exchange *x)
{
    struct api_answer answer = {.status = 0};
    x->api->read(x);
    for (unsigned i = 0; i < x->item_count; i++)
        check_item(x->api, &x->items[i], x->arena);
    for (unsigned i = 0; i < x->event_count && i < 4; i++)
        render_everywhere(&x->events[i], x->arena);
    ensure(x->answer.status == 0 || x->item_count == 0);
    for (enum api_condition c = COND_STORED; c <= COND_CONFLICT; c++) {
        x->api->answer(x, c, SPAN("why"), &answer);
        ensure(answer.status >= 200 && answer.status < 600);
        if (span_is(answer.content_type, "application/json"))
            ensure(json_check(answer.body, NULL, NULL) == OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct uuid_source uuids;
    struct span rest = span_of(data, size), head;
    struct span line = take_line(&rest);
    const uint8_t *space = line.len == 0 ? NULL : memchr(line.at, ' ', line.len);
    if (space == NULL)
        return 0;
    head = rest;
    while (rest.len > 0 && take_line(&rest).len > 0)
        ;
    head.len = (size_t)(rest.at - head.at);
    struct span target = span_of(space + 1, line.len - (size_t)(space + 1 - line.at));
    const uint8_t *question = target.len == 0 ? NULL : memchr(target.at, '?', target.len);
    struct span query = SPAN("");
    if (question != NULL) {
        query = span_of(question + 1, target.len - (size_t)(question + 1 - target.at));
        target.len = (size_t)(question - target.at);
    }
    struct api_request request = {
        .method = span_of(line.at, (size_t)(space - line.at)),
        .path = target,
        .query = query,
        .content_type = header(&head, "content-type"),
        .content_encoding = header(&head, "content-encoding"),
        .body = rest,
        .body_encoded = rest,
        .header = header,
        .header_next = next_header,
        .header_ctx = &head,
        .wall_ns = UINT64_C(1777885953004000000),
    };
    arena_init(&arena, 4096, 32 << 20);
    uuid_source_init(&uuids, (struct entropy){.fill = fill});
    struct api_exchange x = {.request = &request, .arena = &arena, .agent_name = "fuzz", .uuids = &uuids};
    /* With the header x-settings: as an output with every option that changes what is taken. */
    static const struct api_option options[] = {{"lenient", {(const uint8_t *)"true", 4}},
                                                {"import_custom", {(const uint8_t *)"true", 4}}};
    struct api_settings settings = {
        .partition = SPAN("p/e"), .access_token = SPAN("t"), .options = options, .option_count = 2};
    if (api_route(request.method, request.path, &x.api, &x.path) == MATCH_PATH) {
        (void)api_authorized(x.path, &request, SPAN("token"));
        settings.api = x.api;
        settings.limits = x.api->limits;
        if (header(&head, "x-settings").at != NULL)
            x.settings = &settings;
        exchange(&x);
    }
    arena_deinit(&arena);
    return 0;
}

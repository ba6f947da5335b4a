/* fixture: one local request through an api, and one batch's answer through its judge, without the rest of
 * the agent. What fixture_send() does between read() and answer() is what intake does when all goes well. */
#ifndef PENSTOCK_TESTS_API_FIXTURE_H
#define PENSTOCK_TESTS_API_FIXTURE_H

#include "lib/api/api.h"
#include "lib/codec/uuid7.h"
#include "lib/event/cloudevents.h"

#include <criterion/criterion.h>

#define WALL_NS UINT64_C(1777885953004000000) /* 2026-05-04T09:12:33.004Z */

#define EXPECT_SPAN(span, text) \
    cr_expect(span_is((span), (text)), "got \"%.*s\", expected \"%s\"", SPAN_FMT(span), (text))

struct fixture {
    struct arena arena;
    struct uuid_source uuids;
    struct api_request request;
    struct api_exchange x;
    struct api_answer answer;
    struct api_settings settings;
    struct api_option options[8];
    struct api_item item; /* what was rendered last */
};

extern struct fixture
    fix; /* one per test process; TestSuite(..., .init = fixture_init, .fini = fixture_deinit) */
void fixture_init(void);
void fixture_deinit(void);

/* One request: headers as name, value, …, NULL, or NULL for none. body_len (size_t)-1: strlen. Fills fix.x
 * and, as intake would with `condition`, fix.answer; returns the answer's status. */
unsigned fixture_request(const char *method, const char *path, const char *const *headers, const void *body,
                         size_t body_len, enum api_condition condition);
unsigned fixture_post(const char *path, const char *type, const char *body);
/* A header of fix.answer; .at NULL: absent. */
struct span fixture_answer_header(const char *name);

/* Settings of one output with its api's defaults. */
void fixture_settings(const struct api *api);
void fixture_option(const char *name, const char *value);
void fixture_clear_options(void);

/* Renders one bare or whole event; `why` may be NULL. */
enum err fixture_render(const struct api *api, const char *event, struct api_item *ret, struct fault *why);

/* An event of the specification's kind, rendered by every api's suite. */
#define ORDER \
    "{\"specversion\":\"1.0\",\"id\":\"o-19\",\"source\":\"/shop/eu\",\"type\":\"com.acme.OrderPlaced\"," \
    "\"subject\":\"u-7\",\"time\":\"2026-05-04T11:12:33.004+02:00\",\"sampledrate\":1,\"data\":{\"total\":" \
    "89.95," \
    "\"items\":[1,2],\"ship\":{\"days\":2}}}"
/* Renders `event` by the settings' api into fix.item, and compares the body, or the reason of the refusal. */
void expect_rendered(const char *event, const char *expected);
void expect_refused(const char *event, const char *reason);

/* Each condition's answer to one POST: its status, whether Retry-After (1 to 5 s) tells the client to come
 * back, and how the body begins. */
struct expected_answer {
    enum api_condition condition;
    unsigned status;
    bool passing;
};
void expect_answers(const char *path, const char *type, const char *body, const char *prefix,
                    const struct expected_answer *rows, size_t count);

/* The verdict on an answer to a batch of `count` members with ids "e0", "e1", … and bodies {}. */
struct api_verdict fixture_judge(const struct api *api, unsigned count, unsigned status, const char *body);
/* The same with everything said. */
struct api_verdict fixture_judge_reply(const struct api *api, const struct api_batch *batch,
                                       const struct api_reply *reply);

#endif
